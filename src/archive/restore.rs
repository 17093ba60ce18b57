//! A restore of files: walk the tree → decide → fetch chunks → write → attributes.
//!
//! The walk makes folders and lists what files need, in batches: the chunks of a batch are fetched in the order in
//! which they lie in the packs, and each is written, by several threads, to all places where it belongs. While they come
//! the walk goes on. Then come hard links, and the folders' attributes, innermost first. A file that can't be
//! had whole is not left behind: it is listed, and everything else is restored.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::cursor::{Cursor, Extents};
use crate::archive::delete::delete_beside;
use crate::archive::place::{LostFile, Piece, Placed, Placer, Placing, damage_or, gap};
use crate::archive::plan::{Action, Options, There, decide};
use crate::archive::problem::{Problem, ProblemKind};
pub use crate::archive::report::{List, Report};
use crate::archive::target::{Device, Target};
use crate::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use crate::format::id::{LinkGroup, NodeId};
use crate::format::refs::ChunkRef;
use crate::progress::{Progress, Unit};
use crate::repo::{Error, Fetch, Reader, Result};

/// A batch ends at so many bytes of chunks, …
const BATCH_BYTES: u64 = 128 * 1024 * 1024;
/// … or pieces of files, …
const BATCH_PIECES: usize = 8 * 1024;
/// … or files of more than one chunk, which stay open until the last of it comes.
const BATCH_OPEN: usize = 256;
/// Hard links that are made together, when the files are there.
const LINKS: usize = 8 * 1024;

/// Restores what lies below `from` into `target`. `NotFound` is for the caller to tell: an empty report
/// with no entry written means that there is no such path.
pub async fn restore(
    reader: Arc<Reader>,
    root: NodeId,
    from: &TreePath,
    target: Arc<Target>,
    options: Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome> {
    let mut cursor = Cursor::new(reader.clone(), root);
    let placer = Placer { target: target.clone(), progress: progress.clone() };
    let putting = placer.clone();
    let put = move |_, pieces, read| Ok(putting.pieces(pieces, damage_or(read)?));
    let mut run = Run {
        fetch: Fetch::new(reader.clone(), put),
        reader,
        target,
        placer,
        options,
        progress,
        report: Report::default(),
        batch: Batch::default(),
        folders: Vec::new(),
        first_names: HashMap::new(),
        links: Vec::new(),
        blocked: None,
        from: from.clone(),
        last: TreePath::root(),
        has_gaps: false,
    };
    while let Err(error) = cursor.seek(from).await {
        run.lost_part(error, &cursor)?;
    }
    let mut next = run.next(&mut cursor).await?;
    let base = match &next {
        // A file goes into the target under its own name; of a folder, what is in it.
        Some(first) if first.path == *from && !matches!(first.kind, Kind::Folder) => {
            from.parent().unwrap_or_default()
        }
        Some(first) if first.path == *from => from.clone(),
        // The folder's own entry may be in what is lost.
        _ if run.has_gaps => from.clone(),
        _ => return Ok(Outcome::NotThere),
    };
    while let Some(entry) = next.filter(|entry| entry.path.is_within(from)) {
        let full = run.take(entry, &base).await?;
        if let Some(ended) = run.is_ended(full).await? {
            return Ok(ended);
        }
        next = run.next(&mut cursor).await?;
    }
    run.finish(root, from, &base).await
}

/// How a restore ended.
pub enum Outcome {
    Done(Report),
    /// The snapshot has no such path.
    NotThere,
    /// The target's disk is full; what is in the report was restored.
    Full(Report, Problem),
    Cancelled,
}

/// What files need, to be fetched together.
#[derive(Default)]
struct Batch {
    pieces: HashMap<ChunkRef, Vec<Piece>>,
    count: usize,
    bytes: u64,
    open: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.count >= BATCH_PIECES || self.open >= BATCH_OPEN
    }

    fn add(&mut self, chunk: ChunkRef, piece: Piece) {
        self.count += 1;
        let pieces = self.pieces.entry(chunk).or_default();
        if pieces.is_empty() {
            self.bytes += u64::from(chunk.len);
        }
        pieces.push(piece);
    }
}

/// The first name of a file with several.
struct FirstName {
    path: TreePath,
    /// Why its content can't be had.
    lost: Option<String>,
}

