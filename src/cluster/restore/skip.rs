//! What is not restored, and why: what the cluster makes by itself, and what was over already.
//!
//! Pure. Invariant: whatever is skipped here is either made anew by something that is restored or by the
//! cluster, or means nothing outside of the cluster that it came from.

use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::restore::context::{Snapshot, annotation, is_completed, label, owners, short};
use crate::cluster::{KIST, MANAGED_BY, RUN};

const STORAGE: &str = "storage.k8s.io";
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const GROUP_SNAPSHOTS: &str = "groupsnapshot.storage.k8s.io";
const OF_THE_CLUSTER: &str = "it describes the cluster that it came from";
const VOLUME_SNAPSHOT: &str = "volume snapshots live in the storage of the cluster that they came from";

/// Group, kind, why.
const NEVER: [(&str, &str, &str); 25] = [
    ("", "ComponentStatus", OF_THE_CLUSTER),
    ("", "Event", "events are of the past"),
    ("", "Node", OF_THE_CLUSTER),
    ("", "PersistentVolume", "volumes are provisioned anew for their claims"),
    ("apiregistration.k8s.io", "APIService", "whatever serves it registers it"),
    ("apps", "ControllerRevision", "its workload makes it anew"),
    ("certificates.k8s.io", "CertificateSigningRequest", OF_THE_CLUSTER),
    ("coordination.k8s.io", "Lease", "its holder takes it anew"),
    ("coordination.k8s.io", "LeaseCandidate", "its holder makes it anew"),
    ("events.k8s.io", "Event", "events are of the past"),
    (GROUP_SNAPSHOTS, "VolumeGroupSnapshot", VOLUME_SNAPSHOT),
    (GROUP_SNAPSHOTS, "VolumeGroupSnapshotContent", VOLUME_SNAPSHOT),
    ("internal.apiserver.k8s.io", "StorageVersion", OF_THE_CLUSTER),
    ("metrics.k8s.io", "NodeMetrics", OF_THE_CLUSTER),
    ("metrics.k8s.io", "PodMetrics", OF_THE_CLUSTER),
    ("networking.k8s.io", "IPAddress", "addresses are given anew"),
    ("resource.k8s.io", "ResourceSlice", OF_THE_CLUSTER),
    (SNAPSHOTS, "VolumeSnapshot", VOLUME_SNAPSHOT),
    (SNAPSHOTS, "VolumeSnapshotContent", VOLUME_SNAPSHOT),
    (STORAGE, "CSINode", OF_THE_CLUSTER),
    (STORAGE, "CSIStorageCapacity", OF_THE_CLUSTER),
    (STORAGE, "VolumeAttachment", OF_THE_CLUSTER),
    ("storagemigration.k8s.io", "StorageVersionMigration", OF_THE_CLUSTER),
    ("", "Binding", "it is no object that stays"),
    ("certificates.k8s.io", "PodCertificateRequest", OF_THE_CLUSTER),
];

/// ConfigMaps that a controller publishes into every namespace.
const PUBLISHED: [&str; 3] = ["istio-ca-root-cert", "kube-root-ca.crt", "openshift-service-ca.crt"];
/// Accounts that a controller makes in every namespace.
pub(super) const ACCOUNTS: [&str; 3] = ["builder", "default", "deployer"];
/// Whose controller makes them anew, whatever the controller is. Anything else that is owned is
/// restored and linked to its owner again.
const MADE_BY_CONTROLLERS: [(&str, &str); 6] = [
    ("", "Pod"),
    ("", "PersistentVolumeClaim"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("resource.k8s.io", "ResourceClaim"),
];

/// None: it is to be restored.
pub(super) fn why_not(manifest: &Manifest, snapshot: &Snapshot<'_>) -> Option<String> {
    let key = &manifest.key;
    if let Some(why) = never(key) {
        return Some(why.into());
    }
    if manifest.is_terminating() {
        return Some("it was being deleted when the backup was made".into());
    }
    if label(manifest, MANAGED_BY) == Some(KIST) && label(manifest, RUN).is_some() {
        return Some("kist made it for a run".into());
    }
    if annotation(manifest, "kubernetes.io/config.mirror").is_some() {
        return Some("a node's kubelet makes it from a file".into());
    }
    if let Some(why) = made_by_cluster(manifest, snapshot) {
        return Some(why);
    }
    if let Some(owner) = made_by(manifest, snapshot) {
        return Some(format!("{} makes it anew", short(owner)));
    }
    is_completed(manifest).then(|| "it had completed".into())
}

pub(super) fn never(key: &ObjectKey) -> Option<&'static str> {
    NEVER.iter().find(|(group, kind, _)| key.is(group, kind)).map(|(.., why)| *why)
}

