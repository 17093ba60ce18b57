//! The claims to fill, and after which pod a mover takes its place.
//!
//! Pure. A volume of WaitForFirstConsumer lands where its first pod runs, and that is the mover: so it has
//! to be one that the pod itself could be.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::cluster::identity::Identity;
use crate::cluster::manifest::Manifest;
use crate::cluster::restore::Options;
use crate::cluster::restore::context::{Snapshot, is_completed};

/// A claim that had a volume, and is made anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToFill {
    /// In the snapshot.
    pub from_namespace: String,
    pub from_name: String,
    pub from_uid: String,
    /// In the target.
    pub namespace: String,
    pub name: String,
    pub consumer: Option<FillLike>,
}

/// What a mover takes over from the pod that used the claim. Claims with the same `pod` are filled together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FillLike {
    pub pod: String,
    pub node_selector: Value,
    /// Without `podAffinity`: the pods that it wants to be near to are not there yet.
    pub affinity: Value,
    pub tolerations: Value,
    pub spread: Value,
    pub identity: Identity,
}

/// None if there was no volume, so that there is nothing to put back, or no files are in it.
pub(super) fn claim_to_fill(
    claim: &Manifest,
    snapshot: &Snapshot<'_>,
    options: &Options,
) -> Option<ClaimToFill> {
    let namespace = claim.key.namespace.clone()?;
    let is_filled = claim.body["status"]["phase"] == "Bound" && claim.body["spec"]["volumeMode"] != "Block";
    is_filled.then(|| ClaimToFill {
        namespace: options.namespace(&namespace).to_owned(),
        name: claim.key.name.clone(),
        from_name: claim.key.name.clone(),
        from_uid: claim.uid().to_owned(),
        consumer: consumer(&namespace, &claim.key.name, snapshot),
        from_namespace: namespace,
    })
}

/// A pod that mounts the claim, a running one first; else one that a workload would make.
fn consumer(namespace: &str, claim: &str, snapshot: &Snapshot<'_>) -> Option<FillLike> {
    let within = |manifest: &&Manifest| manifest.key.namespace.as_deref() == Some(namespace);
    let pods = snapshot.of_kind("", "Pod").filter(within);
    let mut pods: Vec<&Manifest> =
        pods.filter(|pod| !is_completed(pod) && volume_of(&pod.body["spec"], claim).is_some()).collect();
    pods.sort_by_key(|pod| (pod.is_terminating(), pod.body["status"]["phase"] != "Running"));
    if let Some(pod) = pods.first() {
        let spec = &pod.body["spec"];
        return volume_of(spec, claim).map(|volume| like(&pod.key.name, spec, volume));
    }
    for manifest in snapshot.manifests.iter().filter(within) {
        let spec = match (&*manifest.key.group, &*manifest.key.kind) {
            ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet") => "/spec/template/spec",
            ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
            _ => continue,
        };
        let Some(spec) = manifest.body.pointer(spec) else { continue };
        if let Some(volume) = volume_of(spec, claim) {
            return Some(like(&manifest.key.name, spec, volume));
        }
        if let Some((pod, volume)) = of_template(manifest, claim) {
            return Some(like(&pod, spec, &volume));
        }
    }
    None
}

/// For `<template>-<set>-<number>`: the pod `<set>-<number>` and its volume `<template>`.
fn of_template(set: &Manifest, claim: &str) -> Option<(String, String)> {
    let templates = set.body["spec"]["volumeClaimTemplates"].as_array()?;
    templates.iter().find_map(|template| {
        let volume = template["metadata"]["name"].as_str()?;
        let pod = claim.strip_prefix(volume)?.strip_prefix('-')?;
        let number = pod.strip_prefix(&*set.key.name)?.strip_prefix('-')?;
        number.parse::<u32>().ok().map(|_| (pod.to_owned(), volume.to_owned()))
    })
}

/// The name that a pod has for the claim.
fn volume_of<'a>(spec: &'a Value, claim: &str) -> Option<&'a str> {
    let volumes = spec["volumes"].as_array()?;
    volumes.iter().find(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)?["name"].as_str()
}

