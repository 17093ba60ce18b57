//! Walking trees by what their nodes refer to, level by level: each node once, however many trees share it. Takes no
//! key that opens names or data; what is remembered is one bit for each record.

use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::format::id::{ChunkId, NodeId, RecordId};
use crate::repo::bits::Bits;
use crate::repo::{Error, Reader, Result};

/// Packs of nodes that are read at the same time; the nodes of one come one behind the other. A node that is looked at in
/// two packs takes both: few enough for [`Reader`] to keep them.
const PARALLEL_PACKS: usize = 2;

/// What is met on the way.
pub enum Met {
    /// A node that no index names.
    Missing(NodeId),
    /// The chunks that a node refers to.
    Chunks(Vec<ChunkId>),
    Unreadable(NodeId, Error),
}

/// Walks below the roots, and marks the nodes that it comes to in `seen`, by their ordinals; none is walked that is
/// marked before. `is_each_needed` as of [`Reader::all_node_refs`]. Ends with the error of `meet`, or between two levels when `is_ended` says so.
pub async fn walk(
    reader: &Arc<Reader>,
    roots: impl IntoIterator<Item = NodeId>,
    seen: &mut Bits,
    is_ended: impl Fn() -> bool,
    is_each_needed: bool,
    mut meet: impl FnMut(&mut Bits, Met) -> Result<()>,
) -> Result<()> {
    let index = reader.index();
    let mut next: Vec<NodeId> = roots.into_iter().collect();
    while !next.is_empty() && !is_ended() {
        let mut level = Vec::with_capacity(next.len());
        for id in std::mem::take(&mut next) {
            match index.ordinal(&RecordId::Node(id)) {
                Some(ordinal) if seen.insert(ordinal) => level.push(id),
                Some(_) => {}
                None => meet(seen, Met::Missing(id))?,
            }
        }
        // By place: each pack of nodes is fetched once for a level of the trees.
        let place = |id: &NodeId| index.places(&RecordId::Node(*id)).next();
        let mut level: Vec<_> = level.into_iter().map(|id| (place(&id), id)).collect();
        level.sort_by_key(|(place, _)| place.map(|place| (place.pack, place.offset)));
        let packs = level.chunk_by(|(one, _), (other, _)| one.map(|at| at.pack) == other.map(|at| at.pack));
        let reading = packs.map(|nodes| async move {
            let mut read = Vec::with_capacity(nodes.len());
            for (_, id) in nodes {
                let refs = match is_each_needed {
                    true => reader.all_node_refs(*id).await,
                    false => reader.node_refs(*id).await,
                };
                read.push((*id, refs));
            }
            read
        });
        let walked = stream::iter(reading).buffered(PARALLEL_PACKS).flat_map(stream::iter);
        let mut walked = std::pin::pin!(walked);
        while let Some((id, refs)) = walked.next().await {
            match refs {
                Ok((_, _, refs)) => {
                    meet(seen, Met::Chunks(refs.chunks))?;
                    next.extend(refs.nodes);
                }
                Err(error) => meet(seen, Met::Unreadable(id, error))?,
            }
        }
    }
    Ok(())
}
