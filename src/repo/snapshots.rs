//! The snapshots that exist: one for each commit that can be read and verified.
//!
//! Spec: chapters 7 and 8. A snapshot exists when its commit does; a fence is none.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};

use crate::crypto::{hash, seal, sign};
use crate::format::commit::{self, Commit, Repack, Resolution, Root, summary_context};
use crate::format::id::{KeyId, NodeId, SessionId, SourceId};
use crate::format::keys::Certificate;
use crate::format::summary::Summary;
use crate::format::{limits, object};
use crate::repo::{Error, Log, Repository, Result, View, shortened};
use crate::store::{Class as StoreClass, Created};
use crate::world::Time;

/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;
/// Commits that are fetched at the same time.
const PARALLEL_GETS: usize = 32;

/// Epochs that are listed at the same time.
const PARALLEL_LISTS: usize = 16;

/// A committed snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: SessionId,
    pub commit: Commit,
    /// BLAKE3 of the commit as stored.
    pub digest: [u8; 32],
}

impl Snapshot {
    /// The name that people see and type.
    pub fn name(&self) -> String {
        self.id.snapshot_name()
    }

    /// The tree of a source.
    pub fn root_of(&self, source: SourceId) -> Option<NodeId> {
        self.commit.roots.iter().find(|root| root.source == source).map(|root| root.node)
    }
}

/// All snapshots, oldest first, and the commits that can't be read.
#[derive(Default)]
pub struct Snapshots {
    pub all: Vec<Snapshot>,
    /// Those that are forgotten, and can be recalled until a sweep.
    pub forgotten: Vec<Snapshot>,
    /// Those that a sweep has come over; their epoch has not ended, or nobody has published that.
    pub(super) gone: Vec<Snapshot>,
    /// The newest commits of each key by sequence, with their hashes, also of those that are gone.
    pub remembered: BTreeMap<KeyId, Vec<(u64, [u8; 32])>>,
    /// Sessions that copied records and are done: no snapshots.
    pub repacks: HashSet<SessionId>,
    /// Snapshots that are there and were not loaded.
    pub left_out: Vec<SessionId>,
    pub problems: Vec<Error>,
}

/// What a session has come to.
enum Ended {
    Snapshot(Box<Snapshot>),
    Fence,
    Repack,
}

impl Snapshots {
    pub async fn load(repo: &Repository) -> Result<Self> {
        let mut log = Log::load(repo).await?;
        let ids = resolved_after(repo, &mut log).await?;
        Self::load_chosen(repo, log, ids, |_, _| ()).await
    }

    /// What a session of this holder is compared with, and goes on from: the newest of its own of each source, and all
    /// of the epochs that no checkpoint stands for. So a backup's start does not grow with the number of snapshots.
    pub async fn load_before(repo: &Repository) -> Result<Self> {
        let mut log = Log::load(repo).await?;
        let ids = resolved_after(repo, &mut log).await?;
        Self::load_before_of(repo, log, ids).await
    }

    /// The same, of the sessions that were listed before the log was read.
    pub(super) async fn load_before_of(repo: &Repository, log: Log, ids: Vec<SessionId>) -> Result<Self> {
        let own = repo.keys.certificate.key;
        Self::load_chosen(repo, log, ids, |log, ids| {
            let newest = newest_of(log, own);
            ids.retain(|id| newest.contains(id) || !log.state.rows.contains_key(id));
        })
        .await
    }

