//! A backup of files: walk → compare with the parent → read → cut → save → describe.
//!
//! Runs on plain threads; CPU work goes to rayon, and the repository's writer holds back
//! whoever is faster than the store. Entries leave in path order, whatever finished first.
//! A file that can't be read is listed and left out; everything else goes on.
//!
//! ```text
//! walker ── batches ──> small-file readers ──┐ in order
//!    └───── large files ──> cutters ─────────┴─> assembler ──> tree
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::archive::assemble::Assembler;
use crate::archive::chunk::Chunker;
use crate::archive::compare::{Parent, Planned, Planner};
use crate::archive::file::Segment;
use crate::archive::pool::{Awaited, Promise, Room, promise};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::small;
use crate::archive::tree::NodeSink;
use crate::archive::walk::{Found, Step, Walk};
use crate::archive::witness::{Seen, Witness};
use crate::crypto::secret::Key;
use crate::format::entry::{Attributes, Content, TreePath};
use crate::format::id::{ChunkPrefix, NodeId};
use crate::format::keys::KeyName;
use crate::format::node::NodeCut;
use crate::format::refs::ChunkRef;
use crate::format::summary::{Counts, Missing};
use crate::progress::Progress;
use crate::repo::{Error, Ids, Result, Writer};

/// How often a file that changes while it is read is read.
pub const TRIES: u32 = 3;
/// Threads that read small files.
const READERS: usize = 3;
/// Large files that are read at the same time.
const CUTTERS: usize = 2;
/// Files of a batch, and the bytes at which it is full.
const BATCH_FILES: usize = 256;
const BATCH_BYTES: u64 = 1024 * 1024;
/// Batches on their way.
const BATCHES: usize = 8;
/// Large files that wait for a cutter.
const LARGE_WAITING: usize = 64;
/// Plaintext of chunks that wait for a CPU or are being saved.
const IN_FLIGHT_BYTES: usize = 24 * 1024 * 1024;
/// What is missing is listed up to so many bytes of text; more is counted. Far below what a summary may have.
const MISSING_BYTES: usize = 1024 * 1024;

/// What becomes of a file that does not hold still while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    /// It is left out and listed as missing.
    LeaveOut,
    /// What was read last is kept, and told in [`Outcome::moved`]: for volumes that are read in use.
    Keep,
}

/// Files that changed while they were read and were kept, or went away.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    pub count: u64,
    pub first: Option<TreePath>,
}

/// Where a backup goes and how.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub writer: &'a Writer,
    pub ids: &'a Ids,
    pub chunker: &'a Chunker,
    pub meta: &'a (KeyName, Key),
    pub moving: Moving,
    pub progress: &'a dyn Progress,
}

/// What all threads of a backup share.
pub struct Shared<'a> {
    pub writer: &'a Writer,
    pub ids: &'a Ids,
    pub chunker: &'a Chunker,
    meta: &'a (KeyName, Key),
    cut: NodeCut,
    room: Arc<Room>,
    pub progress: &'a dyn Progress,
    moving: Moving,
    moved: Mutex<Moved>,
    /// Set after a failure: what is still under way is of no use.
    failed: AtomicBool,
}

impl<'a> Shared<'a> {
    pub fn new(setting: Setting<'a>) -> Self {
        let Setting { writer, ids, chunker, meta, moving, progress } = setting;
        Self {
            writer,
            chunker,
            meta,
            cut: ids.node_cut(),
            ids,
            room: Room::new(IN_FLIGHT_BYTES),
            progress,
            moving,
            moved: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }
}

impl Shared<'_> {
    pub fn sink(&self) -> NodeSink<'_> {
        NodeSink { writer: self.writer, meta: self.meta, cut: &self.cut }
    }

    /// Whether to end early: after a failure, or because the run was told to.
    pub fn is_ending(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }

    /// Decides about a file that changed while it was read: kept (and noted), or a problem.
    pub fn moved(&self, path: &TreePath) -> Result<(), Problem> {
        if self.moving == Moving::LeaveOut {
            let what = "it changed while it was read";
            return Err(Problem::found("backing up", path, ProblemKind::Changed, what));
        }
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.count += 1;
        moved.first.get_or_insert_with(|| path.clone());
        Ok(())
    }

    pub fn take_moved(&self) -> Moved {
        std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a problem is only that something went away in a volume in use: noted, and no problem then.
    pub fn is_gone(&self, problem: &Problem) -> bool {
        problem.kind == ProblemKind::Vanished && self.moved(&problem.path).is_ok()
    }

    /// Hands a chunk to the CPUs; waits for room first.
    pub fn save<'scope>(
        &'scope self,
        cpus: &rayon::ScopeFifo<'scope>,
        chunk: Vec<u8>,
    ) -> Awaited<Result<ChunkRef>> {
        let taken = self.room.take(chunk.len());
        let (saved, awaited) = promise();
        cpus.spawn_fifo(move |_| {
            let len = u32::try_from(chunk.len()).expect("chunks are bounded");
            // What waits here for a slow store would hold up the end for long.
            saved.set(match self.is_ending() {
                true => Err(Error::Abandoned),
                false => self.writer.save_chunk(&chunk).map(|saved| ChunkRef { id: saved.id, len }),
            });
            drop(chunk);
            drop(taken);
        });
        awaited
    }
}

