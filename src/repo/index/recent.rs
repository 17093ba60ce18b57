//! Records that lie near those that were looked up, in the heap: what was backed up together is looked up together.
//!
//! Rows are sorted by ids, so that each lookup is another page. Records of one pack, and of the packs that came with it,
//! are met again in about that order by the next backup. So when two are found that came close to each other, all beside
//! them are kept here, and are found without any page.

use std::sync::{Mutex, PoisonError};

use crate::format::id::RecordId;
use crate::repo::index::segment::PREFIX;

/// A record that lies near another.
#[derive(Clone)]
pub struct Near {
    pub id: [u8; PREFIX],
    pub is_node: bool,
    /// The number of its pack.
    pub pack: usize,
}

/// Places for records, each for the ids that begin with one number: a MiB of them.
const RECORDS: usize = 1 << 15;
/// What stands at a place that holds none.
const NONE: Near = Near { id: [0; PREFIX], is_node: false, pack: usize::MAX };
/// Places for numbers of blocks, so many that it takes no harm if files of many backups are looked up by turns.
const BLOCKS: usize = 1 << 10;

#[derive(Default)]
pub struct Recent(Mutex<Held>);

#[derive(Default)]
struct Held {
    records: Vec<Near>,
    blocks: Vec<usize>,
}

fn place(id: &[u8]) -> usize {
    usize::from(u16::from_be_bytes(*id.first_chunk().expect("more than two bytes"))) % RECORDS
}

impl Recent {
    /// The number of a pack that holds the record, if it is here.
    pub fn pack_of(&self, id: &RecordId) -> Option<usize> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let near = held.records.get(place(id.bytes()))?;
        let is_same = near.id == id.bytes()[..PREFIX] && near.is_node == matches!(id, RecordId::Node(_));
        (is_same && near.pack != NONE.pack).then_some(near.pack)
    }

    /// Whether another record of this block of records was found lately. Where no two are, what lies beside one is not
    /// worth reading.
    pub fn meets(&self, block: usize) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.blocks.resize(BLOCKS, usize::MAX);
        std::mem::replace(&mut held.blocks[block % BLOCKS], block) == block
    }

    pub fn keep(&self, records: impl Iterator<Item = Near>) {
        // Read before the lock is taken: each may be a page that has to come from the disk.
        let records: Vec<Near> = records.collect();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.records.resize(RECORDS, NONE);
        for near in records {
            let place = place(&near.id);
            held.records[place] = near;
        }
    }
}
