//! A daemon in a slot: started inside the namespaces, its output in a log file, its end
//! noticed at once.
//!
//! Readiness is told by the daemon itself where it can: etcd, kube-apiserver, containerd
//! and kubelet send `READY=1` to the socket in `NOTIFY_SOCKET`, as they do for systemd.
//! Whoever waits for something that a daemon has to do waits for the daemon's end, too.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::watch;

use crate::cluster::anchor;
use crate::cluster::error::{Error, Result};
use crate::cluster::slot::Slot;
use crate::cluster::tools;

/// How many lines of a dead daemon's log an error shows.
const TAIL_LINES: usize = 30;

/// Which network a process sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The slot's own.
    Node,
    /// The host's, so that every slot can reach it on the host's end of a link.
    Host,
}

/// What to start.
pub struct Daemon<'a> {
    pub name: &'a str,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(&'a str, String)>,
    pub network: Network,
}

/// A started daemon.
pub struct Process {
    pub name: String,
    log: PathBuf,
    nsenter_pid: u32,
    ended: watch::Receiver<Option<ExitStatus>>,
    ready: UnixDatagram,
}

impl Process {
    /// Starts a daemon in the slot.
    pub fn start(slot: &Slot, daemon: Daemon<'_>) -> Result<Process> {
        let Daemon { name, program, args, env, network } = daemon;
        let dir = slot.dir();
        let log = dir.join("log").join(format!("{name}.log"));
        let output =
            fs::File::options().create(true).append(true).open(&log).map_err(Error::io("create", &log))?;
        let errors = output.try_clone().map_err(Error::io("open", &log))?;
        let socket = dir.join("run").join(format!("{name}.notify"));
        let _ = fs::remove_file(&socket); // of the same daemon before a restart
        let ready = UnixDatagram::bind(&socket).map_err(Error::io("make the socket", &socket))?;
        let mut command = Command::new("nsenter");
        command.args(namespaces(network)).arg(inner(slot)?).arg("--").arg(program);
        command.args(args).env_clear().env("PATH", tools::PATH).envs(env);
        command.env("NOTIFY_SOCKET", &socket);
        command.process_group(0); // Ctrl-C is for the owner, who takes all down in order
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("start", "nsenter".as_ref()))?;
        let nsenter_pid = child.id();
        let (tell, ended) = watch::channel(None);
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                tell.send_replace(Some(status));
            }
        });
        Ok(Process { name: name.to_owned(), log, nsenter_pid, ended, ready })
    }

    /// Waits until the daemon says that it is ready.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        let said = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.ready.recv(&mut buffer).await;
                let length = length.map_err(Error::io("read the socket of", &self.log))?;
                let mut lines = buffer[..length].split(|byte| *byte == b'\n');
                if lines.any(|line| line == b"READY=1") {
                    return Ok(());
                }
            }
        };
        self.during(&format!("{} to be ready", self.name), limit, said).await
    }

    /// Waits for work that needs this daemon alive: fails as soon as it ends.
    pub async fn during<T>(
        &self,
        what: &str,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let ended = async {
            tokio::select! {
                outcome = work => outcome,
                error = self.death() => Err(error),
            }
        };
        let timeout = || Error::Timeout { what: what.to_owned(), limit };
        tokio::time::timeout(limit, ended).await.unwrap_or_else(|_| Err(timeout()))
    }

    /// Waits until the daemon has ended, and says how, with the end of its log.
    pub async fn death(&self) -> Error {
        let mut ended = self.ended.clone();
        let status = match ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            Err(_) => ExitStatus::default(), // nobody could wait for it
        };
        Error::Died { name: self.name.clone(), status, log: tail(&self.log) }
    }

    /// The process id of the daemon itself, on the host. None if it has ended.
    pub fn pid(&self) -> Option<u32> {
        anchor::only_child(self.nsenter_pid)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// Runs a program inside the slot to its end and returns what it wrote to stdout.
pub async fn run_inside(slot: &Slot, program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.args(namespaces(Network::Node)).arg(inner(slot)?).args(["--", program]).args(args);
    tokio::task::spawn_blocking(move || tools::run(&mut command))
        .await
        .map_err(|error| Error::Other(format!("running a program inside a slot: {error}")))?
}

fn namespaces(network: Network) -> impl Iterator<Item = &'static str> {
    let node = (network == Network::Node).then_some("--net");
    ["--mount", "--pid", "--ipc", "--uts"].into_iter().chain(node)
}

fn inner(slot: &Slot) -> Result<String> {
    Ok(format!("--target={}", anchor::inner_pid(&slot.dir())?))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
