//! What a prune would do: a value that can be printed, made from an index and its marks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::pack::PackKind;
use crate::repo::bits::Bits;
use crate::repo::gc::copies::{At, Copies};
use crate::repo::index::{ListedPack, PackInfo, Slot};
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
        Self { max_repack_bytes: u64::MAX, min_used_percent: 80, small_pack_bytes: 1024 * 1024 }
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
    pub repack: BTreeMap<(PackKind, KeyId), Vec<PackId>>,
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
    pub live: &'a Bits,
    /// The packs that the store lists.
    pub listed: &'a HashMap<PackId, ListedPack>,
    /// Sessions that have neither committed nor been fenced, and when the store saw the first of them.
    pub running: &'a HashSet<SessionId>,
    /// Sessions that have committed, or have copied records and are done.
    pub committed: &'a HashSet<SessionId>,
    pub running_since: Option<i64>,
    pub copies: &'a Arc<Copies>,
}

/// Where records that are needed have to stay, if they have several places: at each but those for which another one
/// stands.
pub struct Stays {
    /// Of the packs, by number: the store lists it, and it is neither condemned nor swept nor damaged.
    usable: Bits,
    copies: Arc<Copies>,
}

impl Stays {
    pub fn new(seen: &Seen<'_>) -> Self {
        let packs = seen.index.packs();
        let mut usable = Bits::new(packs.len());
        for (number, pack) in packs.iter().enumerate() {
            if pack.is_in(seen.listed) && !seen.log.is_barred(pack.id) {
                usable.insert(number);
            }
        }
        Self { usable, copies: seen.copies.clone() }
    }

    /// Those of one record's places at which it has to stay, each with the number of its pack; in `found`, which is
    /// there to be used again.
    pub fn among<'v, 'f>(
        &self,
        index: &Index,
        (ordinal, slots): (usize, impl Iterator<Item = Slot<'f>>),
        found: &'v mut Vec<Slot<'f>>,
    ) -> &'v [Slot<'f>] {
        found.clear();
        found.extend(slots.filter(|slot| self.usable.contains(slot.pack())));
        if found.len() > 1 {
            let is_false = |slot: &Slot<'_>| self.copies.is_false(ordinal, &slot.place());
            if !found.iter().all(is_false) {
                found.retain(|slot| !is_false(slot));
            }
            let mut places: Vec<At> = found.iter().map(|slot| At::of(index, *slot)).collect();
            // Of two that stand for each other the first stays.
            let mut at = 0;
            while at < found.len() {
                let stands = |stays: usize, goes: usize| {
                    // A writer does not believe what the owner has sealed.
                    let [stays, goes] = [&places[stays], &places[goes]];
                    let is_believed = stays.pack.verified || stays.pack.origin == goes.pack.origin;
                    is_believed && self.copies.stands_for(ordinal, stays, goes)
                };
                let is_better = |other: usize| stands(other, at) && (other < at || !stands(at, other));
                if (0..found.len()).any(|other| other != at && is_better(other)) {
                    found.remove(at);
                    places.remove(at);
                } else {
                    at += 1;
                }
            }
        }
        found
    }
}

/// Bytes of each pack's records: those that are used, and all. By the pack's number.
fn record_bytes(seen: &Seen<'_>, stays: &Stays) -> (Vec<u64>, Vec<u64>) {
    let packs = seen.index.packs();
    let mut used = vec![0; packs.len()];
    let mut all = used.clone();
    let (mut here, mut found) = (Vec::new(), Vec::new());
    for (ordinal, slots) in seen.index.slots_of_all() {
        here.clear();
        here.extend(slots);
        here.iter().for_each(|slot| all[slot.pack()] += u64::from(slot.len()));
        if !seen.live.contains(ordinal) {
            continue;
        }
        let stay = stays.among(seen.index, (ordinal, here.iter().copied()), &mut found);
        stay.iter().for_each(|slot| used[slot.pack()] += u64::from(slot.len().max(1)));
        for slot in here.iter().filter(|slot| !stays.usable.contains(slot.pack())) {
            // Of what is damaged or missing, and has no copy, whatever is left may be of use to a repair.
            let goes = At::of(seen.index, *slot);
            let is_used_anyway = |other: &Slot<'_>| packs.get(other.pack()).id == goes.pack.id;
            if here.iter().filter(|other| stays.usable.contains(other.pack())).any(is_used_anyway) {
                continue;
            }
            let stands =
                |other: &Slot<'_>| seen.copies.stands_for(ordinal, &At::of(seen.index, *other), &goes);
            if !stay.iter().any(stands) {
                used[slot.pack()] += u64::from(slot.len().max(1));
            }
        }
    }
    (used, all)
}

