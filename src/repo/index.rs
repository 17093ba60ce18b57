//! The index in memory: where each record lies, and onto which one may deduplicate.
//!
//! Spec: chapter 5. Loaded from the deltas of all sessions. A delta counts if its lane's
//! signature holds; a writer deduplicates only onto packs of its own.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{KeyId, NodeId, PackId, RecordId, SessionId};
use crate::format::index::{IndexDelta, IndexPack};
use crate::format::keys::{Role, Trust};
use crate::format::pack::PackKind;
use crate::format::{limits, object};
use crate::repo::log::{newest_checkpoint, part};
use crate::repo::session::{Session, load_sessions};
use crate::repo::snapshots::resolved_after;
use crate::repo::{Error, Log, Repository, Result, Snapshots};

/// Deltas that are fetched at the same time, …
const PARALLEL_GETS: usize = 16;
/// … and parts of a checkpoint's index, which are larger.
const PARALLEL_PARTS: usize = 2;
/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub pack: PackId,
    pub offset: u32,
    pub len: u32,
}

/// A pack as the index knows it.
#[derive(Clone, Debug)]
pub struct PackInfo {
    pub id: PackId,
    pub kind: PackKind,
    pub len: u32,
    pub hash: [u8; 32],
    /// Whose records they are.
    pub origin: KeyId,
    /// Every record was opened by someone who can read, and is what its id says.
    pub verified: bool,
    /// Whose lane keys open them.
    pub sessions: Vec<SessionId>,
    /// The session whose delta names it; none if the checkpoint does.
    pub session: Option<SessionId>,
    /// Its records were sealed by the holder of the key that the repository was opened with.
    pub own: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The same for all places of a record.
    ordinal: u32,
    pack: u32,
    offset: u32,
    len: u32,
}

/// All that the deltas say.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackInfo>,
    records: HashMap<RecordId, Slot>,
    /// Further copies of records, where one was not enough (another writer's, a race).
    copies: HashMap<RecordId, Vec<Slot>>,
    numbers: HashMap<PackId, u32>,
    /// Every pack of the domain may be referred to, whoever has written it.
    trusted: bool,
    /// Numbers of packs that must not be referred to.
    barred: HashSet<u32>,
    /// Head and checkpoint of the log that it was loaded by.
    loaded_by: (u64, Option<u64>),
    /// Nodes that were read since, and are what their ids say.
    sound: Mutex<HashSet<NodeId>>,
    /// Those of the epochs after the checkpoint.
    pub sessions: HashMap<SessionId, Session>,
    /// Objects that could not be used, and why.
    pub problems: Vec<Error>,
}

impl Index {
    /// Loads the index: the newest checkpoint's, and the deltas of the epochs after it. What can't be read becomes a
    /// problem, not an error: its records only count as missing.
    pub async fn load(repo: &Repository) -> Result<Self> {
        Ok(Self::load_with_log(repo).await?.0)
    }

    /// Loads the index, and the log that it was loaded by.
    pub(super) async fn load_with_log(repo: &Repository) -> Result<(Self, Log)> {
        Self::load_by_log(repo, Log::load(repo).await?).await
    }

