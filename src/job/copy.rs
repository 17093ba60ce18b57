//! Copying snapshots into another repository: choose → pass over what is there → for each, oldest first:
//! session → index → trees → commit.
//!
//! All ids are made anew with the target's keys, and volumes are not read. What was copied before is found by
//! what the target's summaries say, of those only that this key has signed. A killed run leaves nothing to
//! unlock: what it uploaded counts for the next.

mod mend;

use std::collections::HashSet;
use std::sync::Arc;

use crate::archive::backup::MissingList;
use crate::archive::copy::{Base, Copied as CopiedTree, Known, Setting, Tree, copy};
use crate::format::commit::{Root, RootKind};
use crate::format::id::{SessionId, SourceId, hex};
use crate::format::summary::{CopiedFrom, Counts, Missing, Source, Summary, Volume};
use crate::job::backup::anew_if_fenced;
use crate::job::find::{self, Filter, Which};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{
    self, Begun, Index, Reader, Repository, Snapshot, Snapshots, Stats, ToCommit, TreeReader, View, Writer,
    WriterSettings, begin, commit_again,
};
use crate::world::Time;
pub use mend::is_lost;

/// Which snapshots.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// Whatever fits the filter.
    All,
    These(Vec<Which>),
}

/// What to copy, and how.
pub struct Request {
    pub chosen: Chosen,
    pub filter: Filter,
    /// What was copied with losses is copied again.
    pub again: bool,
    pub writer: WriterSettings,
    /// The kist that runs, for the summary.
    pub kist: String,
}

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    /// Snapshots of the source, oldest first.
    pub snapshots: Vec<Snapshot>,
    pub passed: Vec<Passed>,
    /// Snapshots that were chosen and can't be read.
    pub unreadable: Vec<Missing>,
}

/// A snapshot that the target has already.
pub struct Passed {
    pub snapshot: String,
    pub copy: String,
    /// What its copy lacks.
    pub lost: u64,
}

/// A snapshot that was copied.
pub struct Copied {
    pub snapshot: Snapshot,
    pub summary: Summary,
    pub stats: Stats,
    /// What the source says that it has and could not give.
    pub lost: Vec<Missing>,
    pub more_lost: u64,
}

/// Two repositories, one of them open to add to.
pub struct Copying {
    source: Repository,
    target: Repository,
    request: Request,
    reader: Arc<Reader>,
    /// Of the source.
    there: Snapshots,
    /// Of the target.
    before: Snapshots,
    copies: Vec<Copy>,
}

/// A snapshot, and one of its roots.
type Rooted<'s> = (&'s Snapshot, &'s Root);

/// A copy that the target has.
struct Copy {
    id: SessionId,
    time: Time,
    from: CopiedFrom,
}

impl Copying {
    /// Looks at both sides, and decides what has to be copied.
    pub async fn plan(source: &Repository, target: &Repository, request: Request) -> Result<(Self, Plan)> {
        let place = |repo: &Repository| (repo.config.repo, repo.keys.certificate.domain);
        if place(source) == place(target) {
            return Err(Error::SameRepository { repository: source.config.repo.to_string() });
        }
        source.keys.check_reads_data()?;
        target.keys.check_adds()?;
        let (fits, problems) = find::list(source, None, &request.filter).await?;
        let mut plan = Plan::default();
        let chosen = match &request.chosen {
            Chosen::All => {
                plan.unreadable.extend(problems.iter().map(|problem| unreadable("a commit", problem)));
                fits
            }
            Chosen::These(these) => {
                let mut problems = Some(problems);
                let choose = |which| {
                    let problems = problems.take().unwrap_or_default();
                    find::choose(which, &request.filter, fits.clone(), problems)
                };
                these.iter().map(choose).collect::<Result<_>>()?
            }
        };
        let chosen: HashSet<SessionId> = chosen.iter().map(|found| found.id).collect();
        let mut there = Snapshots::load(source).await?;
        let is_there = |id: &SessionId| there.all.iter().any(|snapshot| snapshot.id == *id);
        // Read when it was listed, and not now; of one that was forgotten since there is no problem.
        if !chosen.iter().all(is_there) {
            there.check_given()?;
        }
        let before = Snapshots::load(target).await?;
        let reader = Arc::new(Reader::new(source, Arc::new(Index::load(source).await?)));
        let (source, target, copies) = (source.clone(), target.clone(), Vec::new());
        let mut copying = Self { source, target, request, reader, there, before, copies };
        copying.copies = copying.find_copies();
        for snapshot in copying.there.all.iter().filter(|snapshot| chosen.contains(&snapshot.id)) {
            copying.place(snapshot, &mut plan);
        }
        Ok((copying, plan))
    }

