//! The fields in which a restored object may differ from the one that was backed up, with the reasons.
//!
//! Data, so that documents and tests say the same. Invariant: a rule removes or changes nothing that is not
//! listed here (a test of the rules).

use serde_json::Value;

/// `KIND POINTER` and the reason. The kind is `*` for all, and `Secret:TYPE` for Secrets of a type; the
/// pointer is a JSON pointer (`~1` is a slash), whose segments may be `*`, or end in `*` for any name that
/// begins so. All that lies below differs too.
pub const DIFFERS: [(&str, &str); 45] = [
    ("* /status", "controllers write it anew"),
    ("* /metadata/creationTimestamp", "the server gives it"),
    ("* /metadata/deletionGracePeriodSeconds", "the server gives it"),
    ("* /metadata/deletionTimestamp", "the server gives it"),
    ("* /metadata/generateName", "it does nothing beside a name"),
    ("* /metadata/generation", "the server counts it"),
    ("* /metadata/managedFields", "the server keeps it for each client"),
    ("* /metadata/ownerReferences", "owners have new UIDs, and those that are not restored are left off"),
    ("* /metadata/resourceVersion", "the server gives it"),
    ("* /metadata/selfLink", "old servers gave it"),
    ("* /metadata/uid", "the server gives it"),
    ("DaemonSet /metadata/annotations/deprecated.daemonset.template.generation", "a counter of changes"),
    ("Deployment /metadata/annotations/deployment.kubernetes.io~1revision", "a counter of roll-outs"),
    ("Job /metadata/labels/batch.kubernetes.io~1*", "made from the Job's UID and name"),
    ("Job /metadata/labels/controller-uid", "made from the Job's UID"),
    ("Job /metadata/labels/job-name", "made from the Job's name"),
    ("Job /spec/selector", "made from the Job's UID"),
    ("Job /spec/template/metadata/labels/batch.kubernetes.io~1*", "made from the Job's UID and name"),
    ("Job /spec/template/metadata/labels/controller-uid", "made from the Job's UID"),
    ("Job /spec/template/metadata/labels/job-name", "made from the Job's name"),
    ("PersistentVolumeClaim /metadata/annotations/pv.kubernetes.io~1*", "it binds the claim to its volume"),
    ("PersistentVolumeClaim /metadata/annotations/volume.beta.kubernetes.io~1*", "its provisioner and class"),
    ("PersistentVolumeClaim /metadata/annotations/volume.kubernetes.io~1*", "its node and provisioner"),
    ("PersistentVolumeClaim /metadata/finalizers", "the cluster puts its protection in"),
    ("PersistentVolumeClaim /spec/dataSource", "the data comes from the backup"),
    ("PersistentVolumeClaim /spec/dataSourceRef", "the data comes from the backup"),
    (
        "PersistentVolumeClaim /spec/resources/requests/storage",
        "raised to the size of its volume where that is larger",
    ),
    ("PersistentVolumeClaim /spec/volumeName", "its volume is a new one"),
    ("Pod /metadata/finalizers", "the cluster puts in what it needs"),
    ("Pod /spec/containers/*/volumeMounts", "the token of the service account is mounted anew"),
    ("Pod /spec/ephemeralContainers", "they can't be part of a new pod"),
    ("Pod /spec/initContainers/*/volumeMounts", "the token of the service account is mounted anew"),
    ("Pod /spec/nodeName", "the scheduler chooses the node"),
    ("Pod /spec/preemptionPolicy", "computed from the priority class"),
    ("Pod /spec/priority", "computed from the priority class"),
    ("Pod /spec/volumes", "the token of the service account is mounted anew"),
    ("Secret:kubernetes.io/service-account-token /data", "the token is issued anew"),
    (
        "Secret:kubernetes.io/service-account-token /metadata/annotations/kubernetes.io~1service-account.uid",
        "the account has a new UID",
    ),
    ("Service /metadata/finalizers", "the cluster puts in what it needs"),
    ("Service /spec/clusterIP", "each cluster gives addresses of its own"),
    ("Service /spec/clusterIPs", "each cluster gives addresses of its own"),
    ("Service /spec/healthCheckNodePort", "given anew unless it was chosen"),
    ("Service /spec/ports/*/nodePort", "given anew unless it was chosen"),
    ("ServiceAccount /imagePullSecrets", "generated Secrets are not restored"),
    ("ServiceAccount /secrets", "generated Secrets are not restored"),
];

/// Whether an object may differ at this JSON pointer.
pub fn may_differ(object: &Value, pointer: &str) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    let with_type = format!("{kind}:{}", object["type"].as_str().unwrap_or_default());
    DIFFERS.iter().any(|(place, _)| {
        // No pointer has a space, and a kind has none.
        let (of, pattern) = place.split_once(' ').unwrap_or(("", place));
        (of == "*" || of == kind || of == with_type) && covers(pattern, pointer)
    })
}

fn covers(pattern: &str, pointer: &str) -> bool {
    let mut parts = pointer.split('/');
    pattern.split('/').all(|segment| match (segment.strip_suffix('*'), parts.next()) {
        (_, None) => false,
        (Some(start), Some(part)) => part.starts_with(start),
        (None, Some(part)) => part == segment,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_covered_with_all_that_lies_below() {
        let may = |kind: &str, pointer: &str| may_differ(&json!({"kind": kind, "type": "Opaque"}), pointer);
        assert!(may("Secret", "/metadata/uid"));
        assert!(may("Service", "/spec/ports/3/nodePort"));
        assert!(may("Deployment", "/status/conditions/0/type"));
        assert!(may("PersistentVolumeClaim", "/metadata/annotations/volume.kubernetes.io~1selected-node"));
        assert!(!may("Service", "/spec/ports/3/port"));
        assert!(!may("Service", "/spec"));
        assert!(!may("ConfigMap", "/spec/clusterIP"));
        assert!(!may("Secret", "/data/token"));
        let token = json!({"kind": "Secret", "type": "kubernetes.io/service-account-token"});
        assert!(may_differ(&token, "/data/token"));
    }

    #[test]
    fn each_place_has_a_kind_and_a_reason() {
        for (place, why) in DIFFERS {
            assert!(
                place.split_once(" /").is_some_and(|(kind, rest)| !kind.is_empty() && !rest.contains(' '))
            );
            assert!(!why.is_empty());
        }
    }
}
