//! What is taken off a manifest, or changed in it, before it is posted to another cluster.
//!
//! Pure: one small function a kind, in one table. Everything that no rule names stays as it was, because
//! the raw manifest is posted. What may differ afterwards is in [`differs`], and a test holds the two together.
//!
//! | kind | what is done |
//! | --- | --- |
//! | all | identity, status, managed fields off; controllers' finalizers off; owners linked to new UIDs |
//! | Namespace | `spec.finalizers` off; the label with its name follows a mapping |
//! | ServiceAccount | the names of generated token Secrets off |
//! | Secret | token, CA and account's UID of service-account tokens off: they are issued anew |
//! | RoleBinding, ClusterRoleBinding | subjects follow a mapping of namespaces |
//! | PersistentVolumeClaim | all that binds it to its old volume, and its data source, off; class mapped; at least as large as that volume |
//! | Service | given addresses and node ports off; those that someone chose stay |
//! | Pod | its node, what admission and the service account put in off |
//! | Job | the generated selector and labels off |
//! | CronJob | suspended until the end |
//! | Deployment, DaemonSet | counters of revisions off |
//! | StatefulSet | classes of its claim templates mapped |
//! | webhook configurations, CRDs, policy bindings | namespaces that they call follow a mapping |

pub(super) mod differs;
mod quantity;
mod service;
mod workload;

use serde_json::{Value, json};

use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::restore::Options;
use crate::cluster::restore::context::annotation;
use crate::cluster::restore::skip::ACCOUNTS;

type Rule = fn(&mut Draft<'_>);

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

const RULES: [(&str, &str, Rule); 17] = [
    ("", "Namespace", namespace),
    ("", "PersistentVolumeClaim", claim),
    ("", "Pod", workload::pod),
    ("", "Secret", secret),
    ("", "Service", service::service),
    ("", "ServiceAccount", service_account),
    ("apps", "DaemonSet", workload::daemon_set),
    ("apps", "Deployment", workload::deployment),
    ("apps", "StatefulSet", workload::stateful_set),
    ("batch", "CronJob", workload::cron_job),
    ("batch", "Job", workload::job),
    (RBAC, "ClusterRoleBinding", binding),
    (RBAC, "RoleBinding", binding),
    (ADMISSION, "MutatingWebhookConfiguration", webhooks),
    (ADMISSION, "ValidatingAdmissionPolicyBinding", policy_binding),
    (ADMISSION, "ValidatingWebhookConfiguration", webhooks),
    ("apiextensions.k8s.io", "CustomResourceDefinition", definition),
];

/// Given by each cluster itself. `generateName` would do nothing beside a name.
const IDENTITY: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Controllers of Kubernetes put these in as they need them, and would wait for one that they did not.
const FINALIZERS: [&str; 7] = [
    "batch.kubernetes.io/job-tracking",
    "foregroundDeletion",
    "kubernetes.io/pv-protection",
    "kubernetes.io/pvc-protection",
    "orphan",
    "resource.kubernetes.io/delete-protection",
    "service.kubernetes.io/load-balancer-cleanup",
];

/// What binds a claim to its volume: with it, it would wait for a volume that is not there.
const BINDING: [&str; 7] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-resizer",
    "volume.kubernetes.io/node-expansion-failed",
];
/// The class of claims from before there was a field for it.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// What is said of a CronJob that is to run again.
pub(super) const SUSPENDED: &str = "suspended until the end";
const ANNOTATIONS: &str = "/metadata/annotations";

/// A manifest on its way to a body.
pub(super) struct Draft<'a> {
    pub from: &'a Manifest,
    pub body: Value,
    pub options: &'a Options,
    pub changes: Vec<String>,
}

/// The body to post, and what is to be said about it. Owners are put in when their UIDs are known.
pub(super) fn prepare(from: &Manifest, to: &ObjectKey, options: &Options) -> (Value, Vec<String>) {
    let mut draft = Draft { from, body: from.body.clone(), options, changes: Vec::new() };
    draft.strip(to);
    if let Some((.., rule)) = RULES.iter().find(|(group, kind, _)| from.key.is(group, kind)) {
        rule(&mut draft);
    }
    (draft.body, draft.changes)
}

impl Draft<'_> {
    fn strip(&mut self, to: &ObjectKey) {
        if to.version != self.from.key.version {
            self.said(format!("{} instead of {}", to.api_version(), self.from.key.api_version()));
        }
        self.body["apiVersion"] = json!(to.api_version());
        self.body["kind"] = json!(to.kind);
        self.take("", "status");
        for field in IDENTITY {
            self.take("/metadata", field);
        }
        self.body["metadata"]["name"] = json!(to.name);
        if let Some(namespace) = &to.namespace {
            self.body["metadata"]["namespace"] = json!(namespace);
        }
        if let Some(finalizers) = self.list("/metadata/finalizers") {
            finalizers.retain(|name| !name.as_str().is_some_and(|name| FINALIZERS.contains(&name)));
            if finalizers.is_empty() {
                self.take("/metadata", "finalizers");
            }
        }
    }

    /// Takes a field off without a word.
    fn take(&mut self, parent: &str, field: &str) -> Option<Value> {
        self.body.pointer_mut(parent)?.as_object_mut()?.remove(field)
    }

    /// Takes a field off, and says so if it was there.
    fn cut(&mut self, parent: &str, field: &str) {
        if self.take(parent, field).is_some() {
            self.said(match parent {
                ANNOTATIONS => format!("annotation {field} removed"),
                _ => format!("{}.{field} removed", parent.trim_start_matches('/').replace('/', ".")),
            });
        }
    }

    fn said(&mut self, what: String) {
        self.changes.push(what);
    }

    fn list(&mut self, pointer: &str) -> Option<&mut Vec<Value>> {
        self.body.pointer_mut(pointer)?.as_array_mut()
    }

    /// Puts the target's namespace where a namespace is named.
    fn map_namespace(&mut self, pointer: &str) {
        let Some(place) = self.body.pointer_mut(pointer) else { return };
        let Some(name) = place.as_str() else { return };
        let mapped = self.options.namespace(name);
        if mapped != name {
            let said = format!("{} is {mapped}", pointer.trim_start_matches('/').replace('/', "."));
            *place = json!(mapped);
            self.said(said);
        }
    }

    /// Puts the target's class where a claim, or a template of one, names its class.
    fn map_class(&mut self, claim: &str) {
        let field = format!("{claim}/spec/storageClassName");
        let old = format!("{claim}/metadata/annotations/{}", CLASS.replace('/', "~1"));
        for pointer in [field, old] {
            let Some(place) = self.body.pointer_mut(&pointer) else { continue };
            let Some(name) = place.as_str() else { continue };
            let mapped = self.options.class(name);
            if mapped != name {
                let said = format!("storage class {mapped} instead of {name}");
                *place = json!(mapped);
                self.said(said);
            }
        }
    }
}

