//! A mover's work, inside its pod: hello → task → way to the store → back up or restore one volume → report.
//!
//! All of it over one link, which is the standard input and output of `kist mover run`. Nothing reaches
//! the pod's log. When the link is gone the work ends: what was uploaded counts for the next run.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::archive::backup::{Moving, Outcome, Setting, backup};
use crate::archive::chunk::Chunker;
use crate::archive::compare::Parent;
use crate::archive::exclude::Exclude;
use crate::archive::plan::{Options, Overwrite};
use crate::archive::restore::{self, restore};
use crate::archive::target::Target;
use crate::archive::walk::{self, Walk};
use crate::archive::witness::Witness;
use crate::crypto::secret::Key;
use crate::format::config::Config;
use crate::format::entry::TreePath;
use crate::format::frame::{Message, kind};
use crate::format::id::{NodeId, SessionId, SourceId};
use crate::format::keys::KeyName;
use crate::format::task::{
    BackedUp, Direct, Done, Failure, FailureClass, Hex, KeyRequest, Progress as Told, Report, Restored, Task,
    Transport, VERSION, Work,
};
use crate::format::{limits, object};
use crate::job::backup::{OldTree, finish};
use crate::job::{Error, Result};
use crate::pace;
use crate::progress::{Progress, Unit};
use crate::repo::{
    AskLaneKey, Class, Index, Lane, MoverKeys, Reader, Repository, TreeReader, Writer, WriterSettings, chain,
    place_of,
};
use crate::store::{NetworkSettings, Remote, RemoteGone, S3Keys, S3Settings, Store, StoreSettings, StoreUrl};
use crate::wire::{Calls, Limits, Receiver, Sender, link};
use crate::world::World;

/// How long the store may take to answer before the bytes go through the job instead.
const PROBE: Duration = Duration::from_secs(10);
/// How often the job is told how far the work is.
const TELL: Duration = Duration::from_secs(1);
/// A folder that file systems make by themselves at the top of a volume; it holds nothing of the user's.
pub const LOST_AND_FOUND: &str = "lost+found";

/// What a mover has of the pod that it runs in.
pub struct Machine {
    pub world: World,
    /// A folder for an index that is too long for memory.
    pub scratch: PathBuf,
    pub limits: pace::Limits,
}

/// Serves one task. The error is for the exit code: the job has been told.
pub async fn run(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    machine: Machine,
    kist: &str,
) -> Result<()> {
    let (sender, mut receiver) = link(read, write, Limits::default());
    sender.send(kind::READY, 0, json!({ "kist": kist }).to_string().into()).await?;
    let task = match receiver.next().await? {
        Some(Message { kind: kind::TASK, body, .. }) => Task::decode(&body),
        _ => return Err(Error::Link { what: "a task was due first".into() }),
    };
    let calls = Calls::new(sender.clone());
    let pace = Arc::new(Pace::default());
    tokio::spawn(listen(receiver, calls.clone(), pace.clone()));
    let telling = tokio::spawn(tell(sender.clone(), pace.clone()));
    let done = match task {
        Ok(task) => serve(task, &calls, machine, pace).await,
        Err(error) => Err(Error::Link { what: error.to_string() }),
    };
    telling.abort();
    let (kind, body) = match &done {
        Ok(report) => (kind::REPORT, report.encode()),
        Err(error) => (kind::FAILURE, failure(error).encode()),
    };
    sender.send(kind, 0, body.into()).await?;
    sender.end().await?;
    done.map(drop)
}

/// What is counted here and told to the job; and whether the job wants us to stop.
#[derive(Default)]
struct Pace {
    entries: AtomicU64,
    bytes: AtomicU64,
    pack_bytes: AtomicU64,
    stop: AtomicBool,
}