    async fn load_chosen(
        repo: &Repository,
        mut log: Log,
        mut ids: Vec<SessionId>,
        choose: impl Fn(&Log, &mut Vec<SessionId>),
    ) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut chosen = ids.clone();
            choose(&log, &mut chosen);
            let snapshots = Self::load_ids(repo, &log, &chosen).await?;
            if snapshots.problems.is_empty() || log.is_of_newest(repo).await? {
                let chosen: HashSet<SessionId> = chosen.into_iter().collect();
                let is_there = |id: &SessionId| !log.fact(*id).forgotten && !log.fact(*id).gone;
                let left_out = ids.into_iter().filter(|id| !chosen.contains(id) && is_there(id)).collect();
                return Ok(Self { left_out, ..snapshots });
            }
            // A commit that is gone may be deleted while it is being read: the newer checkpoint does not list it.
            log = Log::load(repo).await?;
            ids = resolved_after(repo, &mut log).await?;
        }
        Err(Error::Moving)
    }

    /// Those of the given sessions that are committed.
    pub async fn load_some(repo: &Repository, ids: &[SessionId]) -> Result<Self> {
        if ids.is_empty() {
            return Ok(Self::default());
        }
        Self::load_ids(repo, &Log::load(repo).await?, ids).await
    }

    /// Those that the log, read after they were listed, lets count.
    pub(super) async fn load_ids(repo: &Repository, log: &Log, ids: &[SessionId]) -> Result<Self> {
        let loading = ids.iter().map(|id| async move {
            Ok::<_, Error>(match load(repo, *id).await {
                Err(error) if error.is_outage() => return Err(error),
                loaded => (*id, loaded),
            })
        });
        let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).try_collect().await?;
        let mut snapshots = Snapshots { remembered: log.state.remembered.clone(), ..Default::default() };
        for (id, found) in loaded {
            match found {
                Ok(Ended::Snapshot(snapshot)) => match (snapshot.check(log), log.fact(id)) {
                    (Err(error), _) => snapshots.problems.push(error),
                    (Ok(false), _) => {}
                    (Ok(true), fact) if fact.gone => snapshots.gone.push(*snapshot),
                    (Ok(true), fact) if fact.forgotten => snapshots.forgotten.push(*snapshot),
                    (Ok(true), _) => snapshots.all.push(*snapshot),
                },
                Ok(Ended::Repack) => drop(snapshots.repacks.insert(id)),
                Ok(Ended::Fence) => {}
                Err(Error::Store(error))
                    if error.class() == StoreClass::Missing && log.state.rows.contains_key(&id) =>
                {
                    let what = format!(
                        "the commit of snapshot {} was there, nothing has let it go, and it is missing",
                        id.snapshot_name()
                    );
                    snapshots.problems.push(Error::Log { what });
                }
                // A newer checkpoint than the one that it was listed by has let it go.
                Err(Error::Store(error))
                    if error.class() == StoreClass::Missing && id.epoch() < *log.open_epochs().start() => {}
                Err(error) => snapshots.problems.push(error),
            }
        }
        snapshots.all.sort_by_key(|snapshot| (snapshot.commit.time, snapshot.id));
        snapshots.forgotten.sort_by_key(|snapshot| (snapshot.commit.time, snapshot.id));
        Ok(snapshots)
    }

    /// An error if the store did not give one, which may be sound.
    pub fn check_given(&mut self) -> Result<()> {
        match self.problems.iter().position(Error::is_inconclusive) {
            Some(at) => Err(self.problems.swap_remove(at)),
            None => Ok(()),
        }
    }

    /// All commits that could be read, whatever became of them.
    pub(super) fn every(&self) -> impl Iterator<Item = &Snapshot> {
        self.all.iter().chain(&self.forgotten).chain(&self.gone)
    }

    /// Snapshots whose writer has made a commit before them that is not there and that nobody remembers (spec chapter 7):
    /// the only trace of a commit that is gone. A fork is no damage, and of the newest commit there is no trace.
    pub(super) fn gaps(&self) -> Vec<String> {
        let there = self.every().map(|snapshot| (snapshot.commit.certificate.key, snapshot.digest));
        let remembered = |(key, all): (&KeyId, &Vec<(u64, [u8; 32])>)| {
            let key = *key;
            all.iter().map(move |(_, digest)| (key, *digest)).collect::<Vec<_>>()
        };
        let digests: HashSet<_> = there.chain(self.remembered.iter().flat_map(remembered)).collect();
        let oldest = |key: &KeyId| self.remembered.get(key).and_then(|all| Some(all.first()?.0));
        let is_gap = |snapshot: &&Snapshot| {
            let commit = &snapshot.commit;
            let key = commit.certificate.key;
            // What is older than all that is remembered of its writer was judged when its epoch ended.
            let is_judged = oldest(&key).is_some_and(|oldest| commit.sequence <= oldest);
            commit.previous != [0; 32] && !is_judged && !digests.contains(&(key, commit.previous))
        };
        self.all.iter().filter(is_gap).map(Snapshot::name).collect()
    }

    /// The sessions whose records may be needed: they have committed, or have copied records and are done.
    pub(super) fn committed(&self) -> HashSet<SessionId> {
        let snapshots = self.all.iter().chain(&self.forgotten).map(|snapshot| snapshot.id);
        snapshots.chain(self.repacks.iter().copied()).collect()
    }

    /// Sequence and hash of a key's newest commit, gone or not.
    fn last_of(&self, key: KeyId) -> Option<(u64, [u8; 32])> {
        let there = self.every().filter(|found| found.commit.certificate.key == key);
        let there = there.map(|found| (found.commit.sequence, found.digest));
        there.chain(self.remembered.get(&key).into_iter().flatten().copied()).max()
    }

    /// The newest of a source that this holder has made itself: what the next one is compared with. It can read its
    /// names, in a mover too, and may refer to its records.
    pub fn parent_of(&self, repo: &Repository, source: SourceId) -> Option<&Snapshot> {
        let own = repo.keys.certificate.key;
        let has = |commit: &Commit| commit.roots.iter().any(|root| root.source == source);
        self.all.iter().rev().find(|found| found.commit.certificate.key == own && has(&found.commit))
    }
}

