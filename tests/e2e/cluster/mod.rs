//! Real one-node clusters on this machine, for tests, the demo and for use by hand.
//!
//! A cluster is etcd, kube-apiserver, controller manager, scheduler, containerd, kubelet
//! and kube-proxy in namespaces of their own (`slot`, `anchor`), with a provisioner for
//! volumes in this process. Several live side by side, of one run or of many.
//!
//! Invariant: a cluster lives as long as the value that stands for it. It is taken down by
//! `down`, by drop (so after a panic or a failed start), by SIGINT, SIGTERM and SIGHUP. If
//! its owner is killed, the kernel ends its processes and the next run removes its files.

mod anchor;
pub mod cgroup;
mod control_plane;
pub mod error;
pub mod image;
pub mod network;
mod node;
pub mod objectstore;
mod oci;
mod pki;
pub mod postgres;
pub mod process;
mod signals;
pub mod slot;
pub mod storage;
mod tar;
pub mod tools;
pub mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::cluster::error::{Error, Result};
use crate::cluster::pki::Pki;
use crate::cluster::process::Process;
use crate::cluster::slot::{Hold, Slot};

/// A node is ready some 3 s after kubelet's start; a loaded CI machine may need far more.
const NODE_LIMIT: Duration = Duration::from_secs(120);

/// What to bring up.
#[derive(Clone, Default)]
pub struct Spec {
    /// The cluster's name; its node is called NAME-node.
    pub name: String,
    /// Image archives to load (see `image`, `postgres`).
    pub images: Vec<PathBuf>,
    /// More flags for the API server.
    pub apiserver_flags: Vec<String>,
}

impl Spec {
    pub fn new(name: &str) -> Spec {
        Spec { name: name.to_owned(), ..Spec::default() }
    }

    pub fn image(mut self, archive: PathBuf) -> Spec {
        self.images.push(archive);
        self
    }
}

/// A running cluster. Dropping it takes it down.
pub struct Cluster {
    name: String,
    client: Client,
    kubeconfig: PathBuf,
    processes: Vec<Process>,
    provisioner: tokio::task::JoinHandle<()>,
    slot: Hold,
}

impl Cluster {
    /// Brings a cluster up: its node is ready, its images are loaded, pods can be made in
    /// the namespace `default`, claims are served. A failed start takes down what it made.
    pub async fn start(spec: Spec) -> Result<Cluster> {
        tools::require_cluster()?;
        signals::handle();
        let node_name = format!("{}-node", spec.name);
        let (name, node) = (spec.name.clone(), node_name.clone());
        let (slot, pki) = blocking(move || {
            let slot = Slot::take(&name)?;
            slot.open()?;
            let pki = Pki::make(&slot, &node)?;
            Ok((slot, pki))
        })
        .await?;
        let volumes = slot.dir().join("volumes");
        std::fs::create_dir(&volumes).map_err(Error::io("make the folder", &volumes))?;
        // The node's side does not need the API server to get ready.
        let (plane, containerd) = futures::try_join!(
            control_plane(&slot, &pki, &spec.apiserver_flags),
            containerd(&slot, &spec.images),
        )?;
        let (mut processes, client) = plane;
        processes.push(containerd);
        processes.push(node::kubelet(&slot, &pki, &node_name)?);
        processes.push(node::kube_proxy(&slot, &pki, &node_name)?);
        storage::make_classes(&client).await?;
        let served = storage::serve(client.clone(), node_name.clone(), volumes);
        let cluster = Cluster {
            name: spec.name,
            kubeconfig: pki.kubeconfig("admin"),
            provisioner: tokio::spawn(served),
            client,
            processes,
            slot,
        };
        cluster.while_alive(cluster.ready(&node_name)).await?;
        Ok(cluster)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn node_name(&self) -> String {
        format!("{}-node", self.name)
    }

    /// A client with all rights. It belongs to the runtime that the cluster was started on.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The path of a kubeconfig with all rights, everything embedded.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn node_ip(&self) -> std::net::Ipv4Addr {
        self.slot.node_ip()
    }

    /// Which slot it lives in: all names and addresses follow from that.
    pub fn slot(&self) -> u8 {
        self.slot.index
    }

    /// The folder with the cluster's logs, volumes and configuration.
    pub fn dir(&self) -> PathBuf {
        self.slot.dir()
    }

    /// The daemons by name, for tests that hurt one of them.
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// Loads an image archive into the node.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        node::load_image(&self.slot, archive).await
    }

    /// Waits for work that needs the cluster: fails as soon as one of its daemons ends.
    pub async fn while_alive<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let deaths = self.processes.iter().map(|process| Box::pin(process.death()));
        tokio::select! {
            outcome = work => outcome,
            (error, _, _) = futures::future::select_all(deaths) => Err(error),
        }
    }

    /// Takes the cluster down and says whether all went.
    pub async fn down(self) -> Result<()> {
        let slot = self.slot.share();
        self.provisioner.abort();
        blocking(move || slot.take_down()).await
    }

    async fn ready(&self, node_name: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client());
        wait::until(nodes, node_name, "the node to be ready", NODE_LIMIT, node_is_ready).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        let what = "the default service account";
        wait::until(accounts, "default", what, NODE_LIMIT, |found: Option<&_>| found.is_some())
            .await
            .map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.provisioner.abort();
        if std::thread::panicking() {
            self.slot.keep_logs();
        }
    }
}

async fn control_plane(slot: &Slot, pki: &Pki, flags: &[String]) -> Result<(Vec<Process>, Client)> {
    let etcd = control_plane::etcd(slot).await?;
    let apiserver = control_plane::apiserver(slot, pki, flags).await?;
    let client = client(&pki.kubeconfig("admin")).await?;
    control_plane::readyz(&apiserver, &client).await?;
    let manager = control_plane::controller_manager(slot, pki)?;
    let scheduler = control_plane::scheduler(slot, pki)?;
    Ok((vec![etcd, apiserver, manager, scheduler], client))
}

async fn containerd(slot: &Slot, images: &[PathBuf]) -> Result<Process> {
    let containerd = node::containerd(slot).await?;
    for archive in images {
        node::load_image(slot, archive).await?;
    }
    Ok(containerd)
}

/// A client from a kubeconfig.
async fn client(kubeconfig: &Path) -> Result<Client> {
    let broken = |error: String| Error::Other(format!("the cluster's kubeconfig: {error}"));
    let config = Kubeconfig::read_from(kubeconfig).map_err(|error| broken(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| broken(error.to_string()))?;
    Client::try_from(config).map_err(Error::kube("make a client"))
}

/// Ready, and free of the taint that keeps pods away until the controllers have seen it.
fn node_is_ready(node: Option<&Node>) -> bool {
    let Some(node) = node else { return false };
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|conditions| {
        conditions.iter().any(|seen| seen.type_ == "Ready" && seen.status == "True")
    });
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready && taints.is_none_or(Vec::is_empty)
}

/// Runs work that blocks on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Other(format!("a blocking step of the harness: {error}")))?
}
