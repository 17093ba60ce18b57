//! Claims as a cluster has them, and what is made of them.

use serde_json::json;

use super::*;

fn object(api: &str, kind: &str, namespace: Option<&str>, name: &str, mut body: Value) -> Manifest {
    body["metadata"]["name"] = name.into();
    Manifest { key: ObjectKey::of(api, kind, namespace, name), body }
}

fn bound(name: &str) -> Manifest {
    let body = json!({
        "metadata": {"uid": format!("uid-{name}")},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "8Gi"}},
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
            "volumeName": format!("pv-{name}"),
        },
        "status": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "8Gi"}, "phase": "Bound"},
    });
    object("v1", "PersistentVolumeClaim", Some("shop"), name, body)
}

fn pod(name: &str, claim: &str, node: Option<&str>, phase: &str) -> Manifest {
    let body = json!({
        "metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1", "controller": true}]},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
        "status": {"phase": phase},
    });
    object("v1", "Pod", Some("shop"), name, body)
}

fn only(manifests: &[Manifest]) -> Claim {
    let mut claims = claims(manifests);
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

fn why(claim: &Claim) -> String {
    match claim.way() {
        Way::No { why } => why,
        live @ Way::Live { .. } => panic!("{live:?}"),
    }
}

fn live(node: Option<&str>, consumer: Option<usize>) -> Way {
    Way::Live { node: node.map(str::to_owned), consumer }
}

#[test]
fn a_claim_is_read_with_its_volume() {
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]}]});
    let volume = json!({"spec": {"nodeAffinity": {"required": required}}});
    let claim = only(&[bound("data"), object("v1", "PersistentVolume", None, "pv-data", volume)]);
    let expected = Claim {
        namespace: "shop".into(),
        name: "data".into(),
        uid: "uid-data".into(),
        class: Some("fast".into()),
        mode: Mode::Filesystem,
        access_modes: vec!["ReadWriteOnce".into()],
        phase: "Bound".into(),
        volume: Some("pv-data".into()),
        terminating: false,
        requested: Some("8Gi".into()),
        consumers: Vec::new(),
        volume_affinity: required,
    };
    assert_eq!(claim, expected);
    assert_eq!(claim.way(), live(None, None));
}

#[test]
fn claims_come_in_order_of_namespace_and_name() {
    let mut other = bound("z");
    other.key.namespace = Some("bakery".into());
    let claims = claims(&[bound("b"), bound("a"), other]);
    let names: Vec<(&str, &str)> = claims.iter().map(|it| (&*it.namespace, &*it.name)).collect();
    assert_eq!(names, [("bakery", "z"), ("shop", "a"), ("shop", "b")]);
}

#[test]
fn a_volume_is_read_where_it_is_used() {
    let claim = only(&[bound("data"), pod("db-0", "data", Some("node-a"), "Running")]);
    assert_eq!(claim.way(), live(Some("node-a"), Some(0)));
    assert_eq!(claim.consumers[0].controller.as_ref().unwrap().name, "db");
    assert!(claim.volume_affinity.is_null());
}

#[test]
fn running_consumers_come_before_those_that_start_and_those_that_wait() {
    let claim = only(&[
        pod("a-waits", "data", None, "Pending"),
        pod("b-starts", "data", Some("node-b"), "Pending"),
        pod("d-runs", "data", Some("node-d"), "Running"),
        pod("c-runs", "data", Some("node-c"), "Running"),
        bound("data"),
    ]);
    let pods: Vec<&str> = claim.consumers.iter().map(|consumer| consumer.pod.as_str()).collect();
    assert_eq!(pods, ["c-runs", "d-runs", "b-starts", "a-waits"]);
    assert_eq!(claim.way(), live(Some("node-c"), Some(0)));
}

#[test]
fn a_pod_without_a_node_still_says_as_whom_to_read() {
    let claim = only(&[bound("data"), pod("db-0", "data", None, "Pending")]);
    assert_eq!(claim.way(), live(None, Some(0)));
}

#[test]
fn pods_that_have_ended_use_nothing() {
    for phase in ["Succeeded", "Failed"] {
        let claim = only(&[bound("data"), pod("job-1", "data", Some("node-a"), phase)]);
        assert_eq!(claim.way(), live(None, None));
    }
}

