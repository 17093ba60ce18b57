//! What a cluster's users write and kist reads: manifests out of a snapshot, annotations of pods, notes of leases.

use kist::cluster::hook::hooks;
use kist::cluster::lease::debts;
use kist::cluster::manifest::{Manifest, ObjectKey};
use kist::cluster::restore::{Action, Options, Target, plan};
use kist::format::entry::TreePath;
use serde_json::{Value, json};

/// The annotations of a pod, as JSON.
pub fn hook(bytes: &[u8]) {
    let Ok(annotations) = serde_json::from_slice::<Value>(bytes) else { return };
    let key = ObjectKey { namespace: Some("shop".into()), ..named("", "v1", "Pod", "db-0") };
    let body = json!({
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "db"}, {"name": "sidecar"}]},
        "status": {"phase": "Running"},
    });
    let found = hooks(&[Manifest { key, body }]);
    assert!(found.pods.len() + found.problems.len() <= 1);
    for hook in found.pods.iter().flat_map(|pod| [&pod.pre, &pod.post]).flatten() {
        assert!(hook.command.first().is_some_and(|word| !word.trim().is_empty()));
        assert!(["db", "sidecar"].contains(&hook.container.as_str()));
    }
}

/// The note of a lease: the pods to which a run owes their hooks.
pub fn owed(bytes: &[u8]) {
    let Ok(note) = std::str::from_utf8(bytes) else { return };
    let lease = json!({"metadata": {"namespace": "shop", "annotations": {"kist.dev/owes": note}}});
    let _ = debts(&serde_json::from_value(lease).expect("a lease"));
}

/// Manifests as a snapshot has them, as JSON: a list of paths, each with its object. Planned for another cluster.
pub fn manifests(bytes: &[u8]) {
    let Ok(documents) = serde_json::from_slice::<Vec<(String, Value)>>(bytes) else { return };
    let read = |(path, body): (String, Value)| {
        Manifest::decode(&TreePath::from_slashes(path.as_bytes())?, body.to_string().as_bytes())
    };
    let Some(mut all) = documents.into_iter().map(read).collect::<Option<Vec<_>>>() else { return };
    for manifest in &all {
        let path = manifest.key.to_path().expect("it came from one");
        assert_eq!(ObjectKey::from_path(&path).as_ref(), Some(&manifest.key));
    }
    let given = all.len();
    all.extend(KINDS.map(definition));
    let options = Options {
        map_namespaces: [("shop".into(), "shop-2".into())].into(),
        map_classes: [("fast".into(), "slow".into())].into(),
    };
    let plan = plan(&all, &Target::default(), &options);
    assert!(plan.steps.len() >= given);
    for step in plan.steps.iter().filter(|step| step.action == Action::Create) {
        assert_eq!(step.body["metadata"]["name"], json!(step.to.name));
    }
}

/// The kinds that a rule of the restore is about; a target learns of them by definitions in the snapshot.
const KINDS: [(&str, &str, &str); 16] = [
    ("", "Namespace", "Cluster"),
    ("", "PersistentVolumeClaim", "Namespaced"),
    ("", "Pod", "Namespaced"),
    ("", "Secret", "Namespaced"),
    ("", "Service", "Namespaced"),
    ("", "ServiceAccount", "Namespaced"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "Cluster"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", "Cluster"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "Cluster"),
    ("apps", "DaemonSet", "Namespaced"),
    ("apps", "Deployment", "Namespaced"),
    ("apps", "StatefulSet", "Namespaced"),
    ("batch", "CronJob", "Namespaced"),
    ("batch", "Job", "Namespaced"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "Cluster"),
    ("rbac.authorization.k8s.io", "RoleBinding", "Namespaced"),
];

fn definition((group, kind, scope): (&str, &str, &str)) -> Manifest {
    let body = json!({"metadata": {"name": format!("{kind}.{group}")}, "spec": {
        "group": group, "scope": scope, "names": {"kind": kind, "plural": kind.to_lowercase()},
        "versions": [{"name": "v1", "served": true}],
    }});
    Manifest {
        key: named("apiextensions.k8s.io", "v1", "CustomResourceDefinition", &format!("{kind}.{group}")),
        body,
    }
}

fn named(group: &str, version: &str, kind: &str, name: &str) -> ObjectKey {
    let [group, version, kind, name] = [group, version, kind, name].map(str::to_owned);
    ObjectKey { group, version, kind, namespace: None, name }
}
