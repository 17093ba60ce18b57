//! Folders by handle: opening without following links, listing, and a trail of open folders.
//!
//! Everything below a root is reached by one name at a time from an open folder, so paths may be longer
//! than the kernel takes, and nobody who swaps a folder for a link can lead us elsewhere.
//! Invariant: a [`Trail`] holds at most [`WINDOW`] + 1 folders open, however deep it is.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Folders of a trail that stay open: with the usual limit of 1024 files there is room for the rest.
const WINDOW: usize = 64;
/// Bytes of entries that the kernel gives at once.
const LIST_BYTES: usize = 64 * 1024;

/// What tells one file from all others of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    pub(super) fn of(stat: &Statx) -> Self {
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Self { device, inode: stat.stx_ino }
    }

    pub(super) fn of_open(fd: impl AsFd) -> Result<Self, Errno> {
        stat_open(fd).map(|stat| Self::of(&stat))
    }
}

/// The attributes of `name` in `folder`; a link's own.
pub(super) fn stat(folder: impl AsFd, name: impl Arg) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS)
}

/// The attributes of what is open, also if it is open as a path only.
pub(super) fn stat_open(fd: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Opens for reading, and leaves the time of the last access alone where we may.
pub(super) fn open_quietly(
    folder: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(folder.as_fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(folder, name, flags, Mode::empty()),
        other => other,
    }
}

/// Opens a folder so that it can be listed. A link is refused.
pub(super) fn open_to_list(folder: impl AsFd, name: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    open_quietly(folder, name, OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// Opens a folder as a place to go on from: needs no permission to read it. A link is refused.
pub(super) fn open_to_pass(folder: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// The names in a folder, in byte order. Held as one block: ten million names are not ten million
/// allocations.
#[derive(Default)]
pub(super) struct Names {
    /// Each ended by NUL.
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Names {
    /// All names in an open folder. With an error in between: those up to it, and the error.
    pub fn list(folder: impl AsFd) -> (Self, Option<Errno>) {
        Self::list_below(folder, usize::MAX).expect("no folder has as many names")
    }

    /// The same of a folder of less than `most` names; None of a larger one.
    pub fn list_below(folder: impl AsFd, most: usize) -> Option<(Self, Option<Errno>)> {
        let mut names = Self::default();
        let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); LIST_BYTES];
        let mut entries = RawDir::new(folder, &mut buffer);
        let error = loop {
            match entries.next() {
                None => break None,
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => break Some(errno),
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => {
                    if !names.push(entry.file_name()) {
                        break Some(Errno::OVERFLOW);
                    }
                    if names.len() >= most {
                        return None;
                    }
                }
            }
        };
        names.sort();
        Some((names, error))
    }

    /// False if the block is full (4 GiB of names).
    pub fn push(&mut self, name: &CStr) -> bool {
        let Ok(start) = u32::try_from(self.bytes.len()) else { return false };
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.starts.push(start);
        true
    }

    /// Sorts, and drops what is there twice: a folder that changes while it is listed may repeat a name.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.starts.sort_unstable_by_key(|&start| at(bytes, start).to_bytes());
        self.starts.dedup_by_key(|start| at(bytes, *start).to_bytes());
    }

    pub fn get(&self, index: usize) -> Option<&CStr> {
        self.starts.get(index).map(|&start| at(&self.bytes, start))
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.starts.iter().map(|&start| at(&self.bytes, start))
    }
}

fn at(bytes: &[u8], start: u32) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[start as usize..]).expect("each name was stored with its NUL")
}

/// The folders from a root down to where we are.
pub(super) struct Trail {
    levels: Vec<Level>,
}

struct Level {
    name: CString,
    id: FileId,
    /// None above the window: opened again on the way back.
    fd: Option<Arc<OwnedFd>>,
}

impl Trail {
    pub fn new(root: Arc<OwnedFd>) -> Result<Self, Errno> {
        let id = FileId::of_open(&root)?;
        Ok(Self { levels: vec![Level { name: CString::default(), id, fd: Some(root) }] })
    }

