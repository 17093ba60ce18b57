//! The index: where each record lies, and onto which one may deduplicate.
//!
//! Spec: chapter 5. Loaded from the deltas of all sessions. A delta counts if its lane's
//! signature holds; a writer deduplicates only onto packs of its own. What grows with the repository lies in a
//! [`Segment`], in mapped files if there is a scratch folder; in the heap are a bit for each pack and four bytes for 64
//! records.

mod bytes;
mod deltas;
mod filter;
mod packs;
mod recent;
mod segment;
mod sorter;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use futures::TryStreamExt;

use crate::format::id::{KeyId, NodeId, PackId, RecordId, SessionId};
use crate::format::index::{IndexDelta, IndexPack};
use crate::format::keys::Trust;
use crate::format::object;
use crate::format::pack::PackKind;
use crate::repo::bits::Bits;
use crate::repo::index::recent::Recent;
use crate::repo::index::segment::{Building, Segment};
use crate::repo::session::Session;
use crate::repo::snapshots::resolved_after;
use crate::repo::{Error, Log, Repository, Result, Snapshots};
pub use bytes::Scratch;
pub(super) use deltas::{Listed, Records, load_delta, parts, put_delta, records_of};

/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub pack: PackId,
    pub offset: u32,
    pub len: u32,
}

impl Place {
    /// The record's bytes; none if its pack ends before them.
    pub(super) fn of<'a>(&self, pack: &'a [u8]) -> Option<&'a [u8]> {
        pack.get(self.offset as usize..self.offset as usize + self.len as usize)
    }
}

/// A place of which no more is read than is asked for: the offset lies far from the rest, and a walk over all records is
/// not to fetch a page for each.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    segment: &'a Segment,
    row: usize,
}

impl Slot<'_> {
    /// The number of its pack.
    pub fn pack(self) -> usize {
        self.segment.pack_of(self.row)
    }

    pub fn len(self) -> u32 {
        self.segment.len_of(self.row)
    }

    pub fn place(self) -> Place {
        self.segment.place(self.row)
    }
}

