//! The manifests of a snapshot, found by UID and by name; what rules ask about an object's surroundings.

use std::collections::HashMap;

use serde_json::Value;

use crate::cluster::manifest::Manifest;

/// The namespaces of every cluster's own parts.
const SYSTEM: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];

pub(super) struct Snapshot<'a> {
    pub manifests: &'a [Manifest],
    by_uid: HashMap<&'a str, &'a Manifest>,
}

impl<'a> Snapshot<'a> {
    pub fn of(manifests: &'a [Manifest]) -> Self {
        let by_uid = manifests.iter().map(|manifest| (manifest.uid(), manifest));
        Self { manifests, by_uid: by_uid.filter(|(uid, _)| !uid.is_empty()).collect() }
    }

    pub fn with_uid(&self, uid: &str) -> Option<&'a Manifest> {
        self.by_uid.get(uid).copied()
    }

    /// The owner that controls it, if that is in the snapshot.
    pub fn controller(&self, manifest: &Manifest) -> Option<&'a Manifest> {
        let owner = owners(manifest).iter().find(|owner| owner["controller"] == true)?;
        self.with_uid(owner["uid"].as_str()?)
    }

    pub fn find(&self, group: &str, kind: &str, namespace: Option<&str>, name: &str) -> Option<&'a Manifest> {
        self.of_kind(group, kind)
            .find(|manifest| manifest.key.namespace.as_deref() == namespace && manifest.key.name == name)
    }

    pub fn of_kind<'b>(&'b self, group: &'b str, kind: &'b str) -> impl Iterator<Item = &'a Manifest> + 'b {
        self.manifests.iter().filter(move |manifest| manifest.key.is(group, kind))
    }
}

pub(super) fn owners(manifest: &Manifest) -> &[Value] {
    manifest.metadata("ownerReferences").as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn label<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a str> {
    manifest.metadata("labels")[name].as_str()
}

pub(super) fn annotation<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a str> {
    manifest.metadata("annotations")[name].as_str()
}

/// The namespace that it is, or is in.
pub(super) fn namespace_of(manifest: &Manifest) -> Option<&str> {
    let key = &manifest.key;
    if key.is("", "Namespace") { Some(&key.name) } else { key.namespace.as_deref() }
}

pub(super) fn is_system(namespace: &str) -> bool {
    SYSTEM.contains(&namespace)
}

/// Such as `Deployment web`.
pub(super) fn short(manifest: &Manifest) -> String {
    format!("{} {}", manifest.key.kind, manifest.key.name)
}

/// Whether a pod or a Job has come to its end.
pub(super) fn is_completed(manifest: &Manifest) -> bool {
    let status = &manifest.body["status"];
    if manifest.key.is("", "Pod") {
        return matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    }
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let ended = |condition: &Value| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True"
    };
    manifest.key.is("batch", "Job") && (status["completionTime"].is_string() || conditions.iter().any(ended))
}
