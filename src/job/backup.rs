//! Backing up files: session → index → parent → archive → commit.

use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::backup::{Moving, Outcome, Setting, backup, missing};
use crate::archive::chunk::Chunker;
use crate::archive::compare::{Parent, Planned, Planner};
use crate::archive::exclude::Exclude;
use crate::archive::walk::{FoundKind, Options, Step, Walk};
use crate::crypto::secret::Key;
use crate::format::commit::{Root, RootKind};
use crate::format::entry::{Kind, escape};
use crate::format::id::{ChunkPrefix, NodeId, SourceId};
use crate::format::keys::KeyName;
use crate::format::summary::{Counts, Missing, Source, Summary};
use crate::job::volume::unless_cancelled;
use crate::job::{Error, Result};
use crate::pace;
use crate::progress::{Progress, Unit};
use crate::repo::{
    self, Begun, Ids, Index, Reader, Repository, Snapshot, Snapshots, Stats, ToCommit, TreeReader, Writer,
    WriterSettings, begin, commit_again,
};
use crate::world::World;

/// What to back up.
pub struct Files {
    /// Absolute.
    pub paths: Vec<PathBuf>,
    pub host: String,
    pub tags: Vec<String>,
    pub exclude: Exclude,
    pub one_file_system: bool,
    pub exclude_caches: bool,
    pub writer: WriterSettings,
    /// Bytes of the files that may be read in a second.
    pub read_limit: Option<NonZeroU64>,
    /// The kist that runs, for the summary.
    pub kist: String,
}

/// What a backup did.
pub struct Done {
    pub snapshot: Snapshot,
    pub summary: Summary,
    pub stats: Stats,
    /// The snapshot that this one was compared with.
    pub parent: Option<Snapshot>,
    /// The snapshots before it, and itself.
    pub known: Snapshots,
    /// Reads its trees, and those before it; if this machine has room for that.
    pub reader: Option<Reader>,
}

/// What a backup would do.
#[derive(Default)]
pub struct Preview {
    pub counts: Counts,
    pub missing: Vec<Missing>,
    pub parent: Option<String>,
}

impl Files {
    /// What the snapshots of these paths are of: host and paths, sorted, each once.
    pub fn source(&self) -> Source {
        let mut paths: Vec<String> =
            self.paths.iter().map(|path| escape(path.as_os_str().as_bytes())).collect();
        paths.sort();
        paths.dedup();
        Source::Files { host: self.host.clone(), paths }
    }

    fn check_paths(&self) -> Result<()> {
        for path in &self.paths {
            if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
                return Err(Error::NoSuchPath { path: path.display().to_string() });
            }
        }
        Ok(())
    }

    /// Hands the walk over these paths to `work`.
    fn walk<T>(&self, ids: &Ids, world: &World, work: impl FnOnce(Walk<'_>) -> Result<T>) -> Result<T> {
        let options = Options {
            exclude: &self.exclude,
            one_file_system: self.one_file_system,
            exclude_caches: self.exclude_caches,
            link_group: &|first| ids.link_group(first),
            clock: &|| world.now(),
        };
        let walk =
            Walk::of_paths(&self.paths, options).map_err(|problem| Error::BadPath { source: problem })?;
        work(walk)
    }
}

/// How often the source is read again because the session was fenced and what it referred to was swept.
const RERUNS: usize = 3;

/// Runs, and begins anew where the session was fenced and what it referred to was swept.
pub(super) async fn anew_if_fenced<T>(mut once: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 0..RERUNS {
        match once().await {
            Err(Error::Repo(repo::Error::Fenced)) => {
                tracing::warn!("a prune was quicker: what is missing is read again");
            }
            done => return done,
        }
    }
    once().await
}

/// Backs up files into one snapshot. After an interrupt nothing is committed; what was uploaded counts
/// for the next run.
pub async fn files(repo: &Repository, files: Files, progress: Arc<dyn Progress>) -> Result<Done> {
    let progress = pace::held(progress, files.read_limit);
    let files = Arc::new(files);
    anew_if_fenced(async || once(repo, files.clone(), progress.clone()).await).await
}