/// A pack as the index knows it.
#[derive(Clone, Debug)]
pub struct PackInfo {
    pub id: PackId,
    /// What tells two packs with one id from each other ([`IndexPack::naming`]).
    pub naming: [u8; 32],
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

impl PackInfo {
    /// Whether the store lists the pack, in the length that is said here.
    pub(super) fn is_in(&self, listed: &HashMap<PackId, ListedPack>) -> bool {
        listed.get(&self.id).is_some_and(|found| found.size == u64::from(self.len))
    }
}

/// All that the deltas say.
#[derive(Default)]
pub struct Index {
    segment: Segment,
    recent: Recent,
    /// Numbers of packs that may be referred to.
    usable: Bits,
    /// Numbers of packs that the log says are damaged: what else has a record is tried first.
    damaged: Vec<usize>,
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
            if log.is_of_newest(repo).await? {
                let index = Self { loaded_by: (log.head, log.base_slot()), ..loaded? };
                return Ok((index, log));
            }
            last = loaded.err();
            log = Log::load(repo).await?;
        }
        Err(last.unwrap_or(Error::Moving))
    }

    async fn load_once(repo: &Repository, log: &Log) -> Result<Self> {
        let mut builder = IndexBuilder::new(repo.scratch.clone(), repo.keys.trust() == Trust::Shared);
        let take = |delta, session| builder.take_in(repo, log, delta, session);
        let (sessions, problems) = deltas::each(repo, log, take).await?;
        (builder.sessions, builder.problems) = (sessions, problems);
        let finishing = tokio::task::spawn_blocking(move || builder.finish());
        let mut index = finishing.await.expect("sorting an index does not panic")?;
        let damaged = log.damaged.iter().flat_map(|pack| index.segment.packs_with(*pack));
        index.damaged = damaged.collect();
        index.damaged.sort_unstable();
        Ok(index)
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
        let there = index.listed(repo).await?;
        for number in 0..index.segment.packs() {
            let pack = index.segment.pack(number);
            let is_there = there.contains(number);
            // Another epoch's delta whose session has not committed may come too late for what replaces it.
            let is_sure = pack.session.is_none_or(|s| s.epoch() == session.epoch() || committed.contains(&s));
            // Whoever holds what a revoked key's slot held may go on to write deltas in its old sessions.
            let is_distrusted = !pack.own && !pack.verified && log.state.revoked.contains_key(&pack.origin);
            if !is_there || !is_sure || is_distrusted || log.is_barred(pack.id) {
                index.usable.remove(number);
            }
        }
        let lost = index.packs().by_id().filter(|(_, numbers)| !numbers.clone().any(|n| there.contains(n)));
        let lost = lost.count();
        if lost > 0 {
            tracing::warn!(
                packs = lost,
                "packs are missing or cut: run `kist check`; what can be is uploaded again"
            );
        }
        Ok(index)
    }

    /// Whether nothing has come since.
    pub(super) fn is_loaded_by(&self, log: &Log) -> bool {
        self.loaded_by == (log.head, log.base_slot())
    }

    /// Which packs the store lists in the length that the index has.
    async fn listed(&self, repo: &Repository) -> Result<Bits> {
        let mut there = Bits::new(self.segment.packs());
        let mut listed = repo.store.list_stream(object::PACKS);
        while let Some(found) = listed.try_next().await? {
            let Some(id) = found.key.rsplit('/').next().and_then(PackId::parse) else { continue };
            for number in self.segment.packs_with(id) {
                if u64::from(self.segment.pack(number).len) == found.size {
                    there.insert(number);
                }
            }
        }
        Ok(there)
    }

    /// Whether the node was read since the index was loaded, and is what its id says.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn found_sound(&self, id: NodeId) {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    pub fn packs(&self) -> Packs<'_> {
        Packs(&self.segment)
    }

    pub fn contains(&self, id: &RecordId) -> bool {
        !self.segment.find(id).is_empty()
    }

    /// Whether a writer may refer to this record instead of uploading it again.
    pub fn may_refer_to(&self, id: &RecordId) -> bool {
        let is_usable = |pack: usize| self.usable.contains(pack);
        if self.recent.pack_of(id).is_some_and(is_usable) {
            return true;
        }
        let found = self.segment.find(id).find(|row| is_usable(self.segment.pack_of(*row)));
        if let Some(block) = found.map(|row| self.segment.block_of(row))
            && self.recent.meets(block)
        {
            self.recent.keep(self.segment.near(block));
        }
        found.is_some()
    }

    /// Every place of a record, the best first.
    pub fn places(&self, id: &RecordId) -> impl Iterator<Item = Place> + '_ {
        let rows = self.segment.find(id);
        let is_damaged = |row: &usize| self.is_damaged(self.segment.pack_of(*row));
        let last = rows.clone().filter(move |row| !self.damaged.is_empty() && is_damaged(row));
        let first = rows.filter(move |row| self.damaged.is_empty() || !is_damaged(row));
        first.chain(last).map(|row| self.segment.place(row))
    }

    /// The numbers of all packs with these ids.
    pub(super) fn numbers_of(&self, packs: &HashSet<PackId>) -> Bits {
        let mut numbers = Bits::new(self.segment.packs());
        for number in packs.iter().flat_map(|pack| self.segment.packs_with(*pack)) {
            numbers.insert(number);
        }
        numbers
    }

    /// Whether the log says so of a pack.
    pub(super) fn is_damaged(&self, pack: usize) -> bool {
        self.damaged.binary_search(&pack).is_ok()
    }

    /// A number of the record's own, below [`Index::len`].
    pub fn ordinal(&self, id: &RecordId) -> Option<usize> {
        self.segment.find(id).next()
    }

    /// Every place of a record.
    pub(super) fn slots_of(&self, id: &RecordId) -> impl Iterator<Item = Slot<'_>> {
        self.segment.find(id).map(|row| Slot { segment: &self.segment, row })
    }

    /// The ordinal of every record with its places.
    pub(super) fn slots_of_all(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = Slot<'_>>)> {
        let segment = &self.segment;
        let mut next = 0;
        std::iter::from_fn(move || {
            let rows = (next < segment.len()).then(|| segment.rows_from(next))?;
            next = rows.end;
            Some((rows.start, rows.map(move |row| Slot { segment, row })))
        })
    }

    /// All places of all records.
    pub fn len(&self) -> usize {
        self.segment.len()
    }

    pub fn is_empty(&self) -> bool {
        self.segment.len() == 0
    }
}

/// The packs of an index, by their numbers.
#[derive(Clone, Copy)]
pub struct Packs<'a>(&'a Segment);

