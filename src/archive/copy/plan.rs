//! What has to be done for a copy, step by step in path order, in windows whose chunks are read together.
//!
//! Reads the source's nodes, and no data. Names of groups of hard links are made anew here; a file that is
//! another name of one that came before is not read again.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc;

use crate::archive::backup::MissingList;
use crate::archive::copy::gaps::Gaps;
use crate::archive::copy::{Setting, follow::Pairs};
use crate::archive::cursor::{Cursor, Extents};
use crate::archive::place::{damage_or, gap};
use crate::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use crate::format::id::LinkGroup;
use crate::format::refs::ChunkRef;
use crate::repo::{Error, Result};

/// A window ends at so many chunks to read, …
const WINDOW_CHUNKS: usize = 16;
/// … or steps.
const WINDOW_STEPS: usize = 16 * 1024;
/// Extents of a large file that make one step.
const PIECE_EXTENTS: usize = WINDOW_CHUNKS;
/// A file with a hash that is longer loses it: all of its bytes would have to be in memory at once.
const HASHED_BYTES: u64 = 16 * 1024 * 1024;

/// One step of a copy.
pub enum Step {
    /// It is as it shall be.
    Entry(Box<Entry>),
    /// A file as the source has it, whose hash is made anew: all of its bytes are needed at once.
    Hashed(Box<Entry>),
    /// The next extents of the file that is ended by the next [`Step::End`].
    Piece(Vec<Extent>),
    /// Its extents can't be read.
    Broken(String),
    /// Ends a file; its content is what the pieces before said.
    End(Box<Entry>),
    /// Another name of a file that came before.
    Link(Box<Entry>),
}

impl Step {
    fn chunks(&self) -> impl Iterator<Item = ChunkRef> {
        let extents = match self {
            Step::Piece(extents) => extents.as_slice(),
            Step::Hashed(entry) => extents_of(&entry.kind),
            _ => &[],
        };
        extents.iter().filter_map(|extent| match extent {
            Extent::Data { chunk, .. } => Some(*chunk),
            Extent::Hole { .. } => None,
        })
    }
}

/// The extents that an entry holds itself.
pub fn extents_of(kind: &Kind) -> &[Extent] {
    match kind {
        Kind::File { content: Content::Extents(extents), .. } => extents,
        _ => &[],
    }
}

/// Steps on their way, as many together as is good for reading.
pub struct Windows {
    steps: Vec<Step>,
    chunks: HashSet<ChunkRef>,
    out: mpsc::Sender<Vec<Step>>,
}

impl Windows {
    pub fn new(out: mpsc::Sender<Vec<Step>>) -> Self {
        Self { steps: Vec::new(), chunks: HashSet::new(), out }
    }

