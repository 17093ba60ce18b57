//! The namespace that travels in the main scenario and in the demo: a shop with a real database.
//!
//! Two claims: that of PostgreSQL, and one with files of every awkward kind, which the web server shows. The
//! database is written to all the time. Its pod has an fsGroup, as charts have it, so kubelet opens the data
//! folder to the group at each mount and `start.sh` closes it again, as the official images do. The hooks on it
//! freeze and thaw it (`freeze.sh`, `thaw.sh`).

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::conditions::is_crd_established;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::error::Result;
use crate::cluster::image::BUSYBOX_IMAGE;
use crate::cluster::postgres::{POSTGRES_BIN, POSTGRES_IMAGE, POSTGRES_UID};
use crate::cluster::storage::CLASS_WAIT;
use crate::cluster::wait;

pub const NAMESPACE: &str = "shop";
/// The pod with the database, and the claims of it and of the web server.
pub const DATABASE: &str = "db-0";
pub const DATABASE_CLAIM: &str = "data-db-0";
pub const FILES_CLAIM: &str = "files";
/// In a Secret: it may be found in no byte of a store.
pub const PLANTED: &str = "planted-secret-9f41c7";

const CRD: &str = "coupons.shop.example.com";
const LIMIT: Duration = Duration::from_secs(120);
/// Row by row, 50 in a second, from one connection; again from the start when that one is lost. Without DNS,
/// the Service is found by the variables that kubelet sets.
const WRITE: &str = r#"while :; do
    echo 'insert into ticks default values \watch 0.02' |
        psql -h "$DATABASE_SERVICE_HOST" -U postgres -d postgres -q > /dev/null 2>&1
    sleep 1
done"#;

/// Makes the shop in a cluster, its database empty, and waits until all of it is ready.
pub async fn open(client: &Client) -> Result<()> {
    wait::apply(client, NAMESPACE, [crd()]).await?;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait::until(crds, CRD, "the CRD to be served", LIMIT, is_crd_established()).await?;
    let objects = [access(), settings(), database(), front(), background()];
    wait::apply(client, NAMESPACE, objects.into_iter().flatten()).await?;
    ready(client, NAMESPACE).await
}

/// Waits until the workloads of a shop are ready.
pub async fn ready(client: &Client, namespace: &str) -> Result<()> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let is_up =
        |set: Option<&StatefulSet>| set.and_then(|set| set.status.as_ref()?.ready_replicas) == Some(1);
    wait::until(sets, "db", "the database to be ready", LIMIT, is_up).await?;
    for name in ["web", "writer"] {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let is_up = |found: Option<&Deployment>| {
            found.and_then(|found| found.status.as_ref()?.ready_replicas) == Some(1)
        };
        wait::until(deployments, name, &format!("{name} to be ready"), LIMIT, is_up).await?;
    }
    Ok(())
}

fn crd() -> Value {
    let schema = json!({ "type": "object", "properties": { "spec": {
        "type": "object", "properties": { "percent": { "type": "integer" } },
    } } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": CRD },
        "spec": {
            "group": "shop.example.com", "scope": "Namespaced",
            "names": { "kind": "Coupon", "plural": "coupons", "singular": "coupon" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// The namespace, and who may do what in it.
fn access() -> Vec<Value> {
    let subjects = json!([{ "kind": "ServiceAccount", "name": "web", "namespace": NAMESPACE }]);
    let rules = |resource| json!([{ "apiGroups": [""], "resources": [resource], "verbs": ["get", "list"] }]);
    let binding = |name: &str, kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
            "subjects": subjects,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        })
    };
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": NAMESPACE, "labels": { "team": "checkout" } } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web" } }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "reads-settings" }, "rules": rules("configmaps") }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": "shop-sees-services" }, "rules": rules("services") }),
        binding("web-reads-settings", "Role", "reads-settings"),
        binding("web-sees-services", "ClusterRole", "shop-sees-services"),
    ]
}

