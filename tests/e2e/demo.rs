//! The demo: a shop with a real database loses its cluster, and opens again in another one.
//!
//! Everything is real: two Kubernetes clusters, an S3 server, PostgreSQL, and the binary that users run, called
//! as they call it. What is claimed is proven at the end by asking the restored parts. All of it is taken down
//! again, however this ends.

#[allow(dead_code, reason = "the tests use parts of the harness that the demo does not")]
mod cluster;
mod database;
#[allow(dead_code, reason = "the tests use parts that the demo does not")]
mod equal;
#[allow(dead_code, unused_imports, reason = "the tests use parts that the demo does not")]
mod files;
#[allow(dead_code, reason = "the tests use parts that the demo does not")]
mod kist;
#[allow(dead_code, reason = "the tests use parts that the demo does not")]
mod shop;
#[allow(dead_code, reason = "the tests use parts that the demo does not")]
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::kist::cluster::restore::{DIFFERS, may_differ};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use serde_json::{Value, json};

use crate::cluster::error::{Error, Result};
use crate::cluster::image::KIST_IMAGE;
use crate::cluster::{Cluster, tools};
use crate::database::Rows;
use crate::equal::{Objects, Renamed};
use crate::kist::Kist;
use crate::shop::{FILES_CLAIM, NAMESPACE};
use crate::stage::{BUCKET, Stage};

/// 525 MB of tables.
const SCALE: u64 = 35;
const CLUSTER_WIDE: [&str; 2] = [
    "CustomResourceDefinition.apiextensions.k8s.io coupons.shop.example.com",
    "ClusterRole.rbac.authorization.k8s.io shop-sees-services",
];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Error::io("start", "the runtime".as_ref()));
    match outcome.and_then(|runtime| runtime.block_on(demo())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let begin = Instant::now();
    let step = Step::begin("Two Kubernetes clusters and an S3 server, side by side on this machine");
    let program = tools::kist_beside();
    let program = program.ok_or_else(|| Error::Other("the binary is missing: run make build".into()))?;
    let stage = Stage::start(&program).await?;
    step.end(&[format!("Kubernetes v{}; contexts live and dr", tools::KUBERNETES)]);

    let step = Step::begin("A shop in the first: PostgreSQL, a web server, and what belongs to them");
    let client = stage.first.client();
    shop::open(&client).await?;
    database::fill(&client, NAMESPACE, SCALE).await?;
    files::awkward(&volume(&stage.first).await?);
    let rows = database::is_written_to(&client, NAMESPACE, Rows { count: 0, last: 0 }).await?;
    step.end(&[
        format!(
            "{} accounts in the database, and rows are written all the time: {}",
            SCALE * 100_000,
            rows.count
        ),
        "a second volume has files of every awkward kind".into(),
    ]);

    let user = User::new(&stage)?;
    let step = Step::begin("A repository, and a key that can only add backups");
    user.types(&user.owner, "KIST_PASSPHRASE_FILE=passphrase", "init").await?;
    let add = "key add --role writer --name live --out live.key";
    user.types(&user.owner, "KIST_PASSPHRASE_FILE=passphrase", add).await?;
    step.end(&[]);

    let step = Step::begin("Backup with that key: the database is frozen by hooks while its volume is read");
    let backup = format!("backup cluster -n {NAMESPACE} --context live --mover-image {KIST_IMAGE}");
    user.types(&user.writer, "KIST_KEY_FILE=live.key", &backup).await?;
    let promised = database::rows_before_freeze(&client, NAMESPACE).await?;
    let first = equal::objects(&client, NAMESPACE, &CLUSTER_WIDE).await?;
    let later = database::is_written_to(&client, NAMESPACE, promised).await?;
    step.end(&[
        format!("{} rows were committed before the freeze: these are promised", promised.count),
        format!("the shop goes on: {} rows by now", later.count),
    ]);

    let step = Step::begin("Disaster: the first cluster is destroyed, volumes and all");
    let Stage { first: lost, second, store, scratch, .. } = stage;
    // Only to compare with: the restore does not see them.
    let kept = keep(&volume(&lost).await?, &second.dir())?;
    lost.down().await?;
    step.end(&[]);

    let step = Step::begin("Restore into the second, as the owner");
    let restore = format!("restore cluster latest --context dr --mover-image {KIST_IMAGE}");
    user.types(&user.owner, "KIST_PASSPHRASE_FILE=passphrase", &restore).await?;
    let downtime = step.begin.elapsed();
    step.end(&[]);

    let step = Step::begin("Proof");
    let lines = prove(&second, &first, promised, &kept).await?;
    step.end(&lines);
    futures::try_join!(second.down(), store.down())?;
    drop(scratch);
    println!("\nThe shop was open again {:.1} s after its cluster was gone.", downtime.as_secs_f64());
    println!("All in all {:.1} s; everything is taken down.", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Asks the second cluster for all that was promised.
async fn prove(second: &Cluster, first: &Objects, promised: Rows, kept: &Path) -> Result<Vec<String>> {
    let client = second.client();
    shop::ready(&client, NAMESPACE).await?;
    let now = database::is_sound(&client, NAMESPACE, SCALE, promised).await?;
    let later = database::is_written_to(&client, NAMESPACE, now).await?;
    let there = equal::objects(&client, NAMESPACE, &CLUSTER_WIDE).await?;
    none(equal::differences(first, &there, Renamed::default(), may_differ), "objects")?;
    let folder = volume(second).await?;
    none(files::differences(kept, &folder), "files")?;
    Ok(vec![
        format!(
            "rows: {} were promised, all are there without a gap, and {} now",
            promised.count, later.count
        ),
        "pg_amcheck: every page of every table and index is sound; data checksums are on".into(),
        format!(
            "objects: {} are equal, but for {} kinds of fields that differ by nature",
            first.len(),
            DIFFERS.len()
        ),
        format!("files: {} are the same in contents and attributes", files::paths(&folder).len()),
    ])
}

fn none(wrong: Vec<String>, what: &str) -> Result<()> {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::Other(format!("{what} differ:\n{}", wrong.join("\n")))),
    }
}

