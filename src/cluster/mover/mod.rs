//! Movers: pods in a claim's namespace that reach its volume.
//!
//! A mover's main process only waits; the work is started in it by exec, so that nothing secret is
//! written into the namespace. Invariants: a mover that is dropped is deleted in the background, and who
//! gave its [`Removals`] can wait for that; only pods of the own run are ever deleted here.

mod pod;
mod removals;
mod remove;
mod start;
mod state;

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::time::{Sleep, sleep};

use crate::cluster::exec::{Process, exec};
use crate::cluster::identity::Identity;
use crate::cluster::mover::state::State;
use crate::cluster::watch::{next, watch};
use crate::cluster::{Cluster, Error, Result};
use crate::pace::Limits;

pub use removals::Removals;
pub(super) use remove::remove;
pub use start::start;

/// Movers that a run may have at once in a namespace: RBAC names every one of them.
pub const MOVERS: u32 = 4;
const CONTAINER: &str = "mover";
const WAIT: [&str; 3] = ["/kist", "mover", "wait"];
const RUN: [&str; 3] = ["/kist", "mover", "run"];
/// A node that is silent for this long after the cluster has noticed it is given up. It may come back
/// before, and then the copy goes on.
const NODE_SILENCE: Duration = Duration::from_secs(60);

/// The names of a run's movers; `slot` is that of its lease.
pub fn names(slot: u32) -> [String; MOVERS as usize] {
    std::array::from_fn(|k| format!("kist-mover-{slot}-{}", k + 1))
}

/// The volume for what is too long for a pod's memory, on the node's disk; goes with the pod.
pub const SCRATCH: &str = "scratch";
/// Where it is mounted: the system's temporary folder.
pub const SCRATCH_FOLDER: &str = "/tmp";

/// Where a mover finds its volume: that of the claim `Spec::mounts[k]`.
pub fn volume_path(k: usize) -> String {
    format!("/volumes/{k}")
}

/// What a mover is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    pub namespace: String,
    /// One of [`names`].
    pub name: String,
    /// A valid value of a label.
    pub run: String,
    pub image: String,
    pub pull_secrets: Vec<String>,
    pub mounts: Vec<Mount>,
    pub purpose: Purpose,
    pub place: Place,
    /// Of the volumes' consumer.
    pub identity: Identity,
    /// The consumer's `seLinuxOptions`, or null: with other labels its files are out of reach.
    pub selinux: Value,
    pub resources: Resources,
    /// Where the removal of the mover is noted if it is dropped; one for the whole run.
    pub removals: Removals,
}

#[derive(Clone, Debug)]
pub struct Mount {
    pub claim: String,
    /// Always so if the purpose is to read.
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
}

/// Where a mover may run.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this node (its label `kubernetes.io/hostname`), with the consumer's tolerations; cordoned or not.
    Node { hostname_label: String, tolerations: Value },
    /// Where a pod with these fields could run.
    Like { node_selector: Value, affinity: Value, tolerations: Value, spread: Value },
    /// Where the volumes can be reached.
    Anywhere,
}

#[derive(Clone, Debug)]
pub struct Resources {
    pub cpu_request: String,
    pub memory_request: String,
    pub memory_limit: String,
    /// None: as much as the node has to spare.
    pub cpu_limit: Option<String>,
    pub reading: Reading,
}

/// CPU threads of a mover that reads, unless somebody has said otherwise.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// How much of its node a mover takes that reads beside what is in use. One that writes takes what there is: somebody
/// waits for it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// CPU threads.
    pub threads: NonZeroUsize,
    /// Whether it gives way to the other processes of the node.
    pub gives_way: bool,
    /// Of this mover alone.
    pub limits: Limits,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "100m".into(),
            memory_request: "256Mi".into(),
            memory_limit: "512Mi".into(),
            cpu_limit: None,
            reading: Reading { threads: THREADS, gives_way: true, limits: Limits::default() },
        }
    }
}

/// As whom a mover runs: the first that the namespace admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Root, with the few capabilities that the purpose takes.
    Root,
    /// The consumer's user and groups, without capabilities.
    Consumer,
}

/// A mover that runs.
pub struct Mover {
    owned: Owned,
    uid: String,
    pub node: Option<String>,
    pub rung: Rung,
    /// Why it is not root, and what that means; None if it is.
    pub why: Option<String>,
}

impl Mover {
    pub fn name(&self) -> &str {
        &self.owned.name
    }

    /// Starts the work: task in by stdin, report out by stdout.
    pub async fn run(&self) -> Result<Process> {
        let command = RUN.map(str::to_owned);
        exec(&self.owned.cluster, &self.owned.namespace, &self.owned.name, CONTAINER, &command).await
    }