fn settings() -> Vec<Value> {
    vec![
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "pages" },
            "data": { "index.html": "open\n" } }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "database-scripts" },
            "data": {
                "start.sh": include_str!("shop/start.sh"),
                "freeze.sh": include_str!("shop/freeze.sh"),
                "thaw.sh": include_str!("shop/thaw.sh"),
            } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "payment" },
            "stringData": { "token": PLANTED } }),
        json!({ "apiVersion": "shop.example.com/v1", "kind": "Coupon", "metadata": { "name": "autumn" },
            "spec": { "percent": 15 } }),
    ]
}

fn database() -> Vec<Value> {
    let service = |name: &str, ip: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "clusterIP": ip, "selector": { "app": "db" }, "ports": [{ "port": 5432 }] },
        })
    };
    let hook = |script: &str| format!(r#"["/bin/bash", "/scripts/{script}"]"#);
    let asks = json!({ "command": [format!("{POSTGRES_BIN}/pg_isready"), "-h", "/tmp"] });
    let pod = json!({
        "metadata": { "labels": { "app": "db" }, "annotations": {
            "pre.hook.backup.kist.dev/container": "postgres",
            "pre.hook.backup.kist.dev/command": hook("freeze.sh"),
            "pre.hook.backup.kist.dev/timeout": "60s",
            "post.hook.backup.kist.dev/container": "postgres",
            "post.hook.backup.kist.dev/command": hook("thaw.sh"),
        } },
        "spec": {
            "securityContext": { "runAsUser": POSTGRES_UID, "fsGroup": POSTGRES_UID },
            "terminationGracePeriodSeconds": 20,
            "containers": [{
                "name": "postgres", "image": POSTGRES_IMAGE, "imagePullPolicy": "Never",
                "command": ["/bin/bash", "/scripts/start.sh"],
                "volumeMounts": [
                    { "name": "data", "mountPath": "/data" },
                    { "name": "scripts", "mountPath": "/scripts" },
                ],
                "readinessProbe": { "exec": asks, "periodSeconds": 1 },
                // Frozen is not dead: the timer of the freeze is faster than this.
                "livenessProbe": {
                    "exec": asks, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 30,
                },
            }],
            "volumes": [{ "name": "scripts", "configMap": { "name": "database-scripts" } }],
        },
    });
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": CLASS_WAIT,
            "resources": { "requests": { "storage": "2Gi" } },
        },
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
        "spec": {
            "serviceName": "db", "replicas": 1, "selector": { "matchLabels": { "app": "db" } },
            "template": pod, "volumeClaimTemplates": [claim],
        },
    });
    vec![service("db", json!("None")), service("database", Value::Null), set]
}

/// What customers see: a web server with its Service, its files, and its autoscaler.
fn front() -> Vec<Value> {
    let pod = json!({
        "serviceAccountName": "web",
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "web", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
            "command": ["httpd", "-f", "-p", "8080", "-h", "/www"],
            "env": [{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "payment", "key": "token" } } }],
            "readinessProbe": { "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 },
            "volumeMounts": [
                { "name": "pages", "mountPath": "/www" },
                { "name": "files", "mountPath": "/files", "readOnly": true },
            ],
        }],
        "volumes": [
            { "name": "pages", "configMap": { "name": "pages" } },
            { "name": "files", "persistentVolumeClaim": { "claimName": FILES_CLAIM } },
        ],
    });
    let ports = json!([{ "port": 80, "targetPort": 8080 }]);
    vec![
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": FILES_CLAIM },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": ports } }),
        deployment("web", &pod),
        json!({ "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "web" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
                "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{ "type": "Resource", "resource": {
                    "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 },
                } }],
            } }),
    ]
}

/// What goes on by itself: the writer, and a job at night.
fn background() -> Vec<Value> {
    let writer = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "writer", "image": POSTGRES_IMAGE, "imagePullPolicy": "Never",
            "command": ["/bin/bash", "-c", WRITE],
        }],
    });
    let night = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "report", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never", "command": ["true"],
        }],
    });
    vec![
        deployment("writer", &writer),
        json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "report" },
            "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": { "spec": night } } } } }),
    ]
}

fn deployment(name: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": pod },
        },
    })
}
