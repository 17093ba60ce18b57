//! What lies in a target before a restore, and whether it is already what the tree says.
//!
//! Decides about `--overwrite=changed`: like rsync, by size and time of change, without reading content.

use rustix::fs::Statx;

use crate::archive::folder::FileId;
use crate::archive::walk::{FoundKind, file_time};
use crate::format::entry::{Entry, FileTime, Kind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    pub kind: FoundKind,
    pub id: FileId,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: FileTime,
    /// Names that it has.
    pub links: u32,
}

impl Existing {
    pub(super) fn of(stat: &Statx, kind: FoundKind) -> Self {
        Self {
            kind,
            id: FileId::of(stat),
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: file_time(stat.stx_mtime),
            links: stat.stx_nlink,
        }
    }

    pub fn is_folder(&self) -> bool {
        self.kind == FoundKind::Folder
    }

    /// Whether the content is taken to be that of `entry`: of files the same size and time to the
    /// nanosecond; of links the same target. Attributes may differ.
    pub fn looks_like(&self, entry: &Entry) -> bool {
        match (&self.kind, &entry.kind) {
            (FoundKind::File { size }, Kind::File { size: wanted, .. }) => {
                size == wanted && self.mtime == entry.attributes.mtime
            }
            (FoundKind::Symlink { target }, Kind::Symlink { target: wanted }) => target == wanted,
            (FoundKind::CharDevice { major, minor }, Kind::CharDevice { major: a, minor: b })
            | (FoundKind::BlockDevice { major, minor }, Kind::BlockDevice { major: a, minor: b }) => {
                major == a && minor == b
            }
            (FoundKind::Folder, Kind::Folder)
            | (FoundKind::Fifo, Kind::Fifo)
            | (FoundKind::Socket, Kind::Socket) => true,
            _ => false,
        }
    }
}
