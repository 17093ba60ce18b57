//! The cgroups of a slot: one folder `kist-lab-N` below each hierarchy, in which kubelet
//! makes the pods' own. Version 1 and hybrid layouts have one hierarchy for each controller,
//! version 2 has one in all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cluster::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that kubelet insists on under version 2.
const V2_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
/// A cgroup stays busy until the last of its killed tasks has left the kernel.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(5);

/// The name of the slot's cgroup, as kubelet's `cgroupRoot` wants it.
pub fn name(index: u8) -> String {
    format!("kist-lab-{index}")
}

/// True if the machine has the unified hierarchy only.
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Makes the slot's cgroup in every hierarchy.
pub fn make(index: u8) -> Result<()> {
    if is_v2() {
        let available = read(&Path::new(ROOT).join("cgroup.controllers"))?;
        let folder = Path::new(ROOT).join(name(index));
        // Below the root, controllers are on only where the parent hands them down.
        hand_down(Path::new(ROOT), &available)?;
        fs::create_dir_all(&folder).map_err(Error::io("make the cgroup", &folder))?;
        return hand_down(&folder, &available);
    }
    for folder in folders(index)? {
        fs::create_dir_all(&folder).map_err(Error::io("make the cgroup", &folder))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A cpuset starts empty, and no task may enter an empty one.
            let target = folder.join(file);
            if target.exists() {
                let value = read(&folder.with_file_name(file))?;
                fs::write(&target, value).map_err(Error::io("write", &target))?;
            }
        }
    }
    Ok(())
}

/// Removes the slot's cgroups, deepest first. Their processes have ended before.
pub fn remove(index: u8) -> Result<()> {
    let deadline = Instant::now() + REMOVE_LIMIT;
    for folder in folders(index)? {
        if folder.exists() {
            remove_tree(&folder, deadline)?;
        }
    }
    Ok(())
}

/// The slot's cgroup in each hierarchy, whether it exists or not.
pub fn folders(index: u8) -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![Path::new(ROOT).join(name(index))]);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(ROOT).map_err(Error::io("list", ROOT.as_ref()))? {
        let path = entry.map_err(Error::io("list", ROOT.as_ref()))?.path();
        // `unified`, the version 2 tree of a hybrid layout, too: runc puts pods there as well.
        if path.is_dir() && !path.is_symlink() {
            folders.push(path.join(name(index)));
        }
    }
    Ok(folders)
}

fn hand_down(folder: &Path, available: &str) -> Result<()> {
    let target = folder.join("cgroup.subtree_control");
    for controller in V2_CONTROLLERS {
        if available.split_whitespace().any(|have| have == controller) {
            fs::write(&target, format!("+{controller}")).map_err(Error::io("write", &target))?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path, deadline: Instant) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.is_dir() {
            remove_tree(&path, deadline)?;
        }
    }
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                return Err(Error::io("remove the cgroup", folder)(error));
            }
            // The kernel tells nobody when the last task has left: ask again.
            Err(_) if Instant::now() < deadline => std::thread::sleep(RETRY),
            Err(error) => return Err(Error::io("remove the cgroup", folder)(error)),
        }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}