/// Whether every namespace has it anyhow, or the cluster has it in the namespace `default`.
pub(super) fn is_in_every_cluster(key: &ObjectKey) -> bool {
    let of_the_api_server = ["Endpoints", "EndpointSlice", "Service"].contains(&key.kind.as_str())
        && key.namespace.as_deref() == Some("default")
        && key.name == "kubernetes";
    of_the_api_server || (key.is("", "ConfigMap") && PUBLISHED.contains(&key.name.as_str()))
}

fn made_by_cluster(manifest: &Manifest, snapshot: &Snapshot<'_>) -> Option<String> {
    let key = &manifest.key;
    if is_in_every_cluster(key) {
        return Some("the cluster makes it by itself".into());
    }
    if key.is("discovery.k8s.io", "EndpointSlice")
        && let Some(maker) = label(manifest, "endpointslice.kubernetes.io/managed-by")
        && maker.ends_with("-controller.k8s.io")
    {
        return Some("the cluster makes it from its Service".into());
    }
    if key.is("", "Endpoints") {
        if annotation(manifest, "control-plane.alpha.kubernetes.io/leader").is_some() {
            return Some("its holder takes it anew".into());
        }
        let service = snapshot.find("", "Service", key.namespace.as_deref(), &key.name);
        let selects = service.is_some_and(|service| service.body["spec"]["selector"].is_object());
        return selects.then(|| "the cluster makes it from its Service".into());
    }
    let account = account_of_token(manifest)?;
    let account = snapshot.find("", "ServiceAccount", key.namespace.as_deref(), account)?;
    let listed = account.body["secrets"].as_array()?.iter().any(|secret| secret["name"] == *key.name);
    listed.then(|| "the cluster makes tokens of service accounts anew".into())
}

/// The service account of a Secret that looks like one of the tokens that were made by themselves.
fn account_of_token(manifest: &Manifest) -> Option<&str> {
    let is_token = manifest.key.is("", "Secret")
        && manifest.body["type"].as_str() == Some("kubernetes.io/service-account-token");
    let account = annotation(manifest, "kubernetes.io/service-account.name").filter(|_| is_token)?;
    let rest = manifest.key.name.strip_prefix(account)?;
    rest.starts_with("-token-").then_some(account)
}