fn like(pod: &str, spec: &Value, volume: &str) -> FillLike {
    let mut affinity = spec["affinity"].clone();
    if let Some(fields) = affinity.as_object_mut() {
        fields.remove("podAffinity");
    }
    FillLike {
        pod: pod.to_owned(),
        node_selector: spec["nodeSelector"].clone(),
        affinity,
        tolerations: spec["tolerations"].clone(),
        spread: spec["topologySpreadConstraints"].clone(),
        identity: identity(spec, volume),
    }
}

/// Of the container that mounts the volume: its own security context goes before the pod's.
fn identity(spec: &Value, volume: &str) -> Identity {
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    let mounts = |container: &&Value| {
        let mounts = container["volumeMounts"].as_array();
        mounts.is_some_and(|mounts| mounts.iter().any(|mount| mount["name"] == volume))
    };
    let container = lists.into_iter().flatten().flatten().find(mounts);
    let own = container.map_or(&Value::Null, |container| &container["securityContext"]);
    let pods = &spec["securityContext"];
    let field = |name: &str| own[name].as_i64().or_else(|| pods[name].as_i64());
    let supplemental = pods["supplementalGroups"].as_array().map_or(&[][..], Vec::as_slice);
    let groups: BTreeSet<i64> =
        supplemental.iter().chain([&pods["fsGroup"]]).filter_map(Value::as_i64).collect();
    Identity { uid: field("runAsUser"), gid: field("runAsGroup"), groups: groups.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::restore::plan::testing::object;
    use serde_json::json;

    fn claim(name: &str) -> Manifest {
        object(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "shop", "uid": "u"}, "status": {"phase": "Bound"}}))
    }

    fn pod_spec() -> Value {
        json!({
            "securityContext": {"runAsUser": 999, "fsGroup": 1000, "supplementalGroups": [7, 1000]},
            "nodeSelector": {"disk": "fast"},
            "affinity": {"podAffinity": {}, "nodeAffinity": {"x": 1}},
            "tolerations": [{"key": "db"}],
            "containers": [
                {"name": "side", "securityContext": {"runAsUser": 1}},
                {"name": "main", "volumeMounts": [{"name": "data"}], "securityContext": {"runAsGroup": 5}},
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}],
        })
    }

    #[test]
    fn a_mover_takes_the_place_of_the_pod_that_used_the_claim() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "namespace": "shop"},
            "spec": pod_spec(), "status": {"phase": "Running"}});
        let all = [claim("data-db-0"), object(pod)];
        let fill = claim_to_fill(&all[0], &Snapshot::of(&all), &Options::default()).unwrap();
        let like = fill.consumer.unwrap();
        assert_eq!(like.pod, "db-0");
        assert_eq!(like.node_selector, json!({"disk": "fast"}));
        assert_eq!(like.affinity, json!({"nodeAffinity": {"x": 1}}));
        assert_eq!(like.identity, Identity { uid: Some(999), gid: Some(5), groups: vec![7, 1000] });
    }

    #[test]
    fn a_set_that_is_scaled_down_has_its_place_too() {
        let mut spec = pod_spec();
        spec["volumes"] = json!([]);
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"template": {"spec": spec}, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}});
        let all = [claim("data-db-11"), claim("data-other-0"), object(set)];
        let options = Options { map_namespaces: [("shop".into(), "x".into())].into(), ..Options::default() };
        let fill = claim_to_fill(&all[0], &Snapshot::of(&all), &options).unwrap();
        assert_eq!((fill.from_namespace.as_str(), fill.namespace.as_str()), ("shop", "x"));
        let like = fill.consumer.unwrap();
        assert_eq!((like.pod.as_str(), like.identity.uid), ("db-11", Some(999)));
        assert!(claim_to_fill(&all[1], &Snapshot::of(&all), &options).unwrap().consumer.is_none());
    }

    #[test]
    fn a_claim_that_had_no_volume_is_not_filled() {
        let mut pending = claim("x");
        pending.body["status"]["phase"] = json!("Pending");
        let all = [pending];
        assert!(claim_to_fill(&all[0], &Snapshot::of(&all), &Options::default()).is_none());
    }
}