pub fn plan(seen: &Seen<'_>, stays: &Stays, limits: Limits) -> PrunePlan {
    let mut plan = PrunePlan::default();
    let (used, all) = record_bytes(seen, stays);
    let mut wasteful = Vec::new();
    let (mut small, mut small_of_sort) = (Vec::new(), BTreeMap::<(PackKind, KeyId), usize>::new());
    for (id, numbers) in seen.index.packs().by_id() {
        let namings: Vec<PackInfo> = numbers.clone().map(|number| seen.index.packs().get(number)).collect();
        let pack = Whole::new(seen, id, &namings, used[numbers.clone()].iter().sum());
        plan.total_bytes += pack.len;
        plan.used_bytes += pack.used;
        // What a session at work has uploaded belongs to it.
        let is_of_running =
            |pack: &PackInfo| pack.session.is_some_and(|session| seen.running.contains(&session));
        if namings.iter().all(is_of_running) || seen.log.is_going(id) {
            continue;
        }
        if pack.used == 0 {
            plan.unused.insert(id);
            plan.unused_bytes += seen.listed.get(&id).map_or(0, |found| found.size);
        } else if !numbers.clone().any(|number| stays.usable.contains(number)) {
            // Damaged or missing, and needed all the same: nothing here can copy what is left of it.
            continue;
        // Of its records: what a small pack has beside them, table and padding, no rewriting takes away.
        } else if pack.used * 100 < all[numbers].iter().max().unwrap_or(&0) * limits.min_used_percent {
            wasteful.push((pack.used * 1000 / pack.len.max(1), pack));
        } else if pack.len < u64::from(limits.small_pack_bytes) {
            pack.sorts.iter().for_each(|sort| *small_of_sort.entry(*sort).or_default() += 1);
            small.push(pack);
        }
    }
    wasteful.sort_unstable_by_key(|(share, pack)| (*share, pack.id));
    let wasteful = wasteful.into_iter().map(|(_, pack)| pack);
    let worth_joining = |pack: &Whole| pack.sorts.iter().any(|sort| small_of_sort[sort] >= SMALL_PACKS);
    let worth_joining = small.into_iter().filter(worth_joining);
    for pack in wasteful.chain(worth_joining) {
        if plan.repack_bytes + pack.len > limits.max_repack_bytes {
            plan.beyond_budget += 1;
            continue;
        }
        plan.repack_bytes += pack.len;
        plan.repack_used_bytes += pack.used;
        for sort in pack.sorts {
            plan.repack.entry(sort).or_default().push(pack.id);
        }
    }
    add_orphans(seen, &mut plan);
    plan
}

/// A pack, by all that is said of it.
struct Whole {
    id: PackId,
    /// One, if all that is said is true.
    sorts: BTreeSet<(PackKind, KeyId)>,
    /// In bytes, as the store has it.
    len: u64,
    used: u64,
}

impl Whole {
    fn new(seen: &Seen<'_>, id: PackId, namings: &[PackInfo], used: u64) -> Self {
        let sorts = namings.iter().map(|pack| (pack.kind, pack.origin)).collect();
        let len = seen.listed.get(&id).map_or(u64::from(namings[0].len), |found| found.size);
        Self { id, sorts, len, used }
    }
}

/// Packs that no index names. Those that a session at work may just have uploaded are left alone: that saves it
/// work, and is not what makes this safe.
fn add_orphans(seen: &Seen<'_>, plan: &mut PrunePlan) {
    for (id, listed) in seen.listed {
        let is_old = seen.running_since.is_none_or(|since| listed.modified_unix_secs < since);
        if !seen.index.packs().contains(*id) && !seen.log.is_going(*id) && is_old {
            plan.unused.insert(*id);
            plan.unused_bytes += listed.size;
            plan.orphans += 1;
        }
    }
}

