//! What a prune would do: a value that can be printed, made from an index and its marks.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::pack::PackKind;
use crate::repo::gc::mark::Live;
use crate::repo::index::ListedPack;
use crate::repo::{Index, Log};

/// How much is rewritten so that space comes back.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that are read and written again at most.
    pub max_repack_bytes: u64,
    /// A pack is rewritten if less of it is used than this, in percent.
    pub min_used_percent: u64,
    /// Packs shorter than this are joined, if there are enough of them.
    pub small_pack_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_repack_bytes: u64::MAX, min_used_percent: 50, small_pack_bytes: 1024 * 1024 }
    }
}

/// Small packs of one sort that are worth joining.
const SMALL_PACKS: usize = 16;

/// What a prune would do.
#[derive(Clone, Debug, Default)]
pub struct PrunePlan {
    /// Packs of which nothing is used, and packs that no index names.
    pub unused: BTreeSet<PackId>,
    pub unused_bytes: u64,
    /// Of those, how many no index names: left behind by runs that died.
    pub orphans: u64,
    /// Packs whose used records are copied into new ones, by what must stay together: kind and origin.
    pub repack: HashMap<(PackKind, KeyId), Vec<PackId>>,
    /// Bytes of those packs, and of what is used in them.
    pub repack_bytes: u64,
    pub repack_used_bytes: u64,
    /// All packs that the index names, in bytes, and what is used of them.
    pub total_bytes: u64,
    pub used_bytes: u64,
    /// Packs that would be rewritten but for the budget.
    pub beyond_budget: u64,
}

impl PrunePlan {
    /// Bytes that come free, about.
    pub fn freed_bytes(&self) -> u64 {
        self.unused_bytes + self.repack_bytes.saturating_sub(self.repack_used_bytes)
    }

    pub fn repacked(&self) -> impl Iterator<Item = PackId> {
        self.repack.values().flatten().copied()
    }
}

/// What is there, as of one look.
pub struct Seen<'a> {
    pub index: &'a Index,
    pub log: &'a Log,
    pub live: &'a Live,
    /// The packs that the store lists.
    pub listed: &'a HashMap<PackId, ListedPack>,
    /// Sessions that have neither committed nor been fenced, and when the store saw the first of them.
    pub running: &'a HashSet<SessionId>,
    /// Sessions that have committed, or have copied records and are done.
    pub committed: &'a HashSet<SessionId>,
    pub running_since: Option<i64>,
}

/// Bytes of each pack that are used, by the pack's number. A record with several places is used in the first
/// that is there.
pub fn used_bytes(seen: &Seen<'_>) -> Vec<u64> {
    let mut used = vec![0; seen.index.packs().len()];
    for (ordinal, mut places) in seen.index.slots_of_all() {
        if !seen.live.contains(ordinal) {
            continue;
        }
        if let Some((pack, place)) = places.find(|(_, place)| is_there(seen, place.pack)) {
            used[pack as usize] += u64::from(place.len);
        }
    }
    used
}

fn is_there(seen: &Seen<'_>, pack: PackId) -> bool {
    seen.listed.contains_key(&pack) && !seen.log.is_barred(pack)
}

pub fn plan(seen: &Seen<'_>, limits: Limits) -> PrunePlan {
    let mut plan = PrunePlan::default();
    let used = used_bytes(seen);
    let mut wasteful = Vec::new();
    let mut small: HashMap<(PackKind, KeyId), Vec<usize>> = HashMap::new();
    for (number, pack) in seen.index.packs().iter().enumerate() {
        plan.total_bytes += u64::from(pack.len);
        plan.used_bytes += used[number];
        // What a session at work has uploaded belongs to it.
        if pack.session.is_some_and(|session| seen.running.contains(&session)) || seen.log.is_barred(pack.id)
        {
            continue;
        }
        if used[number] == 0 {
            plan.unused.insert(pack.id);
            plan.unused_bytes += seen.listed.get(&pack.id).map_or(0, |found| found.size);
        } else if used[number] * 100 < u64::from(pack.len) * limits.min_used_percent {
            wasteful.push(number);
        } else if pack.len < limits.small_pack_bytes {
            small.entry((pack.kind, pack.origin)).or_default().push(number);
        }
    }
    wasteful.sort_by_key(|number| used[*number] * 1000 / u64::from(seen.index.packs().get(*number).len));
    let worth_joining = small.into_values().filter(|packs| packs.len() >= SMALL_PACKS).flatten();
    for number in wasteful.into_iter().chain(worth_joining) {
        let pack = seen.index.packs().get(number);
        if plan.repack_bytes + u64::from(pack.len) > limits.max_repack_bytes {
            plan.beyond_budget += 1;
            continue;
        }
        plan.repack_bytes += u64::from(pack.len);
        plan.repack_used_bytes += used[number];
        plan.repack.entry((pack.kind, pack.origin)).or_default().push(pack.id);
    }
    add_orphans(seen, &mut plan);
    plan
}

