//! What has to be done for each found thing, by comparison with the parent's entry of the same path.
//!
//! A file whose size, mtime and ctime are those of the parent is not opened, let alone read: its entry
//! keeps the parent's places, if they are all still in the index, and none in a chunk that is to be cut again. No
//! state on the machine is needed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::archive::backup::Named;
use crate::archive::cursor::{Cursor, Extents};
use crate::archive::problem::Problem;
use crate::archive::usage::bundled_extents;
use crate::archive::walk::{Found, FoundKind, XattrReader};
use crate::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind, TreePath};
use crate::format::id::{ChunkPrefix, LinkGroup, RecordId};
use crate::repo::{Error, Index, Result, TreeReader};

/// The tree that a backup is compared with.
pub struct Parent {
    pub tree: TreeReader,
    /// Chunks whose files are to be bundled anew: what the parent's snapshot lists as little used.
    pub sparse: Vec<ChunkPrefix>,
    /// To wait for nodes from a plain thread.
    pub runtime: tokio::runtime::Handle,
}

/// What has to be done.
pub enum Planned {
    Kept(Box<Entry>),
    Link { named: Named, size: u64 },
    Small { found: Box<Found>, old: Option<([u8; 32], Content)> },
    Large(Box<Found>),
    Problem(Problem),
}

