//! The main scenario: a namespace with a real database travels from one cluster to another, by both ways for
//! the bytes, and what arrives is what has left.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::kist::cluster::restore::may_differ;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::image::KIST_IMAGE;
use crate::cluster::storage::{CLASS_NOW, CLASS_WAIT};
use crate::database::{self, Rows};
use crate::equal::{self, Objects, Renamed};
use crate::files;
use crate::scenarios::{hooks, nothing_is_left, snapshot, volume_folder};
use crate::shop::{self, DATABASE_CLAIM, FILES_CLAIM, NAMESPACE};
use crate::stage::{BUCKET, Repo, Stage};

/// 525 MB of tables.
const SCALE: u64 = 35;
/// What the second restore is called.
const COPY: &str = "shop-copy";
/// What the shop needs beside its namespace, as `equal::objects` names it.
const CLUSTER_WIDE: [&str; 2] = [
    "CustomResourceDefinition.apiextensions.k8s.io coupons.shop.example.com",
    "ClusterRole.rbac.authorization.k8s.io shop-sees-services",
];
/// Words that are in the shop, in names of every kind and in contents: none may be read in the bucket.
const READABLE: [&str; 7] = [
    shop::PLANTED,
    "pgbench_accounts",
    "database-scripts",
    "web-reads-settings",
    "shop.example.com",
    "hole between",
    "PG_VERSION",
];

pub async fn a_shop_travels(stage: Arc<Stage>) {
    let begin = Instant::now();
    let client = stage.first.client();
    shop::open(&client).await.unwrap();
    database::fill(&client, NAMESPACE, SCALE).await.unwrap();
    let files = volume_folder(&stage.first, NAMESPACE, FILES_CLAIM).await;
    files::awkward(&files);
    database::is_written_to(&client, NAMESPACE, Rows { count: 0, last: 0 }).await.unwrap();
    println!("the shop is open and filled after {:.1?}", begin.elapsed());
    hooks::the_database_stands_still_between_them(&stage).await;
    // By hand too, so that a wrong proof is not taken for a wrong backup.
    let rows = database::rows(&client, NAMESPACE).await.unwrap();
    database::is_sound(&client, NAMESPACE, SCALE, rows).await.unwrap();
    println!("its proofs hold after {:.1?}", begin.elapsed());

    let first = equal::objects(&client, NAMESPACE, &CLUSTER_WIDE).await.unwrap();
    assert!(first.len() > 20, "{:?}", first.keys());
    is_as_it_was(&client, &first).await;
    let repo = stage.s3_repository("travel").await;
    let promised = backed_up(&stage, &repo, "direct").await;
    without_hooks_it_is_torn(&repo).await;
    is_as_it_was(&client, &first).await;
    a_writer_restores_nothing(&stage, &repo, &promised.snapshot).await;
    nothing_is_readable(&stage.store.bucket_dir(BUCKET));
    a_plan_changes_nothing(&stage, &repo, &promised.snapshot).await;
    restored(&stage, &repo, &promised, "").await;
    arrived(&stage, &first, &promised, &files, Renamed::default()).await;
    println!("the shop has arrived by the direct way after {:.1?}", begin.elapsed());
    a_namespace_that_exists_is_left_alone(&stage, &repo, &promised.snapshot).await;

    let local = stage.local_repository("relayed").await;
    let promised = backed_up(&stage, &local, "relay").await;
    let map = format!("--map-namespace {NAMESPACE}={COPY} --map-storage-class {CLASS_WAIT}={CLASS_NOW}");
    restored(&stage, &local, &promised, &map).await;
    let renamed = Renamed { namespace: Some((NAMESPACE, COPY)), class: Some((CLASS_WAIT, CLASS_NOW)) };
    arrived(&stage, &first, &promised, &files, renamed).await;
    println!("a copy of it has arrived by the relay after {:.1?}", begin.elapsed());
}

/// A snapshot, and the rows that must be in it.
struct Promised {
    snapshot: String,
    rows: Rows,
}

async fn backed_up(stage: &Stage, repo: &Repo, transport: &str) -> Promised {
    let client = stage.first.client();
    let before = database::rows(&client, NAMESPACE).await.unwrap();
    let backup = format!("backup cluster -n {NAMESPACE} --mover-image {KIST_IMAGE} --tag main");
    let backup = repo.writer.json(&backup, 0).await;
    println!("backup by {transport}: {:.1?}", backup.took);
    let last = backup.last("backup");
    assert!(last["complete"] == true && last["missing"] == 0, "{}", backup.all());
    assert!(last["manifests"].as_u64() > Some(20), "{}", backup.all());
    for (claim, verdict) in [(DATABASE_CLAIM, "frozen"), (FILES_CLAIM, "quiet")] {
        let volume = backup.volume("backup", claim);
        assert_eq!(volume["namespace"], NAMESPACE, "{volume}");
        assert_eq!(volume["verdict"], verdict, "{volume}");
        assert_eq!(volume["way"], "live", "{volume}");
        assert_eq!(volume["transport"], transport, "{volume}");
        assert_eq!(volume["rung"], "root", "{volume}");
        assert_eq!(volume["node"], stage.first.node_name(), "{volume}");
    }
    let hooks = last["hooks"].as_array().unwrap();
    let phases: Vec<_> = hooks.iter().map(|hook| (&hook["phase"], &hook["ok"])).collect();
    assert_eq!(phases, [(&Value::from("pre"), &Value::from(true)), (&"post".into(), &true.into())]);
    nothing_is_left(&client, NAMESPACE).await;
    let rows = database::rows_before_freeze(&client, NAMESPACE).await.unwrap();
    assert!(rows.count >= before.count, "{before:?} {rows:?}");
    // The database goes on.
    database::is_written_to(&client, NAMESPACE, rows).await.unwrap();
    Promised { snapshot: snapshot(&backup), rows }
}

