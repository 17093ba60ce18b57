//! Compares the objects of a namespace in one cluster with those in another.
//!
//! Everything that the API lists is compared, field by field, but for the fields that differ by nature (the
//! library has the list, with the reasons: `kist::cluster::restore::DIFFERS`), and for objects that controllers make
//! anew.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::error::{Error, Result};

/// Whether this object, as it is in the first cluster, may differ at a JSON pointer.
pub type MayDiffer = fn(object: &Value, pointer: &str) -> bool;

/// `kind name` (kind with its group) to the object.
pub type Objects = BTreeMap<String, Value>;

/// Names that are another in the second cluster.
#[derive(Clone, Copy, Default)]
pub struct Renamed<'a> {
    /// Old and new.
    pub namespace: Option<(&'a str, &'a str)>,
    pub class: Option<(&'a str, &'a str)>,
}

/// Takes down a namespace with all in it, and the objects of the whole cluster that are named, such as
/// `ClusterRole.rbac.authorization.k8s.io shop-sees-services`.
pub async fn objects(client: &Client, namespace: &str, cluster_wide: &[&str]) -> Result<Objects> {
    let mut all = Objects::new();
    let discovery = Discovery::new(client.clone()).run().await;
    let discovery = discovery.map_err(Error::kube("ask for the kinds"))?;
    for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
        let kind = format!("{}.{}", resource.kind, resource.group);
        let kind = kind.trim_end_matches('.');
        let is_namespaced = capabilities.scope == Scope::Namespaced;
        let is_named =
            || kind == "Namespace" || cluster_wide.iter().any(|key| key.starts_with(&format!("{kind} ")));
        let is_event = resource.kind == "Event";
        if !capabilities.supports_operation(verbs::LIST) || is_event || !(is_namespaced || is_named()) {
            continue;
        }
        let api: Api<DynamicObject> = match is_namespaced {
            true => Api::namespaced_with(client.clone(), namespace, &resource),
            false => Api::all_with(client.clone(), &resource),
        };
        let listed = api.list(&ListParams::default()).await;
        for object in listed.map_err(Error::kube(format!("list {kind}")))?.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let key = format!("{kind} {name}");
            let is_wanted = is_namespaced
                || (kind == "Namespace" && name == namespace)
                || cluster_wide.contains(&key.as_str());
            let body = serde_json::to_value(&object);
            let mut body = body.map_err(|error| Error::Other(format!("{key} is no JSON: {error}")))?;
            body["kind"] = json!(resource.kind); // lists leave it out
            if is_wanted && !is_made_by_controllers(kind, &name, &body) {
                all.insert(key, body);
            }
        }
    }
    Ok(all)
}

/// What is different, one line each; empty if nothing is but what may be.
pub fn differences(first: &Objects, second: &Objects, renamed: Renamed<'_>, may: MayDiffer) -> Vec<String> {
    let mut out = Vec::new();
    let expected: Objects = first.iter().map(|(key, body)| renamed.apply(key, body)).collect();
    for (key, body) in &expected {
        match second.get(key) {
            Some(other) => Comparison { key, object: body, may, out: &mut out }.compare("", body, other),
            None => out.push(format!("{key}: only in the first")),
        }
    }
    let unknown = second.keys().filter(|key| !expected.contains_key(*key));
    out.extend(unknown.map(|key| format!("{key}: only in the second")));
    out
}

/// Pods, ReplicaSets, revisions and slices have a controller that makes them anew; Endpoints say it by a label,
/// and two objects come with every namespace or claim.
fn is_made_by_controllers(kind: &str, name: &str, body: &Value) -> bool {
    let owners = body["metadata"]["ownerReferences"].as_array();
    let is_owned = owners.is_some_and(|owners| owners.iter().any(|owner| owner["controller"] == true));
    let marks = &body["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"];
    is_owned
        || (kind == "Endpoints" && marks == "endpoint-controller")
        || (kind == "ConfigMap" && name == "kube-root-ca.crt")
}

