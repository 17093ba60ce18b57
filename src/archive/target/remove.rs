//! Removes a folder with all that is in it, as deep as it may be, and nothing else.
//!
//! Called for `--delete`. Goes by open folders, so a link is removed and never followed.
//! Invariant: what lies on another device (a mount) is not touched.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::archive::folder::{self, FileId, Names, Trail};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk;
use crate::format::entry::TreePath;

/// A folder whose names are being removed.
struct Level {
    name: CString,
    names: Names,
    next: usize,
}

pub(super) fn remove(folder: &Arc<OwnedFd>, name: &[u8], path: &TreePath) -> Result<(), Problem> {
    let cannot = |errno| Problem::system("removing", path, errno);
    let mut trail = Trail::new(Arc::clone(folder)).map_err(cannot)?;
    let device = FileId::of_open(folder).map_err(cannot)?.device;
    let name = CString::new(name).expect("a path has no NUL in its names");
    let mut names = Names::default();
    names.push(&name);
    let mut levels = vec![Level { name, names, next: 0 }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.get(level.next) else {
            let done = levels.pop().expect("the level that was looked at");
            if !levels.is_empty() {
                trail.pop().map_err(cannot)?;
                let here = trail.here().ok_or(Errno::STALE).map_err(cannot)?;
                rustix::fs::unlinkat(here, done.name.as_c_str(), AtFlags::REMOVEDIR).map_err(cannot)?;
            }
            continue;
        };
        level.next += 1;
        let here = trail.here().ok_or(Errno::STALE).map_err(cannot)?;
        let stat = match folder::stat(here, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(cannot(errno)),
        };
        let id = FileId::of(&stat);
        if id.device != device {
            let what = format!("{name:?} in it is a mount");
            return Err(Problem::found("removing", path, ProblemKind::InTheWay, what));
        }
        if !walk::is_folder(&stat) {
            rustix::fs::unlinkat(here, name, AtFlags::empty()).map_err(cannot)?;
            continue;
        }
        let fd = folder::open_to_list(here, name).map_err(cannot)?;
        if FileId::of_open(&fd) != Ok(id) {
            return Err(cannot(Errno::STALE));
        }
        let (names, error) = Names::list(&fd);
        error.map_or(Ok(()), |errno| Err(cannot(errno)))?;
        let name = name.to_owned();
        trail.push(&name, id, Arc::new(fd));
        levels.push(Level { name, names, next: 0 });
    }
    Ok(())
}
