//! Manifests: Kubernetes objects as JSON, raw, and the places that they have in a snapshot's tree.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::format::entry::TreePath;

/// What the group without a name is called in a tree: a path has no empty names, and every other
/// built-in group is called otherwise.
const CORE: &str = "core";

/// Which object. Orders as its place in the tree does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ObjectKey {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// None for objects of the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectKey {
    /// `group/version/kind/namespace/name`; without the namespace for objects of the whole cluster.
    pub fn to_path(&self) -> Option<TreePath> {
        let parts = [Some(self.folder()), Some(&*self.version), Some(&*self.kind), self.namespace.as_deref()];
        let mut parts = parts.into_iter().flatten().chain([&*self.name]);
        parts.try_fold(TreePath::root(), |path, part| path.join(part.as_bytes()))
    }

    /// What the group is called in a tree.
    fn folder(&self) -> &str {
        if self.group.is_empty() { CORE } else { &self.group }
    }

    fn place(&self) -> (&str, &str, &str, Option<&str>, &str) {
        (self.folder(), &self.version, &self.kind, self.namespace.as_deref(), &self.name)
    }

    /// From what manifests and references to owners have: `apiVersion` and `kind`.
    pub(crate) fn of(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let owned = |text: &str| text.to_owned();
        Self {
            group: owned(group),
            version: owned(version),
            kind: owned(kind),
            namespace: namespace.map(owned),
            name: owned(name),
        }
    }

    /// None if it is not the path of a manifest.
    pub fn from_path(path: &TreePath) -> Option<Self> {
        let parts: Vec<&str> =
            path.components().map(|part| std::str::from_utf8(part).ok()).collect::<Option<_>>()?;
        let (start, namespace, name) = match parts.as_slice() {
            [start @ .., namespace, name] if start.len() == 3 => (start, Some((*namespace).to_owned()), name),
            [start @ .., name] if start.len() == 3 => (start, None, name),
            _ => return None,
        };
        let group = if start[0] == CORE { "" } else { start[0] };
        let owned = |text: &str| text.to_owned();
        Some(Self {
            group: owned(group),
            version: owned(start[1]),
            kind: owned(start[2]),
            namespace,
            name: owned(name),
        })
    }

    /// `v1`, `apps/v1`: as manifests have it.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    /// Such as `apps/v1 StatefulSet shop/db`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.api_version(), self.kind)?;
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// An object as the API gave it, nothing stripped; lists leave `apiVersion` and `kind` out of their items,
/// and these are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub key: ObjectKey,
    pub body: Value,
}

impl Manifest {
    /// As a snapshot has it. None if the path is not one of a manifest, or if that is no object with metadata.
    pub fn decode(path: &TreePath, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        match body.is_object() && body["metadata"].is_object() {
            true => Some(Self { key: ObjectKey::from_path(path)?, body }),
            false => None,
        }
    }

    pub fn metadata(&self, field: &str) -> &Value {
        &self.body["metadata"][field]
    }

    pub fn uid(&self) -> &str {
        self.metadata("uid").as_str().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.metadata("deletionTimestamp").is_string()
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.metadata("labels")[name].as_str()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata("annotations")[name].as_str()
    }

    /// The one owner that acts on it: a pod's ReplicaSet, a Job's CronJob.
    pub(crate) fn controller(&self) -> Option<ObjectKey> {
        let owners = self.metadata("ownerReferences").as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        let text = |field: &str| owner[field].as_str();
        let namespace = self.key.namespace.as_deref();
        Some(ObjectKey::of(text("apiVersion")?, text("kind")?, namespace, text("name")?))
    }

    /// The spec of the pod that it is, or that it makes.
    pub(crate) fn pod_spec(&self) -> Option<&Value> {
        let path = match (self.key.group.as_str(), self.key.kind.as_str()) {
            ("", "Pod") => "/spec",
            ("", "PodTemplate") => "/template/spec",
            ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
            ("", "ReplicationController")
            | ("batch", "Job")
            | ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet") => "/spec/template/spec",
            _ => return None,
        };
        self.body.pointer(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_path() {
        let key = |group: &str, namespace: Option<&str>| ObjectKey {
            group: group.into(),
            version: "v1".into(),
            kind: "Thing".into(),
            namespace: namespace.map(str::to_owned),
            name: "system:a".into(),
        };
        for key in [key("", Some("shop")), key("apps", None), key("", None), key("x.example.org", Some("a"))]
        {
            assert_eq!(ObjectKey::from_path(&key.to_path().unwrap()).unwrap(), key);
        }
        assert_eq!(key("", Some("shop")).to_path().unwrap().to_string(), "/core/v1/Thing/shop/system:a");
        assert_eq!(key("apps", Some("shop")).to_string(), "apps/v1 Thing shop/system:a");
        let short = TreePath::from_slashes(b"core/v1/Thing").unwrap();
        assert!(ObjectKey::from_path(&short).is_none());
    }

    #[test]
    fn keys_order_as_their_paths_do() {
        let key = |api, namespace| ObjectKey::of(api, "Thing", namespace, "x");
        let mut keys = [
            key("v1", Some("shop")),
            key("policy/v1", Some("shop")),
            key("v1", Some("a")),
            key("apps.example.org/v1", None),
            key("apps/v1", Some("shop")),
        ];
        keys.sort();
        let paths: Vec<TreePath> = keys.iter().map(|key| key.to_path().unwrap()).collect();
        assert!(paths.is_sorted());
        let groups: Vec<&str> = keys.iter().map(|key| key.group.as_str()).collect();
        assert_eq!(groups, ["apps", "apps.example.org", "", "", "policy"]);
    }

    #[test]
    fn an_owner_that_controls_is_found_among_others() {
        let body = serde_json::json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1"},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "2", "controller": true},
        ]}});
        let pod = Manifest { key: ObjectKey::of("v1", "Pod", Some("shop"), "db-0"), body };
        assert_eq!(pod.controller(), Some(ObjectKey::of("apps/v1", "StatefulSet", Some("shop"), "db")));
    }
}
