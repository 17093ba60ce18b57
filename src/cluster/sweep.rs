//! Sweeps a namespace: pays and removes what killed runs left in it, and never what a living run has.
//!
//! A run is dead when its lease has run out by our clock and is not renewed either while we look on for
//! one more duration: so it holds for clocks that differ. Invariant: hooks before pods before lease, so
//! that a sweep which is killed itself leaves the rest to the next. Sweepers do not disturb each other:
//! a lapsed lease is taken over first, and only one can do that. Anyone may have written a lease, so
//! nothing is run but the post-hook that the pod itself carries now.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease as Object;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use crate::cluster::hook::{Hooks, Phase, PodHooks, hooks, run_all};
use crate::cluster::lease::{self, SLOTS};
use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::mover::remove;
use crate::cluster::request::{found, request};
use crate::cluster::{Cluster, KIST, MANAGED_BY, RUN, Result};
use crate::world::{Time, World};

/// A pod whose run has no lease: the run has released it and its pods are just going, or it never had one.
const ORPHAN_AGE: Duration = Duration::from_secs(120);

/// What a sweep did, in sentences for people.
#[derive(Debug, Default)]
pub struct Swept {
    pub done: Vec<String>,
    /// What it could not do; the next sweep tries again, but for hooks.
    pub problems: Vec<String>,
}

impl Swept {
    fn note(&mut self, outcome: Result<bool>, what: &str) {
        match outcome {
            Ok(true) => self.done.push(format!("{what} was removed")),
            Ok(false) => {}
            Err(error) => self.problems.push(format!("{what} could not be removed: {error}")),
        }
    }
}

/// Takes as long as a lease lasts if there is one that may have lapsed; otherwise a few requests.
pub async fn sweep(cluster: &Cluster, world: &World, namespace: &str) -> Result<Swept> {
    let mut swept = Swept::default();
    let present = read_all(cluster, namespace).await?;
    for lapsed in lapsed(cluster, world, namespace, &present).await? {
        sweep_run(cluster, world, namespace, lapsed, &mut swept).await?;
    }
    // Read anew: runs may have come and gone in the meantime.
    let living = read_all(cluster, namespace).await?;
    let runs: Vec<&str> = living.iter().filter_map(lease::run_of).collect();
    let pods = list(cluster, namespace, &format!("{MANAGED_BY}={KIST},{RUN}")).await?;
    let orphans: Vec<Pod> = pods.into_iter().filter(|pod| is_orphan(pod, &runs, world.now())).collect();
    remove_all(cluster, namespace, &orphans, &mut swept).await;
    Ok(swept)
}

async fn read_all(cluster: &Cluster, namespace: &str) -> Result<Vec<Object>> {
    let leases = lease::leases(cluster, namespace);
    let mut present = Vec::new();
    // By name: so the account needs no right to list leases, which are of all kinds of programs.
    for slot in 1..=SLOTS {
        let name = lease::name(slot);
        let read = request(|| format!("read the lease {namespace}/{name}"), leases.get(&name)).await;
        present.extend(found(read)?);
    }
    Ok(present)
}

async fn lapsed(
    cluster: &Cluster,
    world: &World,
    namespace: &str,
    present: &[Object],
) -> Result<Vec<Object>> {
    let due: Vec<&Object> = present.iter().filter(|lease| lease::is_due(lease, world.now())).collect();
    let Some(longest) = due.iter().map(|lease| lease::duration(lease)).max() else { return Ok(vec![]) };
    // Time itself is what is waited for. A living run renews three times meanwhile.
    sleep(longest).await;
    let now = read_all(cluster, namespace).await?;
    let unrenewed = |lease: &Object| due.iter().any(|before| lease::is_unrenewed(before, lease));
    Ok(now.into_iter().filter(unrenewed).collect())
}

async fn sweep_run(
    cluster: &Cluster,
    world: &World,
    namespace: &str,
    lapsed: Object,
    swept: &mut Swept,
) -> Result<()> {
    let leases = lease::leases(cluster, namespace);
    let name = lapsed.name_any();
    let label = format!("{namespace}/{name}");
    let Some(taken) = lease::take_over(&leases, &label, lapsed, world).await? else { return Ok(()) };
    let run = lease::run_of(&taken).unwrap_or_default().to_owned();

    match lease::debts(&taken) {
        Ok(debts) => pay(cluster, world, namespace, &run, &debts, swept).await?,
        Err(why) => swept.problems.push(format!("the lease {label} of the run {run}: {why}")),
    }

    let before = swept.problems.len();
    if !run.is_empty() {
        let pods = list(cluster, namespace, &format!("{MANAGED_BY}={KIST},{RUN}={run}")).await?;
        remove_all(cluster, namespace, &pods, swept).await;
    }
    if swept.problems.len() == before {
        let gone = lease::delete(&leases, &label, &name, taken.uid()).await.map(|()| true);
        swept.note(gone, &format!("the lapsed lease {label} of the run {run}"));
    }
    Ok(())
}