    fn place(&self, snapshot: &Snapshot, plan: &mut Plan) {
        let name = snapshot.name();
        match repo::summary(&self.source, snapshot) {
            Err(error) => plan.unreadable.push(unreadable(&name, &error)),
            Ok(None) => {
                let error = Error::Unreadable { snapshot: name.clone() };
                plan.unreadable.push(unreadable(&name, &error));
            }
            Ok(Some(summary)) => match self.copy_of(&name, &summary) {
                Some(passed) if passed.lost == 0 || !self.request.again => plan.passed.push(passed),
                _ => plan.snapshots.push(snapshot.clone()),
            },
        }
    }

    /// What the target says of where its snapshots are from; oldest first. Others could say so of what is no
    /// copy at all, so only one's own word counts.
    fn find_copies(&self) -> Vec<Copy> {
        let own = self.target.keys.certificate.key;
        let mine = self.before.all.iter().filter(|snapshot| snapshot.commit.certificate.key == own);
        let copy = |snapshot: &Snapshot| {
            let from = repo::summary(&self.target, snapshot).ok()??.copied_from?;
            Some(Copy { id: snapshot.id, time: snapshot.commit.time, from })
        };
        mine.filter_map(copy).collect()
    }

    /// Where the target has a snapshot already: copied, or as what it was copied from.
    fn copy_of(&self, name: &str, summary: &Summary) -> Option<Passed> {
        let passed = |copy: SessionId, lost| {
            Some(Passed { snapshot: name.to_owned(), copy: copy.snapshot_name(), lost })
        };
        let here = hex(&self.target.config.repo.0);
        if let Some(from) = summary.copied_from.as_ref().filter(|from| from.repository == here)
            && let Some(first) = self.before.all.iter().find(|first| first.name() == from.snapshot)
        {
            return passed(first.id, 0);
        }
        let is_it = |from: &CopiedFrom| {
            let same =
                |repository: &str, snapshot: &str| from.repository == repository && from.snapshot == snapshot;
            let origin = summary.copied_from.as_ref();
            same(&hex(&self.source.config.repo.0), name)
                || origin.is_some_and(|origin| origin.lost == 0 && same(&origin.repository, &origin.snapshot))
        };
        let best = self.copies.iter().filter(|copy| is_it(&copy.from)).min_by_key(|copy| copy.from.lost)?;
        passed(best.id, best.from.lost)
    }

    /// Copies one snapshot of the plan. After an interrupt nothing is committed.
    pub async fn copy(&mut self, snapshot: &Snapshot, progress: Arc<dyn Progress>) -> Result<Copied> {
        anew_if_fenced(async || self.once(snapshot, progress.clone()).await).await
    }

    async fn once(&mut self, snapshot: &Snapshot, progress: Arc<dyn Progress>) -> Result<Copied> {
        let (made, at, stats) = self.make(snapshot, None, progress).await?;
        self.commit(snapshot, made, at, stats).await
    }

