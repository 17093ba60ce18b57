//! A folder that a restore writes into, and can't write out of.
//!
//! Last step of a restore. The tree may be hostile, and the folder may hold links from before: so every
//! path is opened one name at a time from the root's handle, each a real folder and never a link, and
//! [`TreePath`] has no `..`. That also makes paths longer than the kernel's bound possible.
//! Invariant: nothing outside of the root is made, changed or removed, and nothing that is not in the tree
//! is removed unless [`Target::remove`] is called: a folder that isn't empty stays in the way.

mod attributes;
mod existing;
mod remove;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::archive::folder::{self, FileId, Names};
use crate::archive::problem::{Problem, ProblemKind};
pub use crate::archive::target::existing::Existing;
use crate::archive::walk;
use crate::format::entry::{Attributes, TreePath};

/// Folders that are kept open between two calls: a restore comes back to the same few.
const NEAR_FOLDERS: usize = 64;

/// A folder to restore into. Can be used by several threads.
#[derive(Debug)]
pub struct Target {
    root: Arc<OwnedFd>,
    near: Mutex<VecDeque<(TreePath, Arc<OwnedFd>)>>,
    /// Numbers the files that have not got their names yet.
    unplaced: AtomicU64,
}

/// How the names of files begin that are being written.
const UNPLACED: &str = ".kist-restoring-";

/// What was being done when a file did not get its name.
pub(super) const NAMING: &str = "giving its name to";

/// A device, by its type and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

