//! The index: where each record lies, and onto which one may deduplicate.
//!
//! Spec: chapter 5. Loaded from the deltas of all sessions. A delta counts if its lane's
//! signature holds; a writer deduplicates only onto packs of its own. What grows with the repository lies in a
//! [`Segment`], in mapped files if there is a scratch folder; in the heap are a bit for each pack and each
//! place, and four bytes for 64 records.

mod bytes;
mod deltas;
mod filter;
mod load;
mod packs;
mod recent;
mod segment;
mod sorter;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::id::{KeyId, NodeId, PackId, RecordId, SessionId};
use crate::format::index::IndexPack;
use crate::format::pack::PackKind;
use crate::repo::bits::Bits;
use crate::repo::index::recent::Recent;
use crate::repo::index::segment::{Building, Segment};
use crate::repo::session::Session;
use crate::repo::{Error, Log, Result};
pub use bytes::Scratch;
pub(super) use deltas::{Listed, Records, load_delta, parts, put_delta, records_of};
pub(super) use load::{ListedPack, listed_packs};

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
    /// Nodes that were read since, and are what their ids say; by their ordinals.
    sound: Mutex<Bits>,
    /// Those of the epochs after the checkpoint.
    pub sessions: HashMap<SessionId, Session>,
    /// Objects that could not be used, and why.
    pub problems: Vec<Error>,
}

impl Index {
    /// Whether nothing has come since.
    pub(super) fn is_loaded_by(&self, log: &Log) -> bool {
        self.loaded_by == (log.head, log.base_slot())
    }

    /// Whether the node was read since the index was loaded, and is what its id says.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        let ordinal = self.ordinal(&RecordId::Node(id));
        ordinal.is_some_and(|ordinal| self.sound().contains(ordinal))
    }

    pub(super) fn found_sound(&self, id: NodeId) {
        if let Some(ordinal) = self.ordinal(&RecordId::Node(id)) {
            self.sound().insert(ordinal);
        }
    }

    fn sound(&self) -> MutexGuard<'_, Bits> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
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
        let sound = Mutex::new(Bits::new(segment.len()));
        let (sessions, problems) = (self.sessions, self.problems);
        Ok(Index { segment, usable, sound, sessions, problems, ..Index::default() })
    }
}

fn no_room(scratch: Option<&Scratch>) -> impl FnOnce(std::io::Error) -> Error {
    let folder = scratch.map(|scratch| scratch.folder().to_owned()).unwrap_or_default();
    move |source| Error::Scratch { folder, source }
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
