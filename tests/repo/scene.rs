//! A repository in memory, a folder to back up, and what can be done with them.
//!
//! Chunks, packs and nodes are tiny, so that a megabyte of files has all that a terabyte has. Each run has
//! its own seed, so that no two draw the same names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kist::crypto::kdf::Params;
use kist::format::config::{Chunker, ChunkerKind};
use kist::format::id::{RecordId, hex};
use kist::format::keys::Role;
use kist::format::object::pack_key;
use kist::format::pack::Toc;
use kist::job::backup::{Done, Files, files};
use kist::job::find::{Described, Filter, Part, Which, find};
use kist::job::{Error, Result, restore};
use kist::progress::{Progress, Silent};
use kist::repo::{
    self, Degrade, Finding, Index, Init, NewKey, PruneSettings, Pruned, Reading, Report as CheckReport,
    Repository, Snapshots, Told, Touched, Unlock, WriterSettings,
};
use kist::store::testing::{Failure, Faulty, Moment};
use kist::store::{Store, Verb};
use kist::world::{Time, World, fixed};
use object_store::memory::InMemory;
use tempfile::TempDir;

pub type Restored = kist::archive::restore::Report;

pub const HOST: &str = "box-under-test";

/// Nodes that change when the folders above the source do.
pub const ABOVE: u64 = 2;

const CHUNKER: Chunker = Chunker {
    kind: ChunkerKind::KeyedFastCdc,
    min_bytes: 1024,
    avg_bytes: 4096,
    max_bytes: 16 * 1024,
    bundle_below_bytes: 2048,
};

pub const WRITER: WriterSettings = WriterSettings {
    data_pack_bytes: 24 * 1024,
    node_pack_bytes: 2 * 1024,
    open_data_packs: 2,
    compression_level: 1,
    hurried_level: 1,
};

pub struct Scene {
    pub dir: TempDir,
    pub beneath: InMemory,
    pub owner: Unlock,
    runs: AtomicU64,
}

impl Scene {
    /// An empty repository, and the tree of [`grow`].
    pub async fn new() -> Self {
        Self::at("/dev/shm").await
    }

    /// The folders above the source are in its tree: where others make folders too, its first leaf and its
    /// root may change ([`ABOVE`]).
    pub async fn at(base: &str) -> Self {
        let dir = tempfile::tempdir_in(base).unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        let beneath = InMemory::new();
        let runs = AtomicU64::new(0);
        let (_, key) = repo::init(over(beneath.clone()), &next_world(&runs), init()).await.unwrap();
        Self { dir, beneath, owner: Unlock::KeyFile(key.unwrap()), runs }
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn world(&self) -> World {
        next_world(&self.runs)
    }

    /// What is in the store now, to be damaged.
    pub fn copy(&self) -> Store {
        over(self.beneath.fork())
    }

    pub fn store(&self) -> Store {
        over(self.beneath.clone())
    }

    /// As the owner.
    pub async fn open(&self, store: Store) -> repo::Result<Repository> {
        repo::open(store, &self.world(), &self.owner, None).await
    }

    /// A new writer of the default domain.
    pub async fn writer(&self, name: &str) -> Unlock {
        self.add(NewKey::of(Role::Writer, name)).await
    }

    /// A new key.
    pub async fn add(&self, new: NewKey) -> Unlock {
        let owner = self.open(self.store()).await.unwrap();
        Unlock::KeyFile(repo::add_key(&owner, &new).await.unwrap())
    }

    /// With some key, in its domain.
    pub async fn open_with(&self, unlock: &Unlock) -> Repository {
        repo::open(self.store(), &self.world(), unlock, None).await.unwrap()
    }

    /// As the owner, in a domain.
    pub async fn open_in(&self, domain: &str) -> Repository {
        repo::open(self.store(), &self.world(), &self.owner, Some(domain)).await.unwrap()
    }

    /// Restores a snapshot into a folder of its own and compares it with the source.
    pub async fn restore(&self, repo: &Repository, snapshot: &str) -> Result<Outcome> {
        self.restore_like(repo, snapshot, &self.source(), &self.source()).await
    }

    /// The same of another source, compared with what that was `like`.
    pub async fn restore_like(
        &self,
        repo: &Repository,
        snapshot: &str,
        source: &Path,
        like: &Path,
    ) -> Result<Outcome> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        let target = self.dir.path().join(format!("target-{number}"));
        let restored = restore_into(repo, snapshot, source, &target).await;
        let outcome = restored.map(|report| Outcome::new(report, like, &target));
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        outcome
    }