impl Renamed<'_> {
    fn apply(&self, key: &str, body: &Value) -> (String, Value) {
        let (mut key, mut body) = (key.to_owned(), body.clone());
        if let Some((old, new)) = self.namespace {
            if key == format!("Namespace {old}") {
                key = format!("Namespace {new}");
                body["metadata"]["name"] = json!(new);
                body["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(new);
            }
            if body["metadata"]["namespace"] == old {
                body["metadata"]["namespace"] = json!(new);
            }
            for subject in body["subjects"].as_array_mut().into_iter().flatten() {
                if subject["namespace"] == old {
                    subject["namespace"] = json!(new);
                }
            }
        }
        if let Some((old, new)) = self.class {
            let templates = body["spec"]["volumeClaimTemplates"].as_array_mut().into_iter().flatten();
            templates.for_each(|template| change(&mut template["spec"], old, new));
            if key.starts_with("PersistentVolumeClaim ") {
                change(&mut body["spec"], old, new);
            }
        }
        // Indexing to write has made fields of nothing where there were none.
        remove_nulls(&mut body);
        (key, body)
    }
}

fn change(spec: &mut Value, old: &str, new: &str) {
    if spec["storageClassName"] == old {
        spec["storageClassName"] = json!(new);
    }
}

/// No field of an object of the API is null, so nothing is lost.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// The comparison of one object.
struct Comparison<'a> {
    key: &'a str,
    object: &'a Value,
    may: MayDiffer,
    out: &'a mut Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self, pointer: &str, left: &Value, right: &Value) {
        if left == right || (self.may)(self.object, pointer) {
            return;
        }
        let empty = serde_json::Map::new();
        match (left, right) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (left, right)) in a.iter().zip(b).enumerate() {
                    self.compare(&format!("{pointer}/{index}"), left, right);
                }
            }
            (Value::Object(_) | Value::Null, Value::Object(_) | Value::Null) => {
                // One that is not there at all may have had nothing in it but what may differ.
                let [a, b] = [left, right].map(|side| side.as_object().unwrap_or(&empty));
                for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                    let name = key.replace('~', "~0").replace('/', "~1");
                    let [left, right] = [a, b].map(|side| side.get(key).unwrap_or(&Value::Null));
                    self.compare(&format!("{pointer}/{name}"), left, right);
                }
            }
            _ => self.out.push(format!("{} {pointer}: {left} / {right}", self.key)),
        }
    }
}

#[test]
fn fields_that_differ_by_nature_are_left_out_and_others_are_found() {
    let object = |uid: &str, percent: u32| {
        json!({
            "metadata": {
                "uid": uid, "namespace": "shop",
                "ownerReferences": [{ "uid": uid, "name": "a" }], "labels": { "example.com/a": "x" },
            },
            "spec": { "percent": percent },
        })
    };
    let of = |object: Value| Objects::from([("Coupon.example.com x".to_owned(), object)]);
    let first = of(object("1", 5));
    let may: MayDiffer = |_, at| matches!(at, "/metadata/uid" | "/metadata/ownerReferences/0/uid");
    let all = |second: &Objects, renamed| differences(&first, second, renamed, may);
    assert_eq!(all(&of(object("2", 5)), Renamed::default()), Vec::<String>::new());
    assert_eq!(all(&of(object("2", 6)), Renamed::default()), ["Coupon.example.com x /spec/percent: 5 / 6"]);
    let renamed = Renamed { namespace: Some(("shop", "copy")), class: None };
    let wrong = r#"Coupon.example.com x /metadata/namespace: "copy" / "shop""#;
    assert_eq!(all(&of(object("2", 5)), renamed), [wrong]);
    assert_eq!(all(&Objects::new(), Renamed::default()), ["Coupon.example.com x: only in the first"]);
    let mut other = object("2", 5);
    other["metadata"]["labels"] = json!({});
    let wrong = r#"Coupon.example.com x /metadata/labels/example.com~1a: "x" / null"#;
    assert_eq!(all(&of(other), Renamed::default()), [wrong]);
}