fn made_by<'a>(manifest: &Manifest, snapshot: &Snapshot<'a>) -> Option<&'a Manifest> {
    let key = &manifest.key;
    if !MADE_BY_CONTROLLERS.iter().any(|(group, kind)| key.is(group, kind)) {
        return None;
    }
    if key.is("", "PersistentVolumeClaim") {
        // A claim for as long as its pod; those of StatefulSets are owned by the set, and hold data.
        let mut uids = owners(manifest).iter().filter_map(|owner| owner["uid"].as_str());
        return uids.find_map(|uid| snapshot.with_uid(uid).filter(|owner| owner.key.is("", "Pod")));
    }
    snapshot.controller(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::restore::plan::testing::object;
    use serde_json::{Value, json};

    fn why(manifests: &[Value], nth: usize) -> Option<String> {
        let manifests: Vec<Manifest> = manifests.iter().cloned().map(object).collect();
        why_not(&manifests[nth], &Snapshot::of(&manifests))
    }

    fn named(api: &str, kind: &str, name: &str) -> Value {
        json!({"apiVersion": api, "kind": kind,
               "metadata": {"name": name, "namespace": "shop", "uid": format!("{kind}-{name}")}})
    }

    fn owned(mut it: Value, by: &Value) -> Value {
        it["metadata"]["ownerReferences"] = json!([{"apiVersion": by["apiVersion"], "kind": by["kind"],
            "name": by["metadata"]["name"], "uid": by["metadata"]["uid"], "controller": true}]);
        it
    }

    #[test]
    fn what_controllers_make_is_left_to_them() {
        let web = named("apps/v1", "Deployment", "web");
        let set = owned(named("apps/v1", "ReplicaSet", "web-1"), &web);
        let pod = owned(named("v1", "Pod", "web-1-a"), &set);
        let all = [web, set, pod];
        assert_eq!(why(&all, 0), None);
        assert_eq!(why(&all, 1).unwrap(), "Deployment web makes it anew");
        assert_eq!(why(&all, 2).unwrap(), "ReplicaSet web-1 makes it anew");
        // Without its owner in the snapshot nobody would make it.
        assert_eq!(why(&all[2..], 0), None);
        // A Deployment that an operator owns is restored, and linked again.
        let operator = named("shop.example.org/v1", "Shop", "main");
        assert_eq!(
            why(&[operator.clone(), owned(named("apps/v1", "Deployment", "web"), &operator)], 1),
            None
        );
    }

    #[test]
    fn claims_of_pods_go_with_them_and_those_of_sets_stay() {
        let (pod, set) = (named("v1", "Pod", "a"), named("apps/v1", "StatefulSet", "db"));
        let claim = named("v1", "PersistentVolumeClaim", "x");
        assert!(why(&[pod.clone(), owned(claim.clone(), &pod)], 1).is_some());
        assert_eq!(why(&[set.clone(), owned(claim, &set)], 1), None);
    }

    #[test]
    fn what_is_over_is_not_started_again() {
        let mut job = named("batch/v1", "Job", "once");
        assert_eq!(why(&[job.clone()], 0), None);
        job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        assert_eq!(why(&[job], 0).unwrap(), "it had completed");
        let mut pod = named("v1", "Pod", "once");
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(why(&[pod], 0).unwrap(), "it had completed");
        let mut claim = named("v1", "PersistentVolumeClaim", "old");
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(why(&[claim], 0).unwrap().contains("being deleted"));
    }

    #[test]
    fn endpoints_made_by_hand_are_told_from_the_clusters() {
        let (mut service, endpoints) = (named("v1", "Service", "db"), named("v1", "Endpoints", "db"));
        service["spec"] = json!({"ports": [{"port": 5432}]});
        assert_eq!(why(&[service.clone(), endpoints.clone()], 1), None);
        service["spec"]["selector"] = json!({"app": "db"});
        assert!(why(&[service, endpoints], 1).is_some());
        let mut slice = named("discovery.k8s.io/v1", "EndpointSlice", "db-x");
        assert_eq!(why(&[slice.clone()], 0), None);
        slice["metadata"]["labels"] =
            json!({"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
        assert!(why(&[slice], 0).is_some());
    }

    #[test]
    fn tokens_that_were_made_by_themselves_are_left_out() {
        let mut account = named("v1", "ServiceAccount", "app");
        account["secrets"] = json!([{"name": "app-token-x7x7x"}]);
        let token = |name: &str| {
            let mut secret = named("v1", "Secret", name);
            secret["type"] = json!("kubernetes.io/service-account-token");
            secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "app"});
            secret
        };
        assert!(why(&[account.clone(), token("app-token-x7x7x")], 1).is_some());
        assert_eq!(why(&[account, token("for-ci")], 1), None);
    }

    #[test]
    fn what_every_cluster_has_is_left_out() {
        assert!(why(&[named("v1", "ConfigMap", "kube-root-ca.crt")], 0).is_some());
        assert_eq!(why(&[named("v1", "ConfigMap", "settings")], 0), None);
        assert_eq!(why(&[named("v1", "Service", "kubernetes")], 0), None);
        assert!(why(&[named("v1", "PersistentVolume", "pv-1")], 0).is_some());
        let mut lease = named("v1", "Pod", "kist-mover-1-1");
        lease["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "kist", "kist.dev/run": "r"});
        assert!(why(&[lease], 0).is_some());
    }
}