impl<'a> Packs<'a> {
    pub fn iter(self) -> impl Iterator<Item = PackInfo> + use<'a> {
        (0..self.len()).map(move |number| self.get(number))
    }

    pub fn get(self, number: usize) -> PackInfo {
        self.0.pack(number)
    }

    /// Each id with the numbers of its packs: more than one only if it is named in more than one way.
    pub fn by_id(self) -> impl Iterator<Item = (PackId, Range<usize>)> + use<'a> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let id = (next < self.len()).then(|| self.0.pack_id(next))?;
            let same = (next..self.len()).take_while(|number| self.0.pack_id(*number) == id).count();
            next += same;
            Some((id, next - same..next))
        })
    }

    /// Those with this id: more than one only if it is named in more than one way.
    pub fn with(self, id: PackId) -> impl Iterator<Item = PackInfo> + use<'a> {
        self.0.packs_with(id).map(move |number| self.get(number))
    }

    pub fn contains(self, id: PackId) -> bool {
        !self.0.packs_with(id).is_empty()
    }

    pub fn len(self) -> usize {
        self.0.packs()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// An index on its way. Holds some MiB, however many records come, if it has scratch.
pub struct IndexBuilder {
    building: Building,
    scratch: Option<Scratch>,
    /// Every pack of the domain may be referred to, whoever has written it.
    trusted: bool,
    sessions: HashMap<SessionId, Session>,
    problems: Vec<Error>,
}

impl IndexBuilder {
    pub fn new(scratch: Option<Scratch>, trusted: bool) -> Self {
        Self {
            building: Building::new(scratch.clone()),
            scratch,
            trusted,
            sessions: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// Takes in a pack, which the session's delta names; or a checkpoint does.
    pub fn add(&mut self, pack: &IndexPack, session: Option<SessionId>, own: bool) -> Result<()> {
        self.building.add(pack, session, own).map_err(no_room(self.scratch.as_ref()))
    }

    pub fn finish(self) -> Result<Index> {
        let segment = self.building.finish().map_err(no_room(self.scratch.as_ref()))?;
        let mut usable = Bits::new(segment.packs());
        for number in 0..segment.packs() {
            let pack = segment.pack(number);
            if pack.own || pack.verified || self.trusted {
                usable.insert(number);
            }
        }
        let (sessions, problems) = (self.sessions, self.problems);
        Ok(Index { segment, usable, sessions, problems, ..Index::default() })
    }

    fn take_in(
        &mut self,
        repo: &Repository,
        log: &Log,
        delta: IndexDelta,
        session: Option<SessionId>,
    ) -> Result<()> {
        for mut pack in delta.packs {
            if log.swept.contains(&pack.id) {
                continue;
            }
            pack.verified = (pack.verified && session.is_none()) || log.is_verified(&pack);
            let own = pack.origin == repo.keys.certificate.key;
            self.add(&pack, session, own)?;
        }
        Ok(())
    }
}

fn no_room(scratch: Option<&Scratch>) -> impl FnOnce(std::io::Error) -> Error {
    let folder = scratch.map(|scratch| scratch.folder().to_owned()).unwrap_or_default();
    move |source| Error::Scratch { folder, source }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::IndexRecord;
    use crate::world::{Time, fixed};

    const PACKS: usize = 60;

    /// Packs of both kinds, every third one's own. Each has records of its own, one that the pack before it has too, and
    /// one that only the kind tells from one of that pack's.
    fn packs() -> Vec<(IndexPack, bool)> {
        let world = fixed::world(1, Time(0));
        let ids: Vec<[u8; 32]> = (0..PACKS * 30).map(|_| world.bytes()).collect();
        let records = |number: usize| {
            let near = [number, number.saturating_sub(1), number.saturating_sub(2)];
            let all = (0..28).map(|n| ids[number * 30 + n]).chain(near.map(|n| ids[n * 30 + 29]));
            all.map(|id| IndexRecord { id, len: 100 }).collect()
        };
        let pack = |number: usize| {
            let pack = IndexPack {
                id: PackId(world.bytes()),
                kind: if number.is_multiple_of(2) { PackKind::Data } else { PackKind::Nodes },
                len: 1 << 20,
                hash: world.bytes(),
                origin: KeyId([u8::from(number.is_multiple_of(3)); 16]),
                verified: false,
                sessions: Vec::new(),
                records: records(number),
            };
            (pack, number.is_multiple_of(3))
        };
        (0..PACKS).map(pack).collect()
    }

    #[test]
    fn what_is_known_from_a_record_nearby_is_what_the_rows_say() {
        let packs = packs();
        let mut builder = IndexBuilder::new(None, false);
        for (pack, own) in packs.iter().chain(&packs[..5]) {
            builder.add(pack, None, *own).unwrap();
        }
        let mut index = builder.finish().unwrap();
        let lost = index.segment.packs_with(packs[6].0.id).start;
        index.usable.remove(lost);
        let usable = |(pack, own): &&(IndexPack, bool)| *own && pack.id != packs[6].0.id;
        let good: HashSet<RecordId> =
            packs.iter().filter(usable).flat_map(|(pack, _)| pack.places()).map(|(id, ..)| id).collect();
        let of_all = |pack: &IndexPack| {
            let ids: Vec<_> = pack.records.iter().map(|record| record.id).collect();
            [PackKind::Data, PackKind::Nodes]
                .map(|kind| ids.iter().map(|id| kind.record(*id)).collect::<Vec<_>>())
        };
        let mut known = 0;
        for _ in 0..3 {
            for id in packs.iter().flat_map(|(pack, _)| of_all(pack)).flatten() {
                known += usize::from(index.recent.pack_of(&id).is_some());
                assert_eq!(index.may_refer_to(&id), good.contains(&id), "{id}");
            }
        }
        assert!(known > good.len(), "{known} of {}, three times", good.len());
    }
}