async fn once(repo: &Repository, files: Arc<Files>, progress: Arc<dyn Progress>) -> Result<Done> {
    files.check_paths()?;
    repo.keys.check_adds()?;
    let time = repo.world.now();
    let source = files.source();
    let ids = repo.keys.ids()?.clone();
    let source_id = ids.source_id(&source);
    let meta = repo.keys.own_meta_key(source_id)?;
    // The order is law (spec chapter 8): session, log, commits, index.
    let begun = begin(repo, 1).await?;
    let (mut known, index) = begun.load_before(repo).await?;
    let Begun { session, mut lanes, view, .. } = begun;
    let index = Arc::new(index);
    let parent = known.parent_of(repo, source_id).cloned();
    let lane = lanes.pop().expect("one lane was asked for");
    let writer = Writer::new(repo, index.clone(), lane, files.writer);
    let parent_tree = parent.as_ref().and_then(|parent| parent_tree(repo, &index, parent, source_id));
    let (writer, outcome) = run(files.clone(), writer, parent_tree, (ids, meta), progress.clone()).await;
    if is_cut_short(&outcome, progress.as_ref()) {
        // What is open goes to the store if that is quick; if not, it is only uploaded again.
        let _ = tokio::time::timeout(crate::job::PUT_AWAY, writer.finish()).await;
        return Err(Error::Interrupted);
    }
    let outcome = outcome?;
    let (stats, reader) = finish(writer, progress.as_ref()).await?;
    let summary = summarize(&files, (source, source_id), parent.as_ref(), &outcome, &stats);
    let root = Root { kind: RootKind::Files, source: source_id, node: outcome.root };
    let complete = summary.missing.is_empty() && summary.more_missing == 0;
    let to_commit = ToCommit {
        view,
        time,
        source: source_id,
        complete,
        class: Vec::new(),
        held: false,
        roots: vec![root],
        summary: summary.clone(),
    };
    let snapshot = commit_again(repo, session, &known, to_commit).await?;
    known.all.push(snapshot.clone());
    Ok(Done { snapshot, summary, stats, parent, known, reader })
}

/// Whether a backup ended because it was told to; what it was in the middle of may look like a failure then.
pub(super) fn is_cut_short<E>(outcome: &std::result::Result<Outcome, E>, progress: &dyn Progress) -> bool {
    outcome.as_ref().map_or_else(|_| progress.is_cancelled(), |outcome| outcome.cancelled)
}

/// Waits until all is in the store, or the run is told to stop.
pub(super) async fn finish(writer: Writer, progress: &dyn Progress) -> Result<(Stats, Option<Reader>)> {
    unless_cancelled(progress, async { Ok::<_, Error>(writer.finish().await?) }).await
}

/// Runs the archive on a thread of its own: it blocks.
async fn run(
    files: Arc<Files>,
    writer: Writer,
    parent: Option<Parent>,
    (ids, meta): (Ids, (KeyName, Key)),
    progress: Arc<dyn Progress>,
) -> (Writer, Result<Outcome>) {
    let work = move || {
        let chunker = Chunker::new(&writer.repo().config.chunker, &ids);
        let setting = Setting {
            writer: &writer,
            ids: &ids,
            chunker: &chunker,
            meta: &meta,
            moving: Moving::LeaveOut,
            progress: progress.as_ref(),
        };
        let outcome = files.walk(&ids, &writer.repo().world, |walk| Ok(backup(walk, parent, setting)?));
        (writer, outcome)
    };
    tokio::task::spawn_blocking(work).await.expect("a backup does not panic")
}

fn parent_tree(repo: &Repository, index: &Arc<Index>, parent: &Snapshot, source: SourceId) -> Option<Parent> {
    OldTree::of(repo, parent, source).map(|old| old.parent(repo, index))
}