    /// Makes the trees of a snapshot in a new session; as those of a writer of the target, if one is given.
    async fn make(
        &mut self,
        snapshot: &Snapshot,
        writer_of: Option<&Snapshot>,
        progress: Arc<dyn Progress>,
    ) -> Result<(Made, (SessionId, View), Stats)> {
        let unreadable = || Error::Unreadable { snapshot: snapshot.name() };
        let summary = repo::summary(&self.source, snapshot)?.ok_or_else(unreadable)?;
        // The order is law (spec chapter 8): session, log, commits, index.
        let Begun { session, mut lanes, view, .. } = begin(&self.target, 1).await?;
        self.refresh().await?;
        let index = Arc::new(Index::load_to_add(&self.target, session).await?);
        let lane = lanes.pop().expect("one lane was asked for");
        let reader = Arc::new(Reader::new(&self.target, index.clone()));
        let writer = Arc::new(Writer::new(&self.target, index, lane, self.request.writer));
        let known = Arc::default();
        let mut trees = Trees { copying: self, snapshot, writer_of, writer, reader, progress, known };
        let made = trees.all(summary).await;
        let writer = Arc::into_inner(trees.writer);
        let made = match made {
            Err(Error::Interrupted) => {
                if let Some(writer) = writer {
                    // What is open goes to the store if that is quick; if not, it is only uploaded again.
                    let _ = tokio::time::timeout(crate::job::PUT_AWAY, writer.finish()).await;
                }
                return Err(Error::Interrupted);
            }
            made => made?,
        };
        let writer = writer.ok_or(repo::Error::Abandoned)?;
        let (stats, _) = writer.finish().await?;
        Ok((made, (session, view), stats))
    }

    async fn commit(
        &mut self,
        snapshot: &Snapshot,
        made: Made,
        (session, view): (SessionId, View),
        stats: Stats,
    ) -> Result<Copied> {
        let Made { mut summary, roots, lost, .. } = made;
        let lacks = lost.listed.len() as u64 + lost.more;
        let from = CopiedFrom {
            repository: hex(&self.source.config.repo.0),
            snapshot: snapshot.name(),
            lost: lacks,
        };
        summary.copied_from = Some(from.clone());
        summary.kist = self.request.kist.clone();
        summary.counts.new_bytes = stats.new_bytes;
        summary.counts.stored_bytes = stats.uploaded.pack_bytes;
        summary.missing.extend(lost.listed.iter().cloned());
        summary.more_missing += lost.more;
        let to_commit = ToCommit {
            view,
            time: snapshot.commit.time,
            source: self.target.keys.ids()?.source_id(&summary.source),
            complete: snapshot.commit.complete && lacks == 0,
            class: snapshot.commit.class.clone(),
            held: snapshot.commit.held,
            roots,
            summary: summary.clone(),
        };
        let made = commit_again(&self.target, session, &self.before, to_commit).await?;
        self.copies.push(Copy { id: made.id, time: made.commit.time, from });
        self.copies.sort_by_key(|copy| copy.time);
        self.before.all.push(made.clone());
        Ok(Copied { snapshot: made, summary, stats, lost: lost.listed, more_lost: lost.more })
    }

    /// The target's snapshots, those that were made among them.
    pub fn known(self) -> Snapshots {
        self.before
    }

    /// Takes in what others have committed to the target since, and lets go of what is no longer there.
    async fn refresh(&mut self) -> Result<()> {
        self.before = Snapshots::load(&self.target).await?;
        Ok(())
    }

    /// The nearest copy of the same source, the older ones first: what a tree is compared with.
    fn base_of(&self, snapshot: &Snapshot, root: &Root, source: &Source) -> Option<(Rooted<'_>, Rooted<'_>)> {
        let repository = hex(&self.source.config.repo.0);
        let source = self.target.keys.ids().ok()?.source_id(source);
        fn of(snapshot: &Snapshot, source: SourceId) -> Option<Rooted<'_>> {
            Some((snapshot, snapshot.commit.roots.iter().find(|root| root.source == source)?))
        }
        let base = |copy: &Copy| {
            if copy.from.repository != repository || copy.from.lost != 0 {
                return None;
            }
            let first = self.there.all.iter().find(|first| first.name() == copy.from.snapshot)?;
            let copied = self.before.all.iter().find(|copied| copied.id == copy.id)?;
            Some((of(first, root.source)?, of(copied, source)?))
        };
        let is_older = |copy: &&Copy| copy.time <= snapshot.commit.time;
        let older = self.copies.iter().rev().filter(is_older).find_map(base);
        older.or_else(|| self.copies.iter().filter(|copy| !is_older(copy)).find_map(base))
    }
}

