//! Small files that change a little each day: the space of what they were comes back.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kist::format::config::Chunker;
use kist::format::id::{ChunkId, ChunkPrefix, NodeId};
use kist::job::backup::{Done, Files, files};
use kist::progress::Silent;
use kist::repo::{self, Index, Init, Reader, Repository, Snapshots, Unlock, WriterSettings};
use kist::world::{Time, fixed};
use object_store::memory::InMemory;

use crate::scene::{HOST, Scene, backup, grow, init, noise, over, prune};

/// Files, days, and what is kept.
const FILES: u64 = 32_000;
const DAYS: u64 = 100;
const KEPT: usize = 7;
/// Files to a folder.
const FOLDER: u64 = 200;
const MIN_FILE_BYTES: u64 = 1024;
const MAX_FILE_BYTES: u64 = 7 * 1024;
const DAY_NANOS: i64 = 24 * 60 * 60 * 1_000_000_000;

fn is_prune_day(day: u64) -> bool {
    day.is_multiple_of(7) || day == DAYS
}

fn path(source: &Path, number: u64) -> PathBuf {
    source.join(format!("folder {:04}", number / FOLDER)).join(format!("{number:06}"))
}

/// A few KiB that don't compress.
fn write(source: &Path, number: u64, day: u64) {
    let seed = number << 16 | day;
    let len = MIN_FILE_BYTES + draw(seed, 1) % (MAX_FILE_BYTES - MIN_FILE_BYTES);
    fs::write(path(source, number), noise(len as usize, seed)).unwrap();
}

fn draw(seed: u64, number: u64) -> u64 {
    let drawn = noise(8, seed.rotate_left(20) ^ number);
    u64::from_le_bytes(*drawn.first_chunk().unwrap())
}

/// A repository in memory with chunks and packs of the default sizes.
struct Churn {
    folder: tempfile::TempDir,
    beneath: InMemory,
    owner: Unlock,
    files: u64,
}

impl Churn {
    async fn new(files: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        for first in (0..files).step_by(FOLDER as usize) {
            fs::create_dir(path(folder.path(), first).parent().unwrap()).unwrap();
        }
        (0..files).for_each(|number| write(folder.path(), number, 0));
        let beneath = InMemory::new();
        let init = Init { chunker: Chunker::DEFAULT, ..init() };
        let (_, key) = repo::init(over(beneath.clone()), &fixed::world(0, Time(0)), init).await.unwrap();
        Self { folder, beneath, owner: Unlock::KeyFile(key.unwrap()), files }
    }

    async fn open(&self, day: u64) -> Repository {
        let world = fixed::world(1 + day, Time(1_800_000_000_000_000_000 + day as i64 * DAY_NANOS));
        repo::open(over(self.beneath.clone()), &world, &self.owner, None).await.unwrap()
    }

    async fn backup(&self, repo: &Repository) -> Done {
        let what = Files {
            paths: vec![self.folder.path().to_owned()],
            host: HOST.into(),
            tags: vec![],
            exclude: Default::default(),
            one_file_system: false,
            exclude_caches: false,
            read_limit: None,
            writer: WriterSettings { compression_level: 1, hurried_level: 1, ..Default::default() },
            kist: "test".into(),
        };
        files(repo, what, Arc::new(Silent)).await.unwrap()
    }

    /// One percent is written anew; a backup; what is too old is forgotten; once a week a prune.
    async fn day(&self, day: u64) -> Done {
        for nth in 0..self.files / 100 {
            write(self.folder.path(), draw(day, nth) % self.files, day);
        }
        let repo = self.open(day).await;
        let done = self.backup(&repo).await;
        let all = Snapshots::load(&repo).await.unwrap().all;
        let old: Vec<_> = all[..all.len().saturating_sub(KEPT)].iter().map(|snapshot| snapshot.id).collect();
        if !old.is_empty() {
            repo::observe(&repo).await.unwrap();
            repo::forget(&repo, &old).await.unwrap();
        }
        if is_prune_day(day) {
            assert_eq!(prune(&repo).await.left, None);
        }
        done
    }

