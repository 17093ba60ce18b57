//! Reading many chunks: those that lie near each other in a pack come by one request.
//!
//! For who knows beforehand what it will need. What can't be had that way is asked for by itself, so that
//! every copy of a chunk is tried. Each chunk is compared with its id and length, as [`Reader::chunk`] does.

use std::ops::Range;
use std::sync::Arc;

use futures::future::join_all;
use futures::{Stream, StreamExt, stream};

use crate::format::id::{PackId, RecordId};
use crate::format::object;
use crate::format::refs::ChunkRef;
use crate::repo::{Error, Index, Place, Reader, Result};

/// Bytes between two records that are read along, because a request costs more.
const GAP_BYTES: u32 = 256 * 1024;
/// A request asks for no more than this, if more than one record is in it.
const REQUEST_BYTES: u32 = 8 * 1024 * 1024;
/// Requests under way.
const PARALLEL_REQUESTS: usize = 4;

/// Records of one pack that are read together, in the order in which they lie there.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    pack: PackId,
    records: Vec<(ChunkRef, Place)>,
}

impl Run {
    fn range(&self) -> Range<u32> {
        let start = self.records.first().map_or(0, |(_, place)| place.offset);
        let end = self.records.iter().map(|(_, place)| place.offset.saturating_add(place.len)).max();
        start..end.unwrap_or(start)
    }

    fn takes(&self, place: &Place) -> bool {
        let Range { start, end } = self.range();
        self.pack == place.pack
            && place.offset <= end.saturating_add(GAP_BYTES)
            && place.offset.saturating_add(place.len) <= start.saturating_add(REQUEST_BYTES)
    }
}

/// Which records are read together, by the best place of each; and what is in no pack.
fn plan(index: &Index, wanted: Vec<ChunkRef>) -> (Vec<Run>, Vec<ChunkRef>) {
    let mut placed = Vec::with_capacity(wanted.len());
    let mut unknown = Vec::new();
    for chunk in wanted {
        match index.places(&RecordId::Chunk(chunk.id)).next() {
            Some(place) => placed.push((chunk, place)),
            None => unknown.push(chunk),
        }
    }
    placed.sort_by_key(|(_, place)| (place.pack, place.offset));
    let mut runs: Vec<Run> = Vec::new();
    for (chunk, place) in placed {
        match runs.last_mut() {
            Some(run) if run.takes(&place) => run.records.push((chunk, place)),
            _ => runs.push(Run { pack: place.pack, records: vec![(chunk, place)] }),
        }
    }
    (runs, unknown)
}

impl Reader {
    /// Reads chunks, each asked for once, in the order in which they come.
    pub fn chunks(
        self: &Arc<Self>,
        wanted: Vec<ChunkRef>,
    ) -> impl Stream<Item = (ChunkRef, Result<Vec<u8>>)> + Send + use<> {
        let (runs, unknown) = plan(self.index(), wanted);
        let missing = |chunk: ChunkRef| (chunk, Err(Error::Unknown { id: RecordId::Chunk(chunk.id) }));
        let unknown = unknown.into_iter().map(missing);
        let reader = self.clone();
        let reading = stream::iter(runs).map(move |run| reader.clone().read(run));
        reading.buffer_unordered(PARALLEL_REQUESTS).flat_map(stream::iter).chain(stream::iter(unknown))
    }

    async fn read(self: Arc<Self>, run: Run) -> Vec<(ChunkRef, Result<Vec<u8>>)> {
        let Range { start, end } = run.range();
        let range = u64::from(start)..u64::from(end);
        let bytes = self.repo().store.get_range(&object::pack_key(run.pack), range).await;
        let opening = run.records.into_iter().map(|(chunk, place)| {
            let from = (place.offset - start) as usize;
            let whole = bytes.as_ref().ok().filter(|bytes| bytes.len() >= from + place.len as usize);
            let record = whole.map(|bytes| bytes.slice(from..from + place.len as usize));
            let reader = self.clone();
            async move {
                let opened = match record {
                    Some(record) => reader.clone().open_on_cpu(chunk, place, record).await.ok(),
                    None => None,
                };
                match opened {
                    Some(plain) => (chunk, Ok(plain)),
                    None => (chunk, reader.chunk(chunk).await),
                }
            }
        });
        join_all(opening).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{ChunkId, KeyId};
    use crate::format::index::{IndexPack, IndexRecord};
    use crate::format::pack::PackKind;

    #[test]
    fn records_that_lie_near_each_other_are_read_together() {
        let id = |n: u8| ChunkId([n; 32]);
        let record = |n: u8, len: u32| IndexRecord { id: [n; 32], len };
        let pack = |n: u8, records: Vec<IndexRecord>| IndexPack {
            id: PackId([n; 16]),
            kind: PackKind::Data,
            len: 64 * 1024 * 1024,
            hash: [0; 32],
            origin: KeyId([0; 16]),
            verified: false,
            sessions: Vec::new(),
            records,
        };
        let mut index = Index::default();
        let far = 1000 + GAP_BYTES;
        // Records 20 and 21 lie between those that are wanted.
        let first = [(1, 100), (2, 100), (20, 800), (3, 1), (21, GAP_BYTES + 1), (4, 5)];
        let first = first.map(|(n, len)| record(n, len)).to_vec();
        index.add(&pack(1, first), None, true);
        let second = vec![record(7, 200), record(5, 10), record(6, REQUEST_BYTES)];
        index.add(&pack(2, second), None, true);
        let wanted = |n| ChunkRef { id: id(n), len: 1 };
        let (runs, unknown) = plan(&index, [7, 9, 4, 3, 1, 6, 5].map(wanted).to_vec());
        let shapes: Vec<_> = runs
            .iter()
            .map(|run| {
                (
                    run.pack.0[0],
                    run.records.iter().map(|(chunk, _)| chunk.id.0[0]).collect::<Vec<_>>(),
                    run.range(),
                )
            })
            .collect();
        let expected = [
            (1, vec![1, 3], 0..1001),
            (1, vec![4], far + 2..far + 7),
            (2, vec![7, 5], 0..210),
            (2, vec![6], 210..210 + REQUEST_BYTES),
        ];
        assert_eq!(shapes, expected);
        assert_eq!(unknown, [wanted(9)]);
    }
}