    async fn push(&mut self, step: Step) -> Result<()> {
        let more: HashSet<ChunkRef> = step.chunks().filter(|chunk| !self.chunks.contains(chunk)).collect();
        if self.chunks.len() + more.len() > WINDOW_CHUNKS {
            self.send().await?;
            self.chunks.extend(step.chunks());
        } else {
            self.chunks.extend(more);
        }
        self.steps.push(step);
        if self.steps.len() >= WINDOW_STEPS { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<()> {
        self.chunks.clear();
        match std::mem::take(&mut self.steps) {
            steps if steps.is_empty() => Ok(()),
            // Whoever takes them has failed, and says why.
            steps => self.out.send(steps).await.map_err(|_| Error::Abandoned),
        }
    }
}

/// How planning ended.
pub enum Planned {
    Whole,
    BadBase,
    Cancelled,
}

/// Goes through a tree of the source.
pub struct Planner {
    pub(super) setting: Setting,
    windows: Windows,
    /// Groups of hard links of the source: what they are called in the copy, and what the first file's content
    /// is in the source, if that one is copied in this run.
    groups: HashMap<LinkGroup, (LinkGroup, Option<Content>)>,
    /// The last path that was planned, and whether it is a folder's.
    last: Option<(TreePath, bool)>,
    lost: MissingList,
    gaps: Gaps,
    /// Seen in the midst of a file, which is of no use then.
    pub(super) cancelled: bool,
}

impl Planner {
    pub fn new(setting: Setting, windows: Windows) -> Self {
        Self {
            setting,
            windows,
            groups: HashMap::new(),
            last: None,
            lost: MissingList::default(),
            gaps: Gaps::default(),
            cancelled: false,
        }
    }

    /// Sends what is left, and gives the parts of the tree that are lost.
    pub async fn finish(mut self, planned: Planned) -> Result<(Planned, MissingList)> {
        self.windows.send().await?;
        Ok((planned, self.lost))
    }

    /// Plans the whole tree. A part that can't be read is listed; it is an error if that is all.
    pub async fn walk(&mut self) -> Result<Planned> {
        let mut cursor = Cursor::new(self.setting.tree.clone());
        loop {
            let entries = match cursor.next_many().await {
                Ok(entries) if entries.is_empty() => return Ok(Planned::Whole),
                Ok(entries) => entries,
                Err(error) if cursor.failed_at().is_root() => return Err(error),
                Err(error) => {
                    if let Err(why) = damage_or::<()>(Err(error))? {
                        self.gaps.begin(self.last.as_ref().map(|(path, is_folder)| (path, *is_folder)));
                        let last = self.last.as_ref().map(|(path, _)| path.clone());
                        self.lost.list(gap(last, Some(cursor.failed_at()), &why));
                    }
                    continue;
                }
            };
            for entry in entries {
                self.take(entry, None).await?;
                if self.is_cancelled() {
                    return Ok(Planned::Cancelled);
                }
            }
        }
    }

    pub(super) fn is_cancelled(&mut self) -> bool {
        self.cancelled |= self.setting.progress.is_cancelled();
        self.cancelled
    }

    /// Plans an entry of the source. `old` is what is known of an older content of the same path.
    pub(super) async fn take(&mut self, mut entry: Entry, old: Option<Pairs>) -> Result<()> {
        self.planned(&entry);
        self.bridge_gap(&entry).await?;
        let first = entry.attributes.link.and_then(|group| self.groups.get(&group));
        let is_link = matches!((first, &entry.kind), (Some((_, Some(first))), Kind::File { content, .. }) if first == content);
        self.rename_link(&mut entry)?;
        if is_link {
            return self.windows.push(Step::Link(Box::new(entry))).await;
        }
        match &entry.kind {
            Kind::File { hash: Some(_), size, content: Content::Extents(extents) } => {
                let chunks: HashSet<_> = Step::Piece(extents.clone()).chunks().collect();
                if chunks.len() <= WINDOW_CHUNKS && *size <= HASHED_BYTES {
                    return self.windows.push(Step::Hashed(Box::new(entry))).await;
                }
                self.pieces(entry, old).await
            }
            Kind::File { .. } => self.pieces(entry, old).await,
            _ => self.windows.push(Step::Entry(Box::new(entry))).await,
        }
    }

    /// Makes up the folders above an entry whose own entries are lost: without them it would lie nowhere. Nobody
    /// but root may enter them.
    async fn bridge_gap(&mut self, entry: &Entry) -> Result<()> {
        if !self.setting.has_folders {
            return Ok(());
        }
        for path in self.gaps.missing_above(entry) {
            let attributes = Attributes { mode: 0o700, ..Default::default() };
            self.windows.push(Step::Entry(Box::new(Entry { path, attributes, kind: Kind::Folder }))).await?;
        }
        Ok(())
    }

    /// Plans an entry that is made of what the copy has already.
    pub(super) async fn keep(&mut self, entry: Entry) -> Result<()> {
        self.planned(&entry);
        let ids = (self.setting.tree.reader.repo().keys.ids()?, self.setting.writer.repo().keys.ids()?);
        // A group is called after the first of its files, so what the source calls it is known too.
        if let Some(group) = entry.attributes.link
            && ids.1.link_group(&entry.path) == group
        {
            let source = ids.0.link_group(&entry.path);
            self.groups.entry(source).or_insert((group, None));
        }
        self.windows.push(Step::Entry(Box::new(entry))).await
    }

    /// Gives a source's group of hard links the name that it has in the copy.
    pub(super) fn rename_link(&mut self, entry: &mut Entry) -> Result<()> {
        let Some(group) = entry.attributes.link else { return Ok(()) };
        let ids = self.setting.writer.repo().keys.ids()?;
        let first = || match &entry.kind {
            Kind::File { content, .. } => (ids.link_group(&entry.path), Some(content.clone())),
            _ => (ids.link_group(&entry.path), None),
        };
        entry.attributes.link = Some(self.groups.entry(group).or_insert_with(first).0);
        Ok(())
    }

    fn planned(&mut self, entry: &Entry) {
        self.last = Some((entry.path.clone(), matches!(entry.kind, Kind::Folder)));
    }

    /// Plans a file extent by extent.
    async fn pieces(&mut self, entry: Entry, mut old: Option<Pairs>) -> Result<()> {
        let Entry { path, attributes, kind: Kind::File { size, content, .. } } = entry else { return Ok(()) };
        let mut extents = Extents::of(self.setting.tree.clone(), size, &content);
        let mut piece = Vec::new();
        loop {
            match damage_or(extents.next().await)? {
                Ok(Some(extent)) => piece.push(extent),
                Ok(None) => break,
                Err(why) => {
                    self.windows.push(Step::Broken(why)).await?;
                    break;
                }
            }
            if piece.len() >= PIECE_EXTENTS {
                if self.is_cancelled() {
                    return Ok(());
                }
                self.piece(&mut piece, old.as_mut()).await?;
            }
        }
        if !piece.is_empty() {
            self.piece(&mut piece, old.as_mut()).await?;
        }
        let kind = Kind::File { size, content: Content::Extents(Vec::new()), hash: None };
        self.windows.push(Step::End(Box::new(Entry { path, attributes, kind }))).await
    }

    async fn piece(&mut self, piece: &mut Vec<Extent>, old: Option<&mut Pairs>) -> Result<()> {
        if let Some(old) = old {
            old.tell(&self.setting.known, piece.len()).await?;
        }
        self.windows.push(Step::Piece(std::mem::take(piece))).await
    }
}
