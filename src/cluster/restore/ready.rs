//! Whether what was restored runs: roll-outs done, pods ready, claims bound.
//!
//! Watches, one for each kind in each namespace, all within one limit. What is not ready then is told with
//! what the cluster says about it.

mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::manifest::ObjectKey;
use crate::cluster::restore::kinds::api;
use crate::cluster::restore::watch::until_done;
use crate::cluster::restore::{Action, Plan, Step};

/// Group, kind, plural: what is waited for. Not Jobs, which may run for days, nor addresses of load
/// balancers, which not every cluster has.
const WAITED: [(&str, &str, &str); 5] = [
    ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "Pod", "pods"),
    ("apps", "DaemonSet", "daemonsets"),
    ("apps", "Deployment", "deployments"),
    ("apps", "StatefulSet", "statefulsets"),
];
/// For reading why; the answers are small.
const WHY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    pub object: String,
    pub why: String,
}

/// Objects of one kind in one namespace.
struct Group<'a> {
    resource: ApiResource,
    namespace: &'a str,
    steps: BTreeMap<String, &'a Step>,
    left: BTreeSet<String>,
    gone: BTreeSet<String>,
}

/// Waits until all that was restored is ready, at most this long; returns what is not.
pub async fn ready(cluster: &Cluster, plan: &Plan, limit: Duration) -> Vec<NotReady> {
    let mut groups = groups(plan);
    let waits = groups.iter_mut().map(|group| {
        let key = first_key(&group.steps);
        let api = api(cluster, &group.resource, Some(group.namespace));
        until_done(api, move |body| is_ready(&key, body), &mut group.left, &mut group.gone)
    });
    // What is left when the time is over is told below.
    let _ = tokio::time::timeout(limit, join_all(waits)).await;
    let mut all = Vec::new();
    for group in &groups {
        for (name, step) in &group.steps {
            let mut why = if group.gone.contains(name) {
                "it is not there".to_owned()
            } else if group.left.contains(name) {
                let telling = why::why(cluster, &group.resource, group.namespace, name);
                let told = tokio::time::timeout(WHY_LIMIT, telling).await;
                told.unwrap_or_else(|_| "the cluster did not tell why".into())
            } else {
                continue;
            };
            if !step.was_ready {
                why.push_str("; it was not ready when the backup was made either");
            }
            all.push(NotReady { object: step.to.to_string(), why });
        }
    }
    all
}

fn first_key(steps: &BTreeMap<String, &Step>) -> ObjectKey {
    let first = steps.values().next().expect("a group has a step");
    first.to.clone()
}

fn groups(plan: &Plan) -> Vec<Group<'_>> {
    let filled: BTreeSet<(&str, &str)> =
        plan.claims.iter().map(|claim| (&*claim.namespace, &*claim.name)).collect();
    let mut groups: BTreeMap<(&str, usize), Group<'_>> = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| step.action == Action::Create) {
        let to = &step.to;
        let nth = WAITED.iter().position(|(group, kind, _)| to.is(group, kind));
        let (Some(nth), Some(namespace)) = (nth, to.namespace.as_deref()) else { continue };
        // A claim that was never bound may wait for its first pod for ever.
        if to.is("", "PersistentVolumeClaim") && !filled.contains(&(namespace, &*to.name)) {
            continue;
        }
        let group = groups.entry((namespace, nth)).or_insert_with(|| Group {
            resource: ApiResource {
                group: to.group.clone(),
                version: to.version.clone(),
                api_version: to.api_version(),
                kind: to.kind.clone(),
                plural: WAITED[nth].2.to_owned(),
            },
            namespace,
            steps: BTreeMap::new(),
            left: BTreeSet::new(),
            gone: BTreeSet::new(),
        });
        group.left.insert(to.name.clone());
        group.steps.insert(to.name.clone(), step);
    }
    groups.into_values().collect()
}

/// Whether an object is as it should be; true for kinds that are not waited for.
pub(super) fn is_ready(key: &ObjectKey, body: &Value) -> bool {
    let (spec, status) = (&body["spec"], &body["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let observed = count("observedGeneration") >= body["metadata"]["generation"].as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    match (&*key.group, &*key.kind) {
        ("", "PersistentVolumeClaim") => status["phase"] == "Bound",
        ("", "Pod") => {
            status["phase"] == "Succeeded"
                || why::condition(status, "Ready").is_some_and(|it| it["status"] == "True")
        }
        ("apps", "DaemonSet") => {
            let wanted = count("desiredNumberScheduled");
            observed && count("updatedNumberScheduled") == wanted && count("numberAvailable") == wanted
        }
        // A paused one makes no pods before someone lets it.
        ("apps", "Deployment") if spec["paused"] == true => observed,
        ("apps", "Deployment") => {
            observed
                && count("updatedReplicas") == wanted
                && count("replicas") == wanted
                && count("availableReplicas") == wanted
        }
        ("apps", "StatefulSet") => {
            observed && count("replicas") == wanted && count("readyReplicas") == wanted
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::restore::plan::testing::object;
    use serde_json::json;

    fn check(api: &str, kind: &str, spec: Value, status: Value) -> bool {
        let manifest = object(json!({"apiVersion": api, "kind": kind,
            "metadata": {"name": "x", "namespace": "shop", "generation": 2}, "spec": spec, "status": status}));
        is_ready(&manifest.key, &manifest.body)
    }

    #[test]
    fn a_roll_out_is_done_when_all_replicas_are_new_and_available() {
        let done = |replicas, generation, updated, available| {
            let status = json!({"observedGeneration": generation, "replicas": updated, "updatedReplicas": updated,
                                "availableReplicas": available});
            check("apps/v1", "Deployment", json!({"replicas": replicas}), status)
        };
        assert!(done(3, 2, 3, 3) && done(0, 2, 0, 0));
        assert!(!done(3, 1, 3, 3) && !done(3, 2, 2, 3) && !done(3, 2, 3, 2));
        assert!(check(
            "apps/v1",
            "Deployment",
            json!({"replicas": 3, "paused": true}),
            json!({"observedGeneration": 2})
        ));
    }

    #[test]
    fn sets_are_ready_when_each_pod_is() {
        let set = |ready| {
            let status = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": ready});
            check("apps/v1", "StatefulSet", json!({"replicas": 2}), status)
        };
        assert!(set(2) && !set(1));
        let daemons = |available| {
            let status = json!({"observedGeneration": 2, "desiredNumberScheduled": 1,
                                "updatedNumberScheduled": 1, "numberAvailable": available});
            check("apps/v1", "DaemonSet", json!({}), status)
        };
        assert!(daemons(1) && !daemons(0));
        // The controller has not looked at it yet.
        assert!(!check("apps/v1", "DaemonSet", json!({}), json!({})));
    }

    #[test]
    fn claims_are_bound_and_pods_are_ready() {
        assert!(check("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Bound"})));
        assert!(!check("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Pending"})));
        let pod =
            |ready: &str| json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
        assert!(check("v1", "Pod", json!({}), pod("True")));
        assert!(!check("v1", "Pod", json!({}), pod("False")));
        assert!(check("v1", "ConfigMap", json!({}), json!({})));
    }
}