/// Another name of a file, to be made when that is there.
struct Link {
    group: LinkGroup,
    path: TreePath,
    replace: bool,
    /// What is counted when it is made.
    placed: Placed,
}

struct Run {
    reader: Arc<Reader>,
    target: Arc<Target>,
    placer: Placer,
    fetch: Fetch<Vec<Piece>, Result<Placed>>,
    options: Options,
    progress: Arc<dyn Progress>,
    report: Report,
    batch: Batch,
    /// Folders whose attributes are still to be set.
    folders: Vec<(TreePath, Attributes)>,
    first_names: HashMap<LinkGroup, FirstName>,
    links: Vec<Link>,
    /// A folder that could not be made: what is in it can't either.
    blocked: Option<TreePath>,
    /// What is restored, in the tree.
    from: TreePath,
    /// The last entry of the tree that was read.
    last: TreePath,
    /// Parts of the tree can't be read.
    has_gaps: bool,
}

impl Run {
    /// The next entry that can be read.
    async fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Entry>> {
        loop {
            match cursor.next().await {
                Ok(entry) => {
                    self.last = entry.as_ref().map(|entry| entry.path.clone()).unwrap_or_default();
                    return Ok(entry);
                }
                Err(error) => self.lost_part(error, cursor)?,
            }
        }
    }

    /// Lists the part of the tree that `error` has cost; the rest goes on. It is an error if nothing is left.
    fn lost_part(&mut self, error: Error, cursor: &Cursor) -> Result<()> {
        if cursor.failed_at().is_root() {
            return Err(error);
        }
        if let Err(why) = damage_or::<()>(Err(error))? {
            self.has_gaps = true;
            // Where it begins and ends, as far as that lies within what is restored.
            let (after, end) = (self.last.below(&self.from), cursor.failed_at().below(&self.from));
            let gap = gap(after, end, &why);
            self.report.lost.add(gap.what, gap.why);
        }
        Ok(())
    }

