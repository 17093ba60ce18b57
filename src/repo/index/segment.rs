//! The records and packs of an index as rows of bytes, in the heap or in mapped files.
//!
//! Built from packs as they come, in bounded memory. Records lie twice: as they came, which keeps together what was
//! backed up together, with the id and the offset of each; and a row for each in the order of their ids, which says the
//! place among the former, the pack and the length. A [`Filter`] says which of the latter rows may be of an id.
//!
//! Of an id 20 bytes are kept: 160 bits of a keyed hash. Two of them meet by no accident, and who makes two meet has
//! the id key and may as well name the other's whole id. A reader compares the whole id with what it has read in any
//! case.

use std::io;
use std::ops::Range;

use memmap2::Advice;

use crate::format::id::{PackId, RecordId, SessionId};
use crate::format::index::IndexPack;
use crate::repo::index::bytes::{Bytes, Out, Scratch, array, u32_at};
use crate::repo::index::filter::{self, Filter};
use crate::repo::index::packs::{self, AGAIN, NODE, NUMBER, Packs, SPARE, marks};
use crate::repo::index::recent::Near;
use crate::repo::index::sorter::{HELD_BYTES, Sorter};
use crate::repo::index::{PackInfo, Place};

/// Bytes of an id that are kept.
pub const PREFIX: usize = 20;

/// A record as it came: its id ‖ u32 offset.
const CAME: usize = PREFIX + 4;
/// While rows are sorted: id ‖ u32 marks, arrival of the pack ‖ u32 place among those that came ‖ u32 length.
const SORTING: usize = PREFIX + 4 + 4 + 4;
/// Then, without the id: u32 place among those that came ‖ u32 marks, number of the pack ‖ u32 length.
const ROW: usize = 4 + 4 + 4;
type Row = [u8; ROW];
/// A mark of a row: the one before it is of the same record.
const ALSO: u32 = SPARE;
/// A pack as it came: u32 place of its first record ‖ u32 marks, number.
const PACK_CAME: usize = 4 + 4;
/// Records of a block: 6 KiB of them, two pages or three.
const NEAR: usize = 256;

/// A segment on its way.
pub struct Building {
    scratch: Option<Scratch>,
    packs: packs::Building,
    /// The place of the first record of each pack that came.
    firsts: Vec<u32>,
    came: Out,
    sorting: Sorter<SORTING>,
    rows: usize,
}

impl Building {
    pub fn new(scratch: Option<Scratch>) -> Self {
        Self::holding(scratch, HELD_BYTES)
    }

    fn holding(scratch: Option<Scratch>, held_bytes: usize) -> Self {
        Self {
            packs: packs::Building::new(scratch.clone(), held_bytes),
            firsts: Vec::new(),
            came: Out::new(scratch.clone()),
            sorting: Sorter::new(scratch.clone(), held_bytes),
            rows: 0,
            scratch,
        }
    }

    pub fn add(&mut self, pack: &IndexPack, named_by: Option<SessionId>, own: bool) -> io::Result<()> {
        assert!(self.rows + pack.records.len() < u32::MAX as usize, "an index beyond 4 billion records");
        self.firsts.push(self.rows as u32);
        let marked = marks(pack.kind, own) | self.packs.add(pack, named_by, own)?;
        for (id, offset, len) in pack.places() {
            let id = &id.bytes()[..PREFIX];
            self.came.write(id)?;
            self.came.write(&offset.to_be_bytes())?;
            let mut row = [0; SORTING];
            row[..PREFIX].copy_from_slice(id);
            let numbers = [marked, self.rows as u32, len];
            row[PREFIX..].copy_from_slice(numbers.map(u32::to_be_bytes).as_flattened());
            self.sorting.push(row)?;
            self.rows += 1;
        }
        Ok(())
    }

    pub fn finish(self) -> io::Result<Segment> {
        let out = || Out::new(self.scratch.clone());
        let came = self.came.finish(Advice::Random)?;
        let (packs, numbers) = self.packs.finish()?;
        let mut packs_came = out();
        for numbers in self.firsts.into_iter().zip(&numbers) {
            packs_came
                .write(<[u32; 2]>::from((numbers.0, *numbers.1)).map(u32::to_be_bytes).as_flattened())?;
        }
        let mut filter = filter::Building::new(self.rows, out(), out());
        let mut rows = out();
        let mut sorting = self.sorting.finish()?;
        let mut last = None;
        while let Some(row) = sorting.next()? {
            let marked = numbers[(u32_at(&row, PREFIX) & NUMBER) as usize];
            if marked == AGAIN {
                continue;
            }
            let record = (array::<PREFIX>(&row, 0), marked & NODE);
            let also = if last == Some(record) { ALSO } else { 0 };
            last = Some(record);
            filter.push(&row[..PREFIX])?;
            let numbers = [u32_at(&row, PREFIX + 4), marked | also, u32_at(&row, PREFIX + 8)];
            rows.write(numbers.map(u32::to_be_bytes).as_flattened())?;
        }
        // Lookups are anywhere: what lies around a page would drive out pages that are wanted.
        let rows = rows.finish(Advice::Random)?;
        Ok(Segment {
            filter: filter.finish()?,
            rows,
            came,
            packs,
            packs_came: packs_came.finish(Advice::Random)?,
        })
    }
}

