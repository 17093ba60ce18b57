//! The claims of a backup, who uses them, and the way in which each can be read. Pure, over manifests.
//!
//! Read once after discovery, and once more before a mover starts: pods move. Invariant: every claim has a way,
//! or says in plain words why it has none, and then the run is not complete.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::identity::Identity;
use crate::cluster::manifest::{Manifest, ObjectKey};

const ONCE_A_POD: &str = "ReadWriteOncePod";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Filesystem,
    Block,
}

/// A PersistentVolumeClaim as far as a backup cares.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub class: Option<String>,
    pub mode: Mode,
    /// As the volume has them; as the claim wants them, until there is a volume.
    pub access_modes: Vec<String>,
    /// Pending, Bound or Lost.
    pub phase: String,
    /// The PersistentVolume.
    pub volume: Option<String>,
    pub terminating: bool,
    /// Such as `8Gi`.
    pub requested: Option<String>,
    /// Those that hold the volume first: running ones, then those that have a node, then by name.
    pub consumers: Vec<Consumer>,
    /// `nodeAffinity.required` of the volume: the nodes that can reach it. Null: all.
    pub volume_affinity: Value,
}

/// A pod that uses a claim and has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    pub pod: String,
    /// None until it is scheduled.
    pub node: Option<String>,
    pub running: bool,
    /// As in the pod's spec, or null.
    pub tolerations: Value,
    /// Of the container that mounts the volume; of one that may write, where there are several.
    pub identity: Identity,
    pub pull_secrets: Vec<String>,
    /// `seLinuxOptions`, or null.
    pub selinux: Value,
    pub controller: Option<ObjectKey>,
}

/// How the content of a claim can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The claim itself is mounted, read-only.
    Live {
        /// Where it has to be mounted. None: where the volume can be reached.
        node: Option<String>,
        /// Whose place and identity the mover takes: an index into `consumers`. None: no pod uses it.
        consumer: Option<usize>,
    },
    No {
        why: String,
    },
}

impl Claim {
    pub fn way(&self) -> Way {
        match self.obstacle() {
            Some(why) => Way::No { why },
            None => {
                let consumer = (!self.consumers.is_empty()).then_some(0);
                let node = self.consumers.first().and_then(|consumer| consumer.node.clone());
                Way::Live { node, consumer }
            }
        }
    }

    fn obstacle(&self) -> Option<String> {
        if self.terminating {
            return Some("it is being deleted".into());
        }
        match (self.phase.as_str(), &self.volume) {
            ("Lost", _) => return Some("its volume is gone (Lost)".into()),
            ("Bound", Some(_)) => {}
            (phase, _) => return Some(format!("it has no volume yet ({phase})")),
        }
        if self.mode == Mode::Block {
            return Some("block volumes can't be read yet".into());
        }
        // The scheduler gives such a volume to one pod, from the moment that this has a node.
        let holder = self.consumers.iter().find(|consumer| consumer.node.is_some())?;
        self.access_modes.iter().any(|mode| mode == ONCE_A_POD).then(|| {
            format!(
                "{ONCE_A_POD} is held by pod {}; it takes a volume snapshot, which kist does not make yet",
                holder.pod
            )
        })
    }
}

/// All claims, in order of namespace and name.
pub fn claims(manifests: &[Manifest]) -> Vec<Claim> {
    let volumes: BTreeMap<&str, &Value> = manifests
        .iter()
        .filter(|manifest| manifest.key.is("", "PersistentVolume"))
        .map(|volume| (volume.key.name.as_str(), &volume.body["spec"]["nodeAffinity"]["required"]))
        .collect();
    let mut users: BTreeMap<(String, String), Vec<Consumer>> = BTreeMap::new();
    for pod in manifests.iter().filter(|manifest| manifest.key.is("", "Pod") && !has_ended(manifest)) {
        let namespace = pod.key.namespace.clone().unwrap_or_default();
        for (claim, mounts) in used_claims(pod) {
            users.entry((namespace.clone(), claim)).or_default().push(consumer(pod, &mounts));
        }
    }
    let mut claims: Vec<Claim> = manifests
        .iter()
        .filter(|manifest| manifest.key.is("", "PersistentVolumeClaim"))
        .map(|manifest| {
            let mut claim = claim(manifest);
            let place = (claim.namespace.clone(), claim.name.clone());
            claim.consumers = users.remove(&place).unwrap_or_default();
            claim.consumers.sort_by_key(|user| (!user.running, user.node.is_none(), user.pod.clone()));
            let affinity = claim.volume.as_deref().and_then(|volume| volumes.get(volume));
            claim.volume_affinity = affinity.map_or(Value::Null, |affinity| (*affinity).clone());
            claim
        })
        .collect();
    claims.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    claims
}

