//! Which places of one record hold the same bytes.
//!
//! Whoever has stolen a writer's key can name a record where it is not, and can write a pack with other bytes under its
//! id. If a prune took such a place for a copy, it would let go of the true one. So in packs that nobody has read, a
//! place stands for another only if the tables of both packs say the same of the record's bytes, and what the one that
//! stays says is known to be true: it was written by a maintainer, or all that it says of was compared with its bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{KeyId, PackId};
use crate::format::keys::Role;
use crate::format::object;
use crate::format::pack::{Toc, TocRecord, short_hash};
use crate::repo::bits::Bits;
use crate::repo::index::{ListedPack, PackInfo};
use crate::repo::{Error, Index, Log, Place, Repository, Result};

/// Tables that are read at the same time, …
const PARALLEL_TABLES: usize = 8;
/// … and packs that are read whole.
const PARALLEL_PACKS: usize = 2;
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
    is_true: bool,
    /// By the offset: the record's ordinal and length, and the first half of the hash of its bytes.
    records: BTreeMap<u32, (usize, u32, [u8; 16])>,
}

/// What the table of a pack says of a place that the index has in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Hash([u8; 16]),
    /// The record is not there.
    Not,
    /// The table can't be read, or nobody has asked it.
    Nothing,
}

impl Copies {
    /// Reads the tables of all packs that have a live record which lies in another one of the same origin too.
    pub async fn load(
        repo: &Repository,
        index: &Index,
        live: &Bits,
        (listed, log): (&HashMap<PackId, ListedPack>, &Log),
    ) -> Result<Self> {
        let (asked, packs) = asked(index, live, (listed, log));
        let reading = packs.into_iter().map(|pack| async move {
            let Some(found) = listed.get(&pack) else { return Ok(None) };
            Ok::<_, Error>(read_table(repo, pack, found.size).await?.map(|toc| (pack, toc)))
        });
        let mut reading = futures::stream::iter(reading).buffered(PARALLEL_TABLES);
        let mut copies = Self { asked, tables: BTreeMap::new() };
        while let Some(read) = reading.try_next().await? {
            let Some((pack, toc)) = read else { continue };
            let of_record = |record: TocRecord| {
                let ordinal = index.ordinal(&record.id).filter(|ordinal| copies.asked.contains(*ordinal))?;
                Some((record.offset, (ordinal, record.len, record.short_hash)))
            };
            let records = toc.records.into_iter().filter_map(of_record).collect::<BTreeMap<_, _>>();
            copies.tables.insert(pack, Table { is_true: is_by_maintainer(index, pack), records });
        }
        drop(reading);
        copies.compare(repo).await?;
        Ok(copies)
    }

    /// Reads packs of which two say the same of a record, and none is known to say the truth.
    async fn compare(&mut self, repo: &Repository) -> Result<()> {
        let mut said: BTreeMap<(usize, [u8; 16]), (bool, Vec<PackId>)> = BTreeMap::new();
        for (pack, table) in &self.tables {
            for (ordinal, _, hash) in table.records.values() {
                let (is_known, packs) = said.entry((*ordinal, *hash)).or_default();
                *is_known |= table.is_true;
                packs.push(*pack);
            }
        }
        let doubtful = said.into_values().filter(|(is_known, packs)| !is_known && packs.len() > 1);
        let packs: BTreeSet<PackId> = doubtful.flat_map(|(_, packs)| packs).collect();
        let reading = packs.into_iter().map(|pack| async move {
            match repo.store.get(&object::pack_key(pack)).await {
                Ok(bytes) => Ok(Some((pack, bytes))),
                Err(error) if error.is_damage() => Ok(None),
                Err(error) => Err(Error::from(error)),
            }
        });
        let mut reading = futures::stream::iter(reading).buffered(PARALLEL_PACKS);
        while let Some(read) = reading.try_next().await? {
            let Some((pack, bytes)) = read else { continue };
            let table = self.tables.get_mut(&pack).expect("its table was read");
            let is_there = |(offset, (_, len, hash)): (&u32, &(usize, u32, [u8; 16]))| {
                let record = bytes.get(*offset as usize..*offset as usize + *len as usize);
                record.is_some_and(|record| short_hash(record) == *hash)
            };
            table.is_true = table.records.iter().all(is_there);
        }
        Ok(())
    }

    fn said(&self, ordinal: usize, place: &Place) -> Said {
        let table = self.tables.get(&place.pack).filter(|_| self.asked.contains(ordinal));
        let Some(table) = table else { return Said::Nothing };
        match table.records.get(&place.offset) {
            Some((of, len, hash)) if (*of, *len) == (ordinal, place.len) => Said::Hash(*hash),
            _ => Said::Not,
        }
    }

    /// Whether the record of this number is known not to be at a place that the index names.
    pub fn is_false(&self, ordinal: usize, place: &Place) -> bool {
        self.said(ordinal, place) == Said::Not
    }

    /// Whether nothing is lost of a record if only the first of two places stays.
    pub fn stands_for(
        &self,
        ordinal: usize,
        (stays, pack): (&Place, &PackInfo),
        (goes, other): (&Place, &PackInfo),
    ) -> bool {
        // One place may be named twice.
        if is_for_all(pack) || stays == goes {
            return true;
        }
        let is_true = || self.tables.get(&stays.pack).is_some_and(|table| table.is_true);
        match (self.said(ordinal, stays), self.said(ordinal, goes)) {
            (Said::Hash(stays), Said::Hash(goes)) => {
                pack.origin == other.origin && stays == goes && is_true()
            }
            _ => false,
        }
    }
}

/// Whether every writer believes what is in a pack: somebody has read it, or the owner has sealed it.
pub fn is_for_all(pack: &PackInfo) -> bool {
    pack.verified || pack.origin == KeyId::OWNER
}

/// Live records that lie in several packs of one origin that are there, and these packs. What stays in a pack that
/// somebody has read needs no other.
fn asked(
    index: &Index,
    live: &Bits,
    (listed, log): (&HashMap<PackId, ListedPack>, &Log),
) -> (Bits, BTreeSet<PackId>) {
    let (mut asked, mut packs) = (Bits::new(index.len()), BTreeSet::new());
    let mut places = Vec::new();
    for (ordinal, all) in index.slots_of_all() {
        if !live.contains(ordinal) {
            continue;
        }
        places.clear();
        places.extend(all.filter(|(_, place)| listed.contains_key(&place.pack)));
        if places.iter().all(|(_, place)| place.pack == places[0].1.pack) {
            continue;
        }
        let infos: Vec<PackInfo> = places.iter().map(|(number, _)| index.packs().get(*number)).collect();
        let has_copy =
            |pack: &PackInfo| infos.iter().any(|other| other.id != pack.id && other.origin == pack.origin);
        let stays = |pack: &PackInfo| pack.verified && !log.is_barred(pack.id);
        if infos.iter().any(has_copy) && !infos.iter().any(stays) {
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
    let key = object::pack_key(pack);
    let keys = &repo.keys;
    let mut tail = TAIL.min(len);
    loop {
        let bytes = match repo.store.get_range(&key, len - tail..len).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error.into()),
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
            (*pack, Table { is_true: *is_true, records: BTreeMap::from([(0, (ordinal, len, *hash))]) })
        };
        Self { asked: Bits::all(ordinal + 1), tables: said.iter().map(table).collect() }
    }

    pub fn says_nothing_of(&mut self, pack: PackId) {
        self.tables.insert(pack, Table::default());
    }
}
