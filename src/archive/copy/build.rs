//! The last stage of a copy: builds the tree of what was carried over, and counts.
//!
//! Blocks, because nodes are saved here: runs on a thread of its own.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::archive::backup::MissingList;
use crate::archive::copy::carry::Built;
use crate::archive::copy::{Setting, Tree};
use crate::archive::tree::{ContentBuilder, NodeSink, TreeBuilder};
use crate::format::entry::{Entry, Extent, Kind, TreePath};
use crate::format::id::LinkGroup;
use crate::format::summary::{Counts, Missing};
use crate::progress::{Progress, Unit};
use crate::repo::Result;

struct Builder<'a> {
    sink: &'a NodeSink<'a>,
    progress: &'a dyn Progress,
    tree: TreeBuilder,
    file: File,
    /// Content of files with several names.
    linked: HashMap<LinkGroup, Kind>,
    counts: Counts,
    lost: MissingList,
}

/// A file that comes piece by piece.
#[derive(Default)]
struct File {
    content: ContentBuilder,
    broken: Option<String>,
}

/// Builds a tree of what comes. If not all of it comes, the tree is of no use; whoever sends knows.
pub fn build(setting: &Setting, mut batches: mpsc::Receiver<Vec<Built>>) -> Result<Tree> {
    let cut = setting.writer.repo().keys.ids()?.node_cut();
    let sink = NodeSink { writer: &setting.writer, meta: &setting.meta, cut: &cut };
    let mut builder = Builder {
        sink: &sink,
        progress: setting.progress.as_ref(),
        tree: TreeBuilder::new(),
        file: File::default(),
        linked: HashMap::new(),
        counts: Counts::default(),
        lost: MissingList::default(),
    };
    while let Some(batch) = batches.blocking_recv() {
        batch.into_iter().try_for_each(|built| builder.take(built))?;
    }
    Ok(Tree { root: builder.tree.finish(&sink)?, counts: builder.counts, lost: builder.lost })
}

impl Builder<'_> {
    fn take(&mut self, built: Built) -> Result<()> {
        match built {
            Built::Entry(entry) => self.push(*entry),
            Built::Extents(extents) => self.extend(extents),
            Built::Broken(why) => {
                self.file.broken.get_or_insert(why);
                Ok(())
            }
            Built::End(entry) => self.end(*entry),
            Built::Lost(entry, why) => {
                self.lose(&entry.path, why);
                Ok(())
            }
            Built::Link(entry) => {
                match entry.attributes.link.and_then(|group| self.linked.get(&group)).cloned() {
                    Some(kind) => self.push(Entry { kind, ..*entry }),
                    None => {
                        self.lose(&entry.path, "the first name of this file is lost too".into());
                        Ok(())
                    }
                }
            }
        }
    }

    fn extend(&mut self, extents: Vec<Extent>) -> Result<()> {
        if self.file.broken.is_some() {
            return Ok(());
        }
        for extent in extents {
            self.file.content.push(self.sink, extent)?;
        }
        Ok(())
    }

    fn end(&mut self, entry: Entry) -> Result<()> {
        let File { content, broken } = std::mem::take(&mut self.file);
        if let Some(why) = broken {
            self.lose(&entry.path, why);
        } else {
            let (size, content) = (entry.size(), content.finish(self.sink)?);
            self.push(Entry { kind: Kind::File { size, content, hash: None }, ..entry })?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        self.counts.entries += 1;
        if let Kind::File { size, .. } = entry.kind {
            self.counts.files += 1;
            self.counts.bytes += size;
            self.progress.advance(Unit::Bytes, size);
            if let Some(group) = entry.attributes.link {
                self.linked.entry(group).or_insert_with(|| entry.kind.clone());
            }
        }
        self.progress.advance(Unit::Entries, 1);
        self.tree.push(self.sink, entry)
    }

    fn lose(&mut self, path: &TreePath, why: String) {
        self.lost.list(Missing { what: path.to_string(), why });
    }
}

impl Tree {
    /// With what could not even be planned.
    pub(super) fn with(mut self, lost: MissingList) -> Self {
        lost.listed.into_iter().for_each(|missing| self.lost.list(missing));
        self.lost.more += lost.more;
        self
    }
}