fn unreadable(what: &str, why: &dyn std::error::Error) -> Missing {
    Missing { what: format!("snapshot {what}"), why: repo::chain(why) }
}

/// The trees of one snapshot, on their way.
struct Trees<'a> {
    copying: &'a Copying,
    snapshot: &'a Snapshot,
    /// Whose trees they are to be, if not those of who copies.
    writer_of: Option<&'a Snapshot>,
    writer: Arc<Writer>,
    /// Of older copies.
    reader: Arc<Reader>,
    progress: Arc<dyn Progress>,
    known: Arc<Known>,
}

/// What was made of a snapshot's trees.
struct Made {
    summary: Summary,
    roots: Vec<Root>,
    lost: MissingList,
}

/// What a root is of.
struct Part {
    source: Source,
    /// What is put before its paths.
    label: String,
    /// What the summary says of it.
    counts: Option<Counts>,
}

impl Trees<'_> {
    async fn all(&mut self, mut summary: Summary) -> Result<Made> {
        let mut roots = Vec::new();
        let mut lost = MissingList::default();
        let mut counts = Counts { read_bytes: summary.counts.read_bytes, ..Default::default() };
        summary.parent = None;
        // Of the first's chunks; what is cut again there is copied as it is then.
        summary.sparse.clear();
        for root in &self.snapshot.commit.roots {
            let part = self.part(&summary, root)?;
            let (tree, parent) = match self.one(root, &part).await {
                Ok(made) => made,
                // One volume of many may be lost as a whole.
                Err(Error::Repo(error)) if root.kind != RootKind::Files && error.is_damage() => {
                    lost.list(Missing { what: part.label.clone(), why: repo::chain(&error) });
                    forget_volume(&mut summary, root, &part.source);
                    continue;
                }
                Err(error) => return Err(error),
            };
            summary.parent = summary.parent.or(parent);
            let prefix = if part.label.is_empty() { String::new() } else { format!("{}: ", part.label) };
            for Missing { what, why } in tree.lost.listed {
                lost.list(Missing { what: format!("{prefix}{what}"), why });
            }
            lost.more += tree.lost.more;
            if root.kind != RootKind::Manifests {
                counts.entries += tree.counts.entries;
                counts.files += tree.counts.files;
                counts.bytes += tree.counts.bytes;
            }
            if let Some(volume) = volume_of(&mut summary, root, &part.source) {
                volume.counts = Counts { read_bytes: volume.counts.read_bytes, ..tree.counts };
            }
            let source = self.copying.target.keys.ids()?.source_id(&part.source);
            roots.push(Root { kind: root.kind, source, node: tree.root });
        }
        // By their new ids: their order shall not tell which was which.
        roots.sort_by_key(|root| (root.kind == RootKind::Volume, root.source));
        summary.counts = counts;
        Ok(Made { summary, roots, lost })
    }

    /// Copies one tree, by the help of an older copy if that is of use.
    async fn one(&self, root: &Root, part: &Part) -> Result<(Tree, Option<String>)> {
        let copying = self.copying;
        let target = &copying.target;
        let setting = Setting {
            tree: TreeReader::new(copying.reader.clone(), self.snapshot, root),
            writer: self.writer.clone(),
            meta: target.keys.meta_key_of(self.writer_of, target.keys.ids()?.source_id(&part.source))?,
            has_folders: root.kind != RootKind::Manifests,
            known: self.known.clone(),
            progress: self.progress.clone(),
        };
        if let Some((first, (parent, copied))) = copying.base_of(self.snapshot, root, &part.source) {
            let base = Base {
                source: TreeReader::new(copying.reader.clone(), first.0, first.1),
                copy: TreeReader::new(self.reader.clone(), parent, copied),
            };
            match copy(Some(base), &setting).await? {
                CopiedTree::Whole(tree) if part.fits(&tree) => return Ok((tree, Some(parent.name()))),
                CopiedTree::Cancelled => return Err(Error::Interrupted),
                CopiedTree::Whole(_) | CopiedTree::BadBase => {
                    tracing::warn!(base = parent.name(), "a base of the copy is of no use: all is read anew");
                }
            }
        }
        match copy(None, &setting).await? {
            CopiedTree::Whole(tree) if part.fits(&tree) => Ok((tree, None)),
            CopiedTree::Whole(tree) => Err(part.miscounted(self.snapshot, &tree)),
            CopiedTree::BadBase | CopiedTree::Cancelled => Err(Error::Interrupted),
        }
    }

    /// What a root is of: its source is found again by what the summary says.
    fn part(&self, summary: &Summary, root: &Root) -> Result<Part> {
        let ids = self.copying.source.keys.ids()?;
        let whole =
            |label: &str, counts| Part { source: summary.source.clone(), label: label.into(), counts };
        match root.kind {
            RootKind::Files => return Ok(whole("", Some(summary.counts))),
            RootKind::Manifests => return Ok(whole("manifests", None)),
            RootKind::Volume => {}
        }
        let none = || Error::NoVolume {
            volume: format!("with the source {}", root.source),
            snapshot: self.snapshot.name(),
        };
        let volumes = summary.cluster.iter().flat_map(|cluster| &cluster.volumes);
        let of = |volume: &&Volume| {
            summary.source_of(volume).is_some_and(|source| ids.source_id(&source) == root.source)
        };
        let volume = volumes.into_iter().find(of).ok_or_else(none)?;
        Ok(Part {
            source: summary.source_of(volume).ok_or_else(none)?,
            label: format!("volume {}/{}", volume.namespace, volume.name),
            counts: Some(volume.counts),
        })
    }
}

