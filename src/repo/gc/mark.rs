//! Marking: which records are reachable from the roots that count.
//!
//! A node that can't be read, or a record that no index names, ends it: nothing is deleted on a guess.

use std::sync::Arc;

use crate::format::id::{ChunkId, NodeId, RecordId};
use crate::repo::bits::Bits;
use crate::repo::levels::{Met, walk};
use crate::repo::{Error, Reader, Result};

/// The ordinals of what is reachable from the roots. Needs no key that opens names or data.
pub async fn mark(reader: &Arc<Reader>, roots: impl IntoIterator<Item = NodeId>) -> Result<Bits> {
    let index = reader.index();
    let ordinal = |chunk: ChunkId| {
        let id = RecordId::Chunk(chunk);
        index.ordinal(&id).ok_or(Error::Unknown { id })
    };
    let mut live = Bits::new(index.len());
    let meet = |live: &mut Bits, met| match met {
        Met::Missing(id) => Err(Error::Unknown { id: RecordId::Node(id) }),
        Met::Chunks(chunks) => chunks.into_iter().try_for_each(|chunk| {
            live.insert(ordinal(chunk)?);
            Ok(())
        }),
        Met::Unreadable(_, error) => Err(error),
    };
    walk(reader, roots, &mut live, || false, true, meet).await?;
    Ok(live)
}
