//! The last stage of a backup: puts entries together, in path order, and builds the tree.
//!
//! An entry waits here until its content has a place: a small file until its bundle is cut
//! behind it, a large one until its last chunk is saved.

use std::collections::{HashMap, VecDeque};

use crate::archive::backup::{LargeRead, MissingList, Named, Outcome, Read, Shared};
use crate::archive::bundle::{Bundle, Stretch};
use crate::archive::file::Segment;
use crate::archive::pool::Awaited;
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::tree::TreeBuilder;
use crate::archive::usage::Usage;
use crate::archive::witness::Seen;
use crate::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use crate::format::id::LinkGroup;
use crate::format::refs::ChunkRef;
use crate::format::summary::Counts;
use crate::progress::Unit;
use crate::repo::{Error, Result};

/// Entries that may wait; beyond it the first one is waited for.
const WAITING: usize = 16 * 1024;

type Save<'a> = &'a mut dyn FnMut(Vec<u8>) -> Awaited<Result<ChunkRef>>;

pub struct Assembler<'a> {
    shared: &'a Shared<'a>,
    save: Save<'a>,
    bundle: Bundle,
    waiting: VecDeque<Waiting>,
    tree: TreeBuilder,
    /// Content of files with several names.
    linked: HashMap<LinkGroup, Kind>,
    usage: Usage,
    counts: Counts,
    missing: MissingList,
}

enum Waiting {
    Entry(Box<Entry>),
    Link(Named),
    Bundled { named: Named, size: u64, segments: Vec<Segment>, at: Stretch, hash: [u8; 32] },
    Large(Named, Awaited<Result<LargeRead, Problem>>),
}

impl<'a> Assembler<'a> {
    pub fn new(shared: &'a Shared<'a>, save: Save<'a>) -> Self {
        Self {
            shared,
            save,
            bundle: Bundle::new(),
            waiting: VecDeque::new(),
            tree: TreeBuilder::new(),
            linked: HashMap::new(),
            usage: Usage::default(),
            counts: Counts::default(),
            missing: MissingList::default(),
        }
    }

    /// Takes the next in path order.
    pub fn take(&mut self, read: Read) -> Result<()> {
        match read {
            Read::Kept(entry) => self.waiting.push_back(Waiting::Entry(entry)),
            Read::Link(named) => self.waiting.push_back(Waiting::Link(named)),
            Read::Large(named, content) => self.waiting.push_back(Waiting::Large(named, content)),
            Read::Problem(problem) => self.missing.add(&problem),
            Read::Small(small) => {
                self.counts.read_bytes += small.segments.iter().map(Segment::data_len).sum::<u64>();
                let hash = Some(small.hash);
                let waiting = match small.known {
                    Some(content) => {
                        let kind = Kind::File { size: small.size, content, hash };
                        Waiting::Entry(Box::new(entry(*small.named, kind)))
                    }
                    None => Waiting::Bundled {
                        at: self.bundle.add(self.shared.chunker, &small.data, self.save),
                        named: small.named,
                        size: small.size,
                        segments: small.segments,
                        hash: small.hash,
                    },
                };
                self.waiting.push_back(waiting);
            }
        }
        self.settle(WAITING)
    }

    /// Finishes what is ready, and waits as long as more than `most` are waiting.
    fn settle(&mut self, most: usize) -> Result<()> {
        while let Some(first) = self.waiting.front() {
            let ready = match first {
                Waiting::Entry(_) | Waiting::Link(_) => true,
                Waiting::Bundled { at, .. } => self.bundle.is_settled(at),
                Waiting::Large(_, content) => content.is_set(),
            };
            if !ready && self.waiting.len() <= most {
                return Ok(());
            }
            if let (false, Waiting::Bundled { at, .. }) = (ready, first)
                && !self.bundle.is_cut_behind(at)
            {
                self.bundle.flush(self.shared.chunker, self.save);
            }
            let first = self.waiting.pop_front();
            first.map_or(Ok(()), |first| self.place(first))?;
        }
        Ok(())
    }