/// How many snapshots of one source are looked at for the newest tree of a volume, which not each of them has.
const LOOKED_AT: usize = 16;

/// The newest snapshots of a key, of each source, among those that the checkpoint stands for.
fn newest_of(log: &Log, key: KeyId) -> HashSet<SessionId> {
    let mut by_source: HashMap<SourceId, Vec<(Time, SessionId)>> = HashMap::new();
    for (id, row) in log.state.rows.iter().filter(|(id, row)| row.key == key && !log.fact(**id).forgotten) {
        by_source.entry(row.source).or_default().push((row.time, *id));
    }
    let newest = by_source.into_values().flat_map(|mut all| {
        all.sort_unstable();
        all.into_iter().rev().take(LOOKED_AT).map(|(_, id)| id)
    });
    newest.collect()
}

impl Snapshot {
    /// Whether the log lets it count; an error if what it says of the log can't be.
    fn check(&self, log: &Log) -> Result<bool> {
        let commit = &self.commit;
        let is_revoked = log.is_revoked(commit.certificate.key, commit.certificate.serial);
        let counts = !is_revoked || log.fact(self.id).observed.is_some();
        if let Some(row) = log.state.rows.get(&self.id) {
            if row.digest != self.digest {
                let what =
                    format!("the commit of snapshot {} is not the one that the log has seen", self.name());
                return Err(Error::Log { what });
            }
        } else if counts {
            // What does not count may say of the log what it likes.
            log.check_view(self.id.epoch(), commit.view, commit.head)?;
        }
        Ok(counts)
    }
}

/// The sessions that have come to an end, as a snapshot or without one.
pub struct Resolved {
    ids: HashSet<SessionId>,
    log: Log,
}

impl Resolved {
    pub async fn load(repo: &Repository) -> Result<Self> {
        let mut log = Log::load(repo).await?;
        let ids = resolved_after(repo, &mut log).await?.into_iter().collect();
        Ok(Self { ids, log })
    }

