//! Runs that end in other ways than they should, and runs beside each other: nothing of them stays in the cluster,
//! and no snapshot says more than it holds.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::image::KIST_IMAGE;
use crate::cluster::wait;
use crate::harness::LIMIT;
use crate::kist::Running;
use crate::objects;
use crate::scenarios::{MOVERS, deployment_ready, left, named, nothing_is_left, volume_folder};
use crate::stage::{BUCKET, Repo, Stage};

/// Ctrl-C gives a run this long to take its pods away.
const INTERRUPT: Duration = Duration::from_secs(20);
/// Pause between two looks at a bucket's folder, at a lease, or whether a command has ended.
const LOOK_RETRY: Duration = Duration::from_millis(50);

/// Neither takes the other's pods for left ones, and both are complete.
pub async fn two_at_once(stage: Arc<Stage>) {
    let namespace = "busy";
    let client = stage.first.client();
    large(&stage, namespace).await;
    let repo = stage.s3_repository("busy").await;
    let backup = format!("--json backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let (one, two) = futures::join!(repo.writer.run(&backup), repo.writer.run(&backup));
    for run in [one, two] {
        run.ended_with(0);
        assert_eq!(run.last("backup")["complete"], true, "{}", run.all());
    }
    nothing_is_left(&client, namespace).await;
}

/// Killed while its mover uploads and a pod is frozen: the next run after its lease has lapsed runs the post-hook that
/// is owed, takes the mover away, is complete, uploads only what was missing, and what it has made comes back as
/// the owner restores it, without any cluster.
pub async fn a_killed_run_is_swept(stage: Arc<Stage>) {
    let namespace = "killed";
    let client = stage.first.client();
    let mut app = objects::deployment_with_claim("app", "data");
    app["spec"]["template"]["metadata"]["annotations"] = json!({
        "pre.hook.backup.kist.dev/command": r#"["sh", "-c", "echo frozen >> /tmp/log"]"#,
        "post.hook.backup.kist.dev/command": r#"["sh", "-c", "echo thawed >> /tmp/log"]"#,
    });
    large_in(&stage, namespace, app).await;
    let repo = stage.s3_repository("killed").await;
    let backup = format!("--json backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let mut victim = repo.writer.start(&backup);
    is_under_way(&stage, namespace, &mut victim).await;
    victim.kill();
    let begin = Instant::now();
    assert!(!left(&client, namespace).await.is_empty(), "a killed run takes nothing away");
    assert_eq!(log_of_hooks(&client, namespace).await, "frozen\n");
    leases_lapse(&client, namespace).await;
    println!("the lease of the killed run has lapsed after {:.1?}", begin.elapsed());
    let next = repo.writer.run(&backup).await;
    next.ended_with(0);
    assert_eq!(next.last("backup")["complete"], true, "{}", next.all());
    assert_eq!(log_of_hooks(&client, namespace).await, "frozen\nthawed\nfrozen\nthawed\n");
    assert!(next.last("backup")["swept"].to_string().contains("post-hook"), "{}", next.all());
    nothing_is_left(&client, namespace).await;
    let snapshots = repo.owner.json("snapshots", 0).await;
    assert_eq!(snapshots.of_type("snapshot").len(), 1, "the killed run has none; {}", snapshots.all());
    repo.owner.json("check --read-data", 0).await;
    let stored = bytes(&stage.store.bucket_dir(BUCKET).join(namespace).join("packs"));
    assert!(stored < LARGE_BYTES + LARGE_BYTES / 10, "{stored} bytes: what was uploaded counts");
    let target = stage.scratch.path().join("killed-restored");
    let restore = format!("restore files latest {} --volume {namespace}/data", target.display());
    repo.owner.json(&restore, 0).await;
    let source = volume_folder(&stage.first, namespace, "data").await;
    for name in LARGE_FILES {
        assert!(
            fs::read(source.join(name)).unwrap() == fs::read(target.join(name)).unwrap(),
            "{name} differs"
        );
    }
}

/// The process in the mover dies, so that the stream ends without a word: the volume is read by another mover, and
/// nothing calls that an end.
pub async fn a_cut_link_is_made_anew(stage: Arc<Stage>) {
    let namespace = "cut";
    let client = stage.first.client();
    let (repo, run) = under_way(&stage, namespace).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mover = pods.list(&ListParams::default().labels(MOVERS)).await.unwrap().items.pop().unwrap();
    kill_work_of(&mover.uid().unwrap());
    let ended = tokio::task::spawn_blocking(|| run.end()).await.unwrap();
    ended.ended_with(0);
    assert_eq!(ended.last("backup")["complete"], true, "{}", ended.all());
    ended.says(&["read again"]);
    nothing_is_left(&client, namespace).await;
    repo.owner.json("check --read-data", 0).await;
}

/// Kills the process `kist mover run` of a pod, and not the one that keeps the pod.
fn kill_work_of(pod: &str) {
    let movers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).ok()?;
        words.starts_with(b"/kist\0mover\0run").then_some((pid, cgroups))
    });
    let movers: Vec<_> = movers.collect();
    let mut ours = movers.iter().filter(|(_, cgroups)| cgroups.contains(pod));
    let (Some((pid, _)), None) = (ours.next(), ours.next()) else {
        panic!("not one process works in pod {pod}: {movers:?}");
    };
    let pid = rustix::process::Pid::from_raw(*pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Ctrl-C: the run takes away what it has made, at once.
pub async fn an_interrupted_run_cleans_up(stage: Arc<Stage>) {
    let namespace = "interrupted";
    let client = stage.first.client();
    let (_, victim) = under_way(&stage, namespace).await;
    let begin = Instant::now();
    victim.interrupt();
    let ended = tokio::task::spawn_blocking(|| victim.end()).await.unwrap();
    ended.ended_with(130);
    assert!(begin.elapsed() < INTERRUPT, "{}", ended.all());
    nothing_is_left(&client, namespace).await;
}

/// Somebody deletes the mover's pod: either the run makes another one, or it says what is missing; in no case it
/// waits for ever, or says `complete` of less.
pub async fn a_deleted_mover_is_noticed(stage: Arc<Stage>) {
    let namespace = "deleted";
    let client = stage.first.client();
    let (repo, run) = under_way(&stage, namespace).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete_collection(&at_once, &ListParams::default().labels(MOVERS)).await.unwrap();
    let ended = tokio::task::spawn_blocking(|| run.end()).await.unwrap();
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.all());
    assert_eq!(ended.last("backup")["complete"], ended.code == Some(0), "{}", ended.all());
    if ended.code == Some(3) {
        ended.says(&["missing", "data"]);
    }
    nothing_is_left(&client, namespace).await;
    repo.owner.json("check --read-data", 0).await;
}

