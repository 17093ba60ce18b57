//! The way to a cluster: a kubeconfig and a context, or the service account of the pod we run in.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};

use crate::cluster::request::{answered, request};
use crate::cluster::{Error, Result};

/// Which cluster.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// As in KUBECONFIG: the first that sets something wins. Empty: the service account.
    pub kubeconfigs: Vec<PathBuf>,
    /// Instead of the current one.
    pub context: Option<String>,
}

/// A cluster that answers; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    /// The UID of the namespace `kube-system`: what tells clusters apart.
    pub uid: String,
    /// Such as `v1.34.4`.
    pub version: String,
}

impl Cluster {
    pub async fn connect(access: &Access) -> Result<Self> {
        let config = match access.kubeconfigs.as_slice() {
            [] => Config::incluster().map_err(|_| Error::NoCluster)?,
            files => from_files(files, access.context.clone()).await?,
        };
        let client = Client::try_from(config).map_err(|e| Error::Connect { cause: Box::new(e) })?;
        Self::of(client).await
    }

    /// Asks for what identifies the cluster.
    pub async fn of(client: Client) -> Result<Self> {
        let failed = |e| Error::Connect { cause: Box::new(e) };
        let version = answered(client.apiserver_version()).await.map_err(failed)?.git_version;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let doing = || "read the namespace kube-system".into();
        let system = request(doing, namespaces.get("kube-system")).await?;
        let uid = system.uid().ok_or_else(|| Error::Other("the namespace kube-system has no UID".into()))?;
        Ok(Self { client, uid, version })
    }
}

impl Cluster {
    /// What a node has as `kubernetes.io/hostname`; its name if that can't be told, which is nearly always the same.
    pub async fn hostname_label(&self, node: &str) -> String {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let found = answered(nodes.get_metadata_opt(node)).await.ok().flatten();
        let label = found.and_then(|found| found.labels().get("kubernetes.io/hostname").cloned());
        label.unwrap_or_else(|| node.to_owned())
    }
}

async fn from_files(files: &[PathBuf], context: Option<String>) -> Result<Config> {
    let mut merged = Kubeconfig::default();
    for path in files {
        let wrong = |source| Error::Kubeconfig { path: path.clone(), source: Box::new(source) };
        merged = Kubeconfig::read_from(path).and_then(|next| merged.merge(next)).map_err(wrong)?;
    }
    let options = KubeConfigOptions { context, ..Default::default() };
    Config::from_custom_kubeconfig(merged, &options)
        .await
        .map_err(|source| Error::Kubeconfig { path: files[0].clone(), source: Box::new(source) })
}
