//! Manifests: Kubernetes objects as JSON, raw, and the places that they have in a snapshot's tree.

use std::fmt;

use serde_json::Value;

use crate::format::entry::TreePath;

/// What the group without a name is called in a tree: a path has no empty names, and every other
/// built-in group is called otherwise.
const CORE: &str = "core";

/// Which object. Orders as its place in the tree does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
        let group = if self.group.is_empty() { CORE } else { &self.group };
        let parts = [Some(group), Some(&*self.version), Some(&*self.kind), self.namespace.as_deref()];
        let mut parts = parts.into_iter().flatten().chain([&*self.name]);
        parts.try_fold(TreePath::root(), |path, part| path.join(part.as_bytes()))
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
    pub fn metadata(&self, field: &str) -> &Value {
        &self.body["metadata"][field]
    }

    pub fn uid(&self) -> &str {
        self.metadata("uid").as_str().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.metadata("deletionTimestamp").is_string()
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
}
