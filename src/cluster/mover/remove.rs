//! Deletes a mover's pod, if it is there and belongs to the run, and waits until it is gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use crate::cluster::request::{found, persist};
use crate::cluster::watch::{next, watch};
use crate::cluster::{Cluster, Error, RUN, Result};

/// For the main process, which only waits, to end. Not 0: then the API would forget the pod while its
/// node may still hold the volume.
const GRACE_SECS: u32 = 2;
/// Deleting and unmounting takes a living node seconds.
const GONE: Duration = Duration::from_secs(90);

/// Whether there was something to delete. A pod of that name that belongs to another run is left alone.
pub(in crate::cluster) async fn remove(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    run: &str,
) -> Result<bool> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let label = format!("{namespace}/{name}");
    let pod = persist(GONE, || format!("read the pod {label}"), || pods.get(name)).await;
    let Some(pod) = found(pod)?.filter(|pod| pod.labels().get(RUN).is_some_and(|of| of == run)) else {
        return Ok(false);
    };
    let uid = pod.uid().unwrap_or_default();
    let params = DeleteParams {
        grace_period_seconds: Some(GRACE_SECS),
        preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..Default::default()
    };
    let deleted = persist(GONE, || format!("delete the pod {label}"), || pods.delete(name, &params)).await;
    match deleted {
        Ok(_) => wait_until_gone(pods, namespace, name, &uid).await?,
        // Gone, or another pod has its name by now.
        Err(error) if matches!(error.status(), Some(404 | 409)) => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

async fn wait_until_gone(pods: Api<Pod>, namespace: &str, name: &str, uid: &str) -> Result<()> {
    let label = format!("{namespace}/{name}");
    let mut states = watch(pods, name, format!("the pod {label}"));
    let mut node = None;
    let gone = async {
        while let Some(pod) = next(&mut states).await?.filter(|pod| pod.uid().as_deref() == Some(uid)) {
            node = pod.spec.and_then(|spec| spec.node_name);
        }
        Ok(())
    };
    let outcome = timeout(GONE, gone).await;
    outcome.unwrap_or_else(|_| {
        Err(Error::Timeout {
            what: format!("the end of the pod {label}"),
            seconds: GONE.as_secs(),
            last: format!("its node {} has not ended it", node.as_deref().unwrap_or("(none)")),
        })
    })
}
