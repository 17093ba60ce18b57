//! The rules, each on a manifest as a real cluster gives it.

use super::*;
use crate::cluster::restore::plan::testing::object;

pub fn prepared(body: Value) -> (Value, Vec<String>) {
    prepared_with(body, &Options::default())
}

pub fn prepared_with(body: Value, options: &Options) -> (Value, Vec<String>) {
    let from = object(body);
    let mut to = from.key.clone();
    to.namespace = to.namespace.map(|name| options.namespace(&name).to_owned());
    prepare(&from, &to, options)
}

fn to_bazaar() -> Options {
    Options { map_namespaces: [("shop".into(), "bazaar".into())].into(), ..Options::default() }
}

fn bound_claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data-db-0", "namespace": "shop", "uid": "u1", "resourceVersion": "812",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "db"},
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
                "volume.beta.kubernetes.io/storage-provisioner": "lab", "volume.kubernetes.io/selected-node": "one",
                "volume.kubernetes.io/storage-provisioner": "lab", "mine": "x",
            },
            "finalizers": ["kubernetes.io/pvc-protection"],
            "managedFields": [{"manager": "kube-controller-manager"}],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "lab-wait", "volumeMode": "Filesystem", "volumeName": "pvc-u1",
            "dataSource": {"kind": "VolumeSnapshot", "name": "old", "apiGroup": "snapshot.storage.k8s.io"},
            "dataSourceRef": {"kind": "VolumeSnapshot", "name": "old", "apiGroup": "snapshot.storage.k8s.io"},
        },
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    })
}

#[test]
fn a_claim_asks_for_no_less_than_its_volume_had() {
    let with = |asked: Value, had: Value| {
        let mut claim = bound_claim();
        claim["spec"]["resources"] = asked;
        claim["status"]["capacity"] = had;
        let (body, changes) = prepared(claim);
        let said = changes.into_iter().find(|change| change.contains("storage request"));
        (body["spec"]["resources"].clone(), said)
    };
    let asked = |size: &str| json!({"requests": {"storage": size}});
    let had = |size: &str| json!({"storage": size});
    let said = "storage request raised to 100Gi, the size of the volume".to_owned();
    assert_eq!(with(asked("99.5Gi"), had("100Gi")), (asked("100Gi"), Some(said)));
    for (request, capacity) in [("1Gi", "1024Mi"), ("2Gi", "1Gi"), ("1Gi", "soon")] {
        assert_eq!(with(asked(request), had(capacity)), (asked(request), None));
    }
    assert_eq!(with(asked("1Gi"), Value::Null), (asked("1Gi"), None));
    assert_eq!(with(json!({}), had("1Gi")), (json!({}), None));
}

#[test]
fn a_claim_waits_for_a_new_volume() {
    let (body, changes) = prepared(bound_claim());
    assert_eq!(
        body,
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data-db-0", "namespace": "shop", "labels": {"app": "db"},
                         "annotations": {"mine": "x"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                     "storageClassName": "lab-wait", "volumeMode": "Filesystem"},
        })
    );
    assert!(changes.contains(&"spec.volumeName removed".into()));
    assert!(changes.contains(&"annotation volume.kubernetes.io/selected-node removed".into()));
}

#[test]
fn a_claim_follows_the_mapping_of_classes() {
    let options = Options { map_classes: [("lab-wait".into(), "fast".into())].into(), ..Options::default() };
    let mut old = bound_claim();
    old["metadata"]["annotations"][CLASS] = json!("lab-wait");
    let (body, _) = prepared_with(old, &options);
    assert_eq!(body["spec"]["storageClassName"], "fast");
    assert_eq!(body["metadata"]["annotations"][CLASS], "fast");
}

#[test]
fn a_namespace_keeps_what_its_owner_wrote() {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "uid": "u", "labels": {
            "kubernetes.io/metadata.name": "shop", "pod-security.kubernetes.io/enforce": "restricted"}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    });
    let from = object(namespace);
    let to = ObjectKey { name: "bazaar".into(), ..from.key.clone() };
    let (body, _) = prepare(&from, &to, &to_bazaar());
    assert_eq!(
        body,
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "bazaar", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            "spec": {},
        })
    );
}

#[test]
fn finalizers_of_others_stay() {
    let (body, _) = prepared(json!({"apiVersion": "v1", "kind": "Service", "metadata": {
        "name": "web", "namespace": "shop",
        "finalizers": ["service.kubernetes.io/load-balancer-cleanup", "example.org/mine"]}}));
    assert_eq!(body["metadata"]["finalizers"], json!(["example.org/mine"]));
}

#[test]
fn tokens_of_service_accounts_are_issued_anew() {
    let secret = |kind: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": "for-ci", "namespace": "shop", "annotations": {
                "kubernetes.io/service-account.name": "app", "kubernetes.io/service-account.uid": "u1"}},
            "data": {"token": "dG9r", "ca.crt": "Y2E=", "namespace": "c2hvcA==", "extra": "eA=="}})
    };
    let (body, _) = prepared(secret("kubernetes.io/service-account-token"));
    assert_eq!(body["data"], json!({"extra": "eA=="}));
    assert_eq!(body["metadata"]["annotations"], json!({"kubernetes.io/service-account.name": "app"}));
    let (body, changes) = prepared(secret("Opaque"));
    assert_eq!(body["data"]["token"], "dG9r");
    assert!(changes.is_empty());
}