impl Target {
    /// Opens a folder, and makes it (and those above) first if `create` says so. `path` itself may be a link.
    pub fn open(path: &Path, create: bool) -> Result<Self, Problem> {
        use std::os::unix::ffi::OsStrExt;
        let shown = TreePath::from_slashes(path.as_os_str().as_bytes()).unwrap_or_default();
        if create {
            std::fs::create_dir_all(path).map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Problem::system("making the target folder", &shown, errno)
            })?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| Problem::system("opening the target folder", &shown, errno))?;
        Ok(Self { root: Arc::new(root), near: Mutex::default(), unplaced: AtomicU64::new(0) })
    }

    pub fn is_empty(&self) -> Result<bool, Problem> {
        self.list(&TreePath::root()).map(|names| names.is_empty())
    }

    /// The names in a folder, in byte order.
    pub fn list(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, Problem> {
        let cannot = |errno| Problem::system("listing", path, errno);
        let folder = self.folder(path).map_err(cannot)?;
        let readable = folder::open_to_list(&folder, c".").map_err(cannot)?;
        match Names::list(&readable) {
            (names, None) => Ok(names.iter().map(|name| name.to_bytes().to_vec()).collect()),
            (_, Some(errno)) => Err(cannot(errno)),
        }
    }

    /// What lies at a path; nothing if a folder above it is missing, or is a link.
    pub fn existing(&self, path: &TreePath) -> Result<Option<Existing>, Problem> {
        let look = || {
            if path.is_root() {
                let stat = folder::stat_open(&self.root)?;
                return Ok(Existing::of(&stat, walk::kind(&stat, &self.root, c"")?));
            }
            let (folder, name) = self.place(path)?;
            let stat = folder::stat(&folder, name)?;
            Ok(Existing::of(&stat, walk::kind(&stat, &folder, name)?))
        };
        match look() {
            Ok(existing) => Ok(Some(existing)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Problem::system("looking at", path, errno)),
        }
    }

    /// Makes a folder, for us alone until its attributes are set. True if it was not there before; a link
    /// or file of that name is replaced.
    pub fn make_folder(&self, path: &TreePath) -> Result<bool, Problem> {
        if path.is_root() {
            return Ok(false);
        }
        let make = |folder: &OwnedFd, name: &[u8]| rustix::fs::mkdirat(folder, name, Mode::RWXU);
        let cannot = |errno| Problem::system("making the folder", path, errno);
        let (folder, name) = self.place(path).map_err(cannot)?;
        match make(&folder, name) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(cannot(errno)),
        }
        if folder::stat(&folder, name).is_ok_and(|stat| walk::is_folder(&stat)) {
            return Ok(false);
        }
        self.clear(&folder, name, path)?;
        make(&folder, name).map_err(cannot).map(|()| true)
    }

    /// Makes a file of `size` bytes that is one hole, under a name of its own: what lies at `path` stays
    /// until [`TargetFile::place`], and for good if the file is dropped before.
    pub fn create_file(&self, path: &TreePath, size: u64) -> Result<TargetFile, Problem> {
        let cannot = |errno| Problem::system("making the file", path, errno);
        if path.is_root() {
            let what = "the target itself is a folder";
            return Err(Problem::found("making the file", path, ProblemKind::InTheWay, what));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (folder, _) = self.place(path).map_err(cannot)?;
        let make = |name: &str| rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR);
        let (fd, unplaced) = self.unplaced(make).map_err(cannot)?;
        let file = TargetFile { fd, path: path.clone(), folder, unplaced: Some(unplaced) };
        if size > 0 {
            rustix::fs::ftruncate(&file.fd, size).map_err(cannot)?;
        }
        Ok(file)
    }

    pub fn symlink(&self, path: &TreePath, target: &[u8]) -> Result<(), Problem> {
        self.make("making the link", path, |folder, name| rustix::fs::symlinkat(target, folder, name))
    }

    pub fn fifo(&self, path: &TreePath) -> Result<(), Problem> {
        self.make("making the fifo", path, |folder, name| node(folder, name, FileType::Fifo, 0))
    }

    pub fn socket(&self, path: &TreePath) -> Result<(), Problem> {
        self.make("making the socket", path, |folder, name| node(folder, name, FileType::Socket, 0))
    }

    pub fn device(&self, path: &TreePath, device: Device) -> Result<(), Problem> {
        let (kind, major, minor) = match device {
            Device::Char { major, minor } => (FileType::CharacterDevice, major, minor),
            Device::Block { major, minor } => (FileType::BlockDevice, major, minor),
        };
        let number = rustix::fs::makedev(major, minor);
        self.make("making the device", path, |folder, name| node(folder, name, kind, number))
    }

    /// Makes `path` another name of `first`. What lies there gives way when the name is there: of folders only empty
    /// ones.
    pub fn hard_link(&self, first: &TreePath, path: &TreePath) -> Result<(), Problem> {
        if first == path {
            return Ok(());
        }
        let cannot = |errno| Problem::system("making the hard link", path, errno);
        let (from, from_name) =
            self.place(first).map_err(|errno| Problem::system("opening the folder of", first, errno))?;
        let (folder, name) = self.place(path).map_err(cannot)?;
        let ((), unplaced) = self
            .unplaced(|unplaced| rustix::fs::linkat(&from, from_name, &folder, unplaced, AtFlags::empty()))
            .map_err(cannot)?;
        let renamed = rename_over(&folder, &unplaced, name);
        // Where `path` was a name of that file before, the rename has done nothing.
        _ = rustix::fs::unlinkat(&folder, &unplaced, AtFlags::empty());
        renamed.map_err(cannot)
    }

    /// Makes something under a name of its own.
    fn unplaced<T>(&self, make: impl Fn(&str) -> Result<T, Errno>) -> Result<(T, String), Errno> {
        loop {
            let number = self.unplaced.fetch_add(1, Ordering::Relaxed);
            let name = format!("{UNPLACED}{}-{number}", rustix::process::getpid().as_raw_nonzero());
            match make(&name) {
                // Left by a restore that was killed.
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (made, name)),
            }
        }
    }

    /// Sets owner, mode, xattrs and times of what lies at `path`, in the order in which none undoes another.
    /// What can't be set is told, the rest goes on. Of folders: after all that is done in them.
    pub fn set_attributes(&self, path: &TreePath, wanted: &Attributes) -> Vec<Problem> {
        match self.handle(path) {
            Ok(fd) => attributes::set(&attributes::Handle::Path(&fd), path, wanted),
            Err(errno) => vec![Problem::system("opening", path, errno)],
        }
    }

    /// Removes what lies at `path`, with all that is in it. Nothing there is fine. Follows no link and enters
    /// no mount; stops at the first problem.
    pub fn remove(&self, path: &TreePath) -> Result<(), Problem> {
        let cannot = |errno| Problem::system("removing", path, errno);
        if path.is_root() {
            return Err(Problem::found("removing", path, ProblemKind::InTheWay, "it is the target itself"));
        }
        match self.place(path) {
            Ok((folder, name)) => {
                self.forget(path);
                remove::remove(&folder, name, path)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(cannot(errno)),
        }
    }

    /// Waits until all that was written is on the disk.
    pub fn sync(&self) -> Result<(), Problem> {
        let cannot = |errno| Problem::system("syncing", &TreePath::root(), errno);
        let readable = folder::open_to_list(&self.root, c".").map_err(cannot)?;
        rustix::fs::syncfs(readable).map_err(cannot)
    }

    /// Does `make` in the folder of `path`; if something is in the way there, once more after clearing it.
    fn make<T>(
        &self,
        doing: &'static str,
        path: &TreePath,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        let cannot = |errno| Problem::system(doing, path, errno);
        if path.is_root() {
            return Err(Problem::found(doing, path, ProblemKind::InTheWay, "the target itself is a folder"));
        }
        let (folder, name) = self.place(path).map_err(cannot)?;
        match make(&folder, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(cannot),
        }
        self.clear(&folder, name, path)?;
        make(&folder, name).map_err(cannot)
    }

    /// Removes one thing that lies where another has to go; of folders only empty ones.
    fn clear(&self, folder: &OwnedFd, name: &[u8], path: &TreePath) -> Result<(), Problem> {
        self.forget(path);
        let removed = match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM)
                if folder::stat(folder, name).is_ok_and(|s| walk::is_folder(&s)) =>
            {
                rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
            }
            other => other,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let what = "a folder that is not empty lies there";
                Err(Problem::found("replacing", path, ProblemKind::InTheWay, what))
            }
            Err(errno) => Err(Problem::system("replacing", path, errno)),
        }
    }

    /// What lies at a path, open as a path only; a link itself.
    fn handle(&self, path: &TreePath) -> Result<OwnedFd, Errno> {
        if path.is_root() {
            return rustix::io::fcntl_dupfd_cloexec(&self.root, 0);
        }
        let (folder, name) = self.place(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, flags, Mode::empty())
    }

    /// The open folder of a path, and the name in it.
    fn place<'p>(&self, path: &'p TreePath) -> Result<(Arc<OwnedFd>, &'p [u8]), Errno> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        Ok((self.folder(&parent)?, path.name()))
    }

    /// Opens a folder from the nearest one above that is open already.
    fn folder(&self, path: &TreePath) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_root() {
            return Ok(Arc::clone(&self.root));
        }
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        let best = near
            .iter()
            .filter(|(known, _)| path.is_within(known))
            .max_by_key(|(known, _)| known.sort_key().len());
        let (known, mut fd) = match best {
            Some((known, fd)) if known == path => return Ok(Arc::clone(fd)),
            Some((known, fd)) => (known.clone(), Arc::clone(fd)),
            None => (TreePath::root(), Arc::clone(&self.root)),
        };
        let rest = path.below(&known).expect("a known folder above");
        let count = rest.components().count();
        // The last few on the way are kept too: a pass from the bottom up would start from the root each time.
        let kept = count.min(NEAR_FOLDERS / 2);
        let mut paths: Vec<_> =
            std::iter::successors(Some(path.clone()), TreePath::parent).take(kept).collect();
        for (index, name) in rest.components().enumerate() {
            fd = Arc::new(folder::open_to_pass(&fd, name)?);
            if index + kept >= count {
                let path = paths.pop().expect("one for each of the last");
                near.push_front((path, Arc::clone(&fd)));
            }
        }
        near.truncate(NEAR_FOLDERS);
        Ok(fd)
    }

    /// Closes what is kept open at a path and below it.
    fn forget(&self, path: &TreePath) {
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        near.retain(|(known, _)| !known.is_within(path));
    }
}