/// Also a second backup of what has hardly changed.
async fn without_hooks_it_is_torn(repo: &Repo) {
    let begin = Instant::now();
    let backup = format!("backup cluster -n {NAMESPACE} --mover-image {KIST_IMAGE} --no-hooks");
    hooks::is_torn(repo, &backup, DATABASE_CLAIM).await;
    println!("second backup, without hooks: {:.1?}", begin.elapsed());
}

async fn a_writer_restores_nothing(stage: &Stage, repo: &Repo, snapshot: &str) {
    let restore = format!("restore cluster {snapshot} --mover-image {KIST_IMAGE}");
    repo.writer.at(stage.second.kubeconfig()).json(&restore, 5).await;
    assert_eq!(namespaces(&stage.second, NAMESPACE).await, 0);
}

async fn a_plan_changes_nothing(stage: &Stage, repo: &Repo, snapshot: &str) {
    let plan = repo.owner.at(stage.second.kubeconfig());
    let plan = plan.json(&format!("restore cluster {snapshot} --plan"), 0).await;
    let steps = plan.of_type("step");
    for object in ["PersistentVolumeClaim shop/data-db-0", "StatefulSet shop/db", "CronJob shop/report"] {
        let planned = |step: &Value| step["object"].as_str().is_some_and(|name| name.ends_with(object));
        assert!(steps.iter().any(planned), "{object} is not in the plan; {}", plan.all());
    }
    plan.last("plan");
    assert_eq!(namespaces(&stage.second, NAMESPACE).await, 0);
}

async fn restored(stage: &Stage, repo: &Repo, promised: &Promised, map: &str) {
    let owner = repo.owner.at(stage.second.kubeconfig());
    let Promised { snapshot, .. } = promised;
    let restore = format!("restore cluster {snapshot} --mover-image {KIST_IMAGE} --timeout 3m {map}");
    let restore = owner.json(&restore, 0).await;
    println!("restore: {:.1?}", restore.took);
    let last = restore.last("restore");
    assert_eq!(last["notReady"], serde_json::json!([]), "{}", restore.all());
    let failed = restore.of_type("object").into_iter().filter(|object| object["action"] == "failed");
    assert_eq!(failed.count(), 0, "{}", restore.all());
    for claim in [DATABASE_CLAIM, FILES_CLAIM] {
        restore.volume("restore", claim);
    }
}

/// Everything that was promised, in the second cluster.
async fn arrived(stage: &Stage, first: &Objects, promised: &Promised, files: &Path, renamed: Renamed<'_>) {
    let client = stage.second.client();
    let namespace = renamed.namespace.map_or(NAMESPACE, |(_, new)| new);
    shop::ready(&client, namespace).await.unwrap();
    let rows = database::is_sound(&client, namespace, SCALE, promised.rows).await.unwrap();
    database::is_written_to(&client, namespace, rows).await.unwrap();
    let second = equal::objects(&client, namespace, &CLUSTER_WIDE).await.unwrap();
    let wrong = equal::differences(first, &second, renamed, may_differ);
    assert!(wrong.is_empty(), "{} of {} objects differ:\n{}", wrong.len(), first.len(), wrong.join("\n"));
    let folder = volume_folder(&stage.second, namespace, FILES_CLAIM).await;
    let wrong = files::differences(files, &folder);
    assert!(wrong.is_empty(), "files differ:\n{}", wrong.join("\n"));
    nothing_is_left(&client, namespace).await;
}

async fn a_namespace_that_exists_is_left_alone(stage: &Stage, repo: &Repo, snapshot: &str) {
    let client = stage.second.client();
    let before = equal::objects(&client, NAMESPACE, &CLUSTER_WIDE).await.unwrap();
    let restore = format!("restore cluster {snapshot} --mover-image {KIST_IMAGE}");
    let restore = repo.owner.at(stage.second.kubeconfig()).json(&restore, 2).await;
    restore.says(&["namespace shop", "exists"]);
    is_as_it_was(&client, &before).await;
    nothing_is_left(&client, NAMESPACE).await;
}

/// Fails if something in the shop has changed but for what goes on in it by itself.
async fn is_as_it_was(client: &Client, before: &Objects) {
    let after = equal::objects(client, NAMESPACE, &CLUSTER_WIDE).await.unwrap();
    // Readiness comes and goes, and objects' versions with it.
    let lives = |_: &Value, pointer: &str| {
        matches!(pointer, "/status" | "/metadata/resourceVersion" | "/metadata/managedFields")
    };
    let wrong = equal::differences(before, &after, Renamed::default(), lives);
    assert!(wrong.is_empty(), "the shop has changed:\n{}", wrong.join("\n"));
}

async fn namespaces(cluster: &Cluster, name: &str) -> usize {
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let list = ListParams::default().fields(&format!("metadata.name={name}"));
    namespaces.list(&list).await.unwrap().items.len()
}

/// Reads every object of the store, names included.
fn nothing_is_readable(bucket: &Path) {
    let mut folders = vec![bucket.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            count += 1;
            let bytes = std::fs::read(&path).unwrap();
            for word in READABLE {
                let name = path.display().to_string();
                let is_there =
                    name.contains(word) || bytes.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(!is_there, "{word} can be read in {name}");
            }
        }
    }
    assert!(count > 5, "the store has {count} objects only");
}