    /// Waits until the pod has ended, is being deleted, or its node is gone; the error says why.
    pub fn gone(&self) -> impl Future<Output = Error> + Send + use<> {
        let label = self.owned.label();
        let pods = watch(self.owned.pods(), &self.owned.name, format!("the pod {label}"));
        let uid = self.uid.clone();
        async move {
            match end(pods, &uid).await {
                Ok(why) => Error::Mover { pod: label, what: "is gone", why },
                Err(error) => error,
            }
        }
    }

    /// Deletes the pod and waits until it is gone.
    pub async fn delete(self) -> Result<()> {
        self.owned.delete().await
    }
}

async fn end(mut pods: BoxStream<'static, Result<Option<Pod>>>, uid: &str) -> Result<String> {
    let (mut was_ready, mut silence, mut node) = (false, None, None);
    loop {
        let pod = tokio::select! {
            pod = next(&mut pods) => pod?,
            () = over(&mut silence) => return Ok(state::silent_node(node.as_deref())),
        };
        let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)) else {
            return Ok("it was deleted".into());
        };
        if let State::Ended(why) = state::state(&pod) {
            return Ok(why);
        }
        // Without a probe only its node's silence makes a running pod not ready.
        let is_ready = state::is_ready(&pod);
        match was_ready && !is_ready {
            true => _ = silence.get_or_insert_with(|| Box::pin(sleep(NODE_SILENCE))),
            false => silence = None,
        }
        was_ready |= is_ready;
        node = pod.spec.and_then(|spec| spec.node_name);
    }
}

type Timer = Option<Pin<Box<Sleep>>>;

/// Never, if there is no timer.
async fn over(timer: &mut Timer) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

/// A pod of ours, which may exist or not. Deletes it when dropped.
struct Owned {
    cluster: Cluster,
    namespace: String,
    name: String,
    run: String,
    removals: Removals,
    is_armed: bool,
}

impl Owned {
    fn new(cluster: &Cluster, spec: &Spec) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            run: spec.run.clone(),
            removals: spec.removals.clone(),
            is_armed: true,
        }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    async fn delete(mut self) -> Result<()> {
        let outcome = remove(&self.cluster, &self.namespace, &self.name, &self.run).await;
        // A second attempt right after a failed one would fail too; the next run sweeps. But if this very
        // future is dropped before its end, the drop has to do it.
        self.is_armed = false;
        outcome.map(|_| ())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let (cluster, namespace) = (self.cluster.clone(), self.namespace.clone());
        let (name, run) = (self.name.clone(), self.run.clone());
        self.removals.begin(async move {
            if let Err(error) = remove(&cluster, &namespace, &name, &run).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, namespace, name, "a mover that was dropped is left to the next run");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{StreamExt, stream};
    use serde_json::json;

    use super::*;

    fn pods(states: Vec<Value>) -> BoxStream<'static, Result<Option<Pod>>> {
        let pods = states.into_iter().map(|state| match state {
            Value::Null => Ok(None),
            state => Ok(Some(serde_json::from_value(state).unwrap())),
        });
        stream::iter(pods.collect::<Vec<_>>()).chain(stream::pending()).boxed()
    }

    fn ready(is_ready: &str) -> Value {
        json!({"metadata": {"uid": "a"}, "spec": {"containers": [], "nodeName": "n1"}, "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": is_ready}],
            "containerStatuses": [{"name": "mover", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {}}}]}})
    }

    #[tokio::test]
    async fn a_mover_is_gone_when_its_pod_is_deleted_replaced_or_ended() {
        assert_eq!(end(pods(vec![ready("True"), Value::Null]), "a").await.unwrap(), "it was deleted");
        assert_eq!(end(pods(vec![ready("True")]), "b").await.unwrap(), "it was deleted");
        let evicted = json!({"metadata": {"uid": "a"}, "status": {
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory"}});
        let why = end(pods(vec![ready("True"), ready("False"), evicted]), "a").await.unwrap();
        assert_eq!(why, "Evicted: The node was low on resource: memory");
    }

    #[tokio::test]
    async fn a_node_that_is_silent_for_a_moment_ends_nothing() {
        let states = vec![ready("False"), ready("True"), ready("False"), ready("True")];
        let mut gone = pin!(end(pods(states), "a"));
        assert!(futures::poll!(&mut gone).is_pending());
    }

    #[test]
    fn names_are_few_and_fixed() {
        let names = names(2);
        assert_eq!(names, ["kist-mover-2-1", "kist-mover-2-2", "kist-mover-2-3", "kist-mover-2-4"]);
    }
}