/// A backup of a [`large`] namespace that has come far enough for something to be done to it.
async fn under_way(stage: &Stage, namespace: &str) -> (Repo, Running) {
    large(stage, namespace).await;
    let repo = stage.s3_repository(namespace).await;
    let backup = format!("--json backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let mut run = repo.writer.start(&backup);
    is_under_way(stage, namespace, &mut run).await;
    (repo, run)
}

const LARGE_FILES: [&str; 3] = ["one", "two", "three"];
const LARGE_FILE_BYTES: u64 = 100 << 20;
const LARGE_BYTES: u64 = LARGE_FILE_BYTES * LARGE_FILES.len() as u64;

/// A namespace with a claim that takes a while to be read: 300 MB that don't compress.
async fn large(stage: &Stage, namespace: &str) {
    large_in(stage, namespace, objects::deployment_with_claim("app", "data")).await;
}

/// The same with a Deployment `app` of one's own.
async fn large_in(stage: &Stage, namespace: &str, app: Value) {
    let client = stage.first.client();
    let objects = [named(namespace), objects::claim("data", "lab-wait"), app];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "app").await;
    let folder = volume_folder(&stage.first, namespace, "data").await;
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for name in LARGE_FILES {
        let mut file = fs::File::create(folder.join(name)).unwrap();
        std::io::copy(&mut std::io::Read::take(&mut random, LARGE_FILE_BYTES), &mut file).unwrap();
    }
}

/// Waits until a mover's container runs in a namespace, and two packs of its volume are in the store.
async fn is_under_way(stage: &Stage, namespace: &str, run: &mut Running) {
    let client = stage.first.client();
    let running = async {
        mover_runs(&client, namespace).await;
        uploads(&stage.store.bucket_dir(BUCKET).join(namespace).join("packs")).await;
    };
    let ended = async {
        while !run.has_ended() {
            tokio::time::sleep(LOOK_RETRY).await;
        }
    };
    let both = async {
        tokio::select! {
            () = running => {}
            () = ended => panic!("the run has ended before anything could be done to it"),
        }
    };
    tokio::time::timeout(LIMIT, both).await.expect("a mover starts, and uploads");
}

async fn mover_runs(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(MOVERS);
    let mut pods = watcher(pods, config).default_backoff().applied_objects().boxed();
    while let Some(pod) = pods.next().await {
        let phase = pod.ok().and_then(|pod| pod.status?.phase);
        if phase.as_deref() == Some("Running") {
            return;
        }
    }
}

async fn uploads(packs: &Path) {
    // The first two are of the manifests, and there before any mover.
    while files(packs) < 2 + 2 {
        tokio::time::sleep(LOOK_RETRY).await;
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// What the hooks of the pod of `app` have written down.
async fn log_of_hooks(client: &Client, namespace: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let app = pods.list(&ListParams::default().labels("app=app")).await.unwrap().items.pop().unwrap();
    let read = wait::exec(client, namespace, &app.name_any(), &["cat", "/tmp/log"], LIMIT).await.unwrap();
    read.stdout
}

/// The sizes of all files below a folder together.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let size = |path: &Path| if path.is_dir() { bytes(path) } else { path.metadata().unwrap().len() };
    entries.map(|entry| size(&entry.path())).sum()
}

/// Waits until every lease in a namespace has not been renewed for its duration.
async fn leases_lapse(client: &Client, namespace: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let has_lapsed = |lease: &Lease| {
        let spec = lease.spec.as_ref().unwrap();
        let secs = i64::from(spec.lease_duration_seconds.unwrap_or_default());
        let renewed = spec.renew_time.as_ref().map_or(0, |time| time.0.as_second());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs().cast_signed() > renewed + secs
    };
    let begin = Instant::now();
    loop {
        let list = leases.list(&ListParams::default()).await.unwrap().items;
        if list.iter().all(has_lapsed) {
            return;
        }
        let names: Vec<_> = list.iter().map(ResourceExt::name_any).collect();
        assert!(begin.elapsed() < LIMIT, "the leases {names:?} are renewed by nobody, and do not lapse");
        tokio::time::sleep(LOOK_RETRY).await;
    }
}