#[test]
fn pods_of_other_namespaces_use_other_claims() {
    let mut other = pod("db-0", "data", Some("node-a"), "Running");
    other.key.namespace = Some("bakery".into());
    assert!(only(&[bound("data"), other]).consumers.is_empty());
}

#[test]
fn an_ephemeral_volume_is_a_claim_of_its_pod() {
    let mut user = pod("web", "unused", Some("node-a"), "Running");
    user.body["spec"]["volumes"] = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}]);
    let claim = only(&[bound("web-scratch"), user]);
    assert_eq!(claim.consumers[0].pod, "web");
}

#[test]
fn claims_that_cant_be_read_say_why() {
    let with = |change: fn(&mut Value)| {
        let mut manifest = bound("data");
        change(&mut manifest.body);
        why(&only(&[manifest, pod("db-0", "data", Some("node-a"), "Running")]))
    };
    assert_eq!(
        with(|it| it["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()),
        "it is being deleted"
    );
    assert_eq!(with(|it| it["status"] = json!({"phase": "Pending"})), "it has no volume yet (Pending)");
    assert_eq!(with(|it| it["status"] = Value::Null), "it has no volume yet (Pending)");
    assert_eq!(with(|it| it["status"]["phase"] = "Lost".into()), "its volume is gone (Lost)");
    assert_eq!(with(|it| it["spec"]["volumeMode"] = "Block".into()), "block volumes can't be read yet");
    assert_eq!(
        with(|it| it["status"]["accessModes"] = json!(["ReadWriteOncePod"])),
        "ReadWriteOncePod is held by pod db-0; it takes a volume snapshot, which kist does not make yet"
    );
}

#[test]
fn a_volume_for_one_pod_can_be_read_while_no_pod_holds_it() {
    let mut claim = bound("data");
    claim.body["status"]["accessModes"] = json!(["ReadWriteOncePod"]);
    assert_eq!(only(&[claim.clone()]).way(), live(None, None));
    let waiting = pod("db-0", "data", None, "Pending");
    assert_eq!(only(&[claim, waiting]).way(), live(None, Some(0)));
}

#[test]
fn the_identity_is_that_of_the_container_that_writes() {
    let mut user = pod("db-0", "data", Some("node-a"), "Running");
    user.body["spec"] = json!({
        "nodeName": "node-a",
        "securityContext": {
            "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "supplementalGroups": [3000, 2000],
            "seLinuxOptions": {"level": "s0:c1,c2"}},
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "initContainers": [{"name": "chown", "securityContext": {"runAsUser": 0},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "containers": [
            {"name": "sidecar", "securityContext": {"runAsUser": 1}},
            {"name": "exporter", "securityContext": {"runAsUser": 2},
             "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": true}]},
            {"name": "db", "securityContext": {"runAsUser": 999},
             "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    });
    let consumer = only(&[bound("data"), user]).consumers.remove(0);
    let expected = Identity { uid: Some(999), gid: Some(1000), groups: vec![2000, 3000] };
    assert_eq!(consumer.identity, expected);
    assert_eq!(consumer.selinux, json!({"level": "s0:c1,c2"}));
    assert_eq!(consumer.pull_secrets, ["registry"]);
    assert_eq!(consumer.tolerations, json!([{"key": "dedicated", "operator": "Exists"}]));
}

#[test]
fn volumes_that_are_no_claims_are_remarked_upon_once_a_workload() {
    let volumes = json!([
        {"name": "cache", "emptyDir": {}},
        {"name": "logs", "hostPath": {"path": "/var/log"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "settings", "configMap": {"name": "settings"}},
    ]);
    let deployment = json!({"spec": {"template": {"spec": {"volumes": volumes}}}});
    let mut made = pod("web-1", "data", None, "Running");
    made.body["spec"]["volumes"] = volumes;
    let plain = object("v1", "Pod", Some("shop"), "plain", json!({"spec": {"volumes": []}}));
    let remarks = remarks(&[
        object("apps/v1", "Deployment", Some("shop"), "web", deployment),
        made,
        plain,
        bound("data"),
    ]);
    let expected =
        "apps/v1 Deployment shop/web: not backed up, being no claims: emptyDir cache, hostPath logs";
    assert_eq!(remarks, [expected]);
}
