//! Where the programs are that the harness starts, and whether they are all there.
//!
//! Programs of Debian packages are looked up in the usual folders; those built from Go
//! modules lie in the cache, with their version in their name (`tests/tools/install.sh`
//! puts both there). A missing one is an error that names all that are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::error::{Error, Result};

/// The search path of everything that the harness starts.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub const KUBERNETES: &str = "1.34.4";
pub const VERSITYGW: &str = "v1.8.0";
pub const CNI: &str = "/usr/lib/cni";

const KUBERNETES_PARTS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
const SYSTEM_PARTS: [&str; 14] = [
    "etcd",
    "containerd",
    "ctr",
    "runc",
    "iptables",
    "conntrack",
    "busybox",
    "mmdebstrap",
    "openssl",
    "ip",
    "unshare",
    "nsenter",
    "setsid",
    "mount",
];
const CNI_PARTS: [&str; 4] = ["ptp", "host-local", "portmap", "loopback"];

/// The folder of built parts and made images, outside the tree: `KIST_CACHE`, or
/// `kist-lab` in the user's cache.
pub fn cache() -> PathBuf {
    if let Some(path) = std::env::var_os("KIST_CACHE") {
        return path.into();
    }
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    Path::new(&home).join(".cache/kist-lab")
}

/// A Kubernetes program in the cache.
pub fn kubernetes(name: &str) -> PathBuf {
    cache().join("bin").join(format!("{name}-v{KUBERNETES}"))
}

/// The S3 server in the cache.
pub fn versitygw() -> PathBuf {
    cache().join("bin").join(format!("versitygw-{VERSITYGW}"))
}

/// Fails with the whole list if something is missing that a cluster needs.
pub fn require_cluster() -> Result<()> {
    let mut missing = missing_system();
    for name in KUBERNETES_PARTS {
        missing.extend(absent(&kubernetes(name)));
    }
    for name in CNI_PARTS {
        missing.extend(absent(&Path::new(CNI).join(name)));
    }
    found_all(missing)
}

/// Fails with the whole list if something is missing that the S3 server needs.
pub fn require_store() -> Result<()> {
    let mut missing = missing_system();
    missing.extend(absent(&versitygw()));
    found_all(missing)
}

/// The binary `kist` that was built with the command that asks, if it was.
pub fn kist_beside() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    // Examples lie one folder deeper.
    let program = this.parent()?.parent()?.join("kist");
    program.is_file().then_some(program)
}

/// Finds a program of the system.
pub fn system(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Runs a program to its end and returns what it wrote to stdout.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("PATH", PATH).output().map_err(Error::io("start", program.as_ref()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let arguments: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    Err(Error::Command {
        program: format!("{program} {}", arguments.join(" ")),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Some random hex digits, for tokens and keys.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer)
        .map_err(|error| Error::Other(format!("no randomness from the system: {error}")))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn missing_system() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root (namespaces, mounts and cgroups need it)".to_owned());
    }
    let absent = SYSTEM_PARTS.iter().filter(|name| system(name).is_none());
    missing.extend(absent.map(|name| format!("{name} (a Debian package)")));
    missing
}

fn absent(path: &Path) -> Option<String> {
    (!path.is_file()).then(|| path.display().to_string())
}

fn found_all(missing: Vec<String>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Missing(missing))
}