    /// Makes the folders above `path` whose entries are lost, for us alone.
    fn bridge_gap(&self, path: &TreePath) -> std::result::Result<(), Problem> {
        let missing = |path: &TreePath| self.target.existing(path).map(|there| there.is_none());
        let mut folders = Vec::new();
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| !folder.is_root()) {
            if !missing(&folder)? {
                break;
            }
            above = folder.parent();
            folders.push(folder);
        }
        folders.iter().rev().try_for_each(|folder| self.target.make_folder(folder).map(drop))
    }

    /// Takes the next entry; gives the problem if the disk is full.
    async fn take(&mut self, entry: Entry, base: &TreePath) -> Result<Option<Problem>> {
        let Some(path) = entry.path.below(base) else { return Ok(None) };
        self.progress.advance(Unit::Entries, 1);
        if self.blocked.as_ref().is_some_and(|blocked| path.is_within(blocked)) {
            return Ok(None);
        }
        if self.has_gaps
            && !self.options.dry_run
            && let Err(problem) = self.bridge_gap(&path)
        {
            return Ok(self.problem(problem));
        }
        let there = match self.target.existing(&path) {
            Ok(there) => there.map(|there| match (there.is_folder(), there.looks_like(&entry)) {
                (true, _) => There::Folder,
                (false, true) => There::Alike,
                (false, false) => There::Other,
            }),
            Err(problem) => return Ok(self.problem(problem)),
        };
        let action = decide(&entry, there, &self.options);
        let is_file = matches!(entry.kind, Kind::File { .. });
        match action {
            Action::Keep => self.report.kept += 1,
            Action::InTheWay => {
                let what = "something else is in the way, and was left as it is";
                self.problem(Problem::found("restoring", &path, ProblemKind::InTheWay, what));
            }
            Action::Create | Action::Replace if self.options.dry_run || !is_file => self.report.written += 1,
            // A file is counted when it is there.
            Action::Create | Action::Replace | Action::Reuse => {}
        }
        self.report.replaced += u64::from(action == Action::Replace);
        if matches!(entry.kind, Kind::Folder) && matches!(action, Action::Keep | Action::InTheWay) {
            self.blocked = Some(path);
            return Ok(None);
        }
        if !action.writes() && action != Action::Reuse {
            return Ok(None);
        }
        if self.options.dry_run {
            if let Kind::File { size, .. } = entry.kind {
                self.report.files += 1;
                self.report.bytes += size;
            }
            return Ok(None);
        }
        self.write(entry, path, action == Action::Replace).await
    }

    async fn write(&mut self, entry: Entry, path: TreePath, replace: bool) -> Result<Option<Problem>> {
        let Entry { attributes, kind, .. } = entry;
        if let Some(group) = attributes.link {
            if self.first_names.contains_key(&group) {
                let placed = match kind {
                    Kind::File { size, .. } => Placed { files: 1, bytes: size, ..Placed::default() },
                    _ => Placed::default(),
                };
                self.links.push(Link { group, path, placed, replace });
                return if self.links.len() >= LINKS { self.make_links().await } else { Ok(None) };
            }
            self.first_names.insert(group, FirstName { path: path.clone(), lost: None });
        }
        match kind {
            Kind::Folder => {
                let made = match path.is_root() || self.is_folder(&path) {
                    true => Ok(()),
                    false => {
                        self.replaced(&path, replace).and_then(|()| self.target.make_folder(&path)).map(drop)
                    }
                };
                match made {
                    Ok(()) => self.folders.push((path, attributes)),
                    Err(problem) => {
                        self.blocked = Some(path);
                        return Ok(self.problem(problem));
                    }
                }
                Ok(None)
            }
            Kind::File { size, content, .. } => {
                // A file takes the place of what is there only when it is whole; a folder has to go before.
                if replace
                    && self.is_folder(&path)
                    && let Err(problem) = self.target.remove(&path)
                {
                    return Ok(self.problem(problem));
                }
                self.add_file(path, attributes, size, &content).await
            }
            other => {
                let made = self.replaced(&path, replace).and_then(|()| match &other {
                    Kind::Symlink { target } => self.target.symlink(&path, target),
                    Kind::Fifo => self.target.fifo(&path),
                    Kind::Socket => self.target.socket(&path),
                    &Kind::CharDevice { major, minor } => {
                        self.target.device(&path, Device::Char { major, minor })
                    }
                    &Kind::BlockDevice { major, minor } => {
                        self.target.device(&path, Device::Block { major, minor })
                    }
                    Kind::Folder | Kind::File { .. } => Ok(()),
                });
                if let Err(problem) = made {
                    return Ok(self.problem(problem));
                }
                Ok(self.attributes(&path, &attributes))
            }
        }
    }

    fn is_folder(&self, path: &TreePath) -> bool {
        self.target.existing(path).is_ok_and(|there| there.is_some_and(|there| there.is_folder()))
    }

    fn replaced(&self, path: &TreePath, replace: bool) -> std::result::Result<(), Problem> {
        if replace { self.target.remove(path) } else { Ok(()) }
    }

    /// Lists a problem; gives it back if the disk is full, for then nothing more can be done.
    fn problem(&mut self, problem: Problem) -> Option<Problem> {
        if problem.kind == ProblemKind::Full {
            return Some(problem);
        }
        self.report.unwritten += u64::from(!problem.is_of_attribute());
        let (what, why) = (problem.path.to_string(), format!("{}: {}", problem.doing, problem.cause));
        self.report.problems.add(what, why);
        None
    }

    fn attributes(&mut self, path: &TreePath, attributes: &Attributes) -> Option<Problem> {
        let problems = self.target.set_attributes(path, attributes);
        problems.into_iter().find_map(|problem| self.problem(problem))
    }

    /// Adds what a file needs to the batches. Fetches those that are full.
    async fn add_file(
        &mut self,
        path: TreePath,
        attributes: Attributes,
        size: u64,
        content: &Content,
    ) -> Result<Option<Problem>> {
        let file = Placing::new(path, attributes, size);
        let mut extents = Extents::of(self.reader.clone(), content);
        let (mut at, mut first, mut is_open) = (0, None, false);
        let mut placed = Placed::default();
        loop {
            match damage_or(extents.next().await)? {
                Ok(None) => break,
                Ok(Some(Extent::Hole { len })) => {
                    self.progress.advance(Unit::Bytes, len);
                    at += len;
                }
                Ok(Some(Extent::Data { chunk, offset, len })) => {
                    // What the next file needs of the same chunk belongs into this batch too.
                    if self.batch.is_full() && !self.batch.pieces.contains_key(&chunk) {
                        let full = self.fetch_batch().await?;
                        if full.is_some() || self.progress.is_cancelled() {
                            return Ok(full);
                        }
                    }
                    if *first.get_or_insert(chunk) != chunk && !is_open {
                        is_open = true;
                        self.batch.open += 1;
                    }
                    self.batch.add(chunk, Piece { file: file.clone(), at, offset, len });
                    at += u64::from(len);
                }
                Err(why) => {
                    file.lose(&why, &mut placed);
                    break;
                }
            }
        }
        self.placer.let_go(file, &mut placed);
        Ok(self.count(placed))
    }

    /// Asks for what the batch needs; returns when all requests are under way.
    async fn fetch_batch(&mut self) -> Result<Option<Problem>> {
        let batch = std::mem::take(&mut self.batch);
        let placed = self.fetch.ask(batch.pieces.into_iter().collect()).await;
        self.count_all(placed)
    }

    /// Waits until every file that was begun is in its place.
    async fn settle(&mut self) -> Result<Option<Problem>> {
        let full = self.fetch_batch().await?;
        let placed = self.fetch.rest().await;
        Ok(self.count_all(placed)?.or(full))
    }

    fn count_all(&mut self, placed: Vec<Result<Placed>>) -> Result<Option<Problem>> {
        let mut full = None;
        for placed in placed {
            full = self.count(placed?).or(full);
        }
        Ok(full)
    }

    fn count(&mut self, placed: Placed) -> Option<Problem> {
        let Placed { files, bytes, lost, problems } = placed;
        self.report.files += files;
        self.report.written += files;
        self.report.bytes += bytes;
        for LostFile { path, link, why } in lost {
            if let Some(first) = link.and_then(|group| self.first_names.get_mut(&group)) {
                first.lost = Some(why.clone());
            }
            self.report.lost.add(path.to_string(), why);
        }
        let mut full = None;
        for problem in problems {
            full = self.problem(problem).or(full);
        }
        full
    }

    /// Makes the hard links that wait for their files.
    async fn make_links(&mut self) -> Result<Option<Problem>> {
        if let Some(full) = self.settle().await? {
            return Ok(Some(full));
        }
        for Link { group, path, replace, placed } in std::mem::take(&mut self.links) {
            let Some(FirstName { path: first, lost }) = self.first_names.get(&group) else { continue };
            if let Some(why) = lost {
                // Its other names must not become names of what is there instead.
                self.report.lost.add(path.to_string(), why.clone());
                continue;
            }
            match self.replaced(&path, replace).and_then(|()| self.target.hard_link(first, &path)) {
                Ok(()) => drop(self.count(placed)),
                Err(problem) => {
                    if let Some(full) = self.problem(problem) {
                        return Ok(Some(full));
                    }
                }
            }
        }
        Ok(None)
    }

    /// How the run ends if the disk is full, or it was told to stop: when nothing is under way any more.
    async fn is_ended(&mut self, full: Option<Problem>) -> Result<Option<Outcome>> {
        if full.is_none() && !self.progress.is_cancelled() {
            return Ok(None);
        }
        self.batch = Batch::default();
        let placed = self.fetch.rest().await;
        self.count_all(placed)?;
        Ok(Some(match full {
            Some(full) => Outcome::Full(std::mem::take(&mut self.report), full),
            None => Outcome::Cancelled,
        }))
    }

    /// Writes what is left, deletes if asked to, and sets the folders' attributes.
    async fn finish(mut self, root: NodeId, from: &TreePath, base: &TreePath) -> Result<Outcome> {
        let full = self.make_links().await?;
        if let Some(ended) = self.is_ended(full).await? {
            return Ok(ended);
        }
        if self.options.delete && self.has_gaps {
            // What is lost can't be told from what was never there.
            let what = "nothing was deleted, because parts of the snapshot can't be read";
            self.problem(Problem::found("deleting in", &TreePath::root(), ProblemKind::Other, what));
        } else if self.options.delete {
            let dry_run = self.options.dry_run;
            let deleted = delete_beside(&self.reader, root, (from, base), &self.target, dry_run).await?;
            self.report.deleted = deleted.paths;
            deleted.problems.into_iter().for_each(|problem| drop(self.problem(problem)));
        }
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            if let Some(full) = self.attributes(&path, &attributes) {
                return Ok(Outcome::Full(self.report, full));
            }
        }
        Ok(Outcome::Done(self.report))
    }
}
