//! Volumes that are provisioned when they are claimed: three StorageClasses and the loop
//! that serves them, as a real provisioner does.
//!
//! `lab-wait` (the default one) makes the volume on the node that the scheduler chose for
//! the first consumer; `lab-now` makes it at once. A volume is a folder of the slot, mode
//! 0777 as the usual local provisioners make it (0755 in `lab-closed`), in a PersistentVolume of type `local`
//! (which, unlike `hostPath`, respects `fsGroup`). Its size is not enforced. When its claim
//! is gone, the folder is deleted if the reclaim policy says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::cluster::error::{Error, Result};

/// Volumes are made when a pod that uses them is scheduled.
pub const CLASS_WAIT: &str = "lab-wait";
/// Volumes are made when they are claimed.
pub const CLASS_NOW: &str = "lab-now";
/// As [`CLASS_WAIT`], and the volume's folder is closed to all but root, as block storage makes it.
pub const CLASS_CLOSED: &str = "lab-closed";
/// The name under which the loop serves all classes.
pub const PROVISIONER: &str = "kist.test/local";

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps a PersistentVolume that is deleted before its claim until its folder is gone.
const FINALIZER: &str = "kist.test/local-folder";

/// Makes the StorageClasses.
pub async fn make_classes(client: &Client) -> Result<()> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let (waits, now) = ("WaitForFirstConsumer", "Immediate");
    for (name, mode) in [(CLASS_WAIT, waits), (CLASS_NOW, now), (CLASS_CLOSED, waits)] {
        let default = if name == CLASS_WAIT { "true" } else { "false" };
        let class = object(json!({
            "metadata": { "name": name, "annotations": {
                "storageclass.kubernetes.io/is-default-class": default,
            } },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
        }));
        let made = classes.create(&PostParams::default(), &class).await;
        made.map_err(Error::kube(format!("make StorageClass {name}")))?;
    }
    Ok(())
}

/// Makes and deletes volumes until its task is aborted. What fails is said on stderr and
/// tried again at the object's next change.
pub async fn serve(client: Client, node_name: String, folder: PathBuf) {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let config = watcher::Config::default;
    let claims = watcher(claims, config()).default_backoff().applied_objects();
    let claims = claims.map_ok(|claim| Change::Claim(Box::new(claim))).boxed();
    let volumes = watcher(volumes, config()).default_backoff().applied_objects();
    let volumes = volumes.map_ok(|volume| Change::Volume(Box::new(volume))).boxed();
    let mut changes = futures::stream::select(claims, volumes);
    while let Some(change) = changes.next().await {
        let outcome = match change {
            Ok(Change::Claim(claim)) => provision(&client, &node_name, &folder, &claim).await,
            Ok(Change::Volume(volume)) => reclaim(&client, &volume).await,
            Err(_) => Ok(()), // the watcher connects again, with growing pauses
        };
        if let Err(error) = outcome {
            eprintln!("provisioner on {node_name}: {error}");
        }
    }
}

enum Change {
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
}

async fn provision(
    client: &Client,
    node_name: &str,
    folder: &Path,
    claim: &PersistentVolumeClaim,
) -> Result<()> {
    let Some(spec) = &claim.spec else {
        return Ok(());
    };
    let Some(class) = wanted_class(claim, node_name) else {
        return Ok(());
    };
    let classes: Api<StorageClass> = Api::all(client.clone());
    let class = classes.get_opt(class).await;
    let class = class.map_err(Error::kube("read a StorageClass"))?;
    let Some(class) = class.filter(|class| class.provisioner == PROVISIONER) else {
        return Ok(());
    };
    let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    if waits && !claim.annotations().contains_key(SELECTED_NODE) {
        return Ok(());
    }
    let uid = claim.uid().unwrap_or_default();
    let name = format!("pvc-{uid}");
    let path = folder.join(&name);
    fs::create_dir_all(&path).map_err(Error::io("make the volume", &path))?;
    let mode = fs::Permissions::from_mode(if class.name_any() == CLASS_CLOSED { 0o755 } else { 0o777 });
    fs::set_permissions(&path, mode).map_err(Error::io("open the volume", &path))?;
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let size = requests.and_then(|requests| requests.get("storage"));
    let volume: PersistentVolume = object(json!({
        "metadata": {
            "name": name,
            "annotations": { PROVISIONED_BY: PROVISIONER },
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": { "storage": size },
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": uid,
                "namespace": claim.namespace(), "name": claim.name_any(),
            },
            "local": { "path": path },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": [node_name],
            }] }] } },
            "persistentVolumeReclaimPolicy": class.reclaim_policy,
            "storageClassName": class.name_any(),
            "volumeMode": "Filesystem",
        },
    }));
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match volumes.create(&PostParams::default(), &volume).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        outcome => outcome.map(drop).map_err(Error::kube(format!("make volume {name}"))),
    }
}

/// The class of a claim that waits for a volume from this node's provisioner.
fn wanted_class<'a>(claim: &'a PersistentVolumeClaim, node_name: &str) -> Option<&'a str> {
    let spec = claim.spec.as_ref()?;
    let bound = spec.volume_name.as_ref().is_some_and(|name| !name.is_empty());
    let block = spec.volume_mode.as_deref() == Some("Block");
    let elsewhere = claim.annotations().get(SELECTED_NODE).is_some_and(|node| node != node_name);
    if bound || block || elsewhere || claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    spec.storage_class_name.as_deref()
}

async fn reclaim(client: &Client, volume: &PersistentVolume) -> Result<()> {
    let spec = volume.spec.as_ref();
    let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER);
    let deleted = volume.metadata.deletion_timestamp.is_some();
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let released = phase == Some("Released");
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let deletes = policy == Some("Delete");
    if !ours {
        return Ok(());
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let name = volume.name_any();
    if deleted && volume.finalizers().iter().all(|finalizer| finalizer == FINALIZER) {
        let path = spec.and_then(|spec| spec.local.as_ref()).map(|local| local.path.clone());
        if let Some(path) = path.filter(|_| deletes) {
            remove_folder(path.into()).await?;
        }
        let patch = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
        let freed = volumes.patch(&name, &kube::api::PatchParams::default(), &patch).await;
        return ignore_missing(freed.map(drop), format!("free volume {name}"));
    }
    if !deleted && released && deletes {
        let gone = volumes.delete(&name, &DeleteParams::default()).await;
        return ignore_missing(gone.map(drop), format!("delete volume {name}"));
    }
    Ok(())
}

fn ignore_missing(outcome: kube::Result<()>, what: String) -> Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        outcome => outcome.map_err(Error::kube(what)),
    }
}

async fn remove_folder(path: PathBuf) -> Result<()> {
    super::blocking(move || match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove the volume", &path)(error))
        }
        _ => Ok(()),
    })
    .await
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("the object is written out in this file")
}
