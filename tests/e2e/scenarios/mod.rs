//! What kist promises, on real clusters: one scenario a promise, all of them on one stage.
//!
//! The test library has no end of its own for what several tests share, so one test runs them all, some side
//! by side, each reported by name; a failing one does not keep the others from running. The stage is taken
//! down in any case. `KIST_E2E_ONLY=WORD` runs those with the word in their name.

mod cronjob;
mod hooks;
mod movers;
mod pod_security;
mod points_in_time;
mod runs;
mod there_and_back;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, wait};
use crate::harness::{LIMIT, ONE_AT_A_TIME};
use crate::kist::Outcome;
use crate::stage::Stage;

type Scenario = (&'static str, fn(Arc<Stage>) -> BoxFuture<'static, ()>);

/// The longest first: the others run beside it.
const ALL: [Scenario; 14] = [
    ("a_shop_travels_there_and_back", |stage| there_and_back::a_shop_travels(stage).boxed()),
    ("runs_that_were_killed_are_swept_by_the_next", |stage| runs::a_killed_run_is_swept(stage).boxed()),
    ("movers_unschedulable_is_said_in_time", |stage| movers::unschedulable(stage).boxed()),
    ("points_in_time_are_given_back", |stage| points_in_time::three_states(stage).boxed()),
    ("a_schedule_backs_up_with_few_rights", |stage| cronjob::a_scheduled_backup(stage).boxed()),
    ("runs_at_once_leave_each_other_alone", |stage| runs::two_at_once(stage).boxed()),
    ("runs_that_are_interrupted_clean_up", |stage| runs::an_interrupted_run_cleans_up(stage).boxed()),
    ("runs_go_on_after_a_link_is_cut", |stage| runs::a_cut_link_is_made_anew(stage).boxed()),
    ("runs_notice_a_mover_that_is_deleted", |stage| runs::a_deleted_mover_is_noticed(stage).boxed()),
    ("movers_skip_odd_claims_and_say_so", |stage| movers::odd_claims(stage).boxed()),
    ("movers_need_rights_and_a_namespace", |stage| movers::rights_and_names(stage).boxed()),
    ("pod_security_baseline_and_restricted", |stage| pod_security::both_levels(stage).boxed()),
    ("hooks_make_frozen_of_torn", |stage| hooks::verdicts(stage).boxed()),
    ("hooks_that_fail_are_not_complete", |stage| hooks::a_failing_one(stage).boxed()),
];
/// Most scenarios wait for pods and timers most of the time.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_hold_on_two_real_clusters() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let only = std::env::var("KIST_E2E_ONLY").unwrap_or_default();
    let begin = Instant::now();
    let stage = Arc::new(Stage::start(Path::new(env!("CARGO_BIN_EXE_kist"))).await.unwrap());
    println!("two clusters and a store are up after {:.1?}", begin.elapsed());
    let chosen = ALL.into_iter().filter(|(name, _)| name.contains(&only));
    let runs = chosen.map(|(name, scenario)| {
        let stage = Arc::clone(&stage);
        async move {
            let begin = Instant::now();
            // A task of its own, so that a panic ends this scenario and no other.
            let ended = tokio::spawn(scenario(stage)).await;
            let verdict = if ended.is_ok() { "ok" } else { "FAILED" };
            println!("scenario {name}: {verdict} in {:.1?}", begin.elapsed());
            ended.err().map(|_| name)
        }
    });
    let failed: Vec<_> = futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<_> = failed.into_iter().flatten().collect();
    // Panicking here takes the stage down, and keeps the logs of its clusters.
    assert!(failed.is_empty(), "these scenarios failed, the reasons are above: {failed:?}");
    let stage = Arc::into_inner(stage).expect("the scenarios have ended");
    stage.down().await.unwrap();
    println!("all is down after {:.1?}", begin.elapsed());
}

/// Fails if anything that a run makes in a namespace is left there.
async fn nothing_is_left(client: &Client, namespace: &str) {
    let left = left(client, namespace).await;
    assert!(left.is_empty(), "kist has left {left:?} in {namespace}");
}

/// Pods and leases of runs in a namespace.
async fn left(client: &Client, namespace: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(MOVERS);
    let pods = pods.list(&ours).await.unwrap().items;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let leases = leases.list(&ListParams::default()).await.unwrap().items;
    let names = pods.iter().map(|pod| format!("pod {}", pod.name_any()));
    names.chain(leases.iter().map(|lease| format!("lease {}", lease.name_any()))).collect()
}

fn named(namespace: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })
}

/// Selects what kist makes.
const MOVERS: &str = "app.kubernetes.io/managed-by=kist";

/// Waits until a Deployment of one pod is ready.
async fn deployment_ready(client: &Client, namespace: &str, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let is_ready =
        |found: Option<&Deployment>| found.and_then(|found| found.status.as_ref()?.ready_replicas) == Some(1);
    let what = format!("{namespace}/{name} to be ready");
    wait::until(deployments, name, &what, LIMIT, is_ready).await.unwrap();
}

/// The folder on this machine that a claim's volume is.
async fn volume_folder(cluster: &Cluster, namespace: &str, claim: &str) -> std::path::PathBuf {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client(), namespace);
    let claim = claims.get(claim).await.unwrap();
    let volume = claim.spec.unwrap().volume_name.expect("the claim is bound");
    cluster.dir().join("volumes").join(volume)
}

/// The id of the snapshot that a backup has made.
fn snapshot(outcome: &Outcome) -> String {
    outcome.last("backup")["snapshot"].as_str().expect("a snapshot has an id").to_owned()
}
