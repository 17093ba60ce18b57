//! A restore of files: walk the tree → decide → fetch chunks → write → attributes.
//!
//! The walk makes folders and lists what files need, in batches: the chunks of a batch are fetched in the order in
//! which they lie in the packs, and each is written, by several threads, to all places where it belongs. While they come
//! the walk goes on. Then come hard links, and the folders' attributes, innermost first. A file that can't be
//! had whole is not left behind: it is listed, and everything else is restored.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::cursor::Cursor;
use crate::archive::delete::delete_beside;
use crate::archive::filling::Filling;
use crate::archive::place::{LostFile, Place, Placed, damage_or, gap};
use crate::archive::plan::{Action, Options, There, decide};
use crate::archive::problem::{Problem, ProblemKind};
pub use crate::archive::report::{List, Report};
use crate::archive::target::{Device, Target};
use crate::format::entry::{Attributes, Entry, Kind, TreePath};
use crate::format::id::LinkGroup;
use crate::progress::{Progress, Unit, cancelled};
use crate::repo::{Error, Result, TreeReader};

/// Hard links that are made together, when the files are there.
const LINKS: usize = 8 * 1024;

/// Restores what lies below `from` into `target`. `NotFound` is for the caller to tell: an empty report
/// with no entry written means that there is no such path.
pub async fn restore(
    tree: TreeReader,
    from: &TreePath,
    target: Arc<Target>,
    options: Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome> {
    let mut run = Run {
        filling: Filling::new(tree.clone(), target.clone(), progress.clone()),
        tree,
        target,
        options,
        progress,
        report: Report::default(),
        folders: Vec::new(),
        first_names: HashMap::new(),
        links: Vec::new(),
        blocked: None,
        from: from.clone(),
        last: TreePath::root(),
        has_gaps: false,
    };
    let progress = run.progress.clone();
    let outcome = tokio::select! {
        outcome = run.carry_out() => outcome,
        () = cancelled(progress.as_ref()) => Ok(Outcome::Cancelled),
    };
    // However it has ended: nothing is written any more, and files that are not whole are gone.
    run.filling.abandon().await;
    outcome
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

/// The first name of a file with several.
struct FirstName {
    path: TreePath,
    came: Came,
}

/// What has come of it.
enum Came {
    NotYet,
    ToItsPlace,
    /// Its content can't be had: why.
    Lost(String),
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
    tree: TreeReader,
    target: Arc<Target>,
    filling: Filling,
    options: Options,
    progress: Arc<dyn Progress>,
    report: Report,
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
    async fn carry_out(&mut self) -> Result<Outcome> {
        let from = self.from.clone();
        let mut cursor = Cursor::new(self.tree.clone());
        while let Err(error) = cursor.seek(&from).await {
            self.lost_part(error, &cursor)?;
        }
        let mut next = self.next(&mut cursor).await?;
        let base = match &next {
            // A file goes into the target under its own name; of a folder, what is in it.
            Some(first) if first.path == from && !matches!(first.kind, Kind::Folder) => {
                from.parent().unwrap_or_default()
            }
            Some(first) if first.path == from => from.clone(),
            // The folder's own entry may be in what is lost.
            _ if self.has_gaps => from.clone(),
            _ => return Ok(Outcome::NotThere),
        };
        while let Some(entry) = next.filter(|entry| entry.path.is_within(&from)) {
            let full = self.take(entry, &base).await?;
            if full.is_some() || self.progress.is_cancelled() {
                return self.end_early(full).await;
            }
            next = self.next(&mut cursor).await?;
        }
        self.finish(&from, &base).await
    }

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
            self.first_names.insert(group, FirstName { path: path.clone(), came: Came::NotYet });
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
                let place = match replace && self.is_folder(&path) {
                    true => Place::OfFolder,
                    false => Place::OfFile,
                };
                let placed = self.filling.add(path, place, (attributes, size, &content)).await?;
                Ok(self.count(placed))
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
                if let Some(group) = attributes.link {
                    self.came(group, Came::ToItsPlace);
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

    fn count(&mut self, placed: Placed) -> Option<Problem> {
        let Placed { files, bytes, linked, lost, problems } = placed;
        self.report.files += files;
        self.report.written += files;
        self.report.bytes += bytes;
        for group in linked {
            self.came(group, Came::ToItsPlace);
        }
        for LostFile { path, link, why } in lost {
            if let Some(group) = link {
                self.came(group, Came::Lost(why.clone()));
            }
            self.report.lost.add(path.to_string(), why);
        }
        let mut full = None;
        for problem in problems {
            full = self.problem(problem).or(full);
        }
        full
    }

    fn came(&mut self, group: LinkGroup, came: Came) {
        if let Some(first) = self.first_names.get_mut(&group) {
            first.came = came;
        }
    }

    /// Makes the hard links that wait for their files.
    async fn make_links(&mut self) -> Result<Option<Problem>> {
        let placed = self.filling.settle().await?;
        let full = self.count(placed);
        if full.is_some() || self.progress.is_cancelled() {
            return Ok(full);
        }
        for Link { group, path, replace, placed } in std::mem::take(&mut self.links) {
            let Some(FirstName { path: first, came }) = self.first_names.get(&group) else { continue };
            // Its other names must not become names of what is there instead.
            let problem = match came {
                Came::Lost(why) => {
                    self.report.lost.add(path.to_string(), why.clone());
                    continue;
                }
                Came::NotYet => {
                    let what = format!("the file's first name, {first}, could not be restored");
                    Some(Problem::found("making the hard link", &path, ProblemKind::Other, what))
                }
                // A folder has to go before; all else gives way when the link is there.
                Came::ToItsPlace => {
                    let gone = if self.is_folder(&path) { self.replaced(&path, replace) } else { Ok(()) };
                    gone.and_then(|()| self.target.hard_link(first, &path)).err()
                }
            };
            let full = match problem {
                None => self.count(placed),
                Some(problem) => self.problem(problem),
            };
            if full.is_some() {
                return Ok(full);
            }
        }
        Ok(None)
    }

    /// Ends because the disk is full, or the run was told to stop.
    async fn end_early(&mut self, full: Option<Problem>) -> Result<Outcome> {
        let Some(full) = full else { return Ok(Outcome::Cancelled) };
        let placed = self.filling.rest().await?;
        self.count(placed);
        Ok(Outcome::Full(std::mem::take(&mut self.report), full))
    }

    /// Writes what is left, deletes if asked to, and sets the folders' attributes.
    async fn finish(&mut self, from: &TreePath, base: &TreePath) -> Result<Outcome> {
        let full = self.make_links().await?;
        if full.is_some() || self.progress.is_cancelled() {
            return self.end_early(full).await;
        }
        if self.options.delete && self.has_gaps {
            // What is lost can't be told from what was never there.
            let what = "nothing was deleted, because parts of the snapshot can't be read";
            self.problem(Problem::found("deleting in", &TreePath::root(), ProblemKind::Other, what));
        } else if self.options.delete {
            let dry_run = self.options.dry_run;
            let deleted = delete_beside(&self.tree, (from, base), &self.target, dry_run).await?;
            self.report.deleted = deleted.paths;
            deleted.problems.into_iter().for_each(|problem| drop(self.problem(problem)));
        }
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            if let Some(full) = self.attributes(&path, &attributes) {
                return Ok(Outcome::Full(std::mem::take(&mut self.report), full));
            }
        }
        Ok(Outcome::Done(std::mem::take(&mut self.report)))
    }
}
