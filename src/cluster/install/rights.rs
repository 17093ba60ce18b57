//! What the account of an installation may do: RBAC, and an admission policy for what RBAC can't say.
//!
//! Invariant: no rule has `get` on a wildcard. A wildcard covers subresources too, and `get` is what opens
//! `pods/exec` and `nodes/proxy`: reading everything would be running commands everywhere. `list` has no
//! subresources. RBAC can't hold `create` to names either, so the policy does.

use serde_json::{Value, json};

use crate::cluster::discover::NEEDED;
use crate::cluster::install::Install;
use crate::cluster::lease::{self, SLOTS};
use crate::cluster::mover::{self, MOVERS, SCRATCH};

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_V1: &str = "rbac.authorization.k8s.io/v1";
const ADMISSION_V1: &str = "admissionregistration.k8s.io/v1";

fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
}

fn named(group: &str, resource: &str, verbs: &[&str], names: &[String]) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs, "resourceNames": names })
}

/// Roles and their bindings. With selected namespaces all but a little is held to these.
pub(super) fn rights(install: &Install) -> Vec<Value> {
    let wide = install.wide_name();
    let mut objects = Vec::new();
    if install.backed_up.is_empty() {
        let mut rules = in_each_namespace(install);
        // Which namespaces there are is known only when a backup runs.
        rules.push(rule("", "namespaces", &["get"]));
        rules.push(rule("", "nodes", &["get"]));
        objects.extend(bound(install, None, &wide, rules));
    } else {
        objects.extend(bound(install, None, &wide, of_the_cluster()));
        for namespace in &install.backed_up {
            let mut rules = in_each_namespace(install);
            rules.push(named("", "namespaces", &["get"], std::slice::from_ref(namespace)));
            objects.extend(bound(install, Some(namespace), &wide, rules));
        }
    }
    // Its own: the verdict as an event.
    let rules = vec![rule("events.k8s.io", "events", &["create"])];
    objects.extend(bound(install, Some(&install.namespace), &install.own_name(), rules));
    objects
}

/// A role, and that the account has it.
fn bound(install: &Install, namespace: Option<&str>, name: &str, rules: Vec<Value>) -> [Value; 2] {
    let (role, binding) = match namespace {
        Some(_) => ("Role", "RoleBinding"),
        None => ("ClusterRole", "ClusterRoleBinding"),
    };
    let metadata = install.metadata(namespace, name);
    [
        json!({ "apiVersion": RBAC_V1, "kind": role, "metadata": metadata, "rules": rules }),
        json!({
            "apiVersion": RBAC_V1, "kind": binding, "metadata": metadata,
            "roleRef": { "apiGroup": RBAC, "kind": role, "name": name },
            "subjects": [{
                "kind": "ServiceAccount", "namespace": install.namespace, "name": install.own_name(),
            }],
        }),
    ]
}

/// Where backups happen: list what is there, have movers, hold leases.
fn in_each_namespace(install: &Install) -> Vec<Value> {
    const LEASES: &str = "coordination.k8s.io";
    let movers: Vec<String> = (1..=SLOTS).flat_map(mover::names).collect();
    let leases: Vec<String> = (1..=SLOTS).map(lease::name).collect();
    let mut rules = vec![
        // Kinds come and go with their definitions, so they can't be named.
        rule("*", "*", &["list"]),
        rule("", "pods", &["create"]),
        named("", "pods", &["get", "watch", "delete"], &movers),
        // Older servers ask for `get`, newer ones for `create` too.
        named("", "pods/exec", &["get", "create"], &movers),
        rule(LEASES, "leases", &["create"]),
        named(LEASES, "leases", &["get", "update", "delete"], &leases),
    ];
    if install.hooks {
        rules.push(rule("", "pods/exec", &["get", "create"]));
    }
    rules
}

/// What selected namespaces need of the whole cluster.
fn of_the_cluster() -> Vec<Value> {
    let mut rules = vec![
        // Its UID tells clusters apart.
        named("", "namespaces", &["get"], &["kube-system".to_owned()]),
        rule("", "nodes", &["get"]),
        rule(RBAC, "clusterrolebindings", &["list"]),
        rule("storage.k8s.io", "storageclasses", &["list"]),
    ];
    rules.extend(NEEDED.iter().map(|(group, plural)| rule(group, plural, &["get"])));
    rules
}

/// Holds every pod that the account creates to what a mover that reads is: so it can write to no volume, use
/// no Secret and no service account of the namespaces in which it may create pods.
pub(super) fn policy(install: &Install) -> [Value; 2] {
    let validation = |(expression, message): (String, &str)| json!({ "expression": expression, "message": format!("kist's account may create movers only: {message}") });
    let metadata = install.metadata(None, &install.wide_name());
    [
        json!({
            "apiVersion": ADMISSION_V1, "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }] },
                "matchConditions": [{
                    "name": "is-kists-account",
                    "expression": format!("request.userInfo.username == '{}'", install.account()),
                }],
                "validations": validations().into_iter().map(validation).collect::<Value>(),
            },
        }),
        json!({
            "apiVersion": ADMISSION_V1, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
            "spec": { "policyName": install.wide_name(), "validationActions": ["Deny"] },
        }),
    ]
}

fn validations() -> Vec<(String, &'static str)> {
    let each = |what: &str| format!("object.spec.containers.all(c, {what})");
    let off = |field: &str| format!("(!has(object.spec.{field}) || !object.spec.{field})");
    vec![
        (
            format!(
                "has(object.metadata.name) && object.metadata.name.matches('^kist-mover-[1-{SLOTS}]-[1-{MOVERS}]$')"
            ),
            "the pod has another name",
        ),
        (
            format!(
                "!has(object.spec.volumes) || object.spec.volumes.all(v, has(v.persistentVolumeClaim) \
                 || (v.name == '{SCRATCH}' && has(v.emptyDir)))"
            ),
            "it has other volumes than claims and its scratch",
        ),
        (
            each(&format!(
                "!has(c.volumeDevices) && (!has(c.volumeMounts) || c.volumeMounts.all(m, (has(m.readOnly) && m.readOnly) \
                 || (m.name == '{SCRATCH}' && object.spec.volumes.all(v, v.name != '{SCRATCH}' || has(v.emptyDir)))))"
            )),
            "it could write to a volume",
        ),
        (
            "has(object.spec.automountServiceAccountToken) && !object.spec.automountServiceAccountToken"
                .into(),
            "it has a service account's token",
        ),
        (
            each("!has(c.envFrom) && (!has(c.env) || c.env.all(e, !has(e.valueFrom)))"),
            "its environment is taken from other objects",
        ),
        (
            "!has(object.spec.initContainers) || size(object.spec.initContainers) == 0".into(),
            "it has init containers",
        ),
        (["hostNetwork", "hostPID", "hostIPC"].map(off).join(" && "), "it shares something with its node"),
        (
            each(
                "has(c.securityContext) && (!has(c.securityContext.privileged) || !c.securityContext.privileged) \
                 && (!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) \
                 || c.securityContext.capabilities.add.all(x, x == 'DAC_OVERRIDE'))",
            ),
            "it has more privileges than reading takes",
        ),
    ]
}
