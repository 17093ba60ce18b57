//! One place on this machine for a cluster or a store: an index that gives it its
//! addresses, names and folder, a lock held by the process that owns it, and the anchor
//! that holds its namespaces.
//!
//! Invariant: whoever holds the lock of slot N may remove everything of slot N, and nobody
//! else may. The kernel drops the lock when its owner dies, so a leftover is a slot with a
//! folder and a free lock, and a living run's slot can't be taken for one.

use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cluster::error::{Error, Result};
use crate::cluster::{anchor, cgroup, network};

/// Slots 1 to this one exist; their addresses are 10.213.N.0/30, 10.214.N.0/24, 10.215.N.0/24.
const LAST: u8 = 60;
const LOCKS: &str = "/run/kist-lab";
const STATE: &str = "/var/lib/kist-lab";

/// The slots of this process that are not down yet, for the signal handler.
static LIVE: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

/// True as soon as the signal handler takes all down and then ends the process.
static ENDING: AtomicBool = AtomicBool::new(false);

/// A slot owned by this process.
pub struct Slot {
    pub index: u8,
    name: String,
    held: Mutex<Held>,
}

struct Held {
    anchor: Option<Child>,
    down: bool,
    /// Last, so that the lock is free only when nothing is left.
    _lock: Option<File>,
}

impl Slot {
    /// Takes the first free slot, after sweeping what dead runs left behind in any of them.
    pub fn take(name: &str) -> Result<Hold> {
        for path in [LOCKS, STATE] {
            fs::create_dir_all(path).map_err(Error::io("make the folder", path.as_ref()))?;
        }
        sweep()?;
        // Each run begins elsewhere, so that one's slot is not at once another's.
        let begin = std::process::id() % u32::from(LAST);
        for step in 0..u32::from(LAST) {
            let index = 1 + u8::try_from((begin + step) % u32::from(LAST)).expect("below LAST");
            let Some(lock) = try_lock(index)? else {
                continue;
            };
            // Between the sweep and this lock a run may have come and been killed.
            remove(index, None)?;
            if network::taken(index)? {
                continue;
            }
            return Slot::fill(index, name, lock).map(|slot| {
                live().push(Arc::downgrade(&slot));
                Hold(slot)
            });
        }
        Err(Error::NoSlot(LAST))
    }

    fn fill(index: u8, name: &str, lock: File) -> Result<Arc<Slot>> {
        let dir = folder(index);
        for part in ["log", "run", "etc"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(Error::io("make the folder", &path))?;
        }
        let note = dir.join("owner");
        fs::write(&note, format!("{} {name}\n", std::process::id())).map_err(Error::io("write", &note))?;
        Ok(Arc::new(Slot {
            index,
            name: name.to_owned(),
            held: Mutex::new(Held { anchor: None, down: false, _lock: Some(lock) }),
        }))
    }

    /// Starts the namespaces of this slot, and the network between them and the host.
    pub fn open(&self) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.down {
            return Err(Error::Closed(self.index));
        }
        let child = anchor::start(&self.dir(), &self.name)?;
        held.anchor = Some(child);
        network::connect(self.index, anchor::inner_pid(&self.dir())?)
    }

    /// The folder of everything that this slot writes to disk.
    pub fn dir(&self) -> PathBuf {
        folder(self.index)
    }

    /// The host's address on the link to this slot: reachable from the pods of all slots.
    pub fn host_ip(&self) -> Ipv4Addr {
        network::host_ip(self.index)
    }

    /// The address of the node in this slot.
    pub fn node_ip(&self) -> Ipv4Addr {
        network::node_ip(self.index)
    }

    /// Ends every process of this slot and removes all that it made. May be called again.
    pub fn take_down(&self) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.down {
            return Ok(());
        }
        held.down = true;
        let child = held.anchor.take();
        let outcome = remove(self.index, child);
        held._lock = None;
        outcome
    }

    /// Copies the logs to where they outlive the slot, and says where that is.
    pub fn keep_logs(&self) {
        match self.save_logs() {
            Ok(path) => eprintln!("logs of {} kept in {}", self.name, path.display()),
            Err(error) => eprintln!("logs of {} are lost: {error}", self.name),
        }
    }

    fn save_logs(&self) -> std::io::Result<PathBuf> {
        let target =
            crate::cluster::tools::cache().join("logs").join(format!("{}-{}", self.name, std::process::id()));
        fs::create_dir_all(&target)?;
        for entry in fs::read_dir(self.dir().join("log"))? {
            let entry = entry?;
            fs::copy(entry.path(), target.join(entry.file_name()))?;
        }
        Ok(target)
    }
}

/// The hold on a slot. Dropping it takes everything in the slot down.
pub struct Hold(Arc<Slot>);

impl Hold {
    /// The slot, for a thread that takes it down.
    pub fn share(&self) -> Arc<Slot> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Hold {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("taking down {}: {error}", self.name);
        }
        // What fails now fails because of the signal. Were this thread to go on, the process
        // could end before the handler is done with the other slots, and with a wrong code.
        while ENDING.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// Takes down every slot of this process: for the signal handler.
pub fn take_down_all() {
    ENDING.store(true, Ordering::SeqCst);
    let slots: Vec<_> = live().drain(..).filter_map(|slot| slot.upgrade()).collect();
    for slot in slots {
        if let Err(error) = slot.take_down() {
            eprintln!("taking down slot {}: {error}", slot.index);
        }
    }
}

/// Removes what dead runs left behind, and returns how many slots that were.
pub fn sweep() -> Result<usize> {
    let mut swept = 0;
    for index in 1..=LAST {
        if !folder(index).exists() {
            continue;
        }
        if let Some(_lock) = try_lock(index)? {
            remove(index, None)?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// One slot as a reader from outside sees it.
pub struct Seen {
    pub index: u8,
    pub owner_pid: u32,
    pub name: String,
    pub alive: bool,
}

/// Lists the slots with something in them, of all runs on this machine.
pub fn list() -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for index in 1..=LAST {
        let Ok(owner) = fs::read_to_string(folder(index).join("owner")) else {
            continue;
        };
        let (pid, name) = owner.trim_end().split_once(' ').unwrap_or(("0", "?"));
        seen.push(Seen {
            index,
            owner_pid: pid.parse().unwrap_or(0),
            name: name.to_owned(),
            alive: try_lock(index)?.is_none(),
        });
    }
    Ok(seen)
}

fn live() -> std::sync::MutexGuard<'static, Vec<Weak<Slot>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn folder(index: u8) -> PathBuf {
    Path::new(STATE).join(index.to_string())
}

/// Locks a slot; none if a living process owns it. The file is close-on-exec, so that
/// no daemon keeps the lock after its owner.
fn try_lock(index: u8) -> Result<Option<File>> {
    let path = Path::new(LOCKS).join(format!("{index}.lock"));
    let file = File::create(&path).map_err(Error::io("open the lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}

/// Removes everything of a slot; the caller holds its lock. Goes on after a failure, so
/// that one stuck part does not keep the others, and returns the first one.
fn remove(index: u8, anchor: Option<Child>) -> Result<()> {
    let dir = folder(index);
    let mut outcome = anchor::stop(&dir, anchor);
    outcome = outcome.and(network::disconnect(index));
    outcome = outcome.and(cgroup::remove(index));
    match fs::remove_dir_all(&dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            outcome.and(Err(Error::io("remove", &dir)(source)))
        }
        _ => outcome,
    }
}