/// The class that a claim names; an empty one means a volume that was made by hand.
pub(super) fn class_of(claim: &Manifest) -> Option<&str> {
    annotation(claim, CLASS).or_else(|| claim.body["spec"]["storageClassName"].as_str())
}

fn namespace(draft: &mut Draft<'_>) {
    draft.take("/spec", "finalizers");
    // The server puts it in with the name that the namespace has now.
    draft.take("/metadata/labels", "kubernetes.io/metadata.name");
}

fn claim(draft: &mut Draft<'_>) {
    for name in BINDING {
        draft.cut(ANNOTATIONS, name);
    }
    for field in ["volumeName", "dataSource", "dataSourceRef"] {
        draft.cut("/spec", field);
    }
    draft.map_class("");
    raise_request(draft);
}

/// What was in a volume that its provisioner made larger than asked for may not fit into one of the size that
/// was asked for.
fn raise_request(draft: &mut Draft<'_>) {
    let size = &draft.from.body["status"]["capacity"]["storage"];
    let Some(place) = draft.body.pointer_mut("/spec/resources/requests/storage") else { return };
    let bytes = |size: &Value| quantity::nanos(size.as_str()?);
    if bytes(size) > bytes(place) {
        let said = format!(
            "storage request raised to {}, the size of the volume",
            size.as_str().unwrap_or_default()
        );
        place.clone_from(size);
        draft.said(said);
    }
}

fn secret(draft: &mut Draft<'_>) {
    if draft.body["type"] != "kubernetes.io/service-account-token" {
        return;
    }
    draft.cut(ANNOTATIONS, "kubernetes.io/service-account.uid");
    for field in ["ca.crt", "namespace", "token"] {
        draft.take("/data", field);
    }
    draft.said("a new token is issued".into());
}

fn service_account(draft: &mut Draft<'_>) {
    let name = &draft.from.key.name;
    if ACCOUNTS.contains(&name.as_str()) {
        draft.changes.push("merged with the one that the cluster makes".into());
    }
    for (field, made) in [("secrets", "token"), ("secrets", "dockercfg"), ("imagePullSecrets", "dockercfg")] {
        let start = format!("{name}-{made}-");
        let Some(list) = draft.body[field].as_array_mut() else { continue };
        let before = list.len();
        list.retain(|secret| !secret["name"].as_str().is_some_and(|name| name.starts_with(&start)));
        if list.len() < before {
            draft.changes.push(format!("generated {made} secrets removed"));
        }
        if draft.body[field] == json!([]) {
            draft.take("", field);
        }
    }
}

fn binding(draft: &mut Draft<'_>) {
    let count = draft.list("/subjects").map_or(0, |subjects| subjects.len());
    for nth in 0..count {
        draft.map_namespace(&format!("/subjects/{nth}/namespace"));
        let place = &mut draft.body["subjects"][nth]["name"];
        let name = place.as_str().unwrap_or_default();
        if let Some(mapped) = map_account_name(name, draft.options) {
            let said = format!("subject {mapped} instead of {name}");
            *place = json!(mapped);
            draft.said(said);
        }
    }
}

/// Service accounts can be named as users and groups too: `system:serviceaccount:shop:app`.
fn map_account_name(name: &str, options: &Options) -> Option<String> {
    let (start, rest) = name.split_at(name.find(':')? + 1);
    let (kind, rest) = rest.split_once(':').filter(|_| start == "system:")?;
    let (namespace, end) = match (kind, rest.split_once(':')) {
        ("serviceaccounts", None) => (rest, String::new()),
        ("serviceaccount", Some((namespace, account))) => (namespace, format!(":{account}")),
        _ => return None,
    };
    let mapped = options.namespace(namespace);
    (mapped != namespace).then(|| format!("system:{kind}:{mapped}{end}"))
}

fn webhooks(draft: &mut Draft<'_>) {
    let count = draft.list("/webhooks").map_or(0, |webhooks| webhooks.len());
    for nth in 0..count {
        draft.map_namespace(&format!("/webhooks/{nth}/clientConfig/service/namespace"));
    }
}

fn policy_binding(draft: &mut Draft<'_>) {
    draft.map_namespace("/spec/paramRef/namespace");
}

fn definition(draft: &mut Draft<'_>) {
    draft.map_namespace("/spec/conversion/webhook/clientConfig/service/namespace");
}

#[cfg(test)]
mod tests;
