//! The fields in which a restored object may differ from the one that was backed up, with the reasons.
//!
//! Data, so that documents and tests say the same. Invariant: a rule removes or changes nothing that is not
//! listed here (a test of the rules).

/// `KIND POINTER` and the reason. The kind is `*` for all; the pointer is a JSON pointer (`~1` is a slash),
/// whose segments may be `*`, or end in `*` for any name that begins so. All that lies below differs too.
pub const DIFFERS: [(&str, &str); 39] = [
    ("* /status", "controllers write it anew"),
    ("* /metadata/creationTimestamp", "the server gives it"),
    ("* /metadata/deletionGracePeriodSeconds", "the server gives it"),
    ("* /metadata/deletionTimestamp", "the server gives it"),
    ("* /metadata/generateName", "it does nothing beside a name"),
    ("* /metadata/generation", "the server counts it"),
    ("* /metadata/managedFields", "the server keeps it for each client"),
    ("* /metadata/ownerReferences/*/uid", "owners have new UIDs"),
    ("* /metadata/ownerReferences", "owners that are not restored are left off"),
    ("* /metadata/resourceVersion", "the server gives it"),
    ("* /metadata/selfLink", "old servers gave it"),
    ("* /metadata/uid", "the server gives it"),
    ("* /metadata/finalizers", "controllers put in theirs as they need them"),
    ("ConfigMap /data/ca.crt", "each cluster publishes its own in kube-root-ca.crt"),
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
    ("PersistentVolumeClaim /spec/dataSource", "the data comes from the backup"),
    ("PersistentVolumeClaim /spec/dataSourceRef", "the data comes from the backup"),
    ("PersistentVolumeClaim /spec/volumeName", "its volume is a new one"),
    ("Pod /spec", "a pod's node, priority and token are given to it anew"),
    ("Secret /data/ca.crt", "service-account tokens are issued anew"),
    ("Secret /data/namespace", "service-account tokens are issued anew"),
    ("Secret /data/token", "service-account tokens are issued anew"),
    ("Secret /metadata/annotations/kubernetes.io~1service-account.uid", "the account has a new UID"),
    ("Service /spec/clusterIP", "each cluster gives addresses of its own"),
    ("Service /spec/clusterIPs", "each cluster gives addresses of its own"),
    ("Service /spec/healthCheckNodePort", "given anew unless it was chosen"),
    ("Service /spec/ports/*/nodePort", "given anew unless it was chosen"),
    ("ServiceAccount /secrets", "generated token Secrets are not restored"),
];

/// Whether an object of this kind may differ at this JSON pointer.
pub fn may_differ(kind: &str, pointer: &str) -> bool {
    DIFFERS.iter().any(|(place, _)| {
        let (of, pattern) = place.split_once(' ').unwrap_or(("", place));
        (of == "*" || of == kind) && covers(pattern, pointer)
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

    #[test]
    fn places_are_covered_with_all_that_lies_below() {
        assert!(may_differ("Secret", "/metadata/uid"));
        assert!(may_differ("Service", "/spec/ports/3/nodePort"));
        assert!(may_differ("Deployment", "/status/conditions/0/type"));
        assert!(may_differ(
            "PersistentVolumeClaim",
            "/metadata/annotations/volume.kubernetes.io~1selected-node"
        ));
        assert!(!may_differ("Service", "/spec/ports/3/port"));
        assert!(!may_differ("Service", "/spec"));
        assert!(!may_differ("ConfigMap", "/spec/clusterIP"));
        assert!(!may_differ("Secret", "/data/password"));
    }

    #[test]
    fn each_place_has_a_kind_and_a_reason() {
        for (place, why) in DIFFERS {
            assert!(place.split_once(" /").is_some_and(|(kind, _)| !kind.contains('/')), "{place}");
            assert!(!why.is_empty());
        }
    }
}
