//! The structure of every snapshot: each node read once, however many snapshots share it, and each reference looked
//! up in the index. What is remembered is one bit a record.

use std::sync::Arc;

use futures::StreamExt;

use crate::format::id::{NodeId, RecordId};
use crate::progress::Progress;
use crate::repo::check::damage::Damage;
use crate::repo::check::finding::{Finding, Told};
use crate::repo::gc::Live;
use crate::repo::{Error, Reader, Result, Snapshot};

/// Nodes that are read at the same time; those of one pack come one behind the other.
const PARALLEL_NODES: usize = 8;

/// Walks all snapshots together. Gives how many nodes there are.
pub async fn walk(
    reader: &Arc<Reader>,
    snapshots: &[Snapshot],
    damage: &mut Damage,
    tell: &(dyn Fn(Told) + Sync),
    progress: &dyn Progress,
) -> Result<u64> {
    let index = reader.index();
    let mut seen = Live::new(index);
    let mut nodes = 0;
    let roots = snapshots.iter().flat_map(|snapshot| &snapshot.commit.roots).map(|root| root.node);
    let mut next: Vec<NodeId> = roots.collect();
    while !next.is_empty() && !progress.is_cancelled() {
        let mut level = Vec::with_capacity(next.len());
        for id in std::mem::take(&mut next) {
            match index.ordinal(&RecordId::Node(id)) {
                Some(ordinal) if seen.insert(ordinal) => level.push(id),
                Some(_) => {}
                None => missing(RecordId::Node(id), damage, tell),
            }
        }
        // By place: each pack of nodes is fetched once for a level of the trees.
        level.sort_by_key(|id| {
            index.places(&RecordId::Node(*id)).next().map(|place| (place.pack, place.offset))
        });
        let reading = level.into_iter().map(|id| async move { (id, reader.node_refs(id).await) });
        let mut walked = futures::stream::iter(reading).buffered(PARALLEL_NODES);
        while let Some((id, refs)) = walked.next().await {
            nodes += 1;
            match refs {
                Ok((_, _, refs)) => {
                    let chunks = refs.chunks.into_iter().map(RecordId::Chunk);
                    for chunk in chunks.filter(|chunk| !index.contains(chunk)) {
                        missing(chunk, damage, tell);
                    }
                    next.extend(refs.nodes);
                }
                Err(error) if !is_damage(&error) => return Err(error),
                Err(source) => {
                    damage.nodes.insert(id);
                    tell(Told::Found(Finding::Node { id: RecordId::Node(id), source }));
                }
            }
        }
    }
    Ok(nodes)
}

fn missing(id: RecordId, damage: &mut Damage, tell: &(dyn Fn(Told) + Sync)) {
    if damage.missing.insert(id) {
        tell(Told::Found(Finding::Missing { id }));
    }
}

/// Whether it is the repository that is not as it was written. A disk that can't read one file has others.
pub fn is_damage(error: &Error) -> bool {
    use crate::store::Class;
    match error {
        Error::Store(error) => error.is_damage() || error.class() == Class::Other,
        error => error.class() == crate::repo::Class::Corrupt,
    }
}
