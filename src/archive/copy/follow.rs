//! A copy that follows an older one of the same source: what did not change is taken from there.
//!
//! The older tree, its copy and the new tree are walked together. Nodes that the two trees of the source share
//! are never opened, and chunks that the older copy has are not read: of a file that changed in places, the
//! extents before and their copies tell which chunk is which.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::archive::compare::is_whole;
use crate::archive::copy::Base;
use crate::archive::copy::known::Known;
use crate::archive::copy::plan::{Planned, Planner};
use crate::archive::cursor::{Change, Cursor, Difference, Extents};
use crate::archive::place::damage_or;
use crate::format::entry::{Entry, Extent, Kind, TreePath};
use crate::format::id::RecordId;
use crate::repo::{Index, Result, TreeReader};

/// How many extents of the older file are taken in before the new one's get there: what was inserted or taken
/// out between may be that long. Far less than what [`Known`] keeps.
const EXTENTS_AHEAD: usize = 16 * 1024;

/// Three trees, walked together.
struct Trees {
    changes: Difference,
    /// The next change, if it was asked for.
    change: Option<Change>,
    asked: bool,
    copy: Cursor,
    copied: VecDeque<Entry>,
    /// The new tree, to look up what the older copy has lost since.
    source: Cursor,
}

enum Next {
    /// The copy's entry is still right.
    Same(Entry),
    /// An entry of the source, and what it was before: in the source and in the copy.
    Changed(Box<Entry>, Option<Box<(Entry, Entry)>>),
    End,
}

impl Trees {
    fn new(tree: &TreeReader, base: &Base) -> Self {
        Self {
            changes: Difference::new(Some(base.source.clone()), tree.clone()),
            change: None,
            asked: false,
            copy: Cursor::new(base.copy.clone()),
            copied: VecDeque::new(),
            source: Cursor::new(tree.clone()),
        }
    }

    async fn next(&mut self) -> Result<Next> {
        loop {
            if !self.asked {
                self.change = self.changes.next().await?;
                self.asked = true;
            }
            if self.copied.is_empty() {
                self.copied.extend(self.copy.next_many().await?);
            }
            let changed = self.change.as_ref().map(path);
            let copied = self.copied.front().map(|entry| &entry.path);
            let (takes_change, takes_copied) = match (changed, copied) {
                (None, None) => return Ok(Next::End),
                (None, Some(_)) => (false, true),
                (Some(_), None) => (true, false),
                (Some(changed), Some(copied)) => (changed <= copied, copied <= changed),
            };
            let copied = if takes_copied { self.copied.pop_front() } else { None };
            let change = if takes_change { self.change.take() } else { None };
            self.asked &= !takes_change;
            match (change, copied) {
                (None, Some(copied)) => return Ok(Next::Same(copied)),
                (Some(Change::Changed { before, after }), copied) => {
                    let old = copied.map(|copied| Box::new((before, copied)));
                    return Ok(Next::Changed(Box::new(after), old));
                }
                (Some(Change::Added(entry)), _) => return Ok(Next::Changed(Box::new(entry), None)),
                (Some(Change::Removed(_)) | None, _) => {}
            }
        }
    }

    /// The new tree's entry of a path; paths come in ascending order.
    async fn entry(&mut self, path: &TreePath) -> Result<Option<Entry>> {
        self.source.seek(path).await?;
        Ok(self.source.next().await?.filter(|entry| entry.path == *path))
    }
}

fn path(change: &Change) -> &TreePath {
    match change {
        Change::Added(entry) | Change::Removed(entry) | Change::Changed { after: entry, .. } => &entry.path,
    }
}

