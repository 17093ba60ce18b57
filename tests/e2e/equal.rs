//! Compares the objects of a namespace in one cluster with those in another.
//!
//! Everything that the API lists is compared, field by field, but for a fixed list of fields that differ by
//! nature, and for objects that controllers make anew. Both lists are short and say why.

use std::collections::BTreeMap;
use std::fmt::Write;

use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::error::{Error, Result};

/// Fields that differ between two clusters, with the reason: a path of names with dots between, `*` for any.
pub type Differs = [(&'static str, &'static str)];

pub const DIFFERS: [(&str, &str); 15] = [
    ("metadata.uid", "the API server gives each object its own"),
    ("metadata.resourceVersion", "counts the changes in one cluster's store"),
    ("metadata.generation", "counts the changes of one object"),
    ("metadata.creationTimestamp", "the object is new"),
    ("metadata.managedFields", "tells who changed what in one cluster"),
    ("metadata.ownerReferences.*.uid", "names the owner's new UID"),
    ("metadata.annotations.pv.kubernetes.io/bind-completed", "tells about a binding"),
    ("metadata.annotations.pv.kubernetes.io/bound-by-controller", "tells about a binding"),
    ("metadata.annotations.volume.kubernetes.io/selected-node", "names a node of one cluster"),
    ("metadata.annotations.volume.kubernetes.io/storage-provisioner", "written by a controller"),
    ("metadata.annotations.volume.beta.kubernetes.io/storage-provisioner", "written by a controller"),
    ("spec.volumeName", "the volume is provisioned anew"),
    ("spec.clusterIP", "from the address range of one cluster"),
    ("spec.clusterIPs", "from the address range of one cluster"),
    ("status", "is what controllers see, not what was asked for"),
];

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
            let body = body.map_err(|error| Error::Other(format!("{key} is no JSON: {error}")))?;
            if is_wanted && !is_made_by_controllers(kind, &name, &body) {
                all.insert(key, body);
            }
        }
    }
    Ok(all)
}

/// What is different, one line each; empty if nothing is but for the list.
pub fn differences(
    first: &Objects,
    second: &Objects,
    renamed: Renamed<'_>,
    differs: &Differs,
) -> Vec<String> {
    let mut out = Vec::new();
    let mut expected = Objects::new();
    for (key, body) in first {
        let (key, body) = renamed.apply(key, body);
        expected.insert(key, body);
    }
    for (key, body) in &expected {
        let Some(other) = second.get(key) else {
            out.push(format!("{key}: only in the first"));
            continue;
        };
        let (mut left, mut right) = (body.clone(), other.clone());
        for (path, _) in differs {
            remove(&mut left, path);
            remove(&mut right, path);
        }
        compare(key, &left, &right, &mut out);
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

/// Takes a field away. Keys with dots in them need no quoting: each key is tried as the beginning of the path.
fn remove(value: &mut Value, path: &str) {
    let rest_of = |key: &str| {
        let rest = path.strip_prefix(key).or_else(|| path.strip_prefix('*'))?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
    };
    match value {
        Value::Object(fields) => {
            fields.retain(|key, field| match rest_of(key) {
                Some("") => false,
                Some(rest) => {
                    remove(field, rest);
                    // An annotation that differs by nature may be the only one.
                    *field != json!({})
                }
                None => true,
            });
        }
        Value::Array(items) => {
            if let Some(rest) = path.strip_prefix("*.") {
                items.iter_mut().for_each(|item| remove(item, rest));
            }
        }
        _ => {}
    }
}

fn compare(place: &str, left: &Value, right: &Value, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let empty = &Value::Null;
                compare(
                    &format!("{place}.{key}"),
                    a.get(key).unwrap_or(empty),
                    b.get(key).unwrap_or(empty),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (left, right)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}.{index}"), left, right, out);
            }
        }
        _ if left == right => {}
        _ => {
            let mut line = String::new();
            // Writing to a string can't fail.
            let _ = write!(line, "{place}: {left} / {right}");
            out.push(line);
        }
    }
}

#[test]
fn fields_that_differ_by_nature_are_left_out_and_others_are_found() {
    let object = |uid: &str, node: &str, percent: u32| {
        json!({
            "metadata": {
                "uid": uid, "namespace": "shop", "ownerReferences": [{ "uid": uid, "name": "a" }],
                "annotations": { "volume.kubernetes.io/selected-node": node },
            },
            "spec": { "percent": percent },
        })
    };
    let of = |object: Value| Objects::from([("Coupon x".to_owned(), object)]);
    let first = of(object("1", "a", 5));
    let mut same = object("2", "b", 5);
    same["metadata"]["annotations"] = json!({});
    let all = |second: &Objects, renamed| differences(&first, second, renamed, &DIFFERS);
    assert_eq!(all(&of(object("2", "b", 5)), Renamed::default()), Vec::<String>::new());
    assert_eq!(all(&of(object("2", "b", 6)), Renamed::default()), ["Coupon x.spec.percent: 5 / 6"]);
    let renamed = Renamed { namespace: Some(("shop", "copy")), class: None };
    assert_eq!(all(&of(object("2", "b", 5)), renamed), [r#"Coupon x.metadata.namespace: "copy" / "shop""#]);
    assert_eq!(all(&Objects::new(), Renamed::default()), ["Coupon x: only in the first"]);
    same["metadata"]["annotations"]["mine"] = json!("added");
    assert_eq!(all(&of(same), Renamed::default()).len(), 1);
}
