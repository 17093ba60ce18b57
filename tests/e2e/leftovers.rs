//! What a slot has on this machine, looked for from outside and without the harness's own
//! records: processes, mounts in any namespace, links, cgroups, files, CNI's namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::{cgroup, network, slot};

const RETRY: Duration = Duration::from_millis(20);

/// A process: its id and its start time.
type Process = (u32, String);

/// What is to be gone when a slot is down.
pub struct Inventory {
    slot: u8,
    processes: BTreeSet<Process>,
}

impl Inventory {
    /// Looks at a slot that is up.
    pub fn of(slot: u8) -> Inventory {
        let link = format!("/{}", cgroup::name(slot));
        let anchor = fs::read_to_string(slot::folder(slot).join("anchor")).unwrap_or_default();
        let anchor = anchor.split(' ').next().unwrap_or_default();
        let children = fs::read_to_string(format!("/proc/{anchor}/task/{anchor}/children"));
        let inner = children.unwrap_or_default();
        let inside = fs::read_link(format!("/proc/{}/ns/pid", inner.trim())).ok();
        let processes = processes()
            .into_iter()
            .filter(|(pid, _)| {
                let in_pod = fs::read_to_string(format!("/proc/{pid}/cgroup"))
                    .is_ok_and(|cgroups| cgroups.contains(&link));
                let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
                in_pod || (namespace.is_some() && namespace == inside)
            })
            .collect();
        Inventory { slot, processes }
    }

    /// How many processes run in the slot.
    pub fn process_count(&self) -> usize {
        self.processes.len()
    }

    /// Waits until all processes of the slot have ended.
    pub async fn processes_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let now = processes();
            let left: Vec<_> = self.processes.intersection(&now).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "processes of slot {} live: {left:?}", self.slot);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Waits until the files of the slot are removed, which is the last step of a sweep.
    pub async fn folder_goes(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let folder = slot::folder(self.slot);
        while folder.exists() {
            assert!(Instant::now() < deadline, "{} is not swept", folder.display());
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Fails with a list if anything of the slot is left.
    pub fn assert_gone(&self) {
        let mut left = Vec::new();
        let now = processes();
        for (pid, _) in self.processes.intersection(&now) {
            left.push(format!("process {pid}"));
        }
        let folder = slot::folder(self.slot);
        if folder.exists() {
            left.push(format!("folder {}", folder.display()));
        }
        let link = network::link(self.slot);
        if Path::new("/sys/class/net").join(&link).exists() {
            left.push(format!("link {link}"));
        }
        for folder in cgroup::folders(self.slot).unwrap() {
            if folder.exists() {
                left.push(format!("cgroup {}", folder.display()));
            }
        }
        let mounted = format!("{}/", folder.display());
        for (pid, _) in &now {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            if mounts.contains(&mounted) {
                left.push(format!("mounts in the namespace of process {pid}"));
            }
        }
        assert!(left.is_empty(), "slot {} left behind: {left:?}", self.slot);
    }
}

/// The network namespaces that have a name on the host: CNI's would be among them.
pub fn named_network_namespaces() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return BTreeSet::new();
    };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn processes() -> BTreeSet<Process> {
    let mut processes = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some((_, fields)) = stat.rsplit_once(')')
            // A zombie has ended; that its parent has not asked yet is not the slot's doing.
            && !fields.starts_with(" Z")
        {
            let start = fields.split_whitespace().nth(19).unwrap_or_default();
            processes.insert((pid, start.to_owned()));
        }
    }
    processes
}