    /// Restores, and nothing may be missing or different.
    pub async fn restore_whole(&self, repo: &Repository, snapshot: &str, what: &str) {
        let outcome = self.restore(repo, snapshot).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(outcome.is_whole(), "{what}: {outcome:?}");
    }
}

fn next_world(runs: &AtomicU64) -> World {
    let run = runs.fetch_add(1, Ordering::SeqCst);
    fixed::world(run, Time(1_800_000_000_000_000_000 + run as i64 * 1_000_000_000))
}

/// With a key file as the owner's.
pub fn init() -> Init {
    Init { passphrase: None, cost: Params::CHEAP, chunker: CHUNKER, degrade: Degrade::Refuse, like: None }
}

pub fn over(beneath: InMemory) -> Store {
    Store::over(Arc::new(beneath))
}

/// With what is in `beneath`, but that one of the calls among `verbs` fails, by its number from 0.
pub fn failing_once(beneath: InMemory, verbs: &[Verb], nth: u64, failure: Failure) -> Store {
    let faults = Faulty::over(Arc::new(beneath)).fail(verbs, nth..nth + 1, Moment::Before, failure);
    Store::over(faults.wrap())
}

pub async fn backup(repo: &Repository, source: &Path) -> Result<Done> {
    backup_until(repo, source, Arc::new(Silent)).await
}

/// Backs up until `progress` says that it is enough.
pub async fn backup_until(repo: &Repository, source: &Path, progress: Arc<dyn Progress>) -> Result<Done> {
    let what = Files {
        paths: vec![source.to_owned()],
        host: HOST.into(),
        tags: vec![],
        exclude: Default::default(),
        one_file_system: false,
        exclude_caches: false,
        read_limit: None,
        writer: WRITER,
        kist: "test".into(),
    };
    files(repo, what, progress).await
}

pub async fn described(repo: &Repository, snapshot: &str) -> Result<Described> {
    find(repo, None, &Which::parse(snapshot), &Filter::default()).await
}

pub async fn restore_into(
    repo: &Repository,
    snapshot: &str,
    source: &Path,
    target: &Path,
) -> Result<Restored> {
    let found = described(repo, snapshot).await?;
    let from = kist::job::list::tree_path(source.to_str().unwrap())?;
    let request = restore::Request { part: Part::Files, overwrite: None, delete: false, dry_run: false };
    restore::files(repo, &found, &from, target, &request, Arc::new(Silent)).await
}

/// What a check has told.
#[derive(Debug)]
pub struct Checked {
    pub report: CheckReport,
    pub findings: Vec<Finding>,
    pub touched: Vec<Touched>,
    /// Packs that the store did not give.
    pub refused: Vec<String>,
}

/// With all packs read.
pub async fn check(repo: &Repository) -> Checked {
    check_as(repo, Some(Reading::default())).await.unwrap()
}

/// Of the structure alone.
pub async fn check_structure(repo: &Repository) -> Checked {
    check_as(repo, None).await.unwrap()
}

pub async fn check_as(repo: &Repository, reading: Option<Reading>) -> repo::Result<Checked> {
    check_until(repo, reading, &Silent).await
}

