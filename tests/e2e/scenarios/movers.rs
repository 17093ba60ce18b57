//! Movers: none is left behind, none is started without rights, what can't be read is said in time, and what a
//! killed run has left is swept by the next one, and nobody else's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::image::KIST_IMAGE;
use crate::cluster::wait;
use crate::harness::LIMIT;
use crate::kist::Running;
use crate::objects;
use crate::scenarios::{MOVERS, deployment_ready, left, nothing_is_left, volume_folder};
use crate::stage::{BUCKET, Stage};

/// No mover is waited for longer than this, with all that a run does before and after.
const BOUND: Duration = Duration::from_secs(240);
/// Pause between two looks at a bucket's folder, or at a lease.
const LOOK_RETRY: Duration = Duration::from_millis(50);

/// A claim that is being deleted and one that has no volume yet are listed, and the rest is backed up.
pub async fn odd_claims(stage: Arc<Stage>) {
    let namespace = "odd-claims";
    let client = stage.first.client();
    let objects = [
        named(namespace),
        objects::claim("good", "lab-wait"),
        objects::claim("leaving", "lab-wait"),
        objects::claim("pending", "lab-wait"),
        objects::deployment_with_claim("good", "good"),
        objects::deployment_with_claim("leaving", "leaving"),
    ];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "good").await;
    deployment_ready(&client, namespace, "leaving").await;
    // It stays as long as its pod does.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    claims.delete("leaving", &DeleteParams::default()).await.unwrap();
    let repo = stage.s3_repository("odd-claims").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let backup = repo.writer.json(&backup, 3).await;
    assert_eq!(backup.last("backup")["complete"], false, "{}", backup.all());
    assert_eq!(backup.volume("backup", "good")["way"], "live");
    let missing = backup.of_type("missing");
    for (claim, why) in [("leaving", "deleted"), ("pending", "Pending")] {
        let is_said = |line: &Value| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            text("what").contains(claim) && text("why").contains(why)
        };
        assert!(missing.iter().any(is_said), "{claim} is not listed; {}", backup.all());
    }
    nothing_is_left(&client, namespace).await;
}

/// A namespace that is not there; an account that may only look.
pub async fn rights_and_names(stage: Arc<Stage>) {
    let namespace = "guarded";
    let client = stage.first.client();
    let objects = [
        named(namespace),
        objects::claim("data", "lab-wait"),
        objects::deployment_with_claim("app", "data"),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "viewer" } }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "guarded-viewer" },
            "subjects": [{ "kind": "ServiceAccount", "name": "viewer", "namespace": namespace }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        }),
    ];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "app").await;
    let repo = stage.s3_repository("guarded").await;
    let none = format!("backup cluster -n no-such-thing --mover-image {KIST_IMAGE}");
    repo.writer.json(&none, 2).await.says(&["no namespace no-such-thing"]);

    let kubeconfig = stage.scratch.path().join("viewer.conf");
    let admin = std::fs::read(stage.first.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_slice(&admin).unwrap();
    config["users"][0]["user"] = json!({ "token": token(&client, namespace, "viewer").await });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let refused = repo.writer.at(&kubeconfig).json(&backup, 5).await;
    refused.says(&["create pods", namespace]);
    nothing_is_left(&client, namespace).await;
}

/// The claim's volume is on a node that does not exist.
pub async fn unschedulable(stage: Arc<Stage>) {
    let namespace = "nowhere";
    let client = stage.first.client();
    let folder = stage.first.dir().join("volumes/nowhere");
    std::fs::create_dir(&folder).unwrap();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "nowhere" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "local": { "path": folder },
            "claimRef": { "namespace": namespace, "name": "far" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": ["a-node-that-is-gone"],
            }] }] } },
            "persistentVolumeReclaimPolicy": "Retain",
        },
    });
    let mut claim = objects::claim("far", "");
    claim["spec"]["volumeName"] = json!("nowhere");
    wait::apply(&client, namespace, [named(namespace), volume, claim]).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    wait::until(claims, "far", "the claim to be bound", LIMIT, is_bound).await.unwrap();
    let repo = stage.s3_repository("nowhere").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let backup = repo.writer.json(&backup, 3).await;
    assert!(backup.took < BOUND, "{}", backup.all());
    assert_eq!(backup.last("backup")["complete"], false, "{}", backup.all());
    // The scheduler's own words.
    backup.says(&["missing", "far", "volume node affinity"]);
    nothing_is_left(&client, namespace).await;
}

/// Neither takes the other's pods for left ones, and both are complete.
pub async fn two_runs_at_once(stage: Arc<Stage>) {
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

/// Killed while its mover uploads: the next run after its lease has lapsed takes its pod away, is complete, and
/// what it has made can be read by the owner.
pub async fn a_killed_run_is_swept(stage: Arc<Stage>) {
    let namespace = "killed";
    let client = stage.first.client();
    large(&stage, namespace).await;
    let repo = stage.s3_repository("killed").await;
    let packs = stage.store.bucket_dir(BUCKET).join("killed/packs");
    let backup = format!("--json backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let mut victim = repo.writer.start(&backup);
    mover_runs(&client, namespace).await;
    uploads(&packs, &mut victim).await;
    victim.kill();
    let begin = Instant::now();
    assert!(!left(&client, namespace).await.is_empty(), "a killed run takes nothing away");
    leases_lapse(&client, namespace).await;
    println!("the lease of the killed run has lapsed after {:.1?}", begin.elapsed());
    let next = repo.writer.run(&backup).await;
    next.ended_with(0);
    assert_eq!(next.last("backup")["complete"], true, "{}", next.all());
    nothing_is_left(&client, namespace).await;
    let snapshots = repo.owner.json("snapshots", 0).await;
    assert_eq!(snapshots.of_type("snapshot").len(), 1, "the killed run has none; {}", snapshots.all());
    repo.owner.json("check --read-data", 0).await;
}

/// A namespace with a claim that takes a while to be read: 300 MB that don't compress.
async fn large(stage: &Stage, namespace: &str) {
    let client = stage.first.client();
    let objects =
        [named(namespace), objects::claim("data", "lab-wait"), objects::deployment_with_claim("app", "data")];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "app").await;
    let folder = volume_folder(&stage.first, namespace, "data").await;
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    for name in ["one", "two", "three"] {
        let mut file = std::fs::File::create(folder.join(name)).unwrap();
        std::io::copy(&mut std::io::Read::take(&mut random, 100 << 20), &mut file).unwrap();
    }
}

/// Waits until a mover's container runs in a namespace.
async fn mover_runs(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(MOVERS);
    let mut pods = watcher(pods, config).default_backoff().applied_objects().boxed();
    let running = async {
        while let Some(pod) = pods.next().await {
            let phase = pod.ok().and_then(|pod| pod.status?.phase);
            if phase.as_deref() == Some("Running") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, running).await.expect("a mover starts");
}

/// Waits until two packs are in a folder of the bucket.
async fn uploads(packs: &Path, run: &mut Running) {
    let begin = Instant::now();
    while files(packs) < 2 {
        assert!(!run.has_ended(), "the run has ended before it could be killed");
        assert!(begin.elapsed() < LIMIT, "nothing is uploaded to {}", packs.display());
        tokio::time::sleep(LOOK_RETRY).await;
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
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

async fn token(client: &Client, namespace: &str, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest::default();
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

fn named(namespace: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })
}
