//! What the objects of some namespaces need of the whole cluster. Pure.
//!
//! A namespace does not come to life elsewhere without the classes that its claims and pods name, the roles
//! that its bindings name, the definitions of its custom resources. They are found by the references in the
//! manifests; what nothing names stays behind.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::kind::Kind;
use crate::cluster::manifest::Manifest;

pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
pub(super) const STORAGE: &str = "storage.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const SCHEDULING: &str = "scheduling.k8s.io";
const NODE: &str = "node.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";

/// Group and plural of what is named.
type Place = (&'static str, &'static str);

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUMES: Place = ("", "persistentvolumes");
const STORAGE_CLASSES: Place = (STORAGE, "storageclasses");
const ATTRIBUTES_CLASSES: Place = (STORAGE, "volumeattributesclasses");
const CLUSTER_ROLES: Place = (RBAC, "clusterroles");
const PRIORITY_CLASSES: Place = (SCHEDULING, "priorityclasses");
const RUNTIME_CLASSES: Place = (NODE, "runtimeclasses");
const INGRESS_CLASSES: Place = (NETWORKING, "ingressclasses");
const DEFINITIONS: Place = (EXTENSIONS, "customresourcedefinitions");

/// All that may be fetched by name: whoever backs up selected namespaces needs to `get` these.
pub(in crate::cluster) const NEEDED: [Place; 8] = [
    VOLUMES,
    STORAGE_CLASSES,
    ATTRIBUTES_CLASSES,
    CLUSTER_ROLES,
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    INGRESS_CLASSES,
    DEFINITIONS,
];

/// Groups with a dot that are built in. Those without one are: a definition's group has to have a dot.
const BUILT_IN: [&str; 15] = [
    "admissionregistration.k8s.io",
    EXTENSIONS,
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    NETWORKING,
    NODE,
    RBAC,
    "resource.k8s.io",
    SCHEDULING,
    STORAGE,
    "storagemigration.k8s.io",
];

/// Before there was a field for it; still read.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Group, plural and name.
    pub objects: BTreeSet<(String, String, String)>,
    /// A claim names no class and has no volume yet, so it is the default class that it will get.
    pub default_class: bool,
}

impl Needs {
    /// Empty names mean none: a class of "" is that no class is wanted.
    fn name(&mut self, (group, plural): Place, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.objects.insert((group.to_owned(), plural.to_owned(), name.to_owned()));
        }
    }

    /// Of a claim, or of the template of one.
    fn of_claim(&mut self, claim: &Value) {
        let spec = &claim["spec"];
        let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        let class = annotated.or(spec["storageClassName"].as_str());
        let volume = spec["volumeName"].as_str();
        self.name(STORAGE_CLASSES, class);
        self.name(ATTRIBUTES_CLASSES, spec["volumeAttributesClassName"].as_str());
        self.name(VOLUMES, volume);
        self.default_class |= class.is_none() && volume.is_none();
    }

    fn of_pod(&mut self, spec: &Value) {
        self.name(PRIORITY_CLASSES, spec["priorityClassName"].as_str());
        self.name(RUNTIME_CLASSES, spec["runtimeClassName"].as_str());
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let template = &volume["ephemeral"]["volumeClaimTemplate"];
            if template.is_object() {
                self.of_claim(template);
            }
        }
    }

    fn of_object(&mut self, manifest: &Manifest) {
        let (key, body) = (&manifest.key, &manifest.body);
        if let Some(spec) = manifest.pod_spec() {
            self.of_pod(spec);
        }
        if key.is("", CLAIM) {
            self.of_claim(body);
        } else if key.is("apps", "StatefulSet") {
            body["spec"]["volumeClaimTemplates"]
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|c| self.of_claim(c));
        } else if key.is(RBAC, "RoleBinding") || key.is(RBAC, "ClusterRoleBinding") {
            let role = &body["roleRef"];
            self.name(CLUSTER_ROLES, role["name"].as_str().filter(|_| role["kind"] == "ClusterRole"));
        } else if key.is(NETWORKING, "Ingress") {
            let class = body["spec"]["ingressClassName"].as_str();
            self.name(INGRESS_CLASSES, class.or_else(|| manifest.annotation(INGRESS_ANNOTATION)));
        }
    }
}