/// A batch of files in path order, as the readers give it on.
pub enum Read {
    /// Done without reading: not a file, or unchanged.
    Kept(Box<crate::format::entry::Entry>),
    /// Another name of a file that came before.
    Link(Named),
    Small(Box<Small>),
    Large(Named, Awaited<Result<LargeRead, Problem>>),
    Problem(Problem),
}

/// A path and its attributes: what is kept of a found file once its folder is let go.
pub type Named = Box<(TreePath, Attributes)>;

/// A small file's content.
pub struct Small {
    pub named: Named,
    pub size: u64,
    pub segments: Vec<Segment>,
    /// The data segments, end to end.
    pub data: Vec<u8>,
    pub hash: [u8; 32],
    /// Where the same content lies already.
    pub known: Option<Content>,
}

/// A large file's content, or the repository's error.
pub type LargeRead = Result<(u64, Content)>;

/// What came of a backup.
pub struct Outcome {
    pub root: NodeId,
    pub counts: Counts,
    /// Bundle chunks of which the tree uses little, most waste first.
    pub sparse: Vec<ChunkPrefix>,
    pub missing: Vec<Missing>,
    pub more_missing: u64,
    pub moved: Moved,
    /// What the walk saw, to be held against a second one.
    pub seen: Seen,
    /// The run was told to stop: the root is of no use.
    pub cancelled: bool,
}

/// Why something is not in the snapshot.
#[derive(Default)]
pub struct MissingList {
    pub listed: Vec<Missing>,
    pub more: u64,
    bytes: usize,
}

impl MissingList {
    pub fn add(&mut self, problem: &Problem) {
        self.list(missing(problem));
    }

    pub fn list(&mut self, missing: Missing) {
        self.bytes += missing.what.len() + missing.why.len();
        match self.bytes <= MISSING_BYTES {
            true => self.listed.push(missing),
            false => self.more += 1,
        }
    }
}

/// A problem as the summary lists it.
pub fn missing(problem: &Problem) -> Missing {
    Missing { what: problem.path.to_string(), why: format!("{}: {}", problem.doing, problem.cause) }
}

/// Backs up what `walk` finds. Blocks; must not run on a thread of the runtime.
pub fn backup(walk: Walk<'_>, parent: Option<Parent>, setting: Setting<'_>) -> Result<Outcome> {
    let shared = Shared::new(setting);
    let Setting { writer, .. } = setting;
    let bundle_below = u64::from(writer.repo().config.chunker.bundle_below_bytes);
    rayon::in_place_scope_fifo(|cpus| {
        std::thread::scope(|threads| {
            let shared = &shared;
            let (in_order, batches) = mpsc::sync_channel::<Awaited<Vec<Read>>>(BATCHES);
            let (to_readers, for_readers) = mpsc::sync_channel::<(Vec<Planned>, Promise<Vec<Read>>)>(BATCHES);
            let (to_cutters, for_cutters) = mpsc::sync_channel::<LargeJob>(LARGE_WAITING);
            let for_readers = Arc::new(Mutex::new(for_readers));
            let for_cutters = Arc::new(Mutex::new(for_cutters));
            let planner = Planner::new(parent, writer.index().clone(), bundle_below);
            let planning = threads.spawn(move || plan(shared, walk, planner, &in_order, &to_readers));
            for _ in 0..READERS {
                let (batches, large) = (for_readers.clone(), to_cutters.clone());
                threads.spawn(move || read_batches(shared, &batches, &large));
            }
            // The cutters end when the last reader is gone.
            drop(to_cutters);
            for _ in 0..CUTTERS {
                let jobs = for_cutters.clone();
                threads.spawn(move || cut_files(shared, cpus, &jobs));
            }
            let mut save = |chunk| shared.save(cpus, chunk);
            let mut assembler = Assembler::new(shared, &mut save);
            let mut failed = None;
            for batch in batches {
                // After a failure the rest is drained, so that no thread waits for ever.
                let Some(batch) = batch.wait() else { continue };
                if failed.is_none() {
                    failed = batch.into_iter().try_for_each(|read| assembler.take(read)).err();
                    shared.failed.store(failed.is_some(), Ordering::Relaxed);
                }
            }
            let planned = planning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match failed {
                Some(error) => Err(error),
                None => planned.and_then(|seen| assembler.finish(seen)),
            }
        })
    })
}