impl Planner {
    /// Plans the tree as what differs from the base.
    pub(super) async fn follow(&mut self, base: Base) -> Result<Planned> {
        let mut trees = Trees::new(&self.setting.tree, &base);
        loop {
            match usable(trees.next().await)? {
                None => return Ok(Planned::BadBase),
                Some(Next::End) => return Ok(Planned::Whole),
                Some(Next::Same(copied)) => {
                    if self.has_all(&base, &copied.kind).await? {
                        self.keep(copied).await?;
                    } else if let Some(entry) = usable(trees.entry(&copied.path).await)?.flatten() {
                        self.take(entry, None).await?;
                    } else {
                        return Ok(Planned::BadBase);
                    }
                }
                Some(Next::Changed(after, None)) => self.take(*after, None).await?,
                Some(Next::Changed(after, Some(old))) => {
                    let (before, copied) = *old;
                    self.take_changed(&base, *after, before, copied).await?;
                }
            }
            if self.is_cancelled() {
                return Ok(Planned::Cancelled);
            }
        }
    }

    async fn take_changed(
        &mut self,
        base: &Base,
        mut after: Entry,
        before: Entry,
        copied: Entry,
    ) -> Result<()> {
        if !matches!(after.kind, Kind::File { .. }) {
            return self.take(after, None).await;
        }
        if after.kind == before.kind && self.has_all(base, &copied.kind).await? {
            // Only touched, renamed to another owner, or the like.
            self.rename_link(&mut after)?;
            return self.keep(Entry { kind: copied.kind, ..after }).await;
        }
        let old = Pairs::new(base, &before.kind, &copied.kind);
        self.take(after, old).await
    }

    /// Whether all that an entry of the older copy refers to is still there.
    async fn has_all(&self, base: &Base, kind: &Kind) -> Result<bool> {
        let Kind::File { size, content, .. } = kind else { return Ok(true) };
        let is_whole = is_whole(&base.copy, base.copy.reader.index(), *size, content).await;
        Ok(usable(is_whole)?.unwrap_or(false))
    }
}

/// Damage only costs the help of the base.
fn usable<T>(read: Result<T>) -> Result<Option<T>> {
    let read = damage_or(read)?;
    Ok(read.map_err(|why| tracing::warn!(why, "a base of the copy can't be read: more is read anew")).ok())
}

/// The extents of a file as it was, in the source and in the copy: they follow each other in the same order.
pub struct Pairs {
    source: Extents,
    copy: Extents,
    index: Arc<Index>,
    /// Extents that were taken in.
    told: usize,
    /// Extents of the new file that were planned.
    passed: usize,
    ended: bool,
}

impl Pairs {
    fn new(base: &Base, before: &Kind, copied: &Kind) -> Option<Self> {
        let extents = |tree: &TreeReader, kind: &Kind| match kind {
            Kind::File { size, content, .. } => Some(Extents::of(tree.clone(), *size, content)),
            _ => None,
        };
        Some(Self {
            source: extents(&base.source, before)?,
            copy: extents(&base.copy, copied)?,
            index: base.copy.reader.index().clone(),
            told: 0,
            passed: 0,
            ended: false,
        })
    }

    /// Tells which chunk is which, up to some way ahead of the new file's next `planned` extents.
    pub async fn tell(&mut self, known: &Known, planned: usize) -> Result<()> {
        self.passed += planned;
        while !self.ended && self.told < self.passed + EXTENTS_AHEAD {
            self.told += 1;
            let next =
                (usable(self.source.next().await)?.flatten(), usable(self.copy.next().await)?.flatten());
            match next {
                (Some(Extent::Hole { len: a }), Some(Extent::Hole { len: b })) if a == b => {}
                (
                    Some(Extent::Data { chunk, offset, len }),
                    Some(Extent::Data { chunk: copy, offset: same_offset, len: same_len }),
                ) if (offset, len, chunk.len) == (same_offset, same_len, copy.len) => {
                    // Chunks of the copy that are gone are read and saved again.
                    if self.index.may_refer_to(&RecordId::Chunk(copy.id)) {
                        known.insert(chunk, copy);
                    }
                }
                _ => self.ended = true,
            }
        }
        Ok(())
    }
}
