//! The records and packs of an index as sorted rows of bytes, in the heap or in a mapped file.
//!
//! Built from packs as they come, in bounded memory. A lookup touches one page of records or two: ids are keyed
//! hashes, so the first bits of an id tell within a few rows where it is.
//!
//! A record's row: 20 bytes of its id ‖ u32 kind, whose, pack ‖ u32 offset ‖ u32 length, big-endian. What is left of
//! the id are 160 bits of a keyed hash: two of them meet by no accident, and who makes two meet has the id key and may
//! as well name the other's whole id. A reader compares the whole id with what it has read in any case.

use std::io;
use std::ops::Range;

use crate::format::id::{KeyId, PackId, RecordId, SessionId};
use crate::format::index::IndexPack;
use crate::format::pack::PackKind;
use crate::repo::index::bytes::{Bytes, Out, Scratch};
use crate::repo::index::sorter::{HELD_BYTES, Merged, Sorter};
use crate::repo::index::{PackInfo, Place};

const PREFIX: usize = 20;
const ROW: usize = PREFIX + 4 + 4 + 4;
type Row = [u8; ROW];
/// Rows of one entry of the fan-out table, about: 2 KiB of them.
const ROWS_A_STEP: usize = 64;
/// Beside the number of a row's pack: it is a node, …
const NODE: u32 = 1 << 31;
/// … and not one's own. So one's own copy of a record stands first: that one is trusted.
const FOREIGN: u32 = 1 << 30;
const NUMBER: u32 = FOREIGN - 1;

/// id ‖ arrival ‖ kind ‖ flags ‖ sessions ‖ length ‖ hash ‖ origin ‖ named by ‖ first session, or where they are.
const PACK: usize = 16 + 4 + 1 + 1 + 2 + 4 + 32 + 16 + 16 + 16;
type Pack = [u8; PACK];
const OWN: u8 = 1;
const VERIFIED: u8 = 2;
const NAMED_BY_SESSION: u8 = 4;
/// Where they begin in a pack's row.
const ARRIVAL: usize = 16;
const KIND: usize = 20;
const FLAGS: usize = 21;
const SESSIONS: usize = 22;
const LEN: usize = 24;
const HASH: usize = 28;
const ORIGIN: usize = 60;
const NAMED_BY: usize = 76;
const SESSION: usize = 92;
/// In place of a pack's number: it was named before.
const AGAIN: u32 = u32::MAX;

fn array<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    *row[at..].first_chunk().expect("within the row")
}

fn u32_at(row: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(row, at))
}

/// A segment on its way.
pub struct Building {
    scratch: Option<Scratch>,
    records: Sorter<ROW>,
    packs: Sorter<PACK>,
    sessions: Out,
    sessions_len: u64,
    arrived: u32,
    rows: usize,
}

impl Building {
    pub fn new(scratch: Option<Scratch>) -> Self {
        Self::holding(scratch, HELD_BYTES)
    }

    fn holding(scratch: Option<Scratch>, held_bytes: usize) -> Self {
        Self {
            records: Sorter::new(scratch.clone(), held_bytes),
            packs: Sorter::new(scratch.clone(), held_bytes),
            sessions: Out::new(scratch.clone()),
            sessions_len: 0,
            arrived: 0,
            rows: 0,
            scratch,
        }
    }

    pub fn add(&mut self, pack: &IndexPack, named_by: Option<SessionId>, own: bool) -> io::Result<()> {
        let flags = u8::from(own) * OWN
            + u8::from(pack.verified) * VERIFIED
            + u8::from(named_by.is_some()) * NAMED_BY_SESSION;
        let mut row = [0; PACK];
        row[..ARRIVAL].copy_from_slice(&pack.id.0);
        row[ARRIVAL..KIND].copy_from_slice(&self.arrived.to_be_bytes());
        row[KIND] = pack.kind.number();
        row[FLAGS] = flags;
        let sessions = u16::try_from(pack.sessions.len()).expect("bounded by PACK_SESSIONS");
        row[SESSIONS..LEN].copy_from_slice(&sessions.to_be_bytes());
        row[LEN..HASH].copy_from_slice(&pack.len.to_be_bytes());
        row[HASH..ORIGIN].copy_from_slice(&pack.hash);
        row[ORIGIN..NAMED_BY].copy_from_slice(&pack.origin.0);
        row[NAMED_BY..SESSION].copy_from_slice(&named_by.map_or([0; 16], |session| session.0));
        match pack.sessions[..] {
            [] => {}
            [one] => row[SESSION..].copy_from_slice(&one.0),
            _ => {
                row[SESSION..SESSION + 8].copy_from_slice(&self.sessions_len.to_be_bytes());
                for session in &pack.sessions {
                    self.sessions.write(&session.0)?;
                }
                self.sessions_len += u64::from(sessions);
            }
        }
        self.packs.push(row)?;
        let marks = if own { 0 } else { FOREIGN } | if pack.kind == PackKind::Nodes { NODE } else { 0 };
        let number = (self.arrived | marks).to_be_bytes();
        for (id, offset, len) in pack.places() {
            let mut row = [0; ROW];
            row[..PREFIX].copy_from_slice(&id.bytes()[..PREFIX]);
            row[PREFIX..PREFIX + 4].copy_from_slice(&number);
            row[PREFIX + 4..PREFIX + 8].copy_from_slice(&offset.to_be_bytes());
            row[PREFIX + 8..].copy_from_slice(&len.to_be_bytes());
            self.records.push(row)?;
        }
        self.rows += pack.records.len();
        self.arrived += 1;
        assert!(self.arrived <= NUMBER && self.rows < AGAIN as usize, "an index beyond 4 billion records");
        Ok(())
    }

