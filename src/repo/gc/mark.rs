//! Marking: which records are reachable from the roots that count.
//!
//! Every node is visited once, however many snapshots share it; what is remembered is one bit for each record.
//! A node that can't be read, or a record that no index names, ends it: nothing is deleted on a guess.

use std::sync::Arc;

use futures::StreamExt;

use crate::format::id::{NodeId, RecordId};
use crate::repo::{Error, Index, Reader, Result};

/// Nodes that are read at the same time; those of one pack come one behind the other.
const PARALLEL_NODES: usize = 8;

/// A bit for each record of an index.
pub struct Live {
    bits: Vec<u64>,
}

impl Live {
    pub fn new(index: &Index) -> Self {
        Self { bits: vec![0; index.len().div_ceil(64)] }
    }

    #[cfg(test)]
    pub(super) fn all(index: &Index) -> Self {
        Self { bits: vec![u64::MAX; index.len().div_ceil(64)] }
    }

    pub fn contains(&self, ordinal: u32) -> bool {
        self.bits[ordinal as usize / 64] & (1 << (ordinal % 64)) != 0
    }

    /// Whether it was not marked before.
    pub fn insert(&mut self, ordinal: u32) -> bool {
        let is_new = !self.contains(ordinal);
        self.bits[ordinal as usize / 64] |= 1 << (ordinal % 64);
        is_new
    }
}

/// Marks what is reachable from the roots. Needs no key that opens names or data.
pub async fn mark(reader: &Arc<Reader>, roots: impl IntoIterator<Item = NodeId>) -> Result<Live> {
    let index = reader.index().clone();
    let mut live = Live::new(&index);
    let ordinal = |id: RecordId| index.ordinal(&id).ok_or(Error::Unknown { id });
    let mut next: Vec<NodeId> = roots.into_iter().collect();
    while !next.is_empty() {
        let mut level = Vec::with_capacity(next.len());
        for id in std::mem::take(&mut next) {
            if live.insert(ordinal(RecordId::Node(id))?) {
                level.push(id);
            }
        }
        // By place: each pack of nodes is fetched once for a level of the trees.
        level.sort_by_key(|id| {
            index.places(&RecordId::Node(*id)).next().map(|place| (place.pack, place.offset))
        });
        let mut walked = futures::stream::iter(level).map(|id| reader.node_refs(id)).buffered(PARALLEL_NODES);
        while let Some(refs) = walked.next().await {
            let (_, _, refs) = refs?;
            for chunk in refs.chunks {
                live.insert(ordinal(RecordId::Chunk(chunk))?);
            }
            next.extend(refs.nodes);
        }
    }
    Ok(live)
}