#[test]
fn a_service_account_keeps_its_own_secrets() {
    let (body, changes) = prepared(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": "shop"},
        "secrets": [{"name": "app-token-x7x7x"}, {"name": "mine"}],
        "imagePullSecrets": [{"name": "registry"}],
    }));
    assert_eq!(body["secrets"], json!([{"name": "mine"}]));
    assert_eq!(body["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(changes, ["generated token secrets removed"]);
}

#[test]
fn subjects_follow_the_mapping_of_namespaces() {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "app", "namespace": "shop"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [
            {"kind": "ServiceAccount", "name": "app", "namespace": "shop"},
            {"kind": "ServiceAccount", "name": "app", "namespace": "other"},
            {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:shop"},
            {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccount:shop:app"},
            {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:masters"},
        ],
    });
    let (body, _) = prepared_with(binding, &to_bazaar());
    let subjects = &body["subjects"];
    assert_eq!(body["metadata"]["namespace"], "bazaar");
    assert_eq!(subjects[0]["namespace"], "bazaar");
    assert_eq!(subjects[1]["namespace"], "other");
    assert_eq!(subjects[2]["name"], "system:serviceaccounts:bazaar");
    assert_eq!(subjects[3]["name"], "system:serviceaccount:bazaar:app");
    assert_eq!(subjects[4]["name"], "system:masters");
}

#[test]
fn what_calls_into_a_namespace_follows_its_mapping() {
    let service = json!({"service": {"name": "hook", "namespace": "shop"}, "caBundle": "Y2E="});
    let (body, _) = prepared_with(
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
               "metadata": {"name": "check"}, "webhooks": [{"name": "a.b.c", "clientConfig": service}]}),
        &to_bazaar(),
    );
    assert_eq!(body["webhooks"][0]["clientConfig"]["service"]["namespace"], "bazaar");
    let (body, _) = prepared_with(
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
               "metadata": {"name": "things.shop.example.org"}, "status": {"storedVersions": ["v1"]},
               "spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": service}}}}),
        &to_bazaar(),
    );
    assert_eq!(body["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["namespace"], "bazaar");
    assert!(body["status"].is_null());
}

#[test]
fn nothing_inside_of_data_is_rewritten() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop"}, "data": {"url": "http://web.shop.svc"}});
    let (body, _) = prepared_with(config, &to_bazaar());
    assert_eq!(body["data"]["url"], "http://web.shop.svc");
}

/// Story: rules and the documented list drift apart unless something compares them.
#[test]
fn rules_change_only_what_may_differ() {
    let claim = bound_claim();
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "shop",
        "uid": "1", "labels": {"controller-uid": "1"}}, "spec": {
        "selector": {"matchLabels": {"controller-uid": "1"}},
        "template": {"metadata": {"labels": {"job-name": "j", "batch.kubernetes.io/job-name": "j", "a": "b"}}}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 1,
                 "ports": [{"port": 1, "nodePort": 2}]}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": [{"name": "a-token-1"}],
        "metadata": {"name": "a", "namespace": "shop"}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d",
        "namespace": "shop", "generation": 7, "annotations": {"deployment.kubernetes.io/revision": "3"},
        "ownerReferences": [{"uid": "x"}]}, "spec": {"replicas": 3}, "status": {"replicas": 3}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop",
        "finalizers": ["batch.kubernetes.io/job-tracking"]}, "spec": {"nodeName": "one", "priority": 0,
        "preemptionPolicy": "x", "ephemeralContainers": [{"name": "debug"}], "containers": [{"name": "a",
            "volumeMounts": [{"name": "kube-api-access-x"}]}],
        "volumes": [{"name": "kube-api-access-x", "projected": {}}]}});
    let token = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "t", "namespace": "shop",
                     "annotations": {"kubernetes.io/service-account.uid": "u"}}, "data": {"token": "x"}});
    for before in [claim, job, service, account, deployment, pod, token] {
        let (after, _) = prepared(before.clone());
        let mut places = Vec::new();
        removed("", &before, &after, &mut places);
        assert!(!places.is_empty());
        for place in places {
            assert!(differs::may_differ(&before, &place), "{} {place} is not in the list", before["kind"]);
        }
    }
}

/// Pointers of leaves that are not the same in both.
fn removed(at: &str, before: &Value, after: &Value, places: &mut Vec<String>) {
    match before {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}/{}", name.replace('/', "~1"));
                removed(&at, value, &after[name], places);
            }
        }
        Value::Array(items) => {
            for (nth, value) in items.iter().enumerate() {
                removed(&format!("{at}/{nth}"), value, &after[nth], places);
            }
        }
        leaf if leaf != after => places.push(at.to_owned()),
        _ => {}
    }
}