    pub fn finish(self) -> io::Result<Segment> {
        let (packs, numbers) = number(self.packs.finish()?, self.arrived, Out::new(self.scratch.clone()))?;
        let mut records = self.records.finish()?;
        let bits = (self.rows / ROWS_A_STEP).max(1).ilog2();
        let mut fan = Vec::with_capacity((1 << bits) + 1);
        let mut out = Out::new(self.scratch);
        let mut written = 0u32;
        while let Some(mut row) = records.next()? {
            let marked = u32_at(&row, PREFIX);
            let number = numbers[(marked & NUMBER) as usize];
            if number == AGAIN {
                continue;
            }
            row[PREFIX..PREFIX + 4].copy_from_slice(&(marked & !NUMBER | number).to_be_bytes());
            fan.resize(fan.len().max(step(bits, &row) + 1), written);
            out.write(&row)?;
            written += 1;
        }
        fan.resize((1 << bits) + 1, written);
        Ok(Segment { records: out.finish()?, fan, bits, packs, sessions: self.sessions.finish()? })
    }
}

/// The entry of the fan-out table for an id, or a row, that begins with these bytes.
fn step(bits: u32, start: &[u8]) -> usize {
    (u64::from(u32_at(start, 0)) >> (32 - bits)) as usize
}

/// Gives packs their numbers, in the order of their ids. What was named again with the same hash and origin is the
/// pack that was named first: gives the number of each pack by its arrival.
fn number(mut packs: Merged<PACK>, arrived: u32, mut out: Out) -> io::Result<(Bytes, Vec<u32>)> {
    let mut numbers = vec![AGAIN; arrived as usize];
    let mut count = 0;
    let mut next = packs.next()?;
    while let Some(mut first) = next {
        let mut others = Vec::new();
        loop {
            next = packs.next()?;
            let Some(other) = next.filter(|other| other[..ARRIVAL] == first[..ARRIVAL]) else { break };
            if other[HASH..NAMED_BY] == first[HASH..NAMED_BY] {
                // The generation's word, or the later session's, is as good as the first one's.
                first[FLAGS] &= other[FLAGS] | !NAMED_BY_SESSION;
            } else {
                others.push(other);
            }
        }
        for pack in [first].into_iter().chain(others) {
            numbers[u32_at(&pack, ARRIVAL) as usize] = count;
            count += 1;
            out.write(&pack)?;
        }
    }
    Ok((out.finish()?, numbers))
}

/// Sorted rows of records and of packs.
#[derive(Default)]
pub struct Segment {
    records: Bytes,
    /// Where the rows of each step begin.
    fan: Vec<u32>,
    bits: u32,
    packs: Bytes,
    /// Of the packs that have more than one.
    sessions: Bytes,
}

impl Segment {
    fn rows(&self) -> &[Row] {
        self.records.as_chunks().0
    }

    fn pack_rows(&self) -> &[Pack] {
        self.packs.as_chunks().0
    }