/// Checks until `progress` says that it is enough.
pub async fn check_until(
    repo: &Repository,
    reading: Option<Reading>,
    progress: &dyn Progress,
) -> repo::Result<Checked> {
    let told = std::sync::Mutex::new((Vec::new(), Vec::new(), Vec::new()));
    let tell = |one| match one {
        Told::Found(finding) => told.lock().unwrap().0.push(finding),
        Told::Touched(touched) => told.lock().unwrap().1.push(touched),
        Told::Refused { key, .. } => told.lock().unwrap().2.push(key),
    };
    let report = repo::check(repo, reading, &tell, progress).await?;
    let (findings, touched, refused) = told.into_inner().unwrap();
    assert_eq!((report.findings, report.touched), (findings.len() as u64, touched.len() as u64));
    assert_eq!(report.refused, refused.len() as u64);
    Ok(Checked { report, findings, touched, refused })
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

pub fn repo_error(error: Error) -> repo::Error {
    match error {
        Error::Repo(error) => error,
        other => panic!("not an error of the repository: {other}"),
    }
}

/// How a restore compares with the source.
#[derive(Debug)]
pub struct Outcome {
    /// Paths below the source that are not in the target.
    pub absent: Vec<String>,
    /// Other differences, one line each.
    pub different: Vec<String>,
    /// What the report names as lost, and why.
    pub lost: Vec<(String, String)>,
    pub problems: Vec<String>,
}

impl Outcome {
    fn new(report: Restored, source: &Path, target: &Path) -> Self {
        let there = crate::compare::paths(target);
        let wanted = crate::compare::paths(source).into_iter();
        let absent = wanted.filter(|path| there.binary_search(path).is_err());
        let shown = |path: PathBuf| format!("/{}", path.to_str().unwrap());
        let is_difference = |line: &String| !line.ends_with("only in the first");
        let different = crate::compare::differences(source, target).into_iter().filter(is_difference);
        Self {
            absent: absent.map(shown).collect(),
            different: different.collect(),
            lost: report.lost.listed.into_iter().map(|lost| (lost.what, lost.why)).collect(),
            problems: report.problems.listed.into_iter().map(|problem| problem.what).collect(),
        }
    }

    pub fn is_whole(&self) -> bool {
        let lists = [&self.absent, &self.different, &self.problems];
        lists.iter().all(|list| list.is_empty()) && self.lost.is_empty()
    }

    /// Whether the report names everything that is absent, and whether nothing that is there is wrong.
    /// Folders whose entries lay in a lost part are there, but can't have their attributes.
    pub fn is_honest(&self) -> bool {
        let named = |path: &String| self.lost.iter().any(|lost| covers(lost, path));
        let fits = |line: &String| {
            if line.contains(": same file as:") {
                return !self.lost.is_empty();
            }
            let is_attribute = [": mode:", ": mtime:", ": owner:"].iter().any(|fact| line.contains(fact));
            let is_folder = line.split('"').nth(1).is_some_and(|path| !path.contains("file"));
            is_attribute && is_folder && self.lost.iter().any(|(_, why)| why.starts_with(GAP))
        };
        self.absent.iter().all(named) && self.different.iter().all(fits) && self.problems.is_empty()
    }
}

const GAP: &str = "all entries";

/// Whether an item of the list of what is lost speaks of `path`.
fn covers((what, why): &(String, String), path: &str) -> bool {
    let key = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let Some(range) = why.strip_prefix(GAP).and_then(|rest| rest.split(": ").next()) else {
        return what == path;
    };
    let ends_here = range.ends_with(" up to this one");
    let after = range.trim_end_matches(" up to this one").strip_prefix(" after ");
    after.is_none_or(|after| key(after) < key(path)) && (!ends_here || key(path) <= key(what))
}

/// Makes the folder: a file whose extents need a tree, one with a few chunks, many small ones with long
/// names, so that there are several leaves, and hard links into them.
pub fn grow(source: &Path) {
    fs::write(source.join("a large file"), noise(900_000, 1)).unwrap();
    fs::write(source.join("b middle file"), noise(60_000, 2)).unwrap();
    for each in 0..8 {
        let folder = source.join(format!("folder {each}"));
        fs::create_dir(&folder).unwrap();
        for number in 0..100 {
            let seed = 1000 * (each + 1) + number;
            fs::write(folder.join(small_name(number)), noise(200, seed)).unwrap();
        }
    }
    fs::hard_link(source.join("b middle file"), source.join("z linked file")).unwrap();
    fs::hard_link(source.join("folder 2").join(small_name(5)), source.join("y linked file")).unwrap();
}

fn small_name(number: u64) -> String {
    format!("{number:03} file {}", hex(&noise(80, number)))
}

/// Changes some of what [`grow`] has made.
pub fn change(source: &Path) {
    fs::write(source.join("c new file"), noise(30_000, 3)).unwrap();
    fs::write(source.join("folder 1").join(small_name(50)), noise(400, 4)).unwrap();
    fs::remove_file(source.join("folder 4").join(small_name(7))).unwrap();
}

/// Bytes that don't compress, from a seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A prune's settings by which sessions that have not committed are fenced at once.
pub fn now() -> PruneSettings {
    PruneSettings { silence: Duration::ZERO, ..Default::default() }
}

pub async fn prune(repo: &Repository) -> Pruned {
    repo::prune(repo, now(), &|_| {}).await.unwrap()
}

/// The snapshots that there are; nothing may stand in their way.
pub async fn names(repo: &Repository) -> Vec<String> {
    let all = Snapshots::load(repo).await.unwrap();
    assert!(all.problems.is_empty(), "{:?}", all.problems);
    all.all.iter().map(|snapshot| snapshot.name()).collect()
}

/// The ids of all records that the index names, from the tables of their packs.
pub async fn record_ids(repo: &Repository) -> HashSet<RecordId> {
    let mut ids = HashSet::new();
    for pack in Index::load(repo).await.unwrap().packs().iter() {
        let bytes = repo.store.get(&pack_key(pack.id)).await.unwrap();
        let toc = Toc::open(&repo.keys.structure, repo.config.repo, pack.id, &bytes).unwrap();
        ids.extend(toc.records.iter().map(|record| record.id));
    }
    ids
}