/// A part of the demo, with its time.
struct Step {
    begin: Instant,
}

impl Step {
    fn begin(what: &str) -> Step {
        println!("\n{what}");
        Step { begin: Instant::now() }
    }

    fn end(self, lines: &[String]) {
        for line in lines {
            println!("    {line}");
        }
        println!("    ({:.1} s)", Duration::as_secs_f64(&self.begin.elapsed()));
    }
}

/// Whoever types the commands, in a folder of their own.
struct User {
    owner: Kist,
    writer: Kist,
}

impl User {
    fn new(stage: &Stage) -> Result<User> {
        let folder = stage.scratch.path();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
            Ok::<_, Error>(path.display().to_string())
        };
        let passphrase = write("passphrase", tools::random_hex(16)?)?;
        let kubeconfig = write("kubeconfig", contexts(stage)?.to_string())?;
        let url = stage.store.repo_url(BUCKET, "demo");
        println!("\n    $ export KIST_REPO='{url}' KUBECONFIG=kubeconfig");
        let kist = stage.kist().env("KIST_REPO", url).env("KUBECONFIG", kubeconfig);
        let owner = kist.clone().env("KIST_PASSPHRASE_FILE", passphrase);
        let writer = kist.env("KIST_KEY_FILE", folder.join("live.key").display().to_string());
        Ok(User { owner, writer })
    }

    /// Runs a command and shows it with what it says.
    async fn types(&self, kist: &Kist, key: &str, words: &str) -> Result<()> {
        println!("    $ {key} kist {words}");
        let done = kist.run(words).await;
        if done.code != Some(0) {
            return Err(Error::Other(done.all()));
        }
        for line in done.stderr.lines().chain(done.stdout.lines()) {
            println!("    | {line}");
        }
        Ok(())
    }
}

/// One kubeconfig for both clusters.
fn contexts(stage: &Stage) -> Result<Value> {
    let (mut clusters, mut users, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
    for (name, cluster) in [("live", &stage.first), ("dr", &stage.second)] {
        let path = cluster.kubeconfig();
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let config: Value = serde_json::from_slice(&text)
            .map_err(|error| Error::Other(format!("the cluster's kubeconfig: {error}")))?;
        clusters.push(json!({ "name": name, "cluster": config["clusters"][0]["cluster"] }));
        users.push(json!({ "name": name, "user": config["users"][0]["user"] }));
        contexts.push(json!({ "name": name, "context": { "cluster": name, "user": name } }));
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts,
    }))
}

/// The folder that the volume with the awkward files is.
async fn volume(cluster: &Cluster) -> Result<PathBuf> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client(), NAMESPACE);
    let claim = claims.get(FILES_CLAIM).await.map_err(Error::kube("read the claim of the files"))?;
    let volume = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    Ok(cluster.dir().join("volumes").join(volume))
}

/// Takes the files out of the cluster that is about to go. They are moved: no copy is as they are in all things.
fn keep(files: &Path, folder: &Path) -> Result<PathBuf> {
    let kept = folder.join("files-of-the-first");
    std::fs::rename(files, &kept).map_err(Error::io("move", files))?;
    Ok(kept)
}