    /// Places of records: rows.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    pub fn packs(&self) -> usize {
        self.pack_rows().len()
    }

    /// The numbers of a record's rows, the best place first.
    pub fn find(&self, id: &RecordId) -> Range<usize> {
        if self.fan.is_empty() {
            return 0..0;
        }
        let bytes = id.bytes();
        let step = step(self.bits, bytes);
        let (start, end) = (self.fan[step] as usize, self.fan[step + 1] as usize);
        let rows = &self.rows()[start..end];
        let wanted = (&bytes[..PREFIX], matches!(id, RecordId::Node(_)));
        let first = rows.partition_point(|row| key(row) < wanted);
        let count = rows[first..].partition_point(|row| key(row) == wanted);
        start + first..start + first + count
    }

    /// The number of a row's pack.
    pub fn pack_of(&self, row: usize) -> usize {
        (u32_at(&self.rows()[row], PREFIX) & NUMBER) as usize
    }

    pub fn place(&self, row: usize) -> Place {
        let pack = PackId(array(&self.pack_rows()[self.pack_of(row)], 0));
        let row = &self.rows()[row];
        Place { pack, offset: u32_at(row, PREFIX + 4), len: u32_at(row, PREFIX + 8) }
    }

    /// The rows of the record of which this is the first.
    pub fn rows_from(&self, first: usize) -> Range<usize> {
        let rows = self.rows();
        let same = |row: &&Row| key(row) == key(&rows[first]);
        first..first + rows[first..].iter().take_while(same).count()
    }

    pub fn pack(&self, number: usize) -> PackInfo {
        let row = &self.pack_rows()[number];
        PackInfo {
            id: PackId(array(row, 0)),
            kind: if row[KIND] == PackKind::Data.number() { PackKind::Data } else { PackKind::Nodes },
            len: u32_at(row, LEN),
            hash: array(row, HASH),
            origin: KeyId(array(row, ORIGIN)),
            verified: row[FLAGS] & VERIFIED != 0,
            sessions: self.sessions_of(row),
            session: (row[FLAGS] & NAMED_BY_SESSION != 0).then(|| SessionId(array(row, NAMED_BY))),
            own: row[FLAGS] & OWN != 0,
        }
    }

    fn sessions_of(&self, row: &Pack) -> Vec<SessionId> {
        match usize::from(u16::from_be_bytes(array(row, SESSIONS))) {
            0 => Vec::new(),
            1 => vec![SessionId(array(row, SESSION))],
            count => {
                let start = u64::from_be_bytes(array(row, SESSION)) as usize;
                let all: &[[u8; 16]] = self.sessions.as_chunks().0;
                all[start..start + count].iter().map(|id| SessionId(*id)).collect()
            }
        }
    }

    /// The numbers of the packs with this id: more than one only if they differ.
    pub fn packs_with(&self, id: PackId) -> Range<usize> {
        let packs = self.pack_rows();
        let first = packs.partition_point(|pack| pack[..ARRIVAL] < id.0[..]);
        first..first + packs[first..].partition_point(|pack| pack[..ARRIVAL] == id.0[..])
    }
}

