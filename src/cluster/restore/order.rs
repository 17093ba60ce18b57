//! When each kind is made: what others need comes first, what acts on others comes last.
//!
//! Pure. Within a stage, waves: Roles before the bindings that name them, Endpoints before their Service,
//! webhook configurations behind everything, since they can refuse it.

use crate::cluster::manifest::ObjectKey;
use crate::cluster::restore::Stage;

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// Group, kind, stage, wave.
const ORDER: [(&str, &str, Stage, u8); 27] = [
    ("apiextensions.k8s.io", "CustomResourceDefinition", Stage::Crds, 0),
    ("", "Namespace", Stage::Namespaces, 0),
    ("", "ServiceAccount", Stage::Access, 0),
    (RBAC, "Role", Stage::Access, 0),
    (RBAC, "RoleBinding", Stage::Access, 1),
    (RBAC, "ClusterRoleBinding", Stage::Access, 1),
    ("", "PersistentVolumeClaim", Stage::Claims, 0),
    ("", "Endpoints", Stage::Network, 0),
    ("discovery.k8s.io", "EndpointSlice", Stage::Network, 0),
    ("", "Service", Stage::Network, 1),
    ("networking.k8s.io", "Ingress", Stage::Network, 2),
    // Behind the movers, which it could cut off, and before the pods that it guards.
    ("networking.k8s.io", "NetworkPolicy", Stage::Network, 2),
    ("", "Pod", Stage::Workloads, 0),
    ("", "ReplicationController", Stage::Workloads, 0),
    ("apps", "DaemonSet", Stage::Workloads, 0),
    ("apps", "Deployment", Stage::Workloads, 0),
    ("apps", "ReplicaSet", Stage::Workloads, 0),
    ("apps", "StatefulSet", Stage::Workloads, 0),
    ("batch", "CronJob", Stage::Workloads, 0),
    ("batch", "Job", Stage::Workloads, 0),
    ("autoscaling", "HorizontalPodAutoscaler", Stage::Late, 0),
    ("policy", "PodDisruptionBudget", Stage::Late, 0),
    ("", "ResourceQuota", Stage::Late, 0),
    (ADMISSION, "MutatingAdmissionPolicyBinding", Stage::Late, LAST_WAVE),
    (ADMISSION, "MutatingWebhookConfiguration", Stage::Late, LAST_WAVE),
    (ADMISSION, "ValidatingAdmissionPolicyBinding", Stage::Late, LAST_WAVE),
    (ADMISSION, "ValidatingWebhookConfiguration", Stage::Late, LAST_WAVE),
];
/// Of CronJobs that run again.
pub(super) const UNSUSPEND_WAVE: u8 = 1;
const LAST_WAVE: u8 = 2;

/// The groups of Kubernetes itself. The names of others may end in `k8s.io` too.
const BUILT_IN: [&str; 23] = [
    "",
    ADMISSION,
    RBAC,
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

pub(super) fn place(key: &ObjectKey) -> (Stage, u8) {
    if let Some((_, _, stage, wave)) = ORDER.iter().find(|(group, kind, ..)| key.is(group, kind)) {
        return (*stage, *wave);
    }
    match (is_built_in(&key.group), &key.namespace) {
        (false, _) => (Stage::Custom, 0),
        (true, Some(_)) => (Stage::Config, 0),
        (true, None) => (Stage::ClusterThings, 0),
    }
}

pub(super) fn is_built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, kind: &str, namespace: Option<&str>) -> ObjectKey {
        ObjectKey {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            namespace: namespace.map(str::to_owned),
            name: "x".into(),
        }
    }

    #[test]
    fn what_others_need_comes_before_them() {
        let shop = Some("shop");
        let ordered = [
            key("apiextensions.k8s.io", "CustomResourceDefinition", None),
            key("", "Namespace", None),
            key("scheduling.k8s.io", "PriorityClass", None),
            key(RBAC, "Role", shop),
            key(RBAC, "RoleBinding", shop),
            key("", "Secret", shop),
            key("", "PersistentVolumeClaim", shop),
            key("", "Endpoints", shop),
            key("", "Service", shop),
            key("networking.k8s.io", "NetworkPolicy", shop),
            key("shop.example.org", "Basket", shop),
            key("apps", "StatefulSet", shop),
            key("", "ResourceQuota", shop),
            key(ADMISSION, "ValidatingWebhookConfiguration", None),
        ];
        let places: Vec<_> = ordered.iter().map(place).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    }

    #[test]
    fn kinds_by_place() {
        let rows = [
            (key("storage.k8s.io", "StorageClass", None), Stage::ClusterThings),
            (key(RBAC, "ClusterRole", None), Stage::ClusterThings),
            (key("", "LimitRange", Some("shop")), Stage::Config),
            (key("gateway.networking.k8s.io", "Gateway", Some("shop")), Stage::Custom),
            (key("cert-manager.io", "ClusterIssuer", None), Stage::Custom),
        ];
        for (key, stage) in rows {
            assert_eq!(place(&key).0, stage, "{key}");
        }
    }
}
