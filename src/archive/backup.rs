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

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::archive::assemble::Assembler;
use crate::archive::chunk::Chunker;
use crate::archive::compare::{Parent, Planned, Planner};
use crate::archive::file::{self, Segment};
use crate::archive::pool::{Awaited, Promise, Room, promise};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::tree::NodeSink;
use crate::archive::walk::{Found, Step, Walk};
use crate::crypto::secret::Key;
use crate::format::entry::{Attributes, Content, Extent, TreePath};
use crate::format::id::{ChunkId, NodeId};
use crate::format::keys::KeyName;
use crate::format::node::NodeCut;
use crate::format::summary::{Counts, Missing};
use crate::progress::Progress;
use crate::repo::{Result, Writer};

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

/// What all threads of a backup share.
pub struct Shared<'a> {
    pub writer: &'a Writer,
    pub chunker: &'a Chunker,
    pub meta: &'a (KeyName, Key),
    pub cut: &'a NodeCut,
    pub room: Arc<Room>,
    pub progress: &'a dyn Progress,
    /// Set after a failure: what is still under way is of no use.
    pub failed: AtomicBool,
}

impl Shared<'_> {
    pub fn sink(&self) -> NodeSink<'_> {
        NodeSink { writer: self.writer, meta: self.meta, cut: self.cut }
    }

    /// Whether to end early: after a failure, or because the run was told to.
    pub fn is_ending(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }

    /// Hands a chunk to the CPUs; waits for room first.
    fn save<'scope>(
        &'scope self,
        cpus: &rayon::ScopeFifo<'scope>,
        chunk: Vec<u8>,
    ) -> Awaited<Result<ChunkId>> {
        let taken = self.room.take(chunk.len());
        let (saved, awaited) = promise();
        cpus.spawn_fifo(move |_| {
            saved.set(self.writer.save_chunk(&chunk).map(|saved| saved.id));
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
    pub missing: Vec<Missing>,
    pub more_missing: u64,
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
        let missing = missing(problem);
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
pub fn backup(
    walk: Walk<'_>,
    parent: Option<Parent>,
    writer: &Writer,
    chunker: &Chunker,
    meta: &(KeyName, Key),
    progress: &dyn Progress,
) -> Result<Outcome> {
    let cut = writer.repo().keys.node_cut();
    let room = Room::new(IN_FLIGHT_BYTES);
    let failed = AtomicBool::new(false);
    let shared = Shared { writer, chunker, meta, cut: &cut, room, progress, failed };
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
                None => planned.and_then(|()| assembler.finish()),
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
) -> Result<()> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let send = |batch: &mut Vec<Planned>| {
        let (read, awaited) = promise();
        let sent = to_readers.send((std::mem::take(batch), read)).is_ok() && in_order.send(awaited).is_ok();
        sent && !shared.is_ending()
    };
    for step in walk {
        let planned = match step {
            Step::Found(found) => planner.plan(found)?,
            Step::Problem(problem) => Planned::Problem(problem),
        };
        bytes += planned.small_bytes();
        batch.push(planned);
        if batch.len() >= BATCH_FILES || bytes >= BATCH_BYTES {
            bytes = 0;
            if !send(&mut batch) {
                return Ok(());
            }
        }
    }
    send(&mut batch);
    Ok(())
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
            read.push(match planned {
                Planned::Kept(entry) => Read::Kept(entry),
                Planned::Link { named, .. } => Read::Link(named),
                Planned::Problem(problem) => Read::Problem(problem),
                Planned::Small { found, old } => match read_small(shared, *found, old) {
                    Ok(small) => Read::Small(Box::new(small)),
                    Err(problem) => Read::Problem(problem),
                },
                Planned::Large(found) => {
                    let (content, awaited) = promise();
                    let named = Box::new((found.path.clone(), found.attributes.clone()));
                    // A closed queue breaks the promise, which the assembler notices.
                    let _ = large.send(LargeJob { found: *found, content });
                    Read::Large(named, awaited)
                }
            });
        }
        done.set(read);
    }
}

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;

fn read_small(shared: &Shared<'_>, found: Found, old: Option<([u8; 32], Content)>) -> Result<Small, Problem> {
    let keys = &shared.writer.repo().keys;
    for _ in 0..TRIES {
        let reader = file::open(&found)?;
        let segments = reader.segments().collect::<Result<Vec<_>, _>>()?;
        let mut data = Vec::new();
        for segment in &segments {
            if let Segment::Data { offset, len } = *segment {
                let at = data.len();
                data.resize(at + len as usize, 0);
                reader.read_at(offset, &mut data[at..])?;
            }
        }
        if reader.changed_since_open() {
            continue;
        }
        let hash = match segments.as_slice() {
            [] | [Segment::Data { .. }] => keys.file_hash(&data),
            _ => keys.file_hash(&whole(&segments, &data)),
        };
        let known =
            old.as_ref().filter(|(old_hash, content)| *old_hash == hash && same_holes(content, &segments));
        return Ok(Small {
            size: reader.size(),
            named: Box::new((found.path, found.attributes)),
            data: if known.is_some() { Vec::new() } else { data },
            segments,
            hash,
            known: known.map(|(_, content)| content.clone()),
        });
    }
    Err(changing(&found.path))
}

/// The problem of a file that did not hold still.
pub fn changing(path: &TreePath) -> Problem {
    Problem::found("reading", path, ProblemKind::Changed, "it changed while it was read")
}

/// The file as a reader sees it, holes as zeros.
fn whole(segments: &[Segment], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for segment in segments {
        match *segment {
            Segment::Data { len, .. } => {
                out.extend_from_slice(&data[at..at + len as usize]);
                at += len as usize;
            }
            Segment::Hole { len, .. } => out.resize(out.len() + len as usize, 0),
        }
    }
    out
}

fn same_holes(content: &Content, segments: &[Segment]) -> bool {
    let Content::Extents(extents) = content else { return false };
    let mut old: HashMap<u64, u64> = HashMap::new();
    let mut at = 0;
    for extent in extents {
        if let Extent::Hole { len } = extent {
            old.insert(at, *len);
        }
        at += extent.len();
    }
    let new = segments.iter().filter_map(|segment| match *segment {
        Segment::Hole { offset, len } => Some((offset, len)),
        Segment::Data { .. } => None,
    });
    let new: HashMap<u64, u64> = new.collect();
    old == new
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
