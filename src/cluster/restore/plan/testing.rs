//! Manifests and targets made up for tests.

use serde_json::Value;

use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::restore::Target;
use crate::cluster::restore::kinds::{Kinds, Place};

/// The manifest of an object in JSON.
pub fn object(body: Value) -> Manifest {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api = text(&body["apiVersion"]);
    let (group, version) = api.split_once('/').unwrap_or(("", &api));
    let key = ObjectKey {
        group: group.into(),
        version: version.into(),
        kind: text(&body["kind"]),
        namespace: body["metadata"]["namespace"].as_str().map(str::to_owned),
        name: text(&body["metadata"]["name"]),
    };
    Manifest { key, body }
}

/// A target that serves the kinds of these manifests but for custom ones, and has one class.
pub fn empty_target(manifests: &[Manifest]) -> Target {
    let mut kinds = Kinds::default();
    for manifest in manifests.iter().filter(|manifest| !manifest.key.group.ends_with("example.org")) {
        let key = &manifest.key;
        if kinds.choose(&key.group, &key.kind, "").is_none() {
            let place = Place {
                version: key.version.clone(),
                plural: format!("{}s", key.kind.to_lowercase()),
                namespaced: key.namespace.is_some(),
                listable: true,
                creatable: true,
            };
            kinds.add(&key.group, &key.kind, place);
        }
    }
    Target { kinds, classes: [("lab-wait".to_owned(), true)].into(), ..Target::default() }
}
