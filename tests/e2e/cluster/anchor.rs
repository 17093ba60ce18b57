//! The anchor: one process that holds the namespaces of a slot (network, mounts,
//! processes, IPC, host name). All daemons and pods of a node live in them, as in kind's
//! containers.
//!
//! Invariant: when the anchor ends, the kernel ends every process in the slot and drops its
//! mounts, its pods' network namespaces and its end of the link. The anchor reads from a
//! pipe whose other end only the owner holds, so it ends when the owner does, even by
//! SIGKILL.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cluster::error::{Error, Result};

/// How long the kernel may take to end all processes of a slot.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Inside, `/run` is fresh (CNI keeps the pods' network namespaces in `/run/netns`), and the
/// folders that kubelet, containerd and CNI have fixed names for are the slot's own.
/// kubelet sets some kernel-wide values if they differ from what it wants: it finds them as
/// it wants them in files that are mounted over the real ones, and leaves the host alone.
const SCRIPT: &str = r#"
set -e
dir=$1 name=$2
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns
for part in kubelet containerd cni; do
    mkdir -p "$dir/$part"
    mount --bind "$dir/$part" "/var/lib/$part"
done
mkdir -p "$dir/varlog"
mount --bind "$dir/varlog" /var/log
pretend() {
    [ -e "/proc/sys/$1" ] || return 0
    echo "$2" > "/run/sysctl.$3"
    mount --bind "/run/sysctl.$3" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1 a
pretend vm/panic_on_oom 0 b
pretend kernel/panic 10 c
pretend kernel/panic_on_oops 1 d
pretend kernel/keys/root_maxkeys 1000000 e
pretend kernel/keys/root_maxbytes 25000000 f
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
hostname "$name"
echo up
exec > /dev/null
read -r _ || true
"#;

/// Starts the anchor and returns when its namespaces are ready.
pub fn start(dir: &Path, name: &str) -> Result<Child> {
    for part in ["kubelet", "containerd", "cni"] {
        // The places to mount on; they stay behind, empty.
        let path = Path::new("/var/lib").join(part);
        fs::create_dir_all(&path).map_err(Error::io("make the folder", &path))?;
    }
    let log = dir.join("log/anchor.log");
    let log_file = fs::File::create(&log).map_err(Error::io("create", &log))?;
    let mut child = Command::new("setsid")
        .args(["unshare", "--net", "--mount", "--propagation", "slave"])
        .args(["--pid", "--fork", "--kill-child", "--ipc", "--uts"])
        .args(["bash", "-c", SCRIPT, "anchor"])
        .arg(dir)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(Error::io("start", "unshare".as_ref()))?;
    let record = dir.join("anchor");
    fs::write(&record, identity(child.id())?).map_err(Error::io("write", &record))?;
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    let read = BufReader::new(stdout).read_line(&mut line);
    if read.is_ok() && line == "up\n" {
        return Ok(child);
    }
    stop(dir, Some(child))?;
    Err(Error::Other(format!(
        "the namespaces did not come up: {}",
        fs::read_to_string(&log).unwrap_or_default()
    )))
}

/// The process id of the anchor's shell, which is process 1 inside.
pub fn inner_pid(dir: &Path) -> Result<u32> {
    let record = dir.join("anchor");
    let text = fs::read_to_string(&record).map_err(Error::io("read", &record))?;
    let outer = text.split(' ').next().and_then(|pid| pid.parse().ok());
    outer.and_then(only_child).ok_or_else(|| Error::Other("the anchor of the namespaces is gone".into()))
}

/// Ends the anchor and with it every process of the slot, and waits until they are gone.
pub fn stop(dir: &Path, child: Option<Child>) -> Result<()> {
    let record = dir.join("anchor");
    let Ok(text) = fs::read_to_string(&record) else {
        return Ok(());
    };
    let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
    if let Some(outer) = pid
        && identity(outer).is_ok_and(|now| now == text)
    {
        // The shell first: unshare waits for it, and it is gone only when all the others are.
        if let Some(inner) = only_child(outer) {
            end(inner)?;
        }
        end(outer)?;
    }
    if let Some(mut child) = child {
        child.wait().map_err(Error::io("wait for", &record))?;
    }
    Ok(())
}

/// A process and its start time: process ids are used again, this pair is not.
fn identity(pid: u32) -> Result<String> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let stat = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let start = fields.split_whitespace().nth(19).unwrap_or("0");
    Ok(format!("{pid} {start}"))
}

/// The child of a process that has one child.
pub fn only_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn end(pid: u32) -> Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(raw) = raw else { return Ok(()) };
    let Ok(handle) = pidfd_open(raw, PidfdFlags::empty()) else {
        return Ok(()); // gone already
    };
    let _ = pidfd_send_signal(&handle, Signal::KILL);
    let limit = Timespec { tv_sec: END_LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let mut fds = [PollFd::new(&handle, PollFlags::IN)];
    match poll(&mut fds, Some(&limit)) {
        Ok(0) => {
            Err(Error::Timeout { what: format!("the processes of anchor {pid} to end"), limit: END_LIMIT })
        }
        _ => Ok(()),
    }
}