impl Progress for Pace {
    fn advance(&self, unit: Unit, by: u64) {
        let counter = match unit {
            Unit::Entries => &self.entries,
            Unit::Bytes => &self.bytes,
            Unit::PackBytes => &self.pack_bytes,
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Pace {
    fn now(&self) -> Told {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Told { entries: get(&self.entries), bytes: get(&self.bytes), pack_bytes: get(&self.pack_bytes) }
    }
}

/// Takes answers, and the word to stop; a link that is gone is one.
async fn listen(mut receiver: Receiver, calls: Calls, pace: Arc<Pace>) {
    loop {
        let fine = match receiver.next().await {
            Ok(Some(message)) if message.kind == kind::CANCEL => false,
            Ok(Some(message)) => calls.answered(message).is_ok(),
            Ok(None) | Err(_) => {
                pace.stop.store(true, Ordering::Relaxed);
                return;
            }
        };
        if !fine {
            pace.stop.store(true, Ordering::Relaxed);
        }
    }
}

async fn tell(sender: Sender, pace: Arc<Pace>) {
    let mut last = Told::default();
    let mut due = tokio::time::interval(TELL);
    loop {
        due.tick().await;
        let now = pace.now();
        if now != last && sender.send(kind::PROGRESS, 0, now.encode().into()).await.is_err() {
            return;
        }
        last = now;
    }
}

async fn serve(
    task: Task,
    calls: &Calls,
    Machine { world, scratch, limits }: Machine,
    pace: Arc<Pace>,
) -> Result<Report> {
    let config = Config::decode(&task.config.0).map_err(|source| Error::Link { what: source.to_string() })?;
    let (store, transport, why) = way_to_store(&task, calls, limits.upload).await;
    let keys = MoverKeys {
        certificate: task.keys.certificate.0.clone(),
        structure: task.keys.structure.0.clone(),
        id: task.keys.id.0.clone(),
        chunker: task.keys.chunker.0.clone(),
        meta: (task.keys.meta_name.0, task.keys.meta.0.clone()),
    };
    let meta = keys.meta.0;
    let done = match task.work {
        Work::Backup { path, source, parent, sparse, lane } => {
            let lane = Lane::new(lane.session.0, lane.number, lane.data.0, lane.signing.0);
            let repo = Repository::at_mover(store, config, keys, None, world).with_scratch(scratch);
            let old = parent.map(|root| OldTree { root: root.0, meta, sparse });
            let volume = Volume { path, source: source.0 };
            Done::Backup(back_up(&repo, volume, (old, lane), pace, limits).await?)
        }
        Work::Restore { path, root, resume } => {
            let asked = Arc::new(Asking { calls: calls.clone(), runtime: Handle::current() });
            // What was chosen is read: whether the log holds was the job's to judge.
            let repo = Repository::at_mover(store, config, keys, Some(asked), world);
            let repo = repo.with_scratch(scratch).going_on();
            let overwrite = if resume { Some(Overwrite::Changed) } else { None };
            Done::Restore(fill(&repo, Path::new(&path), (root.0, meta), overwrite, pace).await?)
        }
    };
    Ok(Report { version: VERSION, transport, why, done })
}

/// The store itself if it can be reached from here, and through the job otherwise; and why.
async fn way_to_store(
    task: &Task,
    calls: &Calls,
    upload_limit: Option<NonZeroU64>,
) -> (Store, Transport, String) {
    let relay = || Store::remote(Arc::new(Relayed(calls.clone())));
    let Some(direct) = &task.direct else {
        return (
            relay(),
            Transport::Relay,
            "the job has nothing with which a pod could reach the store".into(),
        );
    };
    match tokio::time::timeout(PROBE, reach(direct, &task.config.0, upload_limit)).await {
        Ok(Ok(store)) => (
            place_of(&store, task.keys.certificate.0.domain),
            Transport::Direct,
            "the store can be reached from the pod".into(),
        ),
        Ok(Err(why)) => (relay(), Transport::Relay, why),
        Err(_) => {
            let why = format!("the store did not answer the pod within {} s", PROBE.as_secs());
            (relay(), Transport::Relay, why)
        }
    }
}

/// Opens the store and looks whether the repository is there.
async fn reach(direct: &Direct, config: &[u8], upload_limit: Option<NonZeroU64>) -> Result<Store, String> {
    let open = |quickly| open_direct(direct, quickly, upload_limit).map_err(|error| chain(&error));
    match open(true)?.get_at_most(object::CONFIG, limits::CONFIG_LEN as u64).await {
        Ok(found) if found == config => open(false),
        Ok(_) => Err("the store that the pod reaches holds another repository".into()),
        Err(error) => Err(format!("the pod can't use the store: {}", chain(&error))),
    }
}

fn open_direct(
    direct: &Direct,
    quickly: bool,
    upload_limit: Option<NonZeroU64>,
) -> crate::store::Result<Store> {
    let hidden = |text: &Zeroizing<String>| text.clone();
    let keys = S3Keys::new(
        direct.access_key_id.0.to_string(),
        hidden(&direct.secret_access_key.0),
        direct.session_token.as_ref().map(|token| hidden(&token.0)),
    );
    let s3 = S3Settings { keys: Some(keys), region: direct.region.clone() };
    let mut network = NetworkSettings {
        authorities_pem: direct.authorities.as_ref().map(|pem| pem.clone().into_bytes()),
        ..Default::default()
    };
    if quickly {
        (network.connect_timeout, network.request_timeout, network.retry_timeout) =
            (PROBE / 2, PROBE / 2, PROBE);
    }
    Store::open(
        &StoreUrl::parse(&direct.url)?,
        &StoreSettings { upload_limit, s3, network, ..Default::default() },
    )
}

/// The store's operations, carried out by the job.
#[derive(Debug)]
struct Relayed(Calls);

impl Remote for Relayed {
    fn call(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, RemoteGone>> {
        Box::pin(async move {
            let answer = self.0.call(kind::STORE_REQUEST, request).await;
            answer.map(|message| message.body).map_err(|error| RemoteGone(chain(&error)))
        })
    }
}

/// Lane keys, given by the job one at a time.
struct Asking {
    calls: Calls,
    runtime: Handle,
}

impl AskLaneKey for Asking {
    fn lane_key(&self, session: SessionId, lane: u32) -> Option<Key> {
        let request = KeyRequest { session, lane }.encode();
        let answer = self.runtime.block_on(self.calls.call(kind::KEY_REQUEST, request.into())).ok()?;
        Some(Key::new(answer.body.as_ref().try_into().ok()?))
    }
}

/// What is read.
struct Volume {
    path: String,
    source: SourceId,
}

async fn back_up(
    repo: &Repository,
    volume: Volume,
    (old, lane): (Option<OldTree>, Lane),
    pace: Arc<Pace>,
    limits: pace::Limits,
) -> Result<BackedUp> {
    let index = Arc::new(Index::load_to_add(repo, lane.session).await?);
    let parent = old.map(|old| old.parent(repo, &index));
    let writer = Writer::new(repo, index, lane, WriterSettings::limited(limits.upload));
    let asked = pace.clone();
    let held = pace::held(pace, limits.read);
    let work = move || {
        let outcome = read_volume(&writer, &volume, parent, held.as_ref());
        (writer, outcome)
    };
    let (writer, outcome) = tokio::task::spawn_blocking(work).await.expect("a backup does not panic");
    if asked.is_cancelled() {
        let _ = tokio::time::timeout(crate::job::PUT_AWAY, writer.finish()).await;
        return Err(Error::Interrupted);
    }
    let (outcome, changed) = outcome?;
    let (stats, _) = finish(writer, asked.as_ref()).await?;
    let mut counts = outcome.counts;
    (counts.new_bytes, counts.stored_bytes) = (stats.new_bytes, stats.uploaded.pack_bytes);
    Ok(BackedUp {
        root: Hex(outcome.root),
        counts,
        missing: outcome.missing,
        more_missing: outcome.more_missing,
        sparse: outcome.sparse,
        changed,
    })
}

/// Reads the volume, then looks at all of it once more: a change between the two is told.
fn read_volume(
    writer: &Writer,
    volume: &Volume,
    parent: Option<Parent>,
    progress: &dyn Progress,
) -> Result<(Outcome, Option<String>)> {
    let repo = writer.repo();
    let ids = repo.keys.ids()?;
    let exclude = Exclude::new(&[format!("/{LOST_AND_FOUND}/")]).expect("the pattern is a constant");
    let options = walk::Options {
        exclude: &exclude,
        one_file_system: false,
        exclude_caches: false,
        link_group: &|first| ids.link_group(first),
        clock: &|| repo.world.now(),
    };
    let walk = || {
        Walk::of_folder(Path::new(&volume.path), options.clone()).map_err(|source| Error::BadPath { source })
    };
    let chunker = Chunker::new(&repo.config.chunker, ids);
    let meta = repo.keys.own_meta_key(volume.source)?;
    let setting = Setting { writer, ids, chunker: &chunker, meta: &meta, moving: Moving::Keep, progress };
    let outcome = backup(walk()?, parent, setting)?;
    let again = Witness::of(walk()?, &|| progress.is_cancelled());
    let between = outcome.seen.change_to(&again).map(|path| format!("something changed, last {path}"));
    let within =
        outcome.moved.first.as_ref().map(|first| {
            format!("{} files changed while they were read, first {first}", outcome.moved.count)
        });
    Ok((outcome, within.or(between)))
}

/// `overwrite` is none for a folder that has to be empty.
async fn fill(
    repo: &Repository,
    path: &Path,
    (root, meta): (NodeId, KeyName),
    overwrite: Option<Overwrite>,
    pace: Arc<Pace>,
) -> Result<Restored> {
    let shown = path.display().to_string();
    let failed = |source| Error::Target { path: shown.clone(), source };
    let target = Arc::new(Target::open(path, false).map_err(failed)?);
    let found = target.list(&TreePath::root()).map_err(failed)?;
    if overwrite.is_none() && found.iter().any(|name| name != LOST_AND_FOUND.as_bytes()) {
        return Err(Error::TargetNotEmpty { path: shown });
    }
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?)));
    let tree = TreeReader { reader, root, meta };
    let overwrite = overwrite.unwrap_or(Overwrite::Never);
    let options = Options { overwrite, delete: false, dry_run: false };
    let report = match restore(tree, &TreePath::root(), target.clone(), options, pace).await? {
        restore::Outcome::Done(report) => report,
        restore::Outcome::NotThere => {
            return Err(Error::NotInSnapshot { path: shown, snapshot: String::new() });
        }
        restore::Outcome::Full(report, source) => {
            return Err(Error::TargetFull { path: shown, files: report.files, source });
        }
        restore::Outcome::Cancelled => return Err(Error::Interrupted),
    };
    let synced = tokio::task::spawn_blocking(move || target.sync()).await.expect("syncing does not panic");
    synced.map_err(failed)?;
    let (remarks, problems) = report.problems.listed.into_iter().partition(|problem| problem.what == "/");
    Ok(Restored {
        files: report.files,
        bytes: report.bytes,
        lost: report.lost.listed,
        more_lost: report.lost.more,
        problems,
        more_problems: report.problems.more,
        unwritten: report.unwritten,
        remarks,
    })
}

/// An error as the job is told of it.
fn failure(error: &Error) -> Failure {
    let class = match error {
        Error::Interrupted => FailureClass::Interrupted,
        Error::TargetFull { .. } => FailureClass::Full,
        Error::Repo(error) => match error.class() {
            Class::Full => FailureClass::Full,
            Class::Denied => FailureClass::Denied,
            Class::Transient => FailureClass::Transient,
            Class::Corrupt | Class::Missing => FailureClass::Damaged,
            _ => FailureClass::Other,
        },
        _ => FailureClass::Other,
    };
    Failure { class, message: chain(error) }
}