impl Planned {
    pub fn small_bytes(&self) -> u64 {
        match self {
            Planned::Small { found, .. } => match found.kind {
                FoundKind::File { size, .. } => size,
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// Walks along the parent's tree while the walk goes on.
pub struct Planner {
    old: OldEntries,
    bundle_below: u64,
    xattrs: XattrReader,
    /// Groups of hard links of which a file has come by.
    linked: HashSet<LinkGroup>,
}

/// The parent's entries, asked for in path order.
pub struct OldEntries {
    index: Arc<Index>,
    parent: Option<(Cursor, tokio::runtime::Handle)>,
    sparse: HashSet<ChunkPrefix>,
    ahead: VecDeque<Entry>,
    /// The parent's tree has no more entries.
    ended: bool,
}

impl Planner {
    pub fn new(parent: Option<Parent>, index: Arc<Index>, bundle_below: u64) -> Self {
        let old = OldEntries::new(parent, index);
        Self { old, bundle_below, xattrs: XattrReader::default(), linked: HashSet::new() }
    }

    /// What has to be done, and what could not be had beside it.
    pub fn plan(&mut self, mut found: Found) -> Result<(Planned, Option<Problem>)> {
        let mut old = self.old.entry(&found.path)?;
        match self.take_xattrs(&mut found, old.as_mut()) {
            Ok(problem) => Ok((self.plan_content(found, old)?, problem)),
            Err(gone) => Ok((Planned::Problem(gone), None)),
        }
    }

    /// Whoever changes an xattr changes the ctime: where that is the parent's, so are the xattrs.
    fn take_xattrs(
        &mut self,
        found: &mut Found,
        old: Option<&mut Entry>,
    ) -> Result<Option<Problem>, Problem> {
        match old.map(|old| &mut old.attributes) {
            Some(old) if (old.ctime, old.mtime) == (found.attributes.ctime, found.attributes.mtime) => {
                found.attributes.xattrs = std::mem::take(&mut old.xattrs);
                Ok(None)
            }
            _ => {
                let problem = self.xattrs.read(found)?;
                if problem.is_some() {
                    // So that the next backup does not take them for all there are.
                    found.attributes.ctime = FileTime::default();
                }
                Ok(problem)
            }
        }
    }

    fn plan_content(&mut self, found: Found, old: Option<Entry>) -> Result<Planned> {
        let FoundKind::File { size, .. } = found.kind else {
            return Ok(Planned::Kept(Box::new(plain(found))));
        };
        if let Some(group) = found.attributes.link
            && !self.linked.insert(group)
        {
            return Ok(Planned::Link { named: Box::new((found.path, found.attributes)), size });
        }
        let usable = old.as_ref().map(|old| self.old.may_keep(&old.kind, size)).transpose()?.unwrap_or(false);
        let old = match old {
            Some(Entry { attributes, kind: Kind::File { content, hash, .. }, .. }) if usable => {
                let touched = |own: &Attributes| (own.mtime, own.ctime);
                if touched(&attributes) == touched(&found.attributes) {
                    let kind = Kind::File { size, content, hash };
                    let entry = Entry { path: found.path, attributes: found.attributes, kind };
                    return Ok(Planned::Kept(Box::new(entry)));
                }
                hash.map(|hash| (hash, content))
            }
            _ => None,
        };
        Ok(match size < self.bundle_below {
            true => Planned::Small { found: Box::new(found), old },
            false => Planned::Large(Box::new(found)),
        })
    }
}

impl OldEntries {
    pub fn new(parent: Option<Parent>, index: Arc<Index>) -> Self {
        let sparse = parent.iter().flat_map(|parent| &parent.sparse).copied().collect();
        let parent = parent.map(|parent| (Cursor::new(parent.tree), parent.runtime));
        Self { index, parent, sparse, ahead: VecDeque::new(), ended: false }
    }

    /// Whether a file of the parent's, which has `size` bytes now, may stay where it is. If not it is read and saved
    /// again, even if its content is the same. One of another size is not looked into: it may say that it is of any.
    pub fn may_keep(&self, file: &Kind, size: u64) -> Result<bool> {
        let Kind::File { size: old_size, content, .. } = file else { return Ok(false) };
        if *old_size != size {
            return Ok(false);
        }
        let is_sparse = |extent: &Extent| match extent {
            Extent::Data { chunk, .. } => self.sparse.contains(&chunk.id.prefix()),
            Extent::Hole { .. } => false,
        };
        Ok(!bundled_extents(file).iter().any(is_sparse) && self.is_whole(size, content)?)
    }

    /// Whether all that the parent's entry refers to may be referred to again. The extents of a large file
    /// are read for that: its chunks may lie in packs that are lost while its nodes do not.
    fn is_whole(&self, size: u64, content: &Content) -> Result<bool> {
        if let Content::Extents(extents) = content {
            return Ok(extents.iter().all(|extent| may_refer_to(&self.index, extent)));
        }
        let Some((cursor, runtime)) = &self.parent else { return Ok(false) };
        match runtime.block_on(is_whole(cursor.tree(), &self.index, size, content)) {
            Ok(is_whole) => Ok(is_whole),
            Err(error) => self.damaged(error).map(|()| false),
        }
    }

    /// A damaged parent costs reading, not the backup.
    fn damaged(&self, error: Error) -> Result<()> {
        if error.is_inconclusive() {
            return Err(error);
        }
        tracing::warn!(%error, "a part of the parent's tree can't be read: its files are read anew");
        Ok(())
    }

    /// The parent's entry of a path; paths come in ascending order.
    pub fn entry(&mut self, path: &TreePath) -> Result<Option<Entry>> {
        loop {
            while let Some(front) = self.ahead.front() {
                match front.path.cmp(path) {
                    std::cmp::Ordering::Less => drop(self.ahead.pop_front()),
                    std::cmp::Ordering::Equal => return Ok(self.ahead.pop_front()),
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            let Some((cursor, runtime)) = self.parent.as_mut().filter(|_| !self.ended) else {
                return Ok(None);
            };
            match runtime.block_on(cursor.next_many()) {
                Ok(more) if more.is_empty() => self.ended = true,
                Ok(more) => self.ahead.extend(more),
                // The cursor stands behind what it could not read.
                Err(error) => self.damaged(error)?,
            }
        }
    }
}

fn may_refer_to(index: &Index, extent: &Extent) -> bool {
    match extent {
        Extent::Data { chunk, .. } => index.may_refer_to(&RecordId::Chunk(chunk.id)),
        Extent::Hole { .. } => true,
    }
}

/// Whether all that the content of a file of `tree` refers to may be referred to again.
pub(super) async fn is_whole(tree: &TreeReader, index: &Index, size: u64, content: &Content) -> Result<bool> {
    match content {
        Content::Extents(extents) => return Ok(extents.iter().all(|extent| may_refer_to(index, extent))),
        Content::Tree(root) if !index.may_refer_to(&RecordId::Node(*root)) => return Ok(false),
        Content::Tree(_) => {}
    }
    let mut extents = Extents::of(tree.clone(), size, content);
    while let Some(extent) = extents.next().await? {
        if !may_refer_to(index, &extent) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An entry of something that has no content.
fn plain(found: Found) -> Entry {
    let kind = match found.kind {
        FoundKind::Folder => Kind::Folder,
        FoundKind::File { .. } => Kind::File { size: 0, content: Content::Extents(Vec::new()), hash: None },
        FoundKind::Symlink { target } => Kind::Symlink { target },
        FoundKind::Fifo => Kind::Fifo,
        FoundKind::Socket => Kind::Socket,
        FoundKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        FoundKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
    };
    Entry { path: found.path, attributes: found.attributes, kind }
}