pub(super) fn needs<'m>(manifests: impl Iterator<Item = &'m Manifest>, kinds: &[Kind]) -> Needs {
    let mut needs = Needs::default();
    let mut custom = BTreeSet::new();
    for manifest in manifests {
        needs.of_object(manifest);
        let group = manifest.key.group.as_str();
        if group.contains('.') && !BUILT_IN.contains(&group) {
            custom.insert((group, manifest.key.kind.as_str()));
        }
    }
    for kind in kinds.iter().filter(|kind| custom.contains(&(&*kind.group, &*kind.kind))) {
        needs.name(DEFINITIONS, Some(&kind.to_string()));
    }
    needs
}

/// Those ClusterRoleBindings that give something to service accounts of the namespaces.
pub(super) fn binding(bindings: Vec<Manifest>, namespaces: &BTreeSet<String>) -> Vec<Manifest> {
    bindings.into_iter().filter(|binding| binds(&binding.body, namespaces)).collect()
}

fn binds(binding: &Value, namespaces: &BTreeSet<String>) -> bool {
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        let namespace = match subject["kind"].as_str() {
            Some("ServiceAccount") => subject["namespace"].as_str(),
            // All service accounts of one namespace.
            Some("Group") => name.strip_prefix("system:serviceaccounts:"),
            // One service account, by its long name.
            Some("User") => {
                name.strip_prefix("system:serviceaccount:").and_then(|rest| Some(rest.split_once(':')?.0))
            }
            _ => None,
        };
        namespace.is_some_and(|namespace| namespaces.contains(namespace))
    })
}