    /// All objects of the store, in bytes.
    async fn stored(&self) -> u64 {
        over(self.beneath.clone()).list("").await.unwrap().iter().map(|object| object.size).sum()
    }
}

/// After each prune, beside the sizes of the newest snapshot's files. With KIST_CHURN set to a number of files the
/// curve is printed for so many.
#[tokio::test(flavor = "multi_thread")]
async fn in_100_days_of_churn_a_repository_grows_to_1_5_times_its_data_and_never_beyond_1_7() {
    let files = std::env::var("KIST_CHURN").ok().map(|files| files.parse().expect("a number of files"));
    let churn = Churn::new(files.unwrap_or(FILES)).await;
    let mut pruned = Vec::new();
    for day in 0..=DAYS {
        let summary = churn.day(day).await.summary;
        let (live, stored) = (summary.counts.bytes, churn.stored().await);
        let ratio = stored as f64 / live as f64;
        if is_prune_day(day) {
            pruned.push(ratio);
        }
        if files.is_some() {
            let listed: usize = summary.sparse.values().map(Vec::len).sum();
            let read = summary.counts.read_bytes as f64 / live as f64;
            println!("day {day:3}: {stored} bytes, {ratio:.3} of {live}, {listed} listed, {read:.3} read");
        }
    }
    let settled = &pruned[pruned.len() / 2..];
    let average = settled.iter().sum::<f64>() / settled.len() as f64;
    assert!(average <= 1.5 && pruned.iter().all(|ratio| *ratio <= 1.7), "{average:.3}: {pruned:.3?}");
}

/// All chunks that a tree uses.
async fn chunks(repo: &Repository, root: NodeId) -> HashSet<ChunkId> {
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await.unwrap())));
    let mut next = vec![root];
    let mut chunks = HashSet::new();
    while let Some(node) = next.pop() {
        let (_, _, refs) = reader.node_refs(node).await.unwrap();
        chunks.extend(refs.chunks);
        next.extend(refs.nodes);
    }
    chunks
}

fn listed(done: &Done) -> HashSet<ChunkPrefix> {
    done.summary.sparse.values().flatten().copied().collect()
}

/// Files that are touched and have the same content as before, and names of one file, are among them.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_chunk_that_is_little_used_is_read_once_more_and_then_the_chunk_is_gone() {
    let scene = Scene::new().await;
    grow(&scene.source());
    // Opened anew for each backup: each is a little later than the one before.
    let back_up = async || backup(&scene.open(scene.store()).await.unwrap(), &scene.source()).await.unwrap();
    assert!(listed(&back_up().await).is_empty(), "bundles are full at first");
    let mut left = Vec::new();
    for folder in 0..8 {
        let folder = scene.source().join(format!("folder {folder}"));
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let keeps = |at: &usize| at % 4 == 1;
        (0..names.len()).filter(|at| !keeps(at)).for_each(|at| fs::remove_file(&names[at]).unwrap());
        left.extend((0..names.len()).filter(keeps).map(|at| names[at].clone()));
    }
    let thinned = back_up().await;
    let sparse = listed(&thinned);
    assert!(sparse.len() > 20 && thinned.summary.counts.read_bytes == 0, "{} chunks", sparse.len());
    let again = fs::read(&left[3]).unwrap();
    fs::write(&left[3], again).unwrap();
    let cut = back_up().await;
    assert_eq!(cut.summary.counts.read_bytes, 200 * left.len() as u64);
    assert_eq!(listed(&cut), HashSet::new(), "the new bundles are full");
    let owner = scene.open(scene.store()).await.unwrap();
    let used = chunks(&owner, cut.snapshot.commit.roots[0].node).await;
    assert!(used.iter().all(|chunk| !sparse.contains(&chunk.prefix())), "nothing uses what was listed");
    let quiet = back_up().await;
    assert_eq!((quiet.summary.counts.read_bytes, quiet.stats.new_chunks), (0, 0));
    assert_eq!(quiet.snapshot.commit.roots, cut.snapshot.commit.roots);
    scene.restore_whole(&owner, &quiet.snapshot.name(), "cut again").await;
}