    fn place(&mut self, waiting: Waiting) -> Result<()> {
        match waiting {
            Waiting::Entry(entry) => self.push(*entry),
            Waiting::Link(named) => match named.1.link.and_then(|group| self.linked.get(&group)).cloned() {
                Some(kind) => self.push(entry(*named, kind)),
                None => {
                    let why = "the first name of this file is missing too";
                    self.missing.add(&Problem::found("linking", &named.0, ProblemKind::Other, why));
                    Ok(())
                }
            },
            Waiting::Bundled { named, size, segments, at, hash } => {
                let extents = self.bundle.settle(&at)?.ok_or(Error::Abandoned)?;
                let content = Content::Extents(with_holes(&segments, extents));
                self.push(entry(*named, Kind::File { size, content, hash: Some(hash) }))
            }
            Waiting::Large(named, content) => match content.wait() {
                None => Err(Error::Abandoned),
                Some(Err(problem)) if self.shared.is_gone(&problem) => Ok(()),
                Some(Err(problem)) => {
                    self.missing.add(&problem);
                    Ok(())
                }
                Some(Ok(read)) => {
                    let (size, content) = read?;
                    self.counts.read_bytes += size;
                    self.push(entry(*named, Kind::File { size, content, hash: None }))
                }
            },
        }
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        // It may have been cut short, and would be a node that no reader accepts.
        if self.shared.is_ending() {
            return Ok(());
        }
        self.counts.entries += 1;
        if let Kind::File { size, .. } = entry.kind {
            self.counts.files += 1;
            self.counts.bytes += size;
            self.shared.progress.advance(Unit::Bytes, size);
            match entry.attributes.link {
                Some(group) if self.linked.contains_key(&group) => {}
                Some(group) => {
                    self.usage.add(&entry.kind);
                    self.linked.insert(group, entry.kind.clone());
                }
                None => self.usage.add(&entry.kind),
            }
        }
        self.shared.progress.advance(Unit::Entries, 1);
        self.tree.push(&self.shared.sink(), entry)
    }

    pub fn finish(mut self, seen: Seen) -> Result<Outcome> {
        self.bundle.flush(self.shared.chunker, self.save);
        self.settle(0)?;
        Ok(Outcome {
            root: self.tree.finish(&self.shared.sink())?,
            counts: self.counts,
            sparse: self.usage.sparse(),
            missing: self.missing.listed,
            more_missing: self.missing.more,
            moved: self.shared.take_moved(),
            seen,
            // Asked only now: a large file that was being read when the word came has been cut short.
            cancelled: self.shared.progress.is_cancelled(),
        })
    }
}

fn entry((path, attributes): (TreePath, Attributes), kind: Kind) -> Entry {
    Entry { path, attributes, kind }
}

/// Lays the extents of the data segments, which follow each other, around the holes.
fn with_holes(segments: &[Segment], extents: Vec<Extent>) -> Vec<Extent> {
    let mut out = Vec::with_capacity(extents.len() + segments.len());
    let mut extents = extents.into_iter();
    let mut rest: Option<Extent> = None;
    for segment in segments {
        match *segment {
            Segment::Hole { len, .. } => out.push(Extent::Hole { len }),
            Segment::Data { mut len, .. } => {
                while len > 0 {
                    let Some(extent) = rest.take().or_else(|| extents.next()) else { break };
                    let (now, later) = split(extent, len);
                    len -= now.len();
                    out.push(now);
                    rest = later;
                }
            }
        }
    }
    out
}

/// The first `len` bytes of an extent, and what is left of it.
fn split(extent: Extent, len: u64) -> (Extent, Option<Extent>) {
    match extent {
        Extent::Data { chunk, offset, len: all } if u64::from(all) > len => {
            let len = len as u32;
            let rest = Extent::Data { chunk, offset: offset + len, len: all - len };
            (Extent::Data { chunk, offset, len }, Some(rest))
        }
        other => (other, None),
    }
}