    /// Loads the index by a log that was read, or by a newer one if that has become old meanwhile.
    pub(super) async fn load_by_log(repo: &Repository, mut log: Log) -> Result<(Self, Log)> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let loaded = Self::load_once(repo, &log).await;
            // What a newer checkpoint stands for may have been deleted while this one's was being read.
            if newest_checkpoint(repo).await? == log.base_slot() {
                let index = Self { loaded_by: (log.head, log.base_slot()), ..loaded? };
                return Ok((index, log));
            }
            last = loaded.err();
            log = Log::load(repo).await?;
        }
        Err(last.unwrap_or(Error::Moving))
    }

    async fn load_once(repo: &Repository, log: &Log) -> Result<Self> {
        let mut index = Index { trusted: repo.keys.trust() == Trust::Shared, ..Default::default() };
        if let Some((slot, checkpoint)) = &log.base {
            let first = checkpoint.state.len();
            let parts = checkpoint.index.iter().copied().enumerate().map(|(number, digest)| async move {
                let plain = part(repo, *slot, checkpoint, first + number, &digest).await?;
                let key = object::generation_key(*slot, checkpoint.name, first + number);
                IndexDelta::decode_part(&plain).map_err(Error::object(&key))
            });
            let mut parts = futures::stream::iter(parts).buffered(PARALLEL_PARTS);
            while let Some(part) = parts.next().await {
                match part {
                    Ok(part) => index.take_in(repo, log, part, None),
                    Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
                    Err(error) => index.problems.push(error),
                }
            }
        }
        for epoch in log.open_epochs() {
            index.load_epoch(repo, log, epoch).await?;
        }
        Ok(index)
    }

    async fn load_epoch(&mut self, repo: &Repository, log: &Log, epoch: u32) -> Result<()> {
        // A delta's session was there before the delta.
        let listed = repo.store.list(&object::epoch_folder(object::INDEX, epoch)).await?;
        let (sessions, problems) = load_sessions(repo, epoch).await?;
        self.problems.extend(problems);
        let known = &sessions;
        // Owned, because a stream of futures that borrow from a list is one for that list alone.
        let counting: Vec<String> =
            listed.into_iter().map(|found| found.key).filter(|key| log.counts(key, known)).collect();
        let loading = counting.into_iter().map(|key| async move { load_delta(repo, known, &key).await });
        let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).collect().await;
        for delta in loaded {
            match delta {
                Ok((session, delta)) => self.take_in(repo, log, delta, Some(session)),
                Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
                Err(error) => self.problems.push(error),
            }
        }
        self.sessions.extend(sessions);
        Ok(())
    }

    fn take_in(&mut self, repo: &Repository, log: &Log, delta: IndexDelta, session: Option<SessionId>) {
        for mut pack in delta.packs {
            if log.swept.contains(&pack.id) {
                continue;
            }
            pack.verified = (pack.verified && session.is_none()) || log.is_verified(&pack);
            let own = pack.origin == repo.keys.certificate.key;
            self.add(&pack, session, own);
        }
    }

    /// Loads the index for a session that will refer to what is there, and bars what it may not refer to
    /// (spec chapter 11). Packs that the store does not list, or in another length, are barred too: their records
    /// are uploaded again. What has changed inside of a pack no listing shows; that is for a check.
    pub async fn load_to_add(repo: &Repository, session: SessionId) -> Result<Self> {
        // Commits first, then the index: a committed session's deltas are all there.
        let mut log = Log::load(repo).await?;
        let before = resolved_after(repo, &mut log).await?;
        let others: Vec<_> = before.into_iter().filter(|id| id.epoch() != session.epoch()).collect();
        let (mut index, log) = Self::load_by_log(repo, log).await?;
        let committed = committed_of(repo, &log, &others).await?;
        // Listed after the deltas: a pack was there before the delta that names it.
        let listed = listed_packs(repo).await?;
        let mut lost = 0;
        let mut barred = HashSet::new();
        for (number, pack) in (0..).zip(&index.packs) {
            let is_there = listed.get(&pack.id).is_some_and(|found| found.size == u64::from(pack.len));
            // Another epoch's delta whose session has not committed may come too late for what replaces it.
            let is_sure = pack.session.is_none_or(|s| s.epoch() == session.epoch() || committed.contains(&s));
            // Whoever holds what a revoked key's slot held may go on to write deltas in its old sessions.
            let is_distrusted = !pack.own && !pack.verified && log.state.revoked.contains_key(&pack.origin);
            lost += usize::from(!is_there);
            if !is_there || !is_sure || is_distrusted || log.is_barred(pack.id) {
                barred.insert(number);
            }
        }
        if lost > 0 {
            tracing::warn!(
                packs = lost,
                "packs are missing or cut: run `kist check`; what can be is uploaded again"
            );
        }
        index.barred = barred;
        Ok(index)
    }

    /// Whether nothing has come since.
    pub(super) fn is_loaded_by(&self, log: &Log) -> bool {
        self.loaded_by == (log.head, log.base_slot())
    }

    /// Whether the node was read since the index was loaded, and is what its id says.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn found_sound(&self, id: NodeId) {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Takes in a pack.
    pub fn add(&mut self, pack: &IndexPack, session: Option<SessionId>, own: bool) {
        let number = u32::try_from(self.packs.len()).expect("fewer packs than 2^32");
        match self.numbers.entry(pack.id) {
            Entry::Vacant(vacant) => drop(vacant.insert(number)),
            // Named again by a session that followed a fenced one.
            Entry::Occupied(known) => {
                let known = &mut self.packs[*known.get() as usize];
                if known.hash == pack.hash && known.origin == pack.origin {
                    // The generation's word, or the later session's, is as good as the first one's.
                    known.session = if session.is_none() { None } else { known.session };
                    return;
                }
            }
        }
        self.packs.push(PackInfo {
            id: pack.id,
            kind: pack.kind,
            len: pack.len,
            hash: pack.hash,
            origin: pack.origin,
            verified: pack.verified,
            sessions: pack.sessions.clone(),
            session,
            own,
        });
        for (id, offset, len) in pack.places() {
            let known = self.records.get(&id).map(|slot| slot.ordinal);
            let ordinal = known.unwrap_or(self.records.len() as u32);
            let slot = Slot { ordinal, pack: number, offset, len };
            match self.records.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(slot);
                }
                Entry::Occupied(mut first) => {
                    // One's own copy stands first: that one is trusted.
                    let second = match own && !self.packs[first.get().pack as usize].own {
                        true => first.insert(slot),
                        false => slot,
                    };
                    self.copies.entry(id).or_default().push(second);
                }
            }
        }
    }

    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    pub fn contains(&self, id: &RecordId) -> bool {
        self.records.contains_key(id)
    }

    /// Whether a writer may refer to this record instead of uploading it again.
    pub fn may_refer_to(&self, id: &RecordId) -> bool {
        self.slots(id).any(|slot| {
            let pack = &self.packs[slot.pack as usize];
            (pack.own || pack.verified || self.trusted) && !self.barred.contains(&slot.pack)
        })
    }

    fn slots<'a>(&'a self, id: &RecordId) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let further = self.copies.get(id).into_iter().flatten();
        self.records.get(id).into_iter().chain(further)
    }

    /// Every place of a record, the best first.
    pub fn places(&self, id: &RecordId) -> impl Iterator<Item = Place> + '_ {
        self.slots(id).map(|slot| self.place(slot))
    }

    fn place(&self, slot: &Slot) -> Place {
        Place { pack: self.packs[slot.pack as usize].id, offset: slot.offset, len: slot.len }
    }

    /// Every record, in no order.
    pub fn records(&self) -> impl Iterator<Item = &RecordId> {
        self.records.keys()
    }

    /// A number of the record's own, below [`Index::len`].
    pub fn ordinal(&self, id: &RecordId) -> Option<u32> {
        self.records.get(id).map(|slot| slot.ordinal)
    }

    /// Every place of a record: number of the pack, offset, length.
    pub(super) fn slots_of(&self, id: &RecordId) -> impl Iterator<Item = (u32, Place)> + '_ {
        self.slots(id).map(|slot| (slot.pack, self.place(slot)))
    }

    /// Every record with its ordinal and its places: number of the pack, offset, length.
    pub(super) fn slots_of_all(
        &self,
    ) -> impl Iterator<Item = (&RecordId, u32, impl Iterator<Item = (u32, Place)> + use<'_>)> {
        self.records.iter().map(|(id, first)| {
            let further = self.copies.get(id).into_iter().flatten();
            let slots = std::iter::once(first).chain(further);
            (id, first.ordinal, slots.map(|slot| (slot.pack, self.place(slot))))
        })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Those of the given sessions that have committed a snapshot, or have copied records and are done.
async fn committed_of(repo: &Repository, log: &Log, ids: &[SessionId]) -> Result<HashSet<SessionId>> {
    let open = log.open_epochs();
    let ids: Vec<_> = ids.iter().copied().filter(|id| open.contains(&id.epoch())).collect();
    Ok(Snapshots::load_ids(repo, log, &ids).await?.committed())
}

/// A pack as the store lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedPack {
    pub size: u64,
    pub modified_unix_secs: i64,
}

