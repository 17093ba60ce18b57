//! The plain values that go into the catalog and come out of it.
//!
//! Beside the flow: `job` makes them from commits and trees, `cli` prints them. They hold what
//! `ls -l` shows and no content. Invariant: an entry row comes out as it went in.

use crate::crypto::hash;
use crate::format::commit::RootKind;
use crate::format::entry::{Content, Entry, Extent, FileTime, Kind, TreePath};
use crate::format::id::{SessionId, SourceId};
use crate::world::Time;

/// What a commit says about its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    pub id: SessionId,
    pub source: SourceId,
    /// What the source is, as JSON. The source id is its hash, so it is stored once for each source.
    pub source_text: String,
    pub host: String,
    /// When the data was cut.
    pub time: Time,
    pub complete: bool,
    pub tags: Vec<String>,
    pub files: u64,
    pub bytes: u64,
    /// The snapshot that the backup compared with. Only shown: which one a difference is
    /// relative to is said to [`super::Ingest::root`].
    pub parent: Option<SessionId>,
    pub roots: Vec<RootRow>,
}

/// One tree of a snapshot. A snapshot has at most one of each source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRow {
    pub kind: RootKind,
    pub source: SourceId,
    pub source_text: String,
}

/// What is at a path: what `ls -l` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    pub path: TreePath,
    pub kind: EntryKind,
    pub mtime: FileTime,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Tells versions apart that look alike: a hash of content and extended attributes.
    pub stamp: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Folder,
    File { size: u64 },
    Symlink { target: Vec<u8> },
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// One line of a tree's difference to the tree before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(EntryRow),
    Changed(EntryRow),
    Removed(TreePath),
}

/// A snapshot, as the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub time: Time,
    pub id: SessionId,
}

/// One version of what was at a path, and the snapshots that have it: from `first` to `last` in
/// the order of their times, with none in between that lacks it or has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub row: EntryRow,
    pub first: Seen,
    pub last: Seen,
    /// Whether `last` is the newest snapshot of this tree.
    pub current: bool,
}

/// A path that a search found, and its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The source of the root.
    pub source: SourceId,
    pub path: TreePath,
    /// Never empty.
    pub versions: Vec<Interval>,
}

impl From<&Entry> for EntryRow {
    fn from(entry: &Entry) -> Self {
        let attributes = &entry.attributes;
        Self {
            path: entry.path.clone(),
            kind: match &entry.kind {
                Kind::Folder => EntryKind::Folder,
                Kind::File { size, .. } => EntryKind::File { size: *size },
                Kind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
                Kind::Fifo => EntryKind::Fifo,
                Kind::Socket => EntryKind::Socket,
                Kind::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
                Kind::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
            },
            mtime: attributes.mtime,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            stamp: stamp(entry),
        }
    }
}

/// Leaves out where bundled content lies, ctime and the hard link group: they may change while
/// the file, as its owner sees it, does not.
fn stamp(entry: &Entry) -> u64 {
    let mut hasher = hash::Running::default();
    match &entry.kind {
        Kind::File { hash: Some(hash), .. } => hasher.update(hash),
        Kind::File { content: Content::Tree(root), .. } => hasher.update(&root.0),
        Kind::File { content: Content::Extents(extents), .. } => {
            for extent in extents {
                match extent {
                    Extent::Data { chunk, offset, .. } => {
                        hasher.update(&chunk.id.0);
                        hasher.update(&offset.to_le_bytes());
                    }
                    Extent::Hole { .. } => hasher.update(b"hole"),
                }
                hasher.update(&extent.len().to_le_bytes());
            }
        }
        _ => {}
    }
    hasher.update(b"xattrs");
    for (name, value) in &entry.attributes.xattrs {
        for bytes in [name, value] {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    let hash = hasher.finish();
    u64::from_le_bytes(std::array::from_fn(|i| hash[i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Attributes;
    use crate::format::id::ChunkId;
    use crate::format::refs::ChunkRef;

    fn file(chunk: u8, hash: Option<[u8; 32]>) -> Entry {
        let chunk = ChunkRef { id: ChunkId([chunk; 32]), len: 9 };
        let extent = Extent::Data { chunk, offset: 0, len: 5 };
        Entry {
            path: TreePath::from_slashes(b"a").unwrap(),
            attributes: Attributes::default(),
            kind: Kind::File { size: 5, content: Content::Extents(vec![extent]), hash },
        }
    }

    #[test]
    fn a_bundle_that_was_cut_again_does_not_make_a_new_version() {
        assert_eq!(EntryRow::from(&file(1, Some([9; 32]))), EntryRow::from(&file(2, Some([9; 32]))));
        let mut touched = file(1, Some([9; 32]));
        touched.attributes.ctime.secs = 1;
        assert_eq!(EntryRow::from(&file(1, Some([9; 32]))), EntryRow::from(&touched));
    }

    #[test]
    fn other_content_of_the_same_size_and_other_xattrs_make_a_new_version() {
        assert_ne!(EntryRow::from(&file(1, None)), EntryRow::from(&file(2, None)));
        assert_ne!(EntryRow::from(&file(1, Some([8; 32]))), EntryRow::from(&file(1, Some([9; 32]))));
        let mut tagged = file(1, None);
        tagged.attributes.xattrs.push((b"user.a".to_vec(), b"b".to_vec()));
        assert_ne!(EntryRow::from(&file(1, None)), EntryRow::from(&tagged));
    }
}
