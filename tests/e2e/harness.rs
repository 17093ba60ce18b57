//! The harness keeps its word: clusters that work like real ones, side by side, and
//! nothing left of them, however their run ends.
//!
//! The tests run one at a time, so that each can tell what is its own; some start this
//! program again, in a role given by the environment, to have a run to kill.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use object_store::{ObjectStoreExt, PutPayload, path::Path as Key};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;

use crate::cluster::objectstore::ObjectStore;
use crate::cluster::{Cluster, Spec, error::Error, image, network, postgres, slot, storage, wait};
use crate::leftovers::{Inventory, named_network_namespaces};
use crate::objects;

pub const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at the other process's slots.
const SLOT_RETRY: Duration = Duration::from_millis(20);
const NAMESPACE: &str = "default";
const BUCKET: &str = "kist";
/// Tells this program, started again by a test, to bring a cluster up and wait.
const ROLE: &str = "KIST_E2E_VICTIM";

/// Held by every test of this program.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn harness_two_clusters_work_side_by_side_and_leave_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let namespaces_before = named_network_namespaces();
    let busybox = image::busybox().unwrap();
    let first = Spec::new("first").image(busybox.clone()).image(postgres::postgres().unwrap());
    let second = Spec::new("second").image(busybox);
    let started = std::time::Instant::now();
    let (first, second, store) = tokio::try_join!(
        Cluster::start(first),
        Cluster::start(second),
        ObjectStore::start("shared", BUCKET),
    )
    .unwrap();
    println!("two clusters and a store are up after {:?}", started.elapsed());
    let slots = [first.slot(), second.slot(), store.slot()];
    tokio::join!(
        claims_are_served(&first),
        services_are_reached(&first, "one"),
        services_are_reached(&second, "two"),
        postgres_accepts_connections(&first),
        store_is_reached(&first, &store),
        store_is_reached(&second, &store),
    );
    println!("all checks passed after {:?}", started.elapsed());
    let inventories = slots.map(Inventory::of);
    assert!(inventories[0].process_count() > 15, "daemons and pods are seen from outside");
    first.down().await.unwrap();
    store.down().await.unwrap();
    // The other way to go: its owner panics.
    let task = tokio::spawn(async move { panic!("on purpose, owning {}", second.name()) });
    let panicked: Result<(), _> = task.await;
    assert!(panicked.unwrap_err().is_panic());
    for inventory in &inventories {
        inventory.assert_gone();
    }
    assert_eq!(named_network_namespaces(), namespaces_before);
    println!("all is down after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn harness_killed_with_sigkill_ends_its_daemons_and_is_swept_by_the_next_run() {
    if acts_as("killed") {
        let spec = Spec::new("victim").image(image::busybox().unwrap());
        let cluster = Cluster::start(spec).await.unwrap();
        services_are_reached(&cluster, "here").await; // so that it has pods
        say_and_wait(cluster.slot()).await;
    }
    let _alone = ONE_AT_A_TIME.lock().await;
    let test = "harness::harness_killed_with_sigkill_ends_its_daemons_and_is_swept_by_the_next_run";
    let mut victim = again(test, "killed");
    let index = said_slot(&mut victim);
    let inventory = Inventory::of(index);
    assert!(inventory.process_count() > 10, "daemons and pods are seen from outside");
    slot::sweep().unwrap();
    let still = Inventory::of(index).process_count();
    assert!(still > 10, "a living run's slot is not swept: {still}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    inventory.processes_end(Duration::from_secs(30)).await;
    // Another run on this machine may be at it already; then this one leaves it alone.
    slot::sweep().unwrap();
    inventory.folder_goes(LIMIT).await;
    inventory.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn harness_interrupted_while_starting_leaves_nothing() {
    if acts_as("interrupted") {
        let owner = ObjectStore::start("victim-s3", BUCKET).await.unwrap();
        println!("slot {}", owner.slot());
        Cluster::start(Spec::new("victim")).await.unwrap();
        say_and_wait(owner.slot()).await;
    }
    let _alone = ONE_AT_A_TIME.lock().await;
    let test = "harness::harness_interrupted_while_starting_leaves_nothing";
    let mut victim = again(test, "interrupted");
    let store = said_slot(&mut victim);
    let cluster = etcd_has_started(&victim).await;
    let inventories = [store, cluster].map(Inventory::of);
    let pid = Pid::from_raw(victim.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let status = victim.wait().unwrap();
    assert_eq!(status.code(), Some(130), "the shell's code for Ctrl-C");
    for inventory in &inventories {
        inventory.assert_gone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harness_failed_start_shows_the_log_and_leaves_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut spec = Spec::new("broken");
    spec.apiserver_flags.push("--no-such-flag".into());
    let error = Cluster::start(spec).await.err().expect("the API server refuses the flag");
    let text = error.to_string();
    assert!(matches!(error, Error::Died { .. }), "{text}");
    assert!(text.contains("kube-apiserver") && text.contains("--no-such-flag"), "{text}");
    let mine = std::process::id();
    assert!(slot::list().unwrap().iter().all(|seen| seen.owner_pid != mine));
}

#[test]
fn harness_without_its_tools_fails_and_names_them() {
    if acts_as("poor") {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime.block_on(Cluster::start(Spec::new("poor"))).err().unwrap();
        panic!("{error}");
    }
    let test = "harness::harness_without_its_tools_fails_and_names_them";
    let mut command = again_command(test, "poor");
    let output = command.env("KIST_CACHE", "/nowhere").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["/nowhere/bin/kube-apiserver-v", "/nowhere/bin/kubelet-v", "install.sh"] {
        assert!(text.contains(part), "{part} is not named in: {text}");
    }
}

/// Both kinds of claims, from the volume's making to its end.
async fn claims_are_served(cluster: &Cluster) {
    let client = cluster.client();
    let objects = [
        objects::claim("waits", storage::CLASS_WAIT),
        objects::claim("now", storage::CLASS_NOW),
        objects::deployment_with_claim("writer", "waits"),
    ];
    wait::apply(&client, NAMESPACE, objects).await.unwrap();
    deployment_ready(&client, "writer").await;
    let pod = pod_of(&client, "writer").await;
    let command = ["sh", "-c", "echo written > /data/file; cat /data/file; echo seen >&2; exit 3"];
    let done = wait::exec(&client, NAMESPACE, &pod, &command, LIMIT).await.unwrap();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("written\n", "seen\n"));
    assert!(!done.success, "the exit code of the command counts");
    let folder = |claim: &PersistentVolumeClaim| {
        let volume = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
        cluster.dir().join("volumes").join(volume)
    };
    let waits = bound(&client, "waits").await;
    assert_eq!(fs::read_to_string(folder(&waits).join("file")).unwrap(), "written\n");
    let now = bound(&client, "now").await;
    let (path, volume) = (folder(&now), now.spec.unwrap().volume_name.unwrap());
    assert!(path.is_dir());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    claims.delete("now", &DeleteParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(client);
    wait::until(volumes, &volume, "the volume to go", LIMIT, |found: Option<&_>| found.is_none())
        .await
        .unwrap();
    assert!(!path.exists(), "the folder goes with the volume");
}

/// A Service by its address, from another pod; the same names live in every cluster.
async fn services_are_reached(cluster: &Cluster, word: &str) {
    let client = cluster.client();
    let ip = format!("10.215.{}.80", cluster.slot());
    assert!(network::service_range(cluster.slot()).starts_with(&ip[..ip.len() - 3]));
    let url = format!("http://{ip}/");
    let objects = [
        objects::web_server("web", word),
        objects::service("web", &ip),
        objects::web_client("visitor", &url),
    ];
    wait::apply(&client, NAMESPACE, objects).await.unwrap();
    pod_ready(&client, "visitor").await;
    let command = ["wget", "-q", "-O", "-", &url];
    let done = wait::exec(&client, NAMESPACE, "visitor", &command, LIMIT).await.unwrap();
    assert_eq!(done.stdout, format!("{word}\n"), "{}", done.stderr);
}

async fn postgres_accepts_connections(cluster: &Cluster) {
    let client = cluster.client();
    wait::apply(&client, NAMESPACE, objects::postgres("db")).await.unwrap();
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), NAMESPACE);
    let ready =
        |set: Option<&StatefulSet>| set.and_then(|set| set.status.as_ref()?.ready_replicas) == Some(1);
    wait::until(sets, "db", "PostgreSQL to be ready", LIMIT, ready).await.unwrap();
    let command = ["psql", "-h", "/tmp", "-d", "postgres", "-Atc", "show data_checksums"];
    let done = wait::exec(&client, NAMESPACE, "db-0", &command, LIMIT).await.unwrap();
    assert_eq!(done.stdout, "on\n", "{}", done.stderr);
}

/// The host writes with the credentials, and a pod gets an answer: a refusal, having none.
async fn store_is_reached(cluster: &Cluster, store: &ObjectStore) {
    let [(_, access_key), (_, secret_key)] = store.credentials();
    let bucket = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(store.endpoint())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(access_key)
        .with_secret_access_key(secret_key)
        .build()
        .unwrap();
    let key = Key::from(format!("from/{}", cluster.name()));
    bucket.put(&key, PutPayload::from_static(b"bytes")).await.unwrap();
    let back = bucket.get(&key).await.unwrap().bytes().await.unwrap();
    assert_eq!(&back[..], b"bytes");
    let client = cluster.client();
    pod_ready(&client, "visitor").await;
    let url = format!("{}/{BUCKET}/{key}", store.endpoint());
    let command = ["wget", "-O", "-", &url];
    let done = wait::exec(&client, NAMESPACE, "visitor", &command, LIMIT).await.unwrap();
    assert!(!done.success && done.stderr.contains("403"), "{}", done.stderr);
}

async fn deployment_ready(client: &Client, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let ready =
        |found: Option<&Deployment>| found.and_then(|found| found.status.as_ref()?.ready_replicas) == Some(1);
    wait::until(deployments, name, &format!("{name} to be ready"), LIMIT, ready).await.unwrap();
}

async fn pod_ready(client: &Client, name: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let ready = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|seen| seen.type_ == "Ready" && seen.status == "True"))
    };
    wait::until(pods, name, &format!("{name} to be ready"), LIMIT, ready).await.unwrap();
}

