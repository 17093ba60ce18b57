//! Namespaces that enforce the standards for pods: in each a mover does what it is allowed to, and a data folder
//! that only its owner may enter is backed up completely and comes back.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::image::{BUSYBOX_IMAGE, KIST_IMAGE};
use crate::cluster::wait;
use crate::files;
use crate::objects;
use crate::scenarios::{deployment_ready, nothing_is_left, snapshot, volume_folder};
use crate::stage::Stage;

/// Level, namespace, the rung that movers stand on.
const LEVELS: [(&str, &str, &str); 2] =
    [("baseline", "secure-baseline", "root"), ("restricted", "secure-restricted", "consumer")];
const UID: u32 = 1234;
/// Fills the volume once; what comes back is left as it is.
const KEEP: &str = "umask 077
if [ ! -e /data/private ]; then
    mkdir -p /data/new/inner
    dd if=/dev/urandom of=/data/new/inner/blob bs=1M count=4
    echo words > /data/new/words
    mv /data/new /data/private
fi
exec sleep 2147483647";

pub async fn both_levels(stage: Arc<Stage>) {
    let client = stage.first.client();
    let mut folders = Vec::new();
    for (level, namespace, _) in LEVELS {
        let objects = [enforcing(namespace, level), objects::claim("data", "lab-wait"), keeper()];
        wait::apply(&client, namespace, objects).await.unwrap();
        deployment_ready(&client, namespace, "keeper").await;
        let folder = volume_folder(&stage.first, namespace, "data").await.join("private");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&folder).unwrap());
        assert_eq!(mode & 0o7777, 0o700);
        folders.push(folder);
    }
    let repo = stage.s3_repository("security").await;
    let [(_, one, _), (_, two, _)] = LEVELS;
    let backup = format!("backup cluster -n {one} -n {two} --mover-image {KIST_IMAGE}");
    let backup = repo.writer.json(&backup, 0).await;
    let volumes = backup.last("backup")["volumes"].as_array().unwrap().clone();
    for (level, namespace, rung) in LEVELS {
        let volume = volumes.iter().find(|volume| volume["namespace"] == namespace).unwrap();
        assert_eq!(volume["rung"], rung, "{level}: {}", backup.all());
        nothing_is_left(&client, namespace).await;
    }
    let owner = repo.owner.at(stage.second.kubeconfig());
    // Into volumes whose folder is root's alone, as block storage makes them.
    let restore = format!(
        "restore cluster {} --map-storage-class lab-wait=lab-closed --mover-image {KIST_IMAGE}",
        snapshot(&backup)
    );
    // Under `restricted` nobody may touch the volume's own folder, which is the provisioner's: that is remarked, and
    // is no failure.
    let restore = owner.json(&restore, 0).await;
    let client = stage.second.client();
    for ((_, namespace, _), folder) in LEVELS.into_iter().zip(&folders) {
        deployment_ready(&client, namespace, "keeper").await;
        let there = volume_folder(&stage.second, namespace, "data").await.join("private");
        let wrong = files::differences(folder, &there);
        assert!(wrong.is_empty(), "{namespace}: {}\n{}", wrong.join("\n"), restore.all());
        nothing_is_left(&client, namespace).await;
    }
}

fn enforcing(namespace: &str, level: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": level } },
    })
}

/// A pod that any level admits, as a user who is not root, in no group of the volume's.
fn keeper() -> Value {
    let container = json!({
        "name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", KEEP],
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        "readinessProbe": { "exec": { "command": ["cat", "/data/private/words"] }, "periodSeconds": 1 },
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    });
    let mut deployment = objects::deployment("keeper", container);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": UID, "runAsGroup": UID,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    pod["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    deployment
}