/// Gives what lies in a folder another name there, in place of what has it; of folders only an empty one.
fn rename_over(folder: &OwnedFd, from: &str, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat(folder, from, folder, name) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
            .and_then(|()| rustix::fs::renameat(folder, from, folder, name)),
        other => other,
    }
}

fn node(folder: &OwnedFd, name: &[u8], kind: FileType, device: u64) -> Result<(), Errno> {
    rustix::fs::mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device)
}

/// A new file in a target. What is not written stays a hole. Removed when dropped before it has its name.
#[derive(Debug)]
pub struct TargetFile {
    fd: OwnedFd,
    path: TreePath,
    folder: Arc<OwnedFd>,
    /// The name that it has until it is placed.
    unplaced: Option<String>,
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if let Some(name) = &self.unplaced {
            _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
}

impl TargetFile {
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Writes all of `data` at `offset`. Can be called by several threads.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Problem> {
        let mut written = 0;
        while written < data.len() {
            match rustix::io::pwrite(&self.fd, &data[written..], offset + written as u64) {
                Ok(0) => return Err(Problem::system("writing", &self.path, Errno::IO)),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Problem::system("writing", &self.path, errno)),
            }
        }
        Ok(())
    }

    /// Reads back what was written: fills all of `out`.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Problem> {
        let mut filled = 0;
        while filled < out.len() {
            match rustix::io::pread(&self.fd, &mut out[filled..], offset + filled as u64) {
                Ok(0) => {
                    let what = "the file ends early";
                    return Err(Problem::found("reading back", &self.path, ProblemKind::Changed, what));
                }
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Problem::system("reading back", &self.path, errno)),
            }
        }
        Ok(())
    }

    /// Starts writing to the disk and drops what is written from the page cache, which counts as our memory.
    pub fn forget_cached(&self) {
        // Advice only; what is still dirty stays cached.
        _ = rustix::fs::fadvise(&self.fd, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Sets owner, mode, xattrs and times, and gives the file its name, in place of what may be there (of
    /// folders only an empty one). To be called when all content is written. It has its name then, unless a
    /// problem says otherwise.
    pub fn place(mut self, wanted: &Attributes) -> Vec<Problem> {
        let mut problems = attributes::set(&attributes::Handle::Open(&self.fd), &self.path, wanted);
        let Some(unplaced) = &self.unplaced else { return problems };
        let name = self.path.name();
        match rename_over(&self.folder, unplaced, name) {
            Ok(()) => self.unplaced = None,
            Err(errno) => problems.push(Problem::system(NAMING, &self.path, errno)),
        }
        problems
    }

    pub fn id(&self) -> Result<FileId, Problem> {
        FileId::of_open(&self.fd).map_err(|errno| Problem::system("looking at", &self.path, errno))
    }
}