/// Packs that no index names. Those that a session at work may just have uploaded are left alone: that saves it
/// work, and is not what makes this safe.
fn add_orphans(seen: &Seen<'_>, plan: &mut PrunePlan) {
    let known: HashSet<PackId> = seen.index.packs().iter().map(|pack| pack.id).collect();
    for (id, listed) in seen.listed {
        let is_old = seen.running_since.is_none_or(|since| listed.modified_unix_secs < since);
        if !known.contains(id) && !seen.log.is_barred(*id) && is_old {
            plan.unused.insert(*id);
            plan.unused_bytes += listed.size;
            plan.orphans += 1;
        }
    }
}

/// The packs of a condemned set that may go: each live record in one has another place, in a pack that is neither
/// condemned nor swept and that the store lists, and that whoever opens the repository later will find indexed.
pub fn sweepable(seen: &Seen<'_>, condemned: &HashSet<PackId>) -> BTreeSet<PackId> {
    let mut kept: HashSet<PackId> = HashSet::new();
    // A delta of an ended epoch whose session has not committed may have come too late for the generation.
    let is_sure = |session: SessionId| seen.committed.contains(&session) || session.epoch() >= seen.log.ended;
    for (ordinal, places) in seen.index.slots_of_all() {
        if !seen.live.contains(ordinal) {
            continue;
        }
        let places: Vec<(u32, PackId)> = places.map(|(number, place)| (number, place.pack)).collect();
        let stays = |(number, pack): &(u32, PackId)| {
            let gone = seen.log.swept.contains(pack) || condemned.contains(pack);
            let sure = seen.index.packs().get(*number as usize).session.is_none_or(is_sure);
            sure && seen.listed.contains_key(pack) && (!gone || kept.contains(pack))
        };
        if !places.iter().any(stays) {
            // Whatever could be of use stays.
            kept.extend(places.into_iter().map(|(_, pack)| pack).filter(|pack| condemned.contains(pack)));
        }
    }
    condemned.iter().filter(|pack| !kept.contains(pack)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{ChunkId, RecordId};
    use crate::format::index::{IndexPack, IndexRecord};
    use crate::repo::IndexBuilder;
    use crate::repo::gc::mark::Live;

    /// Packs of the two sorts that one record may lie in, many of each, so that every order of records comes by.
    const MANY: u8 = 48;

    fn pack(id: u8, kind: u8, records: Vec<RecordId>) -> IndexPack {
        let record = |id: RecordId| IndexRecord { id: *id.bytes(), len: 200 };
        IndexPack {
            id: PackId([id, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            kind: PackKind::Data,
            len: 64 * 1024,
            hash: [id ^ kind; 32],
            origin: KeyId([1; 16]),
            verified: false,
            sessions: Vec::new(),
            records: records.into_iter().map(record).collect(),
        }
    }

    fn chunk(kind: u8, n: u8) -> RecordId {
        let mut id = [kind; 32];
        id[0] = n;
        RecordId::Chunk(ChunkId(id))
    }

    /// A pack that only a late delta of an ended epoch names, and that is kept for another record's sake, is no copy.
    #[test]
    fn a_pack_that_the_next_generation_may_not_name_is_no_copy_even_if_it_is_kept() {
        let mut builder = IndexBuilder::new(None, false);
        // Each record of the first sort lies in the doubtful pack alone, each of the second also in a sound one.
        let alone = (0..MANY).map(|n| chunk(1, n));
        let doubtful = pack(0, 1, alone.chain((0..MANY).map(|n| chunk(2, n))).collect());
        builder.add(&doubtful, Some(SessionId([0; 16])), true).unwrap();
        let mut condemned = HashSet::from([doubtful.id]);
        for n in 0..MANY {
            let sound = pack(n, 2, vec![chunk(2, n)]);
            builder.add(&sound, None, true).unwrap();
            condemned.insert(sound.id);
        }
        let index = builder.finish().unwrap();
        let there = ListedPack { size: 64 * 1024, modified_unix_secs: 0 };
        let listed = condemned.iter().map(|id| (*id, there)).collect();
        let mut log = Log::default();
        log.ended = 1;
        let seen = Seen {
            index: &index,
            log: &log,
            live: &Live::all(&index),
            listed: &listed,
            running: &HashSet::new(),
            committed: &HashSet::new(),
            running_since: None,
        };
        assert_eq!(sweepable(&seen, &condemned), BTreeSet::new());
    }
}