/// Where several say that they are the default, the newest is, as the API server has it.
pub(super) fn default_class(classes: Vec<Manifest>) -> Option<Manifest> {
    let is_default =
        |class: &Manifest| DEFAULT_ANNOTATIONS.iter().any(|name| class.annotation(name) == Some("true"));
    let created = |class: &Manifest| class.metadata("creationTimestamp").as_str().map(str::to_owned);
    classes.into_iter().filter(is_default).max_by_key(created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifest::ObjectKey;
    use serde_json::json;

    fn manifest(api: &str, kind: &str, body: Value) -> Manifest {
        Manifest { key: ObjectKey::of(api, kind, Some("shop"), "x"), body }
    }

    fn named(manifests: &[Manifest], kinds: &[Kind]) -> Vec<String> {
        let needs = needs(manifests.iter(), kinds);
        needs.objects.into_iter().map(|(_, plural, name)| format!("{plural} {name}")).collect()
    }

    #[test]
    fn a_claim_names_its_class_and_its_volume() {
        let claim = json!({"spec": {
            "storageClassName": "fast", "volumeName": "pvc-1", "volumeAttributesClassName": "gold"}});
        assert_eq!(
            named(&[manifest("v1", CLAIM, claim)], &[]),
            ["persistentvolumes pvc-1", "storageclasses fast", "volumeattributesclasses gold"]
        );
    }

    #[test]
    fn a_claim_without_class_and_volume_needs_the_default_class() {
        let of = |spec: Value| needs([manifest("v1", CLAIM, json!({"spec": spec}))].iter(), &[]);
        assert!(of(json!({})).default_class);
        assert!(!of(json!({"storageClassName": ""})).default_class);
        assert!(!of(json!({"volumeName": "by-hand"})).default_class);
    }

    #[test]
    fn templates_of_claims_name_classes_too() {
        let set = json!({"spec": {
            "volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}],
            "template": {"spec": {"priorityClassName": "high", "runtimeClassName": "gvisor", "volumes": [
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "slow"}}}},
                {"name": "tmp", "emptyDir": {}},
            ]}},
        }});
        let set = manifest("apps/v1", "StatefulSet", set);
        assert!(!needs([set.clone()].iter(), &[]).default_class);
        assert_eq!(
            named(&[set], &[]),
            ["runtimeclasses gvisor", "priorityclasses high", "storageclasses fast", "storageclasses slow"]
        );
    }

    #[test]
    fn a_cron_job_names_what_its_pods_do() {
        let cron =
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"priorityClassName": "low"}}}}}});
        assert_eq!(named(&[manifest("batch/v1", "CronJob", cron)], &[]), ["priorityclasses low"]);
    }

    #[test]
    fn bindings_name_cluster_roles_and_not_roles() {
        let to = |kind: &str, name: &str| {
            let body = json!({"roleRef": {"kind": kind, "name": name}});
            manifest("rbac.authorization.k8s.io/v1", "RoleBinding", body)
        };
        let found = named(&[to("ClusterRole", "system:view"), to("Role", "own")], &[]);
        assert_eq!(found, ["clusterroles system:view"]);
    }

    #[test]
    fn an_ingress_names_its_class_by_field_or_by_annotation() {
        let of = |body: Value| named(&[manifest("networking.k8s.io/v1", "Ingress", body)], &[]);
        assert_eq!(of(json!({"spec": {"ingressClassName": "nginx"}})), ["ingressclasses nginx"]);
        let old = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "old"}}, "spec": {}});
        assert_eq!(of(old), ["ingressclasses old"]);
        assert!(of(json!({"spec": {}})).is_empty());
    }

    #[test]
    fn custom_resources_need_their_definitions_and_built_in_ones_have_none() {
        let kind = |group: &str, kind: &str, plural: &str| Kind {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
            verbs: Vec::new(),
        };
        let kinds = [
            kind("cert-manager.io", "Certificate", "certificates"),
            kind("cert-manager.io", "Issuer", "issuers"),
            kind("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
            kind("snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots"),
            kind("apps", "Deployment", "deployments"),
        ];
        let found = named(
            &[
                manifest("cert-manager.io/v1", "Certificate", json!({})),
                manifest("networking.k8s.io/v1", "NetworkPolicy", json!({})),
                manifest("snapshot.storage.k8s.io/v1", "VolumeSnapshot", json!({})),
                manifest("apps/v1", "Deployment", json!({})),
            ],
            &kinds,
        );
        assert_eq!(
            found,
            [
                "customresourcedefinitions certificates.cert-manager.io",
                "customresourcedefinitions volumesnapshots.snapshot.storage.k8s.io",
            ]
        );
    }

    #[test]
    fn only_bindings_of_the_namespaces_accounts_belong_to_them() {
        let shop = BTreeSet::from(["shop".to_owned()]);
        let to = |subject: Value| binds(&json!({"subjects": [subject]}), &shop);
        assert!(to(json!({"kind": "ServiceAccount", "name": "db", "namespace": "shop"})));
        assert!(to(json!({"kind": "Group", "name": "system:serviceaccounts:shop"})));
        assert!(to(json!({"kind": "User", "name": "system:serviceaccount:shop:db"})));
        assert!(!to(json!({"kind": "ServiceAccount", "name": "db", "namespace": "shop-2"})));
        assert!(!to(json!({"kind": "Group", "name": "system:serviceaccounts"})));
        assert!(!to(json!({"kind": "User", "name": "shop"})));
        assert!(!binds(&json!({"metadata": {}}), &shop));
    }

    #[test]
    fn of_several_default_classes_the_newest_is_the_one() {
        let class = |name: &str, created: &str, default: &str| Manifest {
            key: ObjectKey::of("storage.k8s.io/v1", "StorageClass", None, name),
            body: json!({"metadata": {"creationTimestamp": created, "annotations": {
                "storageclass.kubernetes.io/is-default-class": default}}}),
        };
        let classes = vec![
            class("new", "2026-02-01T00:00:00Z", "true"),
            class("old", "2025-02-01T00:00:00Z", "true"),
            class("newest", "2026-03-01T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(classes).unwrap().key.name, "new");
        assert!(default_class(vec![class("plain", "2026-03-01T00:00:00Z", "false")]).is_none());
    }
}
