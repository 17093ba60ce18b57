//! containerd, kubelet and kube-proxy: their configuration and flags. They find the usual
//! folders (`/var/lib/kubelet`, `/run/containerd`, `/var/log/pods`), which are the slot's
//! own inside its namespaces.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cluster::error::{Error, Result};
use crate::cluster::image::{PAUSE_IMAGE, pause};
use crate::cluster::pki::Pki;
use crate::cluster::process::{Daemon, Network, Process};
use crate::cluster::slot::Slot;
use crate::cluster::{cgroup, network, process, tools};

const START_LIMIT: Duration = Duration::from_secs(60);
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Starts containerd with the pause image loaded.
pub async fn containerd(slot: &Slot) -> Result<Process> {
    let program = tools::system("containerd");
    let program = program.ok_or_else(|| Error::Missing(vec!["containerd".into()]))?;
    write(slot, "cni/10-lab.conflist", &network::cni_config(slot.index))?;
    let config = write(slot, "containerd.toml", &containerd_config(slot))?;
    let args = vec!["--config".into(), config.display().to_string()];
    let containerd = start(slot, "containerd", program, args)?;
    containerd.ready(START_LIMIT).await?;
    load_image(slot, &pause()?).await?;
    Ok(containerd)
}

/// Puts an image archive into the node's containerd. The path must be one that the slot
/// sees: not below `/run`.
pub async fn load_image(slot: &Slot, archive: &std::path::Path) -> Result<()> {
    let archive = archive.display().to_string();
    let args = ["--address", SOCKET, "--namespace", "k8s.io", "image", "import", &archive];
    process::run_inside(slot, "ctr", &args).await.map(drop)
}

/// Starts kubelet, which registers the node.
pub fn kubelet(slot: &Slot, pki: &Pki, node_name: &str) -> Result<Process> {
    cgroup::make(slot.index)?;
    write(slot, "resolv.conf", "")?;
    let config = write(slot, "kubelet.json", &kubelet_config(slot, pki).to_string())?;
    let args = vec![
        format!("--kubeconfig={}", pki.kubeconfig("node").display()),
        format!("--config={}", config.display()),
        format!("--hostname-override={node_name}"),
        format!("--node-ip={}", slot.node_ip()),
        format!("--node-labels=topology.kubernetes.io/zone=lab-{}", slot.index),
    ];
    start(slot, "kubelet", tools::kubernetes("kubelet"), args)
}

/// Starts kube-proxy.
pub fn kube_proxy(slot: &Slot, pki: &Pki, node_name: &str) -> Result<Process> {
    let args = vec![
        format!("--kubeconfig={}", pki.kubeconfig("proxy").display()),
        "--proxy-mode=iptables".into(),
        format!("--hostname-override={node_name}"),
        format!("--cluster-cidr={}", network::pod_range(slot.index)),
        // The limit on tracked connections is the host's; kube-proxy may not raise it here.
        "--conntrack-max-per-core=0".into(),
    ];
    start(slot, "kube-proxy", tools::kubernetes("kube-proxy"), args)
}

fn containerd_config(slot: &Slot) -> String {
    let cni = slot.dir().join("etc/cni");
    // `opt` would make /opt/containerd on the host; the other snapshotters only complain.
    format!(
        r#"version = 2
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin}"
    conf_dir = "{conf}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        bin = tools::CNI,
        conf = cni.display(),
    )
}

fn kubelet_config(slot: &Slot, pki: &Pki) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki.path("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup::name(slot.index)),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": false,
        "failCgroupV1": false,
        "localStorageCapacityIsolation": false,
        // The disk is the host's: it may be rather full, and images can't be pulled again.
        "evictionHard": {
            "nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi",
        },
        "imageGCHighThresholdPercent": 100,
        "podCIDR": network::pod_range(slot.index),
        "resolvConf": slot.dir().join("etc/resolv.conf"),
        "volumePluginDir": slot.dir().join("etc/volume-plugins"),
    })
}

fn write(slot: &Slot, name: &str, text: &str) -> Result<PathBuf> {
    let path = slot.dir().join("etc").join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    }
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(path)
}

fn start(slot: &Slot, name: &str, program: PathBuf, args: Vec<String>) -> Result<Process> {
    let daemon = Daemon { name, program, args, env: Vec::new(), network: Network::Node };
    Process::start(slot, daemon)
}