/// What the rows of one record share.
fn key(row: &Row) -> (&[u8], bool) {
    (&row[..PREFIX], row[PREFIX] & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fs::read_dir;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::format::index::IndexRecord;
    use crate::world::{Time, fixed};

    /// So few bytes in memory that two records are more.
    const TINY: usize = 40;

    type Named = (IndexPack, Option<SessionId>, bool);

    prop_compose! {
        /// Few ids, so that records have copies and packs are named again.
        fn named()(
            id in 0u8..12, nodes: bool, hash in 0u8..2, sessions in 0u8..4, by in 0u8..3, own: bool, verified: bool,
            records in vec((0u8..20, 0u8..2, 1u32..9), 0..12),
        ) -> Named {
            let record = |(start, end, len): (u8, u8, u32)| {
                let mut id = [start.wrapping_mul(37); 32];
                // What differs only behind the prefix is one record.
                (id[PREFIX - 1], id[PREFIX]) = (end, start);
                IndexRecord { id, len }
            };
            let records: Vec<_> = records.into_iter().map(record).collect();
            let pack = IndexPack {
                id: PackId([id; 16]),
                kind: if nodes { PackKind::Nodes } else { PackKind::Data },
                len: 1000,
                hash: [hash; 32],
                origin: KeyId([u8::from(own); 16]),
                verified,
                sessions: (0..sessions).map(|n| SessionId([n; 16])).collect(),
                records,
            };
            (pack, (by > 0).then_some(SessionId([by; 16])), own)
        }
    }

    fn built(named: &[Named], scratch: Option<Scratch>, held_bytes: usize) -> Segment {
        let mut building = Building::holding(scratch, held_bytes);
        named.iter().for_each(|(pack, by, own)| building.add(pack, *by, *own).unwrap());
        building.finish().unwrap()
    }

    /// What a segment has to say, by maps in the heap: packs as they came, and of each record its places, one's own
    /// first.
    #[derive(Default)]
    struct Model {
        packs: Vec<PackInfo>,
        records: HashMap<RecordId, Vec<(bool, Place)>>,
    }

    fn model(named: &[Named]) -> Model {
        let mut model = Model::default();
        for (pack, by, own) in named {
            let first = model.packs.iter_mut().find(|info| info.id == pack.id);
            if let Some(first) = first
                && (first.hash, first.origin) == (pack.hash, pack.origin)
            {
                first.session = first.session.filter(|_| by.is_some());
                continue;
            }
            model.packs.push(PackInfo {
                id: pack.id,
                kind: pack.kind,
                len: pack.len,
                hash: pack.hash,
                origin: pack.origin,
                verified: pack.verified,
                sessions: pack.sessions.clone(),
                session: *by,
                own: *own,
            });
            for (id, offset, len) in pack.places() {
                let places = model.records.entry(id).or_default();
                places.push((!*own, Place { pack: pack.id, offset, len }));
                places.sort_by_key(|(foreign, _)| *foreign);
            }
        }
        model
    }

    fn holds(segment: &Segment, model: &Model) {
        let all = |infos: Vec<PackInfo>| {
            let mut all: Vec<String> = infos.iter().map(|info| format!("{info:?}")).collect();
            all.sort();
            all
        };
        let numbers = 0..segment.packs();
        assert_eq!(all(numbers.map(|n| segment.pack(n)).collect()), all(model.packs.clone()));
        for info in &model.packs {
            let same = model.packs.iter().filter(|other| other.id == info.id).cloned().collect();
            let found = segment.packs_with(info.id).map(|number| segment.pack(number));
            assert_eq!(all(found.collect()), all(same));
        }
        assert_eq!(segment.packs_with(PackId([255; 16])).count(), 0);
        let mut firsts = BTreeMap::new();
        for (id, places) in &model.records {
            let rows = segment.find(id);
            assert_eq!(segment.rows_from(rows.start), rows);
            firsts.insert(rows.start, rows.end);
            // Places of one record in one pack are in no order of their own.
            let order = |places: &mut Vec<Place>, own: usize| {
                places[..own].sort_by_key(|place| (place.pack, place.offset));
                places[own..].sort_by_key(|place| (place.pack, place.offset));
            };
            let own = places.iter().filter(|(foreign, _)| !foreign).count();
            let mut found: Vec<Place> = rows.map(|row| segment.place(row)).collect();
            let mut wanted: Vec<Place> = places.iter().map(|(_, place)| *place).collect();
            order(&mut found, own);
            order(&mut wanted, own);
            assert_eq!(found, wanted);
        }
        let mut end = 0;
        for (first, next) in firsts {
            assert_eq!(first, end, "records lie next to each other");
            end = next;
        }
        assert_eq!(end, segment.len());
        for start in 0..=255 {
            let id = RecordId::Chunk(crate::format::id::ChunkId([start; 32]));
            let known =
                model.records.keys().any(|k| k.kind() == 1 && k.bytes()[..PREFIX] == id.bytes()[..PREFIX]);
            assert_eq!(segment.find(&id).is_empty(), !known);
        }
    }

    proptest! {
        #[test]
        fn a_segment_says_what_maps_would_however_little_of_it_memory_holds(named in vec(named(), 0..30)) {
            let folder = tempfile::tempdir().unwrap();
            let scratch = Scratch::new(folder.path().to_owned(), fixed::world(1, Time(0)));
            let model = model(&named);
            holds(&built(&named, None, TINY), &model);
            holds(&built(&named, Some(scratch), TINY), &model);
            prop_assert_eq!(read_dir(folder.path()).unwrap().count(), 0, "files without names");
        }
    }

    /// More rows than go to the heap, in many runs and many steps of the fan-out table.
    #[test]
    fn every_record_of_a_mapped_segment_is_found() {
        let world = fixed::world(2, Time(0));
        let pack = |number: u8| IndexPack {
            id: PackId([number; 16]),
            kind: PackKind::Data,
            len: 1 << 20,
            hash: [0; 32],
            origin: KeyId([0; 16]),
            verified: false,
            sessions: vec![],
            records: (0..1000).map(|_| IndexRecord { id: world.bytes(), len: 100 }).collect(),
        };
        let named: Vec<Named> = (0..50).map(|number| (pack(number), None, true)).collect();
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().to_owned(), world);
        let segment = built(&named, Some(scratch), 128 * 1024);
        assert!(matches!(segment.records, Bytes::Mapped(_)) && matches!(segment.packs, Bytes::Heap(_)));
        holds(&segment, &model(&named));
    }

    #[test]
    fn a_scratch_folder_that_takes_no_file_is_an_error() {
        let named: Vec<Named> = vec![];
        let scratch = Scratch::new("/nowhere/at/all".into(), fixed::world(3, Time(0)));
        assert_eq!(built(&named, Some(scratch.clone()), TINY).len(), 0, "nothing to be written");
        let mut sorter = Sorter::<32>::new(Some(scratch), TINY);
        let pushed: io::Result<()> = (0..3).try_for_each(|_| sorter.push([0; 32]));
        assert_eq!(pushed.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
