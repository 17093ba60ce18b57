//! What the file system says about one name: attributes, kind, links, by one `statx`; and its xattrs, for who asks.
//!
//! Part of the walk. Listing xattrs costs more than `statx`, so it is left to who needs them: where the ctime is
//! the one that is known they are what is known. Values beyond the format's limits are left out and reported, the
//! entry is kept.
//! Invariant: memory grows with the number of files that have several links, with nothing else.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Statx, StatxTimestamp};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::archive::folder::FileId;
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk::{Found, FoundKind};
use crate::format::entry::{Attributes, FileTime, TreePath};
use crate::format::id::LinkGroup;
use crate::format::limits;

/// The kernel's bound on a list of names, and on a value.
const XATTR_BUFFER_BYTES: usize = 64 * 1024;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Looks at names, and remembers the files that have several.
pub(super) struct Look<'a> {
    link_group: &'a (dyn Fn(&TreePath) -> LinkGroup + Sync),
    links: HashMap<FileId, Links>,
}

struct Links {
    group: LinkGroup,
    /// Names that were not met yet.
    left: u32,
}

pub(in crate::archive) fn is_folder(stat: &Statx) -> bool {
    file_type(stat) == FileType::Directory
}

fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

pub(in crate::archive) fn file_time(time: StatxTimestamp) -> FileTime {
    FileTime { secs: time.tv_sec, nanos: time.tv_nsec }
}

/// The kind that `stat` tells; a link's target is read from `folder`.
pub(in crate::archive) fn kind(stat: &Statx, folder: &OwnedFd, name: impl Arg) -> Result<FoundKind, Errno> {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    Ok(match file_type(stat) {
        FileType::Directory => FoundKind::Folder,
        FileType::RegularFile => FoundKind::File { size: stat.stx_size },
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes();
            if target.len() > limits::LINK_TARGET_LEN {
                return Err(Errno::NAMETOOLONG);
            }
            FoundKind::Symlink { target }
        }
        FileType::Fifo => FoundKind::Fifo,
        FileType::Socket => FoundKind::Socket,
        FileType::CharacterDevice => FoundKind::CharDevice { major, minor },
        FileType::BlockDevice => FoundKind::BlockDevice { major, minor },
        FileType::Unknown => return Err(Errno::OPNOTSUPP),
    })
}

impl<'a> Look<'a> {
    pub fn new(link_group: &'a (dyn Fn(&TreePath) -> LinkGroup + Sync)) -> Self {
        Self { link_group, links: HashMap::new() }
    }

    /// What was found by `stat`: `name` in `folder`, or `folder` itself. Its xattrs are not asked for.
    pub fn found(
        &mut self,
        path: TreePath,
        folder: &Arc<OwnedFd>,
        name: Option<&CStr>,
        stat: &Statx,
    ) -> Result<Found, (TreePath, Errno)> {
        let kind = match kind(stat, folder, name.unwrap_or(c"")) {
            Ok(kind) => kind,
            Err(errno) => return Err((path, errno)),
        };
        let id = FileId::of(stat);
        let link = match kind {
            FoundKind::Folder => None,
            _ => self.link(&path, id, stat.stx_nlink),
        };
        let attributes = Attributes {
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: file_time(stat.stx_mtime),
            ctime: file_time(stat.stx_ctime),
            xattrs: Vec::new(),
            link,
        };
        Ok(Found { path, attributes, kind, id, folder: Some(Arc::clone(folder)) })
    }

    /// The group of a file with several links; forgotten once all its links were met.
    fn link(&mut self, path: &TreePath, id: FileId, count: u32) -> Option<LinkGroup> {
        if count < 2 {
            return None;
        }
        let links =
            self.links.entry(id).or_insert_with(|| Links { group: (self.link_group)(path), left: count });
        links.left = links.left.saturating_sub(1);
        let group = links.group;
        if links.left == 0 {
            self.links.remove(&id);
        }
        Some(group)
    }
}

/// Asks for xattrs; keeps its buffers.
#[derive(Default)]
pub struct XattrReader {
    list: Vec<u8>,
    value: Vec<u8>,
}

impl XattrReader {
    /// Asks for the xattrs of what was found. A problem beside says that some of them could not be had; an error, that
    /// it is gone.
    pub fn read(&mut self, found: &mut Found) -> Result<Option<Problem>, Problem> {
        let path = &found.path;
        let folder = found.folder.as_ref().expect("a folder is let go when all is known about what is in it");
        match self.all(folder, path) {
            Ok((xattrs, failed)) => {
                found.attributes.xattrs = xattrs;
                Ok(failed)
            }
            Err(Errno::NOENT) => Err(Problem::system("looking at", path, Errno::NOENT)),
            Err(errno) => Ok(Some(Problem::system("reading the attributes of", path, errno))),
        }
    }

    fn all(&mut self, folder: &OwnedFd, path: &TreePath) -> Result<(Xattrs, Option<Problem>), Errno> {
        let file = proc_path(folder, path.name());
        self.list.clear();
        self.list.reserve(XATTR_BUFFER_BYTES);
        match rustix::fs::llistxattr(file.as_c_str(), rustix::buffer::spare_capacity(&mut self.list)) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok((Vec::new(), None)),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut xattrs = Xattrs::new();
        let (mut total, mut failed) = (0, None);
        for attribute in self.list.split(|&b| b == 0).filter(|attribute| !attribute.is_empty()) {
            self.value.clear();
            self.value.reserve(XATTR_BUFFER_BYTES);
            match rustix::fs::lgetxattr(
                file.as_c_str(),
                attribute,
                rustix::buffer::spare_capacity(&mut self.value),
            ) {
                Ok(_) => {}
                Err(Errno::NODATA) => continue,
                Err(Errno::NOENT) => return Err(Errno::NOENT),
                Err(errno) => {
                    failed = Some(Problem::system("reading an attribute of", path, errno));
                    continue;
                }
            }
            total += attribute.len() + self.value.len();
            let fits = attribute.len() <= limits::XATTR_NAME_LEN
                && self.value.len() <= limits::XATTR_VALUE_LEN
                && total <= limits::XATTRS_LEN
                && xattrs.len() < limits::XATTRS;
            if !fits {
                let what = "extended attributes beyond what can be stored";
                failed = Some(Problem::found("storing an attribute of", path, ProblemKind::Limit, what));
                break;
            }
            xattrs.push((attribute.to_vec(), self.value.clone()));
        }
        xattrs.sort();
        Ok((xattrs, failed))
    }
}

/// A path by which the calls that take no handle reach `name` in an open folder, or the folder itself.
/// Nothing of it can be swapped: the handle is looked up by the kernel, and `name` is one name.
fn proc_path(folder: &OwnedFd, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    CString::new(path).expect("no NUL within a name")
}