/// The packs of a condemned set that may go: for each live record in one another place stands, in a pack that is neither
/// condemned nor swept nor damaged and that the store lists, and that whoever opens the repository later will find
/// indexed.
pub fn sweepable(seen: &Seen<'_>, condemned: &HashSet<PackId>) -> BTreeSet<PackId> {
    let mut kept: HashSet<PackId> = HashSet::new();
    let going = seen.index.numbers_of(condemned);
    let mut found = Vec::new();
    // A delta of an ended epoch whose session has not committed may have come too late for the generation.
    let is_sure = |session: SessionId| seen.committed.contains(&session) || session.epoch() >= seen.log.ended;
    for (ordinal, slots) in seen.index.slots_of_all() {
        if !seen.live.contains(ordinal) {
            continue;
        }
        found.clear();
        found.extend(slots);
        if !found.iter().any(|slot: &Slot<'_>| going.contains(slot.pack())) {
            continue;
        }
        let places: Vec<At> = found.iter().map(|slot| At::of(seen.index, *slot)).collect();
        let stays = |pack: &PackInfo, kept: &HashSet<PackId>| {
            let gone = seen.log.swept.contains(&pack.id) || condemned.contains(&pack.id);
            let sure = pack.session.is_none_or(is_sure) && !seen.log.damaged.contains(&pack.id);
            sure && pack.is_in(seen.listed) && (!gone || kept.contains(&pack.id))
        };
        let goes = |at: &&At| condemned.contains(&at.pack.id) && !seen.copies.is_false(ordinal, &at.place);
        for goes in places.iter().filter(goes) {
            // Whatever could be of use stays.
            let stands =
                |other: &At| stays(&other.pack, &kept) && seen.copies.stands_for(ordinal, other, goes);
            if !places.iter().any(stands) {
                kept.insert(goes.pack.id);
            }
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

    fn named(packs: &[&IndexPack]) -> Index {
        let mut builder = IndexBuilder::new(None, false);
        packs.iter().for_each(|pack| builder.add(pack, None, false).unwrap());
        builder.finish().unwrap()
    }

    /// What is seen of some packs that the store lists, all records needed.
    fn look<R>(index: &Index, listed: &[PackId], log: &Log, then: impl FnOnce(&Seen<'_>) -> R) -> R {
        let there = ListedPack { size: 64 * 1024, modified_unix_secs: 0 };
        then(&Seen {
            index,
            log,
            live: &Bits::all(index.len()),
            listed: &listed.iter().map(|id| (*id, there)).collect(),
            running: &HashSet::new(),
            committed: &HashSet::new(),
            running_since: None,
            copies: &Arc::default(),
        })
    }

    /// The story: a stolen writer's key planted a record under the id of another's, and the other's pack was taken for
    /// unused, because there was a copy.
    #[test]
    fn a_copy_of_another_writer_s_is_none_until_somebody_has_read_it() {
        let record = chunk(1, 1);
        let (own, mut planted) = (pack(1, 1, vec![record]), pack(2, 1, vec![record]));
        planted.origin = KeyId([2; 16]);
        for is_read in [false, true] {
            planted.verified = is_read;
            for order in [[&own, &planted], [&planted, &own]] {
                let index = named(&order);
                let going = HashSet::from([own.id]);
                let (plan, swept) = look(&index, &[own.id, planted.id], &Log::default(), |seen| {
                    (plan(seen, &Stays::new(seen), Limits::default()), sweepable(seen, &going))
                });
                let expected = if is_read { BTreeSet::from([own.id]) } else { BTreeSet::new() };
                assert_eq!((plan.unused, swept), (expected.clone(), expected));
            }
        }
    }

    /// The story: a pack was counted, and rewritten, once for each way in which it was named.
    #[test]
    fn a_pack_that_is_named_in_two_ways_is_planned_once_and_unused_only_if_nothing_of_either_is_used() {
        let records: Vec<RecordId> = (0..8).map(|n| chunk(1, n)).collect();
        let honest = pack(1, 1, records.clone());
        let lie = pack(1, 1, (8..16).map(|n| chunk(1, n)).chain(records[..2].to_vec()).collect());
        let size = 64 * 1024;
        for used in [None, Some(0), Some(7), Some(9)] {
            let index = named(&[&honest, &lie]);
            let mut live = Bits::new(index.len());
            if let Some(n) = used {
                live.insert(index.ordinal(&chunk(1, n)).unwrap());
            }
            let planned = look(&index, &[honest.id], &Log::default(), |seen| {
                plan(&Seen { live: &live, ..*seen }, &Stays::new(seen), Limits::default())
            });
            assert_eq!(planned.total_bytes, size);
            let bytes = (planned.unused_bytes, planned.repack_bytes);
            assert_eq!(bytes, if used.is_none() { (size, 0) } else { (0, size) });
            assert_eq!(planned.unused.contains(&honest.id), used.is_none());
            assert_eq!(planned.repacked().count(), usize::from(used.is_some()));
        }
    }

    /// The story: a small pack is padded and has a table, and each prune wrote it anew, for nothing.
    #[test]
    fn a_pack_whose_records_are_all_used_is_not_rewritten_however_small_they_are() {
        let small = pack(1, 1, vec![chunk(1, 1)]);
        let index = named(&[&small]);
        let planned = look(&index, &[small.id], &Log::default(), |seen| {
            plan(seen, &Stays::new(seen), Limits::default())
        });
        assert_eq!(planned.repacked().count(), 0);
    }

    /// The stories: a repack that was cut short had left a pack of copies, and each prune copied from one to the other. And
    /// a stolen key planted other bytes under a record's id, in a pack that was taken for a copy of the true one.
    #[test]
    fn of_two_packs_of_one_origin_a_record_stays_in_one_if_its_bytes_are_known_to_be_the_same() {
        let packs = [pack(1, 1, vec![chunk(1, 1)]), pack(2, 1, vec![chunk(1, 1)])];
        let index = named(&packs.each_ref());
        let there = packs.each_ref().map(|pack| pack.id);
        let [first, second] = there;
        let alike = [(first, false, [1; 16]), (second, true, [1; 16])];
        let other = [(first, false, [1; 16]), (second, true, [2; 16])];
        let nobody = [(first, false, [1; 16]), (second, false, [1; 16])];
        let one = [(second, true, [1; 16])];
        for (said, goes) in
            [(&alike[..], true), (&other, false), (&nobody, false), (&one, false), (&[], false)]
        {
            let ordinal = index.ordinal(&chunk(1, 1)).unwrap();
            let copies = Arc::new(Copies::of(ordinal, 200, said));
            look(&index, &there, &Log::default(), |seen| {
                let seen = &Seen { copies: &copies, ..*seen };
                let stays = Stays::new(seen);
                let mut found = Vec::new();
                let kept = stays.among(&index, (ordinal, index.slots_of(&chunk(1, 1))), &mut found);
                let kept: Vec<PackId> = kept.iter().map(|slot| slot.place().pack).collect();
                assert_eq!(kept, if goes { vec![second] } else { there.to_vec() }, "{said:?}");
                let expected = if goes { BTreeSet::from([first]) } else { BTreeSet::new() };
                assert_eq!(plan(seen, &stays, Limits::default()).unused, expected);
                assert_eq!(sweepable(seen, &HashSet::from([first])), expected);
                assert_eq!(sweepable(seen, &HashSet::from(there)), BTreeSet::new());
            });
        }
    }

    /// The story: a stolen key named a record in a pack that has others, and the pack that has it was taken for unused.
    #[test]
    fn where_a_table_does_not_have_a_record_it_is_not() {
        let packs = [pack(1, 1, vec![chunk(1, 1)]), pack(2, 1, vec![chunk(1, 1)])];
        let index = named(&packs.each_ref());
        let there = packs.each_ref().map(|pack| pack.id);
        let ordinal = index.ordinal(&chunk(1, 1)).unwrap();
        for (truly, falsely) in [(0, 1), (1, 0)] {
            let mut copies = Copies::of(ordinal, 200, &[(there[truly], true, [1; 16])]);
            copies.says_nothing_of(there[falsely]);
            look(&index, &there, &Log::default(), |seen| {
                let seen = &Seen { copies: &Arc::new(copies), ..*seen };
                let unused = plan(seen, &Stays::new(seen), Limits::default()).unused;
                assert_eq!(unused, BTreeSet::from([there[falsely]]));
                for going in [HashSet::from([there[falsely]]), HashSet::from(there)] {
                    assert_eq!(sweepable(seen, &going), BTreeSet::from([there[falsely]]));
                }
            });
        }
    }

    /// A pack that only a late delta of an ended epoch names, and that is kept for another record's sake, is no copy.
    #[test]
    fn a_pack_that_the_next_generation_may_not_name_is_no_copy_even_if_it_is_kept() {
        let mut builder = IndexBuilder::new(None, false);
        // Each record of the first sort lies in the doubtful pack alone, each of the second also in a sound one.
        let alone = (0..MANY).map(|n| chunk(1, n));
        let doubtful = pack(0, 1, alone.chain((0..MANY).map(|n| chunk(2, n))).collect());
        builder.add(&doubtful, Some(SessionId([0; 16])), true).unwrap();
        let mut condemned = vec![doubtful.id];
        for n in 0..MANY {
            let sound = pack(n, 2, vec![chunk(2, n)]);
            builder.add(&sound, None, true).unwrap();
            condemned.push(sound.id);
        }
        let index = builder.finish().unwrap();
        let mut log = Log::default();
        log.ended = 1;
        let going = condemned.iter().copied().collect();
        look(&index, &condemned, &log, |seen| assert_eq!(sweepable(seen, &going), BTreeSet::new()));
    }
}
