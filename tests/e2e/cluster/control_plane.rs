//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their flags, and the
//! order in which they start. Each waits for the one before: etcd says when it is ready,
//! the API server has to answer `/readyz`.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::error::{Error, Result};
use crate::cluster::network;
use crate::cluster::pki::Pki;
use crate::cluster::process::{Daemon, Network, Process};
use crate::cluster::slot::Slot;
use crate::cluster::tools;

/// On two busy cores the API server needs some 5 s; a loaded CI machine may need far more.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long after a refused `/readyz` the next one is sent.
const READYZ_RETRY: Duration = Duration::from_millis(50);

/// Starts etcd.
pub async fn etcd(slot: &Slot) -> Result<Process> {
    let program = tools::system("etcd").ok_or_else(|| Error::Missing(vec!["etcd".into()]))?;
    let args = [
        format!("--data-dir={}", slot.dir().join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--unsafe-no-fsync".into(), // a cluster that does not outlive its test
    ];
    let etcd = start(slot, "etcd", program, args.into())?;
    etcd.ready(START_LIMIT).await?;
    Ok(etcd)
}

/// Starts the API server; `extra` flags come last, so that they win.
pub async fn apiserver(slot: &Slot, pki: &Pki, extra: &[String]) -> Result<Process> {
    let mut args = vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={}", slot.node_ip()),
        "--secure-port=6443".into(),
        format!("--tls-cert-file={}", pki.path("apiserver.crt")),
        format!("--tls-private-key-file={}", pki.path("apiserver.key")),
        format!("--client-ca-file={}", pki.path("ca.crt")),
        format!("--token-auth-file={}", pki.path("tokens.csv")),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        format!("--service-account-key-file={}", pki.path("sa.pub")),
        format!("--service-account-signing-key-file={}", pki.path("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={}", network::service_range(slot.index)),
        format!("--kubelet-client-certificate={}", pki.path("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki.path("kubelet-client.key")),
        // Otherwise exec and logs look for the node's name in DNS.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--allow-privileged=true".into(),
    ];
    args.extend_from_slice(extra);
    start(slot, "kube-apiserver", tools::kubernetes("kube-apiserver"), args)
}

/// Waits until the API server answers `/readyz`.
pub async fn readyz(apiserver: &Process, client: &kube::Client) -> Result<()> {
    let answered = async {
        loop {
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.expect("the request is a constant");
            if client.request_text(request).await.is_ok_and(|text| text == "ok") {
                return Ok(());
            }
            // There is nothing to watch before it answers.
            tokio::time::sleep(READYZ_RETRY).await;
        }
    };
    apiserver.during("the API server to answer /readyz", START_LIMIT, answered).await
}

/// Starts the controller manager.
pub fn controller_manager(slot: &Slot, pki: &Pki) -> Result<Process> {
    let args = vec![
        format!("--kubeconfig={}", pki.kubeconfig("controller-manager").display()),
        format!("--service-account-private-key-file={}", pki.path("sa.key")),
        format!("--root-ca-file={}", pki.path("ca.crt")),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        format!("--cluster-signing-cert-file={}", pki.path("ca.crt")),
        format!("--cluster-signing-key-file={}", pki.path("ca.key")),
    ];
    let name = "kube-controller-manager";
    start(slot, name, tools::kubernetes(name), args)
}

/// Starts the scheduler.
pub fn scheduler(slot: &Slot, pki: &Pki) -> Result<Process> {
    let args = vec![
        format!("--kubeconfig={}", pki.kubeconfig("scheduler").display()),
        "--leader-elect=false".into(),
    ];
    start(slot, "kube-scheduler", tools::kubernetes("kube-scheduler"), args)
}

fn start(slot: &Slot, name: &str, program: PathBuf, args: Vec<String>) -> Result<Process> {
    let daemon = Daemon { name, program, args, env: Vec::new(), network: Network::Node };
    Process::start(slot, daemon)
}
