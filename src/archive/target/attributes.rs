//! Sets owner, mode, xattrs and times of one thing, in the order in which none undoes another.
//!
//! A change of owner takes away set-id bits and capabilities, so the owner comes first; `user.*` needs
//! write permission, so it comes before the mode; an ACL's mask is in the mode, so ACLs come after it; all
//! of them may touch times, which come last.
//! Invariant: a set-id bit is never given to an owner or group that the tree did not name.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::folder;
use crate::archive::problem::{Problem, ProblemKind};
use crate::format::entry::{Attributes, TreePath};

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const XATTR_LIST_BYTES: usize = 64 * 1024;
/// Given by the system's policy to what is made there, not by us: not taken away when the tree has none.
const POLICY_XATTRS: [&[u8]; 4] =
    [b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64"];

/// What attributes are set on.
pub(super) enum Handle<'a> {
    /// Open for reading or writing.
    Open(&'a OwnedFd),
    /// Open as a path only: reached through `/proc`, which resolves to exactly this thing.
    Path(&'a OwnedFd),
}

impl Handle<'_> {
    fn fd(&self) -> &OwnedFd {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd,
        }
    }

    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        rustix::fs::chownat(self.fd(), c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Path(_) => rustix::fs::chmodat(CWD, self.proc_path(), mode, AtFlags::empty()),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Path(_) => rustix::fs::utimensat(CWD, self.proc_path(), times, AtFlags::empty()),
        }
    }

    fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        let mut list = Vec::with_capacity(XATTR_LIST_BYTES);
        let spare = rustix::buffer::spare_capacity(&mut list);
        let listed = match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, spare),
            Self::Path(_) => rustix::fs::listxattr(self.proc_path(), spare),
        };
        match listed {
            Ok(_) | Err(Errno::OPNOTSUPP) => Ok(list),
            Err(errno) => Err(errno),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(_) => rustix::fs::setxattr(self.proc_path(), name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Path(_) => rustix::fs::removexattr(self.proc_path(), name),
        }
    }
}

/// Sets all of `wanted`, and tells what could not be.
pub(super) fn set(handle: &Handle<'_>, path: &TreePath, wanted: &Attributes) -> Vec<Problem> {
    let mut problems = Vec::new();
    let kind = match folder::stat_open(handle.fd()) {
        Ok(stat) => FileType::from_raw_mode(stat.stx_mode.into()),
        Err(errno) => return vec![Problem::system("looking at", path, errno)],
    };
    let lost_bits = set_owner(handle, path, wanted, &mut problems);
    drop_other_xattrs(handle, path, wanted, &mut problems);
    set_xattrs(handle, path, wanted, false, &mut problems);
    if kind != FileType::Symlink {
        set_mode(handle, path, wanted.mode, lost_bits, kind, &mut problems);
    }
    set_xattrs(handle, path, wanted, true, &mut problems);
    set_times(handle, path, wanted, &mut problems);
    problems
}

/// Returns the set-id bits that must not be set, because their owner is not the tree's.
fn set_owner(handle: &Handle<'_>, path: &TreePath, wanted: &Attributes, problems: &mut Vec<Problem>) -> u16 {
    let doing = "setting the owner of";
    // The highest number means "leave it" to the system.
    if wanted.uid == u32::MAX || wanted.gid == u32::MAX {
        problems.push(Problem::found(doing, path, ProblemKind::Limit, "no such owner can be set"));
        return SET_UID | SET_GID;
    }
    let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
    let Err(errno) = handle.chown(Some(uid), Some(gid)) else { return 0 };
    // Who may change nothing may still find it as it has to be: the folder of a volume, say.
    if folder::stat_open(handle.fd())
        .is_ok_and(|stat| (stat.stx_uid, stat.stx_gid) == (wanted.uid, wanted.gid))
    {
        return 0;
    }
    problems.push(Problem::system(doing, path, errno));
    // Who may not give it away may still be in the group.
    let kept = if handle.chown(None, Some(gid)).is_ok() { 0 } else { SET_GID };
    let is_ours = folder::stat_open(handle.fd()).is_ok_and(|stat| stat.stx_uid == wanted.uid);
    kept | if is_ours { 0 } else { SET_UID }
}

fn set_mode(
    handle: &Handle<'_>,
    path: &TreePath,
    mode: u16,
    lost_bits: u16,
    kind: FileType,
    problems: &mut Vec<Problem>,
) {
    let doing = "setting the mode of";
    // On folders these bits give nobody any rights.
    let lost = if kind == FileType::Directory { 0 } else { mode & lost_bits };
    if lost != 0 {
        let what = "set-id bits are left out because the owner could not be set";
        problems.push(Problem::found(doing, path, ProblemKind::Denied, what));
    }
    let wanted = mode & !lost;
    let is_so = || folder::stat_open(handle.fd()).is_ok_and(|stat| stat.stx_mode & 0o7777 == wanted);
    if let Err(errno) = handle.chmod(Mode::from_raw_mode(wanted.into()))
        && !is_so()
    {
        problems.push(Problem::system(doing, path, errno));
    }
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.")
}

/// Sets either the ACLs, or all the others.
fn set_xattrs(
    handle: &Handle<'_>,
    path: &TreePath,
    wanted: &Attributes,
    acls: bool,
    problems: &mut Vec<Problem>,
) {
    let doing = if acls { "setting the ACL of" } else { "setting an attribute of" };
    for (name, value) in wanted.xattrs.iter().filter(|(name, _)| is_acl(name) == acls) {
        if let Err(errno) = handle.set_xattr(name, value) {
            problems.push(Problem::system(doing, path, errno));
        }
    }
}

/// Removes xattrs that the tree does not have: those of what lay there before, and inherited ACLs.
fn drop_other_xattrs(handle: &Handle<'_>, path: &TreePath, wanted: &Attributes, problems: &mut Vec<Problem>) {
    let doing = "removing an attribute of";
    let list = match handle.list_xattrs() {
        Ok(list) if list.is_empty() => return,
        Ok(list) => list,
        Err(errno) => return problems.push(Problem::system(doing, path, errno)),
    };
    let keep: BTreeSet<&[u8]> =
        wanted.xattrs.iter().map(|(name, _)| name.as_slice()).chain(POLICY_XATTRS).collect();
    for name in list.split(|&b| b == 0).filter(|name| !name.is_empty() && !keep.contains(name)) {
        match handle.remove_xattr(name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => problems.push(Problem::system(doing, path, errno)),
        }
    }
}

fn set_times(handle: &Handle<'_>, path: &TreePath, wanted: &Attributes, problems: &mut Vec<Problem>) {
    let doing = "setting the time of";
    // Larger numbers mean "now" or "leave it" to the system.
    if wanted.mtime.nanos >= 1_000_000_000 {
        return problems.push(Problem::found(doing, path, ProblemKind::Limit, "no such time can be set"));
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: wanted.mtime.secs, tv_nsec: wanted.mtime.nanos.into() },
    };
    if let Err(errno) = handle.set_times(&times) {
        problems.push(Problem::system(doing, path, errno));
    }
}