/// Without consumers and volume.
fn claim(manifest: &Manifest) -> Claim {
    let (spec, status) = (&manifest.body["spec"], &manifest.body["status"]);
    let modes = if status["accessModes"].is_array() { &status["accessModes"] } else { &spec["accessModes"] };
    let annotated = manifest.annotation("volume.beta.kubernetes.io/storage-class");
    Claim {
        namespace: manifest.key.namespace.clone().unwrap_or_default(),
        name: manifest.key.name.clone(),
        uid: manifest.uid().to_owned(),
        class: annotated.or(spec["storageClassName"].as_str()).map(str::to_owned),
        mode: if spec["volumeMode"] == "Block" { Mode::Block } else { Mode::Filesystem },
        access_modes: items(modes).filter_map(Value::as_str).map(str::to_owned).collect(),
        phase: status["phase"].as_str().unwrap_or("Pending").to_owned(),
        volume: spec["volumeName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
        terminating: manifest.is_terminating(),
        requested: spec["resources"]["requests"]["storage"].as_str().map(str::to_owned),
        consumers: Vec::new(),
        volume_affinity: Value::Null,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Its volumes are unmounted, or are about to be.
fn has_ended(pod: &Manifest) -> bool {
    matches!(pod.body["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Claims that a pod uses, each once, with the names under which its containers mount them.
fn used_claims(pod: &Manifest) -> BTreeMap<String, BTreeSet<&str>> {
    let mut used: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for volume in items(&pod.body["spec"]["volumes"]) {
        let Some(name) = volume["name"].as_str() else { continue };
        let claim = match volume["persistentVolumeClaim"]["claimName"].as_str() {
            Some(claim) => claim.to_owned(),
            // Made for the pod, and called after both.
            None if volume["ephemeral"].is_object() => format!("{}-{name}", pod.key.name),
            None => continue,
        };
        used.entry(claim).or_default().insert(name);
    }
    used
}

fn consumer(pod: &Manifest, mounts: &BTreeSet<&str>) -> Consumer {
    let spec = &pod.body["spec"];
    let node = spec["nodeName"].as_str().filter(|node| !node.is_empty()).map(str::to_owned);
    let context = mounting_container(spec, mounts).map_or(&Value::Null, |it| &it["securityContext"]);
    let pod_context = &spec["securityContext"];
    let secrets = items(&spec["imagePullSecrets"]).filter_map(|secret| secret["name"].as_str());
    Consumer {
        pod: pod.key.name.clone(),
        running: node.is_some() && pod.body["status"]["phase"] == "Running",
        node,
        tolerations: spec["tolerations"].clone(),
        identity: identity(context, pod_context),
        pull_secrets: secrets.map(str::to_owned).collect(),
        selinux: either(context, pod_context, "seLinuxOptions").clone(),
        controller: pod.controller(),
    }
}

/// Who writes the files knows best as whom they can be read; init containers come last, since they often run
/// as root to prepare what others use.
fn mounting_container<'p>(spec: &'p Value, mounts: &BTreeSet<&str>) -> Option<&'p Value> {
    let containers = || items(&spec["containers"]).chain(items(&spec["initContainers"]));
    let mounting = |container: &Value, writing: bool| {
        items(&container["volumeMounts"]).any(|mount| {
            let is_one = mount["name"].as_str().is_some_and(|name| mounts.contains(name));
            is_one && !(writing && mount["readOnly"] == true)
        })
    };
    let of = |writing| containers().find(|container| mounting(container, writing));
    of(true).or_else(|| of(false))
}

/// The container's word goes over the pod's.
fn either<'v>(container: &'v Value, pod: &'v Value, field: &str) -> &'v Value {
    if container[field].is_null() { &pod[field] } else { &container[field] }
}

fn identity(container: &Value, pod: &Value) -> Identity {
    let groups: BTreeSet<i64> =
        items(&pod["supplementalGroups"]).chain([&pod["fsGroup"]]).filter_map(Value::as_i64).collect();
    Identity {
        uid: either(container, pod, "runAsUser").as_i64(),
        gid: either(container, pod, "runAsGroup").as_i64(),
        groups: groups.into_iter().collect(),
    }
}

/// Sources of volumes that are claims, or come from manifests or images: nothing of them is lost.
const KEPT: [&str; 7] =
    ["configMap", "downwardAPI", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];

/// What a report says beside, one line a workload: volumes that are no claims are not backed up.
pub fn remarks(manifests: &[Manifest]) -> Vec<String> {
    // What a controller makes has its volumes from there; that one is remarked upon.
    let own = manifests.iter().filter(|manifest| manifest.controller().is_none());
    own.filter_map(|manifest| {
        let volumes: Vec<String> = items(&manifest.pod_spec()?["volumes"]).filter_map(left_behind).collect();
        let list = volumes.join(", ");
        (!volumes.is_empty()).then(|| format!("{}: not backed up, being no claims: {list}", manifest.key))
    })
    .collect()
}

/// Such as "emptyDir cache". None for a volume that is kept.
fn left_behind(volume: &Value) -> Option<String> {
    let name = volume["name"].as_str()?;
    let source = volume.as_object()?.keys().find(|field| *field != "name")?;
    (!KEPT.contains(&source.as_str())).then(|| format!("{source} {name}"))
}

#[cfg(test)]
mod tests;