/// Rows of records and of packs.
#[derive(Default)]
pub struct Segment {
    filter: Filter,
    /// In the order of ids; of one record one's own places come first.
    rows: Bytes,
    came: Bytes,
    packs: Packs,
    packs_came: Bytes,
}

impl Segment {
    fn rows(&self) -> &[Row] {
        self.rows.as_chunks().0
    }

    fn came(&self) -> &[[u8; CAME]] {
        self.came.as_chunks().0
    }

    /// Places of records: rows.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// What a row says: its place among the records that came, marks and pack, length.
    fn numbers(&self, row: usize) -> (usize, u32, u32) {
        let row = &self.rows()[row];
        (u32_at(row, 0) as usize, u32_at(row, 4), u32_at(row, 8))
    }

    /// The numbers of a record's rows, the best place first.
    pub fn find(&self, id: &RecordId) -> Range<usize> {
        let mut may_be = self.filter.rows(id.bytes());
        let wanted = (&id.bytes()[..PREFIX], matches!(id, RecordId::Node(_)));
        let key = |row: usize| {
            let (at, marked, _) = self.numbers(row);
            (&self.came()[at][..PREFIX], marked & NODE != 0)
        };
        // By halves, as long as there is more than one.
        while may_be.len() > 1 {
            let middle = may_be.start + may_be.len() / 2;
            may_be = if key(middle - 1) < wanted { middle..may_be.end } else { may_be.start..middle };
        }
        match may_be.next() {
            Some(row) if key(row) == wanted => self.rows_from(row),
            _ => 0..0,
        }
    }

    /// The number of a row's pack.
    pub fn pack_of(&self, row: usize) -> usize {
        (self.numbers(row).1 & NUMBER) as usize
    }

    pub fn len_of(&self, row: usize) -> u32 {
        self.numbers(row).2
    }

    pub fn place(&self, row: usize) -> Place {
        let (at, marked, len) = self.numbers(row);
        let pack = self.packs.id((marked & NUMBER) as usize);
        Place { pack, offset: u32_at(&self.came()[at], PREFIX), len }
    }

    /// The rows of the record of which this is the first.
    pub fn rows_from(&self, first: usize) -> Range<usize> {
        let also = |row: &usize| self.numbers(*row).1 & ALSO != 0;
        first..first + 1 + (first + 1..self.len()).take_while(also).count()
    }

    /// The block of records, as they came, in which a row's is.
    pub fn block_of(&self, row: usize) -> usize {
        self.numbers(row).0 / NEAR
    }

    /// All records of a block.
    pub fn near(&self, block: usize) -> impl Iterator<Item = Near> {
        let packs: &[[u8; PACK_CAME]] = self.packs_came.as_chunks().0;
        let start = block * NEAR;
        let end = self.came().len().min(start + NEAR);
        let mut next = packs.partition_point(|pack| u32_at(pack, 0) as usize <= start);
        (start..end).filter_map(move |at| {
            while packs.get(next).is_some_and(|pack| u32_at(pack, 0) as usize <= at) {
                next += 1;
            }
            let marked = u32_at(&packs[next - 1], 4);
            let near = Near {
                id: array(&self.came()[at], 0),
                is_node: marked & NODE != 0,
                pack: (marked & NUMBER) as usize,
            };
            (marked != AGAIN).then_some(near)
        })
    }

    pub fn pack(&self, number: usize) -> PackInfo {
        self.packs.get(number)
    }

    pub fn pack_id(&self, number: usize) -> PackId {
        self.packs.id(number)
    }

    /// The numbers of the packs with this id: more than one only if it is named in more than one way.
    pub fn packs_with(&self, id: PackId) -> Range<usize> {
        self.packs.with(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fs::read_dir;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::format::id::KeyId;
    use crate::format::index::IndexRecord;
    use crate::format::pack::PackKind;
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
            if let Some(first) = model.packs.iter_mut().find(|info| info.naming == pack.naming()) {
                first.session = first.session.filter(|_| by.is_some());
                continue;
            }
            model.packs.push(PackInfo {
                id: pack.id,
                naming: pack.naming(),
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
        fn a_segment_says_what_maps_would_however_little_of_it_memory_holds(
            mut named in vec(named(), 0..30), again in vec((any::<Index>(), 0u8..3), 0..10),
        ) {
            for (which, by) in again.iter().filter(|_| !named.is_empty()).collect::<Vec<_>>() {
                let (pack, _, own) = which.get(&named).clone();
                named.push((pack, (*by > 0).then_some(SessionId([*by; 16])), own));
            }
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
        let named: Vec<Named> = (0..100).map(|number| (pack(number), None, true)).collect();
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().to_owned(), world);
        let segment = built(&named, Some(scratch), 128 * 1024);
        assert!(matches!(segment.rows, Bytes::Mapped(_)) && !segment.packs.are_mapped());
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