    /// Those that are not forgotten.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        let is_there = |id: &SessionId| !self.log.fact(*id).forgotten && !self.log.fact(*id).gone;
        self.ids.iter().copied().filter(is_there)
    }

    /// Whether a commit that somebody has seen before is missing now: those of epochs that no checkpoint stands for stay.
    pub fn is_lost(&self, seen: SessionId) -> bool {
        seen.epoch() >= *self.log.open_epochs().start() && !self.ids.contains(&seen)
    }
}

/// The same with the forgotten, by a listing of each epoch that has not ended. The log is read on afterwards:
/// what it says then holds for all that was listed. What else lies there is passed over.
pub(super) async fn resolved_after(repo: &Repository, log: &mut Log) -> Result<Vec<SessionId>> {
    let mut ids: Vec<SessionId> = log.state.rows.keys().copied().collect();
    let mut next = *log.open_epochs().start();
    loop {
        let epochs: Vec<u32> = (next..=log.epoch + 1).collect();
        let mut beyond = Vec::new();
        for some in epochs.chunks(PARALLEL_LISTS) {
            ids.append(&mut beyond);
            let mut listed = try_join_all(some.iter().map(|epoch| committed_in(repo, *epoch))).await?;
            beyond = listed.pop().unwrap_or_default();
            ids.extend(listed.into_iter().flatten());
        }
        next = log.epoch + 1;
        // Whoever commits in an epoch has read the entry that opened it.
        log.read_on(repo).await?;
        if log.epoch >= next {
            continue;
        }
        return match shortened::alarm(repo, log, beyond).await? {
            None => Ok(ids),
            Some(alarm) => Err(alarm),
        };
    }
}

/// An alarm if there is a commit of an epoch that the log has not opened: one list where there is none.
pub(super) async fn hold_against_commits(repo: &Repository, log: &mut Log) -> Result<()> {
    match committed_in(repo, log.epoch + 1).await?.is_empty() {
        true => Ok(()),
        // It may have been opened meanwhile.
        false => resolved_after(repo, log).await.map(drop),
    }
}

/// The sessions that lie resolved in an epoch's folder.
async fn committed_in(repo: &Repository, epoch: u32) -> Result<Vec<SessionId>> {
    let listed = repo.store.list(&object::epoch_folder(object::COMMITS, epoch)).await?;
    Ok(listed.iter().filter_map(|found| object::parse_session(object::COMMITS, &found.key)).collect())
}

/// The summary, for who may know it.
pub fn summary(repo: &Repository, snapshot: &Snapshot) -> Result<Option<Summary>> {
    let commit = &snapshot.commit;
    let Some(key) = repo.keys.meta_key(&commit.meta_key_name(commit.source)) else { return Ok(None) };
    let name = object::commit_key(snapshot.id);
    let context = summary_context(repo.config.repo, snapshot.id);
    let plain = seal::open(&key, &context, &commit.summary).map_err(|source| Error::Object {
        key: name.clone(),
        source: crate::format::Error::Crypto { what: "summary", source },
    })?;
    let parsed = serde_json::from_slice(&plain).map_err(|error| Error::Object {
        key: name,
        source: crate::format::Error::Invalid { what: "summary", field: "JSON", found: error.to_string() },
    })?;
    Ok(Some(parsed))
}

/// Whose commit a session has come to; none if it was fenced, or has only copied.
pub(super) async fn committed_by(repo: &Repository, id: SessionId) -> Result<Option<Certificate>> {
    Ok(match load(repo, id).await? {
        Ended::Snapshot(snapshot) => Some(snapshot.commit.certificate),
        Ended::Fence | Ended::Repack => None,
    })
}

async fn load(repo: &Repository, id: SessionId) -> Result<Ended> {
    let key = object::commit_key(id);
    let sealed = repo.store.get_at_most(&key, limits::COMMIT_LEN as u64).await?;
    decode(repo, id, &key, &sealed)
}

