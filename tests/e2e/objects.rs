//! The objects that the tests put into their clusters.

use serde_json::{Value, json};

use crate::cluster::image::BUSYBOX_IMAGE;
use crate::cluster::postgres::{POSTGRES_BIN, POSTGRES_IMAGE, POSTGRES_UID};

/// A claim of a volume.
pub fn claim(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    })
}

/// A Deployment of one busybox pod that has a claim mounted at /data.
pub fn deployment_with_claim(name: &str, claim: &str) -> Value {
    let mut deployment = deployment(
        name,
        json!({
            "name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        }),
    );
    deployment["spec"]["template"]["spec"]["volumes"] = json!([
        { "name": "data", "persistentVolumeClaim": { "claimName": claim } },
    ]);
    deployment
}

/// A web server that says one word, ready when it serves.
pub fn web_server(name: &str, word: &str) -> Value {
    let serve = format!("mkdir /www && echo {word} > /www/index.html && exec httpd -f -p 80 -h /www");
    deployment(
        name,
        json!({
            "name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
            "command": ["sh", "-c", serve],
            "readinessProbe": { "httpGet": { "port": 80, "path": "/" }, "periodSeconds": 1 },
        }),
    )
}

/// The Service in front of a Deployment's port 80.
pub fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name },
        "spec": { "clusterIP": ip, "selector": { "app": name }, "ports": [{ "port": 80 }] },
    })
}

/// A pod that is ready as soon as it can fetch a URL. (wget of Debian 12's busybox-static crashes
/// when it is given a timeout: kubelet has to set it.)
pub fn web_client(name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "containers": [{
            "name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
            "readinessProbe": {
                "exec": { "command": ["wget", "-q", "-O", "-", url] },
                "periodSeconds": 1, "timeoutSeconds": 5,
            },
        }] },
    })
}

/// PostgreSQL on a claim of its own, data checksums on, ready when it accepts connections.
pub fn postgres(name: &str) -> Vec<Value> {
    let start = format!(
        "[ -s /data/db/PG_VERSION ] || {POSTGRES_BIN}/initdb -k -A trust -D /data/db; \
         exec {POSTGRES_BIN}/postgres -D /data/db -k /tmp -h '*'"
    );
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name },
        "spec": { "clusterIP": "None", "selector": { "app": name }, "ports": [{ "port": 5432 }] },
    });
    let mut volume = claim("data", "lab-wait");
    volume["metadata"]["name"] = json!("data");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": name },
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "securityContext": { "runAsUser": POSTGRES_UID, "fsGroup": POSTGRES_UID },
                    "containers": [{
                        "name": "postgres", "image": POSTGRES_IMAGE, "imagePullPolicy": "Never",
                        "command": ["/bin/bash", "-c", start],
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                        "readinessProbe": {
                            "exec": { "command": [format!("{POSTGRES_BIN}/pg_isready"), "-h", "/tmp"] },
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
            "volumeClaimTemplates": [volume],
        },
    });
    vec![service, set]
}

/// A Deployment of one pod with one container.
pub fn deployment(name: &str, container: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
            },
        },
    })
}