async fn pod_of(client: &Client, app: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap();
    list.items.first().expect("a ready Deployment has a pod").name_any()
}

async fn bound(client: &Client, name: &str) -> PersistentVolumeClaim {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
        phase == Some("Bound")
    };
    let what = format!("claim {name} to be bound");
    wait::until(claims, name, &what, LIMIT, is_bound).await.unwrap().unwrap()
}

/// True in the process that a test has started to play this role.
fn acts_as(role: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|given| given == role)
}

fn again_command(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role);
    command
}

/// Starts one test of this program again, to play a role.
fn again(test: &str, role: &str) -> Child {
    again_command(test, role).stdout(Stdio::piped()).spawn().unwrap()
}

async fn say_and_wait(slot: u8) -> ! {
    println!("slot {slot}");
    std::future::pending().await
}

/// Reads up to the line in which the other process says its slot.
fn said_slot(victim: &mut Child) -> u8 {
    let stdout = BufReader::new(victim.stdout.as_mut().unwrap());
    for line in stdout.lines() {
        let line = line.unwrap();
        if let Some((_, index)) = line.split_once("slot ") {
            return index.parse().unwrap();
        }
    }
    let status: ExitStatus = victim.wait().unwrap();
    panic!("the other process ended with {status} before it said its slot");
}

/// Waits until the other process has a second slot with etcd in it, and returns that slot.
async fn etcd_has_started(victim: &Child) -> u8 {
    let seen = async {
        loop {
            let slots = slot::list().unwrap();
            let started = slots.iter().find(|seen| {
                seen.owner_pid == victim.id() && slot::folder(seen.index).join("log/etcd.log").exists()
            });
            if let Some(seen) = started {
                return seen.index;
            }
            tokio::time::sleep(SLOT_RETRY).await;
        }
    };
    tokio::time::timeout(LIMIT, seen).await.expect("the other process starts a cluster")
}