/// The walker's thread: decides for each found thing what has to be done, in batches.
fn plan(
    shared: &Shared<'_>,
    walk: Walk<'_>,
    mut planner: Planner,
    in_order: &mpsc::SyncSender<Awaited<Vec<Read>>>,
    to_readers: &mpsc::SyncSender<(Vec<Planned>, Promise<Vec<Read>>)>,
) -> Result<Seen> {
    let mut witness = Witness::default();
    let mut batch = Vec::new();
    let mut bytes = 0;
    let send = |batch: &mut Vec<Planned>| {
        let (read, awaited) = promise();
        let sent = to_readers.send((std::mem::take(batch), read)).is_ok() && in_order.send(awaited).is_ok();
        sent && !shared.is_ending()
    };
    for step in walk {
        witness.see(&step);
        let (planned, problem) = match step {
            Step::Found(found) => planner.plan(found)?,
            Step::Problem(problem) => (Planned::Problem(problem), None),
        };
        for planned in [planned].into_iter().chain(problem.map(Planned::Problem)) {
            if matches!(&planned, Planned::Problem(problem) if shared.is_gone(problem)) {
                continue;
            }
            bytes += planned.small_bytes();
            batch.push(planned);
        }
        if batch.len() >= BATCH_FILES || bytes >= BATCH_BYTES {
            bytes = 0;
            if !send(&mut batch) {
                return Ok(witness.finish());
            }
        }
    }
    send(&mut batch);
    Ok(witness.finish())
}

/// A large file, and where its content will be.
pub struct LargeJob {
    found: Found,
    content: Promise<Result<LargeRead, Problem>>,
}

type Shareable<T> = Arc<Mutex<mpsc::Receiver<T>>>;

fn next<T>(queue: &Shareable<T>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn read_batches(
    shared: &Shared<'_>,
    batches: &Shareable<(Vec<Planned>, Promise<Vec<Read>>)>,
    large: &mpsc::SyncSender<LargeJob>,
) {
    while let Some((batch, done)) = next(batches) {
        if shared.is_ending() {
            continue;
        }
        let mut read = Vec::with_capacity(batch.len());
        for planned in batch {
            let done = match planned {
                Planned::Kept(entry) => Read::Kept(entry),
                Planned::Link { named, .. } => Read::Link(named),
                Planned::Problem(problem) => Read::Problem(problem),
                Planned::Small { found, old } => match small::read(shared, *found, old) {
                    Ok(small) => Read::Small(Box::new(small)),
                    Err(problem) if shared.is_gone(&problem) => continue,
                    Err(problem) => Read::Problem(problem),
                },
                Planned::Large(found) => {
                    let (content, awaited) = promise();
                    let named = Box::new((found.path.clone(), found.attributes.clone()));
                    // A closed queue breaks the promise, which the assembler notices.
                    let _ = large.send(LargeJob { found: *found, content });
                    Read::Large(named, awaited)
                }
            };
            read.push(done);
        }
        done.set(read);
    }
}

fn cut_files<'scope>(
    shared: &'scope Shared<'_>,
    cpus: &rayon::ScopeFifo<'scope>,
    jobs: &Shareable<LargeJob>,
) {
    while let Some(job) = next(jobs) {
        job.content.set(crate::archive::large::read(shared, &job.found, &|chunk| shared.save(cpus, chunk)));
    }
}
