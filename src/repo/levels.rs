//! Walking trees by what their nodes refer to, level by level: each node once, however many trees share it. Takes no
//! key that opens names or data; what is remembered is one bit for each record, and of each level no more than a part.

use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::format::id::{ChunkId, NodeId, RecordId};
use crate::repo::bits::Bits;
use crate::repo::{Error, Index, Reader, Result};

/// Packs of nodes that are read at the same time; the nodes of one come one behind the other. A node that is looked at in
/// two packs takes both: few enough for [`Reader`] to keep them.
const PARALLEL_PACKS: usize = 2;
/// Nodes of a level that are taken together; what lies below them is walked before the rest of the level. A pack of nodes
/// is fetched anew for each part: enough of them that this is nothing, few enough to be held with their places.
const PART: usize = 1 << 18;

/// What is met on the way.
pub enum Met {
    /// A node that no index names.
    Missing(NodeId),
    /// The chunks that a node refers to.
    Chunks(Vec<ChunkId>),
    Unreadable(NodeId, Error),
}

/// Walks below the roots, and marks the nodes that it comes to in `seen`, by their ordinals; none is walked that is
/// marked before. `is_each_needed` as of [`Reader::all_node_refs`]. Ends with the error of `meet`, or between two parts of
/// a level when `is_ended` says so.
pub async fn walk(
    reader: &Arc<Reader>,
    roots: impl IntoIterator<Item = NodeId>,
    seen: &mut Bits,
    is_ended: impl Fn() -> bool,
    is_each_needed: bool,
    meet: impl FnMut(&mut Bits, Met) -> Result<()>,
) -> Result<()> {
    walk_in_parts(PART, reader, roots, seen, is_ended, is_each_needed, meet).await.map(drop)
}

/// Gives how many ids of nodes it held at most.
async fn walk_in_parts(
    part: usize,
    reader: &Arc<Reader>,
    roots: impl IntoIterator<Item = NodeId>,
    seen: &mut Bits,
    is_ended: impl Fn() -> bool,
    is_each_needed: bool,
    mut meet: impl FnMut(&mut Bits, Met) -> Result<()>,
) -> Result<usize> {
    let index = reader.index();
    let mut most = 0;
    // What is left of each level above the one that is read.
    let mut waiting = vec![Vec::new()];
    come_to(index, roots, (seen, &mut waiting[0]), &mut meet)?;
    while let Some(mut level) = waiting.pop().filter(|_| !is_ended()) {
        waiting.push(level.split_off(level.len().min(part)));
        // By place: each pack of nodes is fetched once for a part.
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
        let mut reading = stream::iter(reading).buffered(PARALLEL_PACKS);
        let (mut below, mut done) = (Vec::new(), 0);
        while below.len() < part
            && let Some(read) = reading.next().await
        {
            done += read.len();
            for (id, refs) in read {
                match refs {
                    Ok((_, _, refs)) => {
                        meet(seen, Met::Chunks(refs.chunks))?;
                        come_to(index, refs.nodes, (seen, &mut below), &mut meet)?;
                    }
                    Err(error) => meet(seen, Met::Unreadable(id, error))?,
                }
            }
        }
        drop(reading);
        let held = level.len() + below.len() + waiting.iter().map(Vec::len).sum::<usize>();
        most = held.max(most);
        waiting.push(level.split_off(done).into_iter().map(|(_, id)| id).collect());
        waiting.push(below);
        waiting.retain(|level| !level.is_empty());
    }
    Ok(most)
}

/// Marks nodes, and adds those that nobody has come to before.
fn come_to(
    index: &Index,
    nodes: impl IntoIterator<Item = NodeId>,
    (seen, new): (&mut Bits, &mut Vec<NodeId>),
    meet: &mut impl FnMut(&mut Bits, Met) -> Result<()>,
) -> Result<()> {
    for id in nodes {
        match index.ordinal(&RecordId::Node(id)) {
            Some(ordinal) if seen.insert(ordinal) => new.push(id),
            Some(_) => {}
            None => meet(seen, Met::Missing(id))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Extent;
    use crate::format::id::SourceId;
    use crate::format::node::{ExtentChild, Node};
    use crate::repo::testing::repository;
    use crate::repo::{Begun, Repository, Writer, WriterSettings, begin};

    /// Nodes below a node, and levels below the root.
    const WIDE: u64 = 20;
    const LEVELS: u8 = 3;

    /// A tree below a node, whose nodes are others than those of any other number.
    fn grow(level: u8, number: &mut u64, save: &dyn Fn(Node) -> NodeId) -> NodeId {
        *number += 1;
        let len = *number;
        if level == 0 {
            return save(Node::ExtentLeaf(vec![Extent::Hole { len }]));
        }
        let children = (0..WIDE).map(|_| ExtentChild { len, node: grow(level - 1, number, save) });
        save(Node::ExtentInner { level, children: children.collect() })
    }

    /// Two roots of one tree, each with a leaf of its own.
    async fn two_roots(repo: &Repository) -> [NodeId; 2] {
        let Begun { mut lanes, .. } = begin(repo, 1).await.unwrap();
        let settings = WriterSettings { node_pack_bytes: 2048, ..Default::default() };
        let writer = Writer::new(repo, Arc::default(), lanes.pop().unwrap(), settings);
        let meta = repo.keys.own_meta_key(SourceId([1; 16])).unwrap();
        let saving = tokio::task::spawn_blocking(move || {
            let save = |node| writer.save_node(&node, &meta).unwrap().id;
            let mut number = 0;
            let shared = grow(LEVELS, &mut number, &save);
            let roots = [(); 2].map(|()| {
                let children = [shared, grow(0, &mut number, &save)].map(|node| ExtentChild { len: 1, node });
                save(Node::ExtentInner { level: LEVELS + 1, children: children.into() })
            });
            (roots, writer)
        });
        let (roots, writer) = saving.await.unwrap();
        writer.finish().await.unwrap();
        roots
    }

    /// How often nodes were read, how many there are, and how many ids were held at most.
    async fn walked(repo: &Repository, roots: [NodeId; 2], part: usize) -> (usize, usize, usize) {
        let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await.unwrap())));
        let mut seen = Bits::new(reader.index().len());
        let mut reads = 0;
        let meet = |_: &mut Bits, met| {
            assert!(matches!(met, Met::Chunks(_)));
            reads += 1;
            Ok(())
        };
        let held = walk_in_parts(part, &reader, roots, &mut seen, || false, true, meet).await.unwrap();
        let nodes = (0..reader.index().len()).filter(|ordinal| seen.contains(*ordinal)).count();
        (reads, nodes, held)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wide_tree_is_walked_in_parts_and_what_trees_share_is_read_once() {
        let repo = repository().await;
        let roots = two_roots(&repo).await;
        let all = (0..=u32::from(LEVELS)).map(|level| WIDE.pow(level)).sum::<u64>() as usize + 4;
        let (reads, nodes, held) = walked(&repo, roots, usize::MAX).await;
        assert_eq!((reads, nodes), (all, all));
        assert!(held > 8000, "all {held} of the lowest level");
        let (reads, nodes, held) = walked(&repo, roots, 50).await;
        assert_eq!((reads, nodes), (all, all));
        assert!(held < 500, "{held} are more than a few parts");
    }
}