/// The tree of a source in an older snapshot.
pub(super) struct OldTree {
    pub root: NodeId,
    /// The key of its nodes.
    pub meta: KeyName,
    /// What the summary lists for it. Only a help: without it space does not come back, and nothing else.
    pub sparse: Vec<ChunkPrefix>,
}

impl OldTree {
    pub fn of(repo: &Repository, snapshot: &Snapshot, source: SourceId) -> Option<Self> {
        let root = snapshot.root_of(source)?;
        let summary = repo::summary(repo, snapshot).unwrap_or_else(|error| {
            tracing::warn!(%error, "the summary of an older snapshot can't be read");
            None
        });
        let sparse = summary.map_or_else(Vec::new, |summary| summary.sparse_of(source).to_vec());
        Some(Self { root, meta: snapshot.commit.meta_key_name(source), sparse })
    }

    /// As what is compared with it takes it.
    pub fn parent(self, repo: &Repository, index: &Arc<Index>) -> Parent {
        let reader = Arc::new(Reader::new(repo, index.clone()));
        let Self { root, meta, sparse } = self;
        let tree = TreeReader { reader, root, meta };
        Parent { tree, sparse, runtime: tokio::runtime::Handle::current() }
    }
}

fn summarize(
    files: &Files,
    (source, source_id): (Source, SourceId),
    parent: Option<&Snapshot>,
    outcome: &Outcome,
    stats: &Stats,
) -> Summary {
    Summary {
        version: 0,
        kist: files.kist.clone(),
        source,
        tags: files.tags.clone(),
        parent: parent.map(Snapshot::name),
        counts: Counts {
            new_bytes: stats.new_bytes,
            stored_bytes: stats.uploaded.pack_bytes,
            ..outcome.counts
        },
        missing: outcome.missing.clone(),
        more_missing: outcome.more_missing,
        sparse: Summary::sparse(vec![(source_id, outcome.sparse.clone())]),
        cluster: None,
        copied_from: None,
    }
}

/// Tells what a backup would read, and writes nothing.
pub async fn preview(repo: &Repository, files: Files, progress: Arc<dyn Progress>) -> Result<Preview> {
    files.check_paths()?;
    let ids = repo.keys.ids()?.clone();
    let source_id = ids.source_id(&files.source());
    let before = Snapshots::load_before(repo).await?;
    let index = Arc::new(Index::load(repo).await?);
    let parent = before.parent_of(repo, source_id);
    let parent_tree = parent.and_then(|parent| parent_tree(repo, &index, parent, source_id));
    let bundle_below = u64::from(repo.config.chunker.bundle_below_bytes);
    let mut preview = Preview { parent: parent.map(Snapshot::name), ..Default::default() };
    let world = repo.world.clone();
    let work = move || {
        let mut planner = Planner::new(parent_tree, index, bundle_below);
        files.walk(&ids, &world, |walk| {
            for step in walk {
                if progress.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                match step {
                    Step::Found(found) => {
                        let (planned, problem) = planner.plan(found)?;
                        preview.count(&planned);
                        preview.missing.extend(problem.iter().map(missing));
                    }
                    Step::Problem(problem) => preview.missing.push(missing(&problem)),
                }
                progress.advance(Unit::Entries, 1);
            }
            Ok(preview)
        })
    };
    tokio::task::spawn_blocking(work).await.expect("a preview does not panic")
}

impl Preview {
    fn count(&mut self, planned: &Planned) {
        let counts = &mut self.counts;
        counts.entries += 1;
        let (size, is_read) = match planned {
            Planned::Kept(entry) => match entry.kind {
                Kind::File { size, .. } => (size, false),
                _ => return,
            },
            Planned::Link { size, .. } => (*size, false),
            Planned::Small { found, .. } | Planned::Large(found) => match found.kind {
                FoundKind::File { size } => (size, true),
                _ => return,
            },
            Planned::Problem(_) => return,
        };
        counts.files += 1;
        counts.bytes += size;
        counts.read_bytes += if is_read { size } else { 0 };
    }
}
