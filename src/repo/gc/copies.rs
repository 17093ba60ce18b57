//! Which places of one record hold the same bytes.
//!
//! Whoever has stolen a writer's key can name a record where it is not, and can write a pack with other bytes under its
//! id. If a prune took such a place for a copy, it would let go of the true one. So in packs that nobody has read, only
//! what a maintainer has copied stands for something: where its table and the other pack's say the same of the bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{KeyId, PackId};
use crate::format::keys::Role;
use crate::format::pack::{Toc, TocRecord};
use crate::format::{limits, object};
use crate::repo::bits::Bits;
use crate::repo::index::{ListedPack, PackInfo, Slot};
use crate::repo::{Error, Index, Place, Repository, Result};

/// Tables that are read at the same time.
const PARALLEL_TABLES: usize = 8;
/// Read at first of a pack's end: nearly all tables are shorter.
const TAIL: u64 = 64 * 1024;

/// What the tables of packs say of records that lie in several packs of one origin.
#[derive(Default)]
pub struct Copies {
    /// The records that the tables were asked about, by their ordinals.
    asked: Bits,
    tables: BTreeMap<PackId, Table>,
}

#[derive(Default)]
struct Table {
    /// A maintainer has written it, or the owner.
    is_true: bool,
    /// By the offset.
    records: Vec<Said>,
}

/// What a table says of a record that was asked about.
struct Said {
    offset: u32,
    ordinal: u32,
    len: u32,
    /// The first half of the hash of its bytes.
    hash: [u8; 16],
}

/// A place of a record, and its pack.
pub struct At {
    pub place: Place,
    pub pack: PackInfo,
}

impl At {
    pub fn of(index: &Index, slot: Slot<'_>) -> Self {
        Self { place: slot.place(), pack: index.packs().get(slot.pack()) }
    }
}

/// What the table of a pack says of a place that the index has in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Hash([u8; 16]),
    /// The record is not there.
    Not,
    /// The table can't be read, or was not asked.
    Nothing,
}

impl Copies {
    /// Reads the tables of all packs with live records for which one stands at a place in the packs of `focus`, by number, or
    /// the other way around.
    pub async fn load(
        repo: &Repository,
        index: &Index,
        (live, focus): (&Bits, &Bits),
        listed: &HashMap<PackId, ListedPack>,
    ) -> Result<Self> {
        let (asked, packs) = asked(index, (live, focus), listed);
        let reading = packs.into_iter().map(|pack| async move {
            let Some(found) = listed.get(&pack) else { return Ok(None) };
            Ok::<_, Error>(read_table(repo, pack, found.size).await?.map(|toc| (pack, toc)))
        });
        let mut reading = futures::stream::iter(reading).buffered(PARALLEL_TABLES);
        let mut copies = Self { asked, tables: BTreeMap::new() };
        while let Some(read) = reading.try_next().await? {
            let Some((pack, toc)) = read else { continue };
            let of_record = |record: &TocRecord| {
                let ordinal = index.ordinal(&record.id).filter(|ordinal| copies.asked.contains(*ordinal))?;
                let (offset, len, hash) = (record.offset, record.len, record.short_hash);
                Some(Said { offset, ordinal: ordinal as u32, len, hash })
            };
            let mut records: Vec<Said> = toc.records.iter().filter_map(of_record).collect();
            records.shrink_to_fit();
            copies.tables.insert(pack, Table { is_true: is_by_maintainer(index, pack), records });
        }
        Ok(copies)
    }

    fn answer(&self, ordinal: usize, place: &Place) -> Answer {
        let table = self.tables.get(&place.pack).filter(|_| self.asked.contains(ordinal));
        let Some(table) = table else { return Answer::Nothing };
        // A table lists records by their offsets.
        match table.records.binary_search_by_key(&place.offset, |said| said.offset) {
            Ok(at) => match &table.records[at] {
                said if (said.ordinal as usize, said.len) == (ordinal, place.len) => Answer::Hash(said.hash),
                _ => Answer::Not,
            },
            Err(_) => Answer::Not,
        }
    }

    /// Whether the record of this number is known not to be at a place that the index names.
    pub fn is_false(&self, ordinal: usize, place: &Place) -> bool {
        self.answer(ordinal, place) == Answer::Not
    }