    /// The folder we are in. None after a [`Trail::pop`] that failed.
    pub fn here(&self) -> Option<&Arc<OwnedFd>> {
        self.levels.last().and_then(|level| level.fd.as_ref())
    }

    /// Goes down into `fd`, which is `name` in the folder we are in.
    pub fn push(&mut self, name: &CStr, id: FileId, fd: Arc<OwnedFd>) {
        self.levels.push(Level { name: name.to_owned(), id, fd: Some(fd) });
        let outside = self.levels.len().saturating_sub(1 + WINDOW);
        if outside > 0 {
            self.levels[outside].fd = None;
        }
    }

    /// Goes up by one. An error says that the folder above is not where it was; going up further may work.
    pub fn pop(&mut self) -> Result<(), Errno> {
        let Some(child) = self.levels.pop() else { return Ok(()) };
        let Some(parent) = self.levels.last() else { return Ok(()) };
        if parent.fd.is_some() {
            return Ok(());
        }
        let id = parent.id;
        let by_child =
            child.fd.and_then(|fd| open_to_pass(&fd, c"..").ok()).filter(|fd| FileId::of_open(fd) == Ok(id));
        let fd = match by_child {
            Some(fd) => Arc::new(fd),
            None => self.reopen_here()?,
        };
        self.levels.last_mut().expect("the parent was there").fd = Some(fd);
        Ok(())
    }

    /// Opens the last level by the names from the nearest level that is open; the root is always.
    fn reopen_here(&self) -> Result<Arc<OwnedFd>, Errno> {
        let open = self.levels.iter().rposition(|level| level.fd.is_some()).unwrap_or(0);
        let mut fd = self.levels[open].fd.clone().ok_or(Errno::STALE)?;
        for level in &self.levels[open + 1..] {
            fd = Arc::new(open_to_pass(&fd, level.name.as_c_str())?);
            if FileId::of_open(&fd)? != level.id {
                return Err(Errno::STALE);
            }
        }
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let mut names = Names::default();
        for name in [c"b", c"\xff", c"a-", c"b", c"a"] {
            assert!(names.push(name));
        }
        names.sort();
        let sorted: Vec<_> = names.iter().collect();
        assert_eq!(sorted, [c"a", c"a-", c"b", c"\xff"]);
        assert_eq!((names.len(), names.get(4)), (4, None));
    }

    #[test]
    fn a_trail_finds_back_up_after_its_handles_were_closed() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mut trail = Trail::new(Arc::new(root)).unwrap();
        let depth = 3 * WINDOW;
        let mut ids = vec![trail.levels[0].id];
        for _ in 0..depth {
            rustix::fs::mkdirat(trail.here().unwrap(), c"d", Mode::RWXU).unwrap();
            let fd = open_to_pass(trail.here().unwrap(), c"d").unwrap();
            ids.push(FileId::of_open(&fd).unwrap());
            trail.push(c"d", *ids.last().unwrap(), Arc::new(fd));
            assert!(trail.levels.iter().filter(|level| level.fd.is_some()).count() <= WINDOW + 1);
        }
        for level in (0..depth).rev() {
            trail.pop().unwrap();
            assert_eq!(FileId::of_open(trail.here().unwrap()).unwrap(), ids[level]);
        }
    }

    #[test]
    fn a_trail_notices_that_a_folder_above_was_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mut trail = Trail::new(Arc::new(root)).unwrap();
        for _ in 0..WINDOW + 2 {
            rustix::fs::mkdirat(trail.here().unwrap(), c"d", Mode::RWXU).unwrap();
            let fd = open_to_pass(trail.here().unwrap(), c"d").unwrap();
            trail.push(c"d", FileId::of_open(&fd).unwrap(), Arc::new(fd));
        }
        // The third folder leaves, so its `..` leads elsewhere; the second is renamed, so its name is gone.
        std::fs::rename(dir.path().join("d/d/d"), dir.path().join("third")).unwrap();
        std::fs::rename(dir.path().join("d/d"), dir.path().join("d/second")).unwrap();
        let failed = (0..WINDOW + 2).filter(|_| trail.pop().is_err()).count();
        assert_eq!(failed, 1);
        assert_eq!(trail.levels.len(), 1);
    }
}