/// Runs the post-hooks of these pods, as the pods have them now.
async fn pay(
    cluster: &Cluster,
    world: &World,
    namespace: &str,
    run: &str,
    debts: &BTreeSet<String>,
    swept: &mut Swept,
) -> Result<()> {
    if debts.is_empty() {
        return Ok(());
    }
    // One list of all, whatever number of pods a note names.
    let pods = list(cluster, namespace, "").await?;
    let (owed, unpaid) = carried(namespace, debts, &pods);
    let what = |pod: &str| format!("the post-hook of {namespace}/{pod}, owed by the run {run},");
    swept.problems.extend(unpaid.iter().map(|(pod, why)| format!("{} was not run: {why}", what(pod))));
    for result in run_all(cluster, world, &owed, Phase::Post).await {
        match result.ok {
            true => swept.done.push(format!("{} was run", what(&result.pod))),
            // Not again: a hook that fails for good would keep the slot taken for good.
            false => swept.problems.push(format!("{} failed: {}", what(&result.pod), result.message)),
        }
    }
    Ok(())
}

/// The post-hooks that the pods carry, and why others get none.
fn carried(
    namespace: &str,
    debts: &BTreeSet<String>,
    pods: &[Pod],
) -> (Vec<PodHooks>, Vec<(String, String)>) {
    let (mut owed, mut unpaid) = (Vec::new(), Vec::new());
    for name in debts {
        let why = match pods.iter().find(|pod| pod.name_any() == *name) {
            None => "the pod is gone".to_owned(),
            Some(pod) => {
                let key = ObjectKey::of("v1", "Pod", Some(namespace), name);
                let body = serde_json::to_value(pod).unwrap_or_default();
                let Hooks { pods, problems } = hooks(&[Manifest { key, body }]);
                match pods.into_iter().find(|pod| pod.post.is_some()) {
                    Some(hooks) => {
                        owed.push(hooks);
                        continue;
                    }
                    None => {
                        problems.into_iter().next().unwrap_or_else(|| "the pod has none that runs".into())
                    }
                }
            }
        };
        unpaid.push((name.clone(), why));
    }
    (owed, unpaid)
}

/// Without labels: all of them.
async fn list(cluster: &Cluster, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let params = ListParams::default().labels(labels);
    Ok(request(|| format!("list the pods in {namespace}"), pods.list(&params)).await?.items)
}

async fn remove_all(cluster: &Cluster, namespace: &str, pods: &[Pod], swept: &mut Swept) {
    let removals = pods.iter().map(|pod| async {
        let (name, run) = (pod.name_any(), run_of(pod).unwrap_or_default());
        let outcome = remove(cluster, namespace, &name, run).await;
        (outcome, format!("the pod {namespace}/{name} of the run {run}"))
    });
    for (outcome, what) in join_all(removals).await {
        swept.note(outcome, &what);
    }
}

fn run_of(pod: &Pod) -> Option<&str> {
    pod.labels().get(RUN).map(String::as_str)
}

fn is_orphan(pod: &Pod, runs: &[&str], now: Time) -> bool {
    let Some(created) = pod.creation_timestamp() else { return false };
    let age = i128::from(now.0) - created.0.as_nanosecond();
    let is_old = u128::try_from(age).is_ok_and(|age| age > ORPHAN_AGE.as_nanos());
    is_old && run_of(pod).is_some_and(|run| !runs.contains(&run))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_orphan_is_old_and_its_run_holds_no_lease() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {
            "name": "kist-mover-1-1", "labels": {RUN: "r1"}, "creationTimestamp": "1970-01-01T00:10:00Z"}}))
        .unwrap();
        let at = |second: i64| Time(second * 1_000_000_000);
        assert!(is_orphan(&pod, &["r2"], at(1_000)));
        assert!(!is_orphan(&pod, &["r1"], at(1_000)), "its run lives");
        assert!(!is_orphan(&pod, &[], at(700)), "it may belong to a run that just ends");
        assert!(!is_orphan(&pod, &[], at(0)), "its clock is ahead of ours");
        let foreign: Pod = serde_json::from_value(json!({"metadata": {
            "creationTimestamp": "1970-01-01T00:10:00Z"}}))
        .unwrap();
        assert!(!is_orphan(&foreign, &[], at(1_000)), "it is of no run");
    }

    #[test]
    fn only_the_post_hook_that_a_living_pod_carries_is_run() {
        let pod = |name: &str, phase: &str, annotations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations},
                "spec": {"containers": [{"name": "main"}]}, "status": {"phase": phase}}))
            .unwrap()
        };
        let thaw = json!({"post.hook.backup.kist.dev/command": "/thaw"});
        let pods = [
            pod("a", "Running", thaw.clone()),
            pod("b", "Running", json!({})),
            pod("c", "Succeeded", thaw.clone()),
            pod("other", "Running", thaw),
        ];
        let debts = ["a", "b", "c", "gone"].map(str::to_owned).into();
        let (owed, unpaid) = carried("shop", &debts, &pods);
        assert_eq!(owed.len(), 1);
        assert_eq!((&*owed[0].namespace, &*owed[0].pod), ("shop", "a"));
        assert_eq!(owed[0].post.as_ref().unwrap().command, ["/thaw"]);
        let why: Vec<(&str, &str)> = unpaid.iter().map(|(pod, why)| (&**pod, &**why)).collect();
        let none = "the pod has none that runs";
        assert_eq!(why, [("b", none), ("c", none), ("gone", "the pod is gone")]);
    }

    #[test]
    fn a_sweep_may_run_on_any_thread() {
        fn is_send(_: impl Send) {}
        let _ = |cluster: &Cluster, world: &World| is_send(sweep(cluster, world, "shop"));
    }
}