/// Every pack that the store lists.
pub(super) async fn listed_packs(repo: &Repository) -> Result<HashMap<PackId, ListedPack>> {
    let mut listed = repo.store.list_stream(object::PACKS);
    let mut packs = HashMap::new();
    while let Some(found) = listed.try_next().await? {
        let name = found.key.rsplit('/').next().and_then(PackId::parse);
        let there = ListedPack { size: found.size, modified_unix_secs: found.modified_unix_secs };
        packs.extend(name.map(|id| (id, there)));
    }
    Ok(packs)
}

pub(super) async fn load_delta(
    repo: &Repository,
    sessions: &HashMap<SessionId, Session>,
    key: &str,
) -> Result<(SessionId, IndexDelta)> {
    let (session, lane) = object::parse_index(key).ok_or_else(|| not_a_delta(key, "its name"))?;
    let known = sessions.get(&session).ok_or_else(|| not_a_delta(key, "its session, which is missing"))?;
    let lane = known.body.lanes.get(lane as usize).ok_or_else(|| not_a_delta(key, "its lane"))?;
    let sealed = repo.store.get_at_most(key, limits::INDEX_LEN as u64).await?;
    let plain = repo.unseal("index", key, &sealed)?;
    let delta =
        IndexDelta::decode(&plain, &lane.signing, repo.config.repo, key).map_err(Error::object(key))?;
    let certificate = &known.body.certificate;
    let copies = matches!(certificate.role, Role::Maintainer | Role::Owner);
    match copies || delta.packs.iter().all(|pack| pack.origin == certificate.key) {
        true => Ok((session, delta)),
        false => Err(not_a_delta(key, "a pack of another writer's")),
    }
}

fn not_a_delta(key: &str, field: &'static str) -> Error {
    let source = crate::format::Error::Invalid { what: "index", field, found: key.to_owned() };
    Error::Object { key: key.to_owned(), source }
}