impl Part {
    /// Whether a copy has as much as the summary says of its source. What is lost is not counted there.
    fn fits(&self, tree: &Tree) -> bool {
        let is_whole = tree.lost.listed.is_empty() && tree.lost.more == 0;
        let shape = |counts: &Counts| (counts.entries, counts.files, counts.bytes);
        !is_whole || self.counts.is_none_or(|said| shape(&said) == shape(&tree.counts))
    }

    fn miscounted(&self, snapshot: &Snapshot, tree: &Tree) -> Error {
        let shown = |counts: &Counts| {
            format!("{} entries, {} files of {} bytes", counts.entries, counts.files, counts.bytes)
        };
        let what = format!("snapshot {} {}", snapshot.name(), self.label).trim_end().to_owned();
        let said = self.counts.as_ref().map(shown).unwrap_or_default();
        Error::Miscounted { what, copied: shown(&tree.counts), said }
    }
}

/// What the summary says of the volume that is the source of a root.
fn volume_of<'a>(summary: &'a mut Summary, root: &Root, source: &Source) -> Option<&'a mut Volume> {
    if root.kind != RootKind::Volume {
        return None;
    }
    let at = place_of(summary, source)?;
    summary.cluster.as_mut()?.volumes.get_mut(at)
}

fn place_of(summary: &Summary, source: &Source) -> Option<usize> {
    let volumes = &summary.cluster.as_ref()?.volumes;
    volumes.iter().position(|volume| summary.source_of(volume).as_ref() == Some(source))
}

/// A volume that can't be copied at all is none of the copy.
fn forget_volume(summary: &mut Summary, root: &Root, source: &Source) {
    if root.kind != RootKind::Volume {
        return;
    }
    if let Some(at) = place_of(summary, source)
        && let Some(cluster) = &mut summary.cluster
    {
        cluster.volumes.remove(at);
    }
}