fn decode(repo: &Repository, id: SessionId, key: &str, sealed: &Bytes) -> Result<Ended> {
    let plain = repo.unseal("commit", key, sealed)?;
    match Resolution::decode(&plain).map_err(Error::object(key))? {
        Resolution::Fence => Ok(Ended::Fence),
        Resolution::Repack(repack) => {
            repack.verify(&repo.keys.owner, repo.config.repo, id).map_err(Error::object(key))?;
            repo.keys.check_domain(&repack.certificate).map_err(Error::object(key))?;
            Ok(Ended::Repack)
        }
        Resolution::Commit(commit) => {
            commit.verify(&repo.keys.owner, repo.config.repo, id).map_err(Error::object(key))?;
            repo.keys.check_domain(&commit.certificate).map_err(Error::object(key))?;
            Ok(Ended::Snapshot(Box::new(Snapshot { id, commit: *commit, digest: hash::plain(sealed) })))
        }
    }
}

/// Ends a session that has copied records and makes no snapshot: its deltas count for ever.
pub async fn end_copying(repo: &Repository, session: SessionId) -> Result<()> {
    let keys = &repo.keys;
    let repack = Repack::new(keys.certificate.clone(), keys.signing()?, repo.config.repo, session);
    end(repo, session, repack.encode()).await.map(drop)
}

/// Puts a fence where a session has not committed. What stands there, if it was quicker, stands.
pub(super) async fn fence(repo: &Repository, session: SessionId) -> Result<()> {
    match end(repo, session, commit::fence()).await {
        Err(Error::Fenced) => Ok(()),
        ended => ended.map(drop),
    }
}

/// Creates what a session comes to, and gives its hash. If something else stands there, the session was fenced.
async fn end(repo: &Repository, session: SessionId, plain: Vec<u8>) -> Result<[u8; 32]> {
    let key = object::commit_key(session);
    let sealed = repo.seal(&key, plain);
    match repo.store.create_exclusive(&key, sealed.clone()).await? {
        Created::Mine => Ok(hash::plain(&sealed)),
        Created::Other(_) => Err(Error::Fenced),
    }
}

/// What a session has to say when it commits.
#[derive(Clone)]
pub struct ToCommit {
    pub view: View,
    pub time: Time,
    pub source: SourceId,
    pub complete: bool,
    /// Retention class; the maintainer compares classes and can't tell what they are of.
    pub class: Vec<u8>,
    /// Not to be forgotten until that is lifted.
    pub held: bool,
    pub roots: Vec<Root>,
    pub summary: Summary,
}

/// Commits a session: after this its snapshot exists. All of its packs and index are there before.
pub async fn commit(
    repo: &Repository,
    session: SessionId,
    before: &Snapshots,
    what: ToCommit,
) -> Result<Snapshot> {
    let (keys, world) = (&repo.keys, &repo.world);
    keys.check_adds()?;
    let last = before.last_of(keys.certificate.key);
    let (_, key) = keys.own_meta_key(what.source)?;
    let plain = serde_json::to_vec(&what.summary).expect("a summary is plain data");
    if plain.len() > limits::SUMMARY_LEN {
        let (found, most) = (plain.len() as u64, limits::SUMMARY_LEN as u64);
        return Err(Error::TooLarge { what: "the summary of the snapshot", found, most });
    }
    let summary = seal::seal(&key, world.bytes(), &summary_context(repo.config.repo, session), &plain);
    let mut commit = Commit {
        view: what.view.slot,
        head: what.view.head,
        time: what.time,
        source: what.source,
        complete: what.complete,
        sequence: last.map_or(1, |(sequence, _)| sequence.saturating_add(1)),
        previous: last.map_or([0; 32], |(_, digest)| digest),
        class: what.class,
        held: what.held,
        roots: what.roots,
        summary,
        certificate: keys.certificate.clone(),
        signature: [0; sign::SIGNATURE_LEN],
    };
    commit.sign(keys.signing()?, repo.config.repo, session);
    let digest = end(repo, session, commit.encode()).await?;
    Ok(Snapshot { id: session, commit, digest })
}
