//! Movers: none is left behind, none is started without rights, and what can't be read is listed, in time and with
//! the reason.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::image::KIST_IMAGE;
use crate::cluster::wait;
use crate::harness::LIMIT;
use crate::objects;
use crate::scenarios::{deployment_ready, named, nothing_is_left};
use crate::stage::Stage;

/// No mover is waited for longer than this, with all that a run does before and after.
const BOUND: Duration = Duration::from_secs(90);
/// A claim that is being deleted and one that has no volume yet are listed, and the rest is backed up.
pub async fn odd_claims(stage: Arc<Stage>) {
    let namespace = "odd-claims";
    let client = stage.first.client();
    let objects = [
        named(namespace),
        objects::claim("good", "lab-wait"),
        objects::claim("leaving", "lab-wait"),
        objects::claim("pending", "lab-wait"),
        objects::deployment_with_claim("good", "good"),
        objects::deployment_with_claim("leaving", "leaving"),
    ];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "good").await;
    deployment_ready(&client, namespace, "leaving").await;
    // It stays as long as its pod does.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    claims.delete("leaving", &DeleteParams::default()).await.unwrap();
    let repo = stage.s3_repository("odd-claims").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let backup = repo.writer.json(&backup, 3).await;
    assert_eq!(backup.last("backup")["complete"], false, "{}", backup.all());
    assert_eq!(backup.volume("backup", "good")["way"], "live");
    let missing = backup.of_type("missing");
    for (claim, why) in [("leaving", "deleted"), ("pending", "Pending")] {
        let is_said = |line: &Value| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            text("what").contains(claim) && text("why").contains(why)
        };
        assert!(missing.iter().any(is_said), "{claim} is not listed; {}", backup.all());
    }
    nothing_is_left(&client, namespace).await;
}

/// A namespace that is not there; an account that may only look.
pub async fn rights_and_names(stage: Arc<Stage>) {
    let namespace = "guarded";
    let client = stage.first.client();
    let objects = [
        named(namespace),
        objects::claim("data", "lab-wait"),
        objects::deployment_with_claim("app", "data"),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "viewer" } }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "guarded-viewer" },
            "subjects": [{ "kind": "ServiceAccount", "name": "viewer", "namespace": namespace }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        }),
    ];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "app").await;
    let repo = stage.s3_repository("guarded").await;
    let none = format!("backup cluster -n no-such-thing --mover-image {KIST_IMAGE}");
    repo.writer.json(&none, 2).await.says(&["no namespace no-such-thing"]);

    let kubeconfig = stage.scratch.path().join("viewer.conf");
    let admin = std::fs::read(stage.first.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_slice(&admin).unwrap();
    config["users"][0]["user"] = json!({ "token": token(&client, namespace, "viewer").await });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let refused = repo.writer.at(&kubeconfig).json(&backup, 5).await;
    refused.says(&["create pods", namespace]);
    nothing_is_left(&client, namespace).await;
}

/// The claim's volume is on a node that does not exist.
pub async fn unschedulable(stage: Arc<Stage>) {
    let namespace = "nowhere";
    let client = stage.first.client();
    let folder = stage.first.dir().join("volumes/nowhere");
    std::fs::create_dir(&folder).unwrap();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "nowhere" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "local": { "path": folder },
            "claimRef": { "namespace": namespace, "name": "far" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": ["a-node-that-is-gone"],
            }] }] } },
            "persistentVolumeReclaimPolicy": "Retain",
        },
    });
    let mut claim = objects::claim("far", "");
    claim["spec"]["volumeName"] = json!("nowhere");
    wait::apply(&client, namespace, [named(namespace), volume, claim]).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    wait::until(claims, "far", "the claim to be bound", LIMIT, is_bound).await.unwrap();
    let repo = stage.s3_repository("nowhere").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE} --mover-timeout 20s");
    let backup = repo.writer.json(&backup, 3).await;
    assert!(backup.took < BOUND, "{}", backup.all());
    assert_eq!(backup.last("backup")["complete"], false, "{}", backup.all());
    // The scheduler's own words.
    backup.says(&["missing", "far", "PersistentVolume's node affinity"]);
    nothing_is_left(&client, namespace).await;
}

async fn token(client: &Client, namespace: &str, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest::default();
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}
