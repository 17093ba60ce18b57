//! What tests do with a cluster: apply objects, wait for conditions by watching, run a
//! command in a pod.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource, ResourceExt, discovery};
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

use crate::cluster::error::{Error, Result};

/// Waits until an object fulfils a condition, and returns it as it is then.
pub async fn until<K>(
    api: Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    condition: impl Condition<K>,
) -> Result<Option<K>>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    match tokio::time::timeout(limit, await_condition(api, name, condition)).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(Error::Other(format!("watching for {what}: {error}"))),
        Err(_) => Err(Error::Timeout { what: what.to_owned(), limit }),
    }
}

/// Applies objects (server-side) in their order. Those without a namespace of their own
/// that need one get `namespace`.
pub async fn apply(
    client: &Client,
    namespace: &str,
    objects: impl IntoIterator<Item = serde_json::Value>,
) -> Result<()> {
    for value in objects {
        let object: DynamicObject =
            serde_json::from_value(value).map_err(|error| Error::Other(format!("not an object: {error}")))?;
        let what = format!("apply {}", object.name_any());
        let types = object.types.clone().unwrap_or_default();
        let gvk =
            GroupVersionKind::try_from(&types).map_err(|error| Error::Other(format!("{what}: {error}")))?;
        let pinned = discovery::pinned_kind(client, &gvk).await;
        let (resource, capabilities) = pinned.map_err(Error::kube(what.clone()))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            discovery::Scope::Cluster => Api::all_with(client.clone(), &resource),
            discovery::Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            }
        };
        let params = PatchParams::apply("kist-e2e").force();
        api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.map_err(Error::kube(what))?;
    }
    Ok(())
}

/// What a command in a pod did.
#[derive(Debug)]
pub struct Executed {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command in a pod's first container, within the limit.
pub async fn exec(
    client: &Client,
    namespace: &str,
    pod: &str,
    command: &[&str],
    limit: Duration,
) -> Result<Executed> {
    let what = format!("run {command:?} in {pod}");
    let run = async {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let params = AttachParams::default().stdin(false).stdout(true).stderr(true);
        let process = pods.exec(pod, command.to_vec(), &params).await;
        let mut process = process.map_err(Error::kube(what.clone()))?;
        let status = process.take_status();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let (mut out, mut err) = (process.stdout(), process.stderr());
        let (first, second) = futures::join!(
            async {
                match &mut out {
                    Some(stream) => stream.read_to_string(&mut stdout).await,
                    None => Ok(0),
                }
            },
            async {
                match &mut err {
                    Some(stream) => stream.read_to_string(&mut stderr).await,
                    None => Ok(0),
                }
            }
        );
        first.and(second).map_err(Error::io("read the output of", pod.as_ref()))?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let success = status.is_some_and(|status| status.status.as_deref() == Some("Success"));
        Ok(Executed { success, stdout, stderr })
    };
    match tokio::time::timeout(limit, run).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Timeout { what, limit }),
    }
}