    /// Whether nothing is lost of a record if only the first of two places stays.
    pub fn stands_for(&self, ordinal: usize, stays: &At, goes: &At) -> bool {
        // One place may be named twice.
        if is_for_all(&stays.pack) || stays.place == goes.place {
            return true;
        }
        let is_true = || self.tables.get(&stays.pack.id).is_some_and(|table| table.is_true);
        let is_of_one = stays.pack.origin == goes.pack.origin;
        match (self.answer(ordinal, &stays.place), self.answer(ordinal, &goes.place)) {
            (Answer::Hash(stays), Answer::Hash(goes)) => is_of_one && stays == goes && is_true(),
            _ => false,
        }
    }
}

/// Whether every writer believes what is in a pack: somebody has read it, or the owner has sealed it.
pub fn is_for_all(pack: &PackInfo) -> bool {
    pack.verified || pack.origin == KeyId::OWNER
}

/// The packs that maintainers have written, by number, as far as that is known.
pub fn by_maintainers(index: &Index) -> Bits {
    let mut found = Bits::new(index.packs().len());
    for (number, pack) in index.packs().iter().enumerate() {
        if is_by_maintainer(index, pack.id) {
            found.insert(number);
        }
    }
    found
}

/// Live records of which one place is in focus and another one in a pack of the same origin, and these packs.
fn asked(
    index: &Index,
    (live, focus): (&Bits, &Bits),
    listed: &HashMap<PackId, ListedPack>,
) -> (Bits, BTreeSet<PackId>) {
    let (mut asked, mut packs) = (Bits::new(index.len()), BTreeSet::new());
    if focus.is_empty() {
        return (asked, packs);
    }
    let mut numbers = Vec::new();
    for (ordinal, slots) in index.slots_of_all() {
        numbers.clear();
        numbers.extend(slots.map(Slot::pack));
        if numbers.len() < 2 || !live.contains(ordinal) || !numbers.iter().any(|n| focus.contains(*n)) {
            continue;
        }
        let infos = numbers.iter().map(|number| index.packs().get(*number));
        let infos: Vec<PackInfo> = infos.filter(|pack| pack.is_in(listed)).collect();
        let has_copy =
            |pack: &PackInfo| infos.iter().any(|other| other.id != pack.id && other.origin == pack.origin);
        if infos.iter().any(has_copy) {
            asked.insert(ordinal);
            packs.extend(infos.iter().map(|pack| pack.id));
        }
    }
    (asked, packs)
}

/// Whether a maintainer, or the owner, has written the pack: in an epoch that has not ended, by whose session names it.
fn is_by_maintainer(index: &Index, pack: PackId) -> bool {
    let role =
        |info: PackInfo| index.sessions.get(&info.session?).map(|session| session.body.certificate.role);
    index.packs().with(pack).filter_map(role).any(|role| matches!(role, Role::Maintainer | Role::Owner))
}

/// None if it can't be read: what such a pack holds stands for nothing.
async fn read_table(repo: &Repository, pack: PackId, len: u64) -> Result<Option<Toc>> {
    if len > limits::PACK_LEN as u64 {
        return Ok(None);
    }
    let key = object::pack_key(pack);
    let keys = &repo.keys;
    let mut tail = TAIL.min(len);
    loop {
        let bytes = match repo.store.get_range(&key, len - tail..len).await.map_err(Error::from) {
            Err(error) if error.is_damage() => return Ok(None),
            bytes => bytes?,
        };
        match Toc::open_tail(&keys.structure, keys.repo, pack, &bytes, len) {
            Err(crate::format::Error::Short { at, .. }) if tail < len && at as u64 > tail => {
                tail = len.min(at as u64);
            }
            opened => return Ok(opened.ok()),
        }
    }
}

#[cfg(test)]
impl Copies {
    /// Of one record, at the beginning of each pack: whether that is true, and the hash.
    pub fn of(ordinal: usize, len: u32, said: &[(PackId, bool, [u8; 16])]) -> Self {
        let table = |(pack, is_true, hash): &(PackId, bool, [u8; 16])| {
            let said = Said { offset: 0, ordinal: ordinal as u32, len, hash: *hash };
            (*pack, Table { is_true: *is_true, records: vec![said] })
        };
        Self { asked: Bits::all(ordinal + 1), tables: said.iter().map(table).collect() }
    }

    pub fn says_nothing_of(&mut self, pack: PackId) {
        self.tables.insert(pack, Table::default());
    }
}
