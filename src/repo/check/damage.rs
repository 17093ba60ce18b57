//! Which records are lost: what was found, by pack and by record, against all places that the index has.

use std::collections::{BTreeSet, HashSet};

use crate::format::id::{NodeId, PackId, RecordId};
use crate::format::object;
use crate::repo::Index;
use crate::repo::check::packs::Read;

/// What can't be read, as far as it was found.
#[derive(Default)]
pub struct Damage {
    /// Packs that are not what the index says, in whatever way.
    pub found: BTreeSet<PackId>,
    /// Packs that the log says are damaged: known, and told no more.
    pub known: BTreeSet<PackId>,
    /// Those of them that are whole when they are read: they were put back.
    pub put_back: HashSet<PackId>,
    /// Packs of which nothing can be read.
    pub packs: HashSet<PackId>,
    /// Records that can't be read where they lie.
    pub records: HashSet<(PackId, RecordId)>,
    /// Nodes that could be read nowhere.
    pub nodes: HashSet<NodeId>,
    /// Chunks that trees refer to and no index names.
    pub missing: HashSet<RecordId>,
}

impl Damage {
    pub fn is_none(&self) -> bool {
        self.packs.is_empty() && self.records.is_empty() && self.nodes.is_empty() && self.missing.is_empty()
    }

    pub fn merge(&mut self, other: Damage) {
        self.found.extend(other.found);
        self.packs.extend(other.packs);
        self.records.extend(other.records);
        self.nodes.extend(other.nodes);
        self.missing.extend(other.missing);
    }

    /// Nothing of a pack can be read, and nobody has said so yet.
    pub fn whole(&mut self, pack: PackId) {
        self.found.insert(pack);
        self.packs.insert(pack);
    }

    /// Takes in what a pack is like that is known to be damaged.
    pub fn read_again(&mut self, pack: PackId, read: Read) {
        if read.damage.packs.is_empty() {
            self.packs.remove(&pack);
        }
        if read.findings.is_empty() && !read.is_doubtful {
            self.put_back.insert(pack);
        }
        self.records.extend(read.damage.records);
    }

    /// Whether there is no place where the record can be read.
    pub fn is_lost(&self, index: &Index, id: &RecordId) -> bool {
        if let RecordId::Node(node) = id
            && self.nodes.contains(node)
        {
            return true;
        }
        index
            .places(id)
            .all(|place| self.packs.contains(&place.pack) || self.records.contains(&(place.pack, *id)))
    }

    /// Takes the packs that are said to have a lost record that something needs for damaged, so that a repair looks into
    /// them, and nobody refers to it there any more.
    pub fn blame(&mut self, index: &Index, id: &RecordId) {
        let said_to = index.places(id).map(|place| place.pack);
        let said_to: Vec<PackId> = said_to.filter(|pack| self.records.contains(&(*pack, *id))).collect();
        self.found.extend(said_to);
    }

    /// Where a lost record lay.
    pub fn cause(index: &Index, id: &RecordId) -> String {
        match index.places(id).next() {
            Some(place) => object::pack_key(place.pack),
            None => id.to_string(),
        }
    }
}
