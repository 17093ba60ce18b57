//! A restore of files: walk the tree → decide → fetch chunks → write → attributes.
//!
//! Small files are written in windows whose chunks are fetched together; large ones chunk by
//! chunk, in any order. Folders get their attributes at the end, innermost first. A file that can't be
//! had whole is not left behind: it is listed, and everything else is restored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;

use crate::archive::cursor::{Cursor, Extents};
use crate::archive::delete::delete_beside;
use crate::archive::place::{Chunks, Filled, SmallFile, Written, damage_or, gap, write_extent, write_files};
use crate::archive::plan::{Action, Options, There, decide};
use crate::archive::problem::{Problem, ProblemKind};
pub use crate::archive::report::{List, Report};
use crate::archive::target::{Device, Target, TargetFile};
use crate::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use crate::format::id::{LinkGroup, NodeId};
use crate::format::refs::ChunkRef;
use crate::progress::{Progress, Unit};
use crate::repo::{Error, Reader, Result};

/// Files up to this are written whole, from chunks that are fetched for many of them together.
const SMALL_BYTES: u64 = 1024 * 1024;
/// A window of small files ends at so many entries, bytes, or distinct chunks.
const WINDOW_ENTRIES: usize = 2048;
const WINDOW_BYTES: u64 = 16 * 1024 * 1024;
const WINDOW_CHUNKS: usize = 12;
/// Chunks that are fetched and opened at the same time.
const PARALLEL_CHUNKS: usize = 6;

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
    let mut run = Run {
        reader,
        target,
        options,
        progress,
        report: Report::default(),
        window: Window::default(),
        fetched: HashMap::new(),
        folders: Vec::new(),
        linked: HashMap::new(),
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
        if run.progress.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        if let Some(full) = run.take(entry, &base).await? {
            return Ok(Outcome::Full(run.report, full));
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

#[derive(Default)]
struct Window {
    files: Vec<SmallFile>,
    bytes: u64,
    chunks: HashSet<ChunkRef>,
}

struct Run {
    reader: Arc<Reader>,
    target: Arc<Target>,
    options: Options,
    progress: Arc<dyn Progress>,
    report: Report,
    window: Window,
    /// Chunks of the last window: the next one often goes on in the last of them.
    fetched: Chunks,
    /// Folders whose attributes are still to be set.
    folders: Vec<(TreePath, Attributes)>,
    /// Where the first file of a group of hard links was written.
    linked: HashMap<LinkGroup, TreePath>,
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
        match action {
            Action::Keep => self.report.kept += 1,
            Action::InTheWay => {
                let what = "something else is in the way, and was left as it is";
                self.problem(Problem::found("restoring", &path, ProblemKind::InTheWay, what));
            }
            Action::Create | Action::Replace => self.report.written += 1,
            Action::Reuse => {}
        }
        self.report.replaced += u64::from(action == Action::Replace);
        if matches!(entry.kind, Kind::Folder) && matches!(action, Action::Keep | Action::InTheWay) {
            self.blocked = Some(path);
            return Ok(None);
        }
        if !action.writes() && action != Action::Reuse {
            return Ok(None);
        }
        if let Kind::File { size, .. } = entry.kind {
            self.report.files += 1;
            self.report.bytes += size;
        }
        if self.options.dry_run {
            return Ok(None);
        }
        self.write(entry, path, action == Action::Replace).await
    }

    async fn write(&mut self, entry: Entry, path: TreePath, replace: bool) -> Result<Option<Problem>> {
        let Entry { attributes, kind, .. } = entry;
        if let Some(group) = attributes.link {
            // The first name may still be in the window, and get lost there.
            if self.linked.contains_key(&group)
                && let Some(full) = self.write_window().await?
            {
                return Ok(Some(full));
            }
            if let Some(first) = self.linked.get(&group) {
                let linked = self.replaced(&path, replace).and_then(|()| self.target.hard_link(first, &path));
                return Ok(linked.err().and_then(|problem| self.problem(problem)));
            }
            self.linked.insert(group, path.clone());
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
                match content {
                    Content::Extents(extents) if size <= SMALL_BYTES => {
                        self.add_small(SmallFile { path, attributes, size, extents }).await
                    }
                    content => self.write_large(path, attributes, size, &content).await,
                }
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

    /// The same for a file that was counted as restored when its turn came.
    fn file_problem(&mut self, problem: Problem) -> Option<Problem> {
        if !problem.is_of_attribute() {
            self.report.files -= 1;
            self.report.written -= 1;
        }
        self.problem(problem)
    }

    fn attributes(&mut self, path: &TreePath, attributes: &Attributes) -> Option<Problem> {
        let problems = self.target.set_attributes(path, attributes);
        problems.into_iter().find_map(|problem| self.problem(problem))
    }

    async fn add_small(&mut self, file: SmallFile) -> Result<Option<Problem>> {
        let chunks = file.extents.iter().filter_map(|extent| match extent {
            Extent::Data { chunk, .. } => Some(*chunk),
            Extent::Hole { .. } => None,
        });
        self.window.chunks.extend(chunks);
        self.window.bytes += file.size;
        self.window.files.push(file);
        let window = &self.window;
        let is_full = window.files.len() >= WINDOW_ENTRIES
            || window.bytes >= WINDOW_BYTES
            || window.chunks.len() >= WINDOW_CHUNKS;
        if is_full { self.write_window().await } else { Ok(None) }
    }

    async fn write_window(&mut self) -> Result<Option<Problem>> {
        let window = std::mem::take(&mut self.window);
        if window.files.is_empty() {
            return Ok(None);
        }
        self.fetched.retain(|chunk, _| window.chunks.contains(chunk));
        let wanted: Vec<ChunkRef> =
            window.chunks.into_iter().filter(|chunk| !self.fetched.contains_key(chunk)).collect();
        let mut fetching = futures::stream::iter(wanted)
            .map(|chunk| {
                let reader = self.reader.clone();
                async move { (chunk, reader.chunk(chunk).await) }
            })
            .buffer_unordered(PARALLEL_CHUNKS);
        let mut fetched = std::mem::take(&mut self.fetched);
        while let Some((chunk, plain)) = fetching.next().await {
            fetched.insert(chunk, damage_or(plain)?.map(Arc::new));
        }
        drop(fetching);
        let (target, progress) = (self.target.clone(), self.progress.clone());
        let write = move || {
            let results = write_files(&target, &window.files, &fetched, progress.as_ref());
            (fetched, results)
        };
        let (fetched, results) = tokio::task::spawn_blocking(write).await.expect("writing does not panic");
        self.fetched = fetched;
        let mut full = None;
        for result in results {
            match result {
                Written::Lost(path, why) => self.lost(&path, why),
                Written::Problems(problems) => {
                    for problem in problems {
                        full = self.file_problem(problem).or(full);
                    }
                }
            }
        }
        Ok(full)
    }

    fn lost(&mut self, path: &TreePath, why: String) {
        // Its other names must not become names of what is there instead.
        self.linked.retain(|_, first| first != path);
        self.report.files -= 1;
        self.report.written -= 1;
        self.report.lost.add(path.to_string(), why);
    }

    async fn write_large(
        &mut self,
        path: TreePath,
        attributes: Attributes,
        size: u64,
        content: &Content,
    ) -> Result<Option<Problem>> {
        let file = match self.target.create_file(&path, size) {
            Ok(file) => Arc::new(file),
            Err(problem) => return Ok(self.file_problem(problem)),
        };
        match self.fill(&file, content).await? {
            Filled::Whole => {}
            Filled::Lost(why) => {
                // Dropped unplaced: what was there before stays.
                self.lost(&path, why);
                return Ok(None);
            }
            Filled::Problem(problem) => return Ok(self.file_problem(problem)),
        }
        let problems = Arc::into_inner(file).map(|file| file.place(&attributes)).unwrap_or_default();
        Ok(problems.into_iter().find_map(|problem| self.file_problem(problem)))
    }

    async fn fill(&self, file: &Arc<TargetFile>, content: &Content) -> Result<Filled> {
        let extents = Extents::of(self.reader.clone(), content);
        let places = futures::stream::unfold((extents, 0), |(mut extents, at)| async move {
            let extent = extents.next().await.transpose()?;
            let len = extent.as_ref().map_or(0, Extent::len);
            Some((extent.map(|extent| (extent, at)), (extents, at + len)))
        });
        let writes = places.map(|place| {
            let (reader, file, progress) = (self.reader.clone(), file.clone(), self.progress.clone());
            async move {
                let (extent, at) = match damage_or(place)? {
                    Ok(place) => place,
                    Err(why) => return Ok(Filled::Lost(why)),
                };
                write_extent(&reader, file, extent, at, progress).await
            }
        });
        let mut writes = std::pin::pin!(writes.buffer_unordered(PARALLEL_CHUNKS));
        while let Some(filled) = writes.next().await {
            match filled? {
                Filled::Whole if self.progress.is_cancelled() => {
                    return Ok(Filled::Lost("interrupted".into()));
                }
                Filled::Whole => {}
                other => return Ok(other),
            }
        }
        Ok(Filled::Whole)
    }

    /// Writes what is left, deletes if asked to, and sets the folders' attributes.
    async fn finish(mut self, root: NodeId, from: &TreePath, base: &TreePath) -> Result<Outcome> {
        if let Some(full) = self.write_window().await? {
            return Ok(Outcome::Full(self.report, full));
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
