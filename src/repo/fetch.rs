//! Reading many chunks: those that lie near each other in a pack come by one request, and many requests are under way.
//!
//! For who knows beforehand what it will need. What can't be had that way is asked for by itself, so that
//! every copy of a chunk is tried. Each chunk is compared with its id and length, as [`Reader::chunk`] does.

use std::ops::Range;
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::format::id::{PackId, RecordId};
use crate::format::object;
use crate::format::refs::ChunkRef;
use crate::repo::{Error, Index, Place, Reader, Result, on_cpu};

/// Bytes between two records that are read along, because a request costs more.
const GAP_BYTES: u32 = 256 * 1024;
/// A request asks for no more than this, if more than one record is in it.
const REQUEST_BYTES: u32 = 4 * 1024 * 1024;
/// Requests under way, and the bytes that they bring: a store far away is waited for once and not for each.
const PARALLEL_REQUESTS: usize = 32;
const PARALLEL_BYTES: u32 = 32 * 1024 * 1024;

/// Records of one pack that are read together, in the order in which they lie there; each with what it is wanted for.
#[derive(Debug, PartialEq, Eq)]
struct Run<W> {
    pack: PackId,
    records: Vec<(ChunkRef, Place, W)>,
}

impl<W> Run<W> {
    fn range(&self) -> Range<u32> {
        let start = self.records.first().map_or(0, |(_, place, _)| place.offset);
        let end = self.records.iter().map(|(_, place, _)| place.offset.saturating_add(place.len)).max();
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
fn plan<W>(index: &Index, wanted: Vec<(ChunkRef, W)>) -> (Vec<Run<W>>, Vec<(ChunkRef, W)>) {
    let mut placed = Vec::with_capacity(wanted.len());
    let mut unknown = Vec::new();
    for (chunk, what) in wanted {
        match index.places(&RecordId::Chunk(chunk.id)).next() {
            Some(place) => placed.push((chunk, place, what)),
            None => unknown.push((chunk, what)),
        }
    }
    placed.sort_by_key(|(_, place, _)| (place.pack, place.offset));
    let mut runs: Vec<Run<W>> = Vec::new();
    for record in placed {
        match runs.last_mut() {
            Some(run) if run.takes(&record.1) => run.records.push(record),
            _ => runs.push(Run { pack: record.1.pack, records: vec![record] }),
        }
    }
    (runs, unknown)
}

type Take<W, T> = Arc<dyn Fn(ChunkRef, W, Result<Vec<u8>>) -> T + Send + Sync>;

/// Chunks on their way. Holds as many bytes of packs as are under way, and a chunk for each that is being taken.
pub struct Fetch<W, T> {
    reader: Arc<Reader>,
    take: Take<W, T>,
    under_way: JoinSet<Vec<T>>,
    room: Arc<Semaphore>,
    /// Ends when nothing holds `take` any more.
    let_go: oneshot::Receiver<()>,
}

impl<W: Send + 'static, T: Send + 'static> Fetch<W, T> {
    /// `take` is handed each chunk with what it is wanted for, in any order, by the CPU threads; if the store can't be
    /// reached, or refuses, only one of those that lie together.
    pub fn new(
        reader: Arc<Reader>,
        take: impl Fn(ChunkRef, W, Result<Vec<u8>>) -> T + Send + Sync + 'static,
    ) -> Self {
        let (held, let_go) = oneshot::channel();
        let take = move |chunk, what, read| {
            let _held: &oneshot::Sender<()> = &held;
            take(chunk, what, read)
        };
        let room = Arc::new(Semaphore::new(PARALLEL_BYTES as usize));
        Self { reader, take: Arc::new(take), under_way: JoinSet::new(), room, let_go }
    }

    /// Asks for chunks, each named once. Returns when the last of them has been asked for, with what has come of any
    /// meanwhile; or earlier, if something has come after which the rest is of no use.
    pub async fn ask(&mut self, wanted: Vec<(ChunkRef, W)>, is_end: impl Fn(&T) -> bool) -> Vec<T> {
        let (runs, unknown) = plan(self.reader.index(), wanted);
        let mut taken = Vec::new();
        for run in runs {
            let Range { start, end } = run.range();
            let bytes = (end - start).min(PARALLEL_BYTES);
            let Some(room) = self.room(bytes, &mut taken, &is_end).await else { return taken };
            let (reader, take) = (self.reader.clone(), self.take.clone());
            self.under_way.spawn(async move {
                let taken = reader.read(run, &take).await;
                drop(room);
                taken
            });
        }
        for (chunk, what) in unknown {
            // It may have been moved since the index was loaded.
            let Some(room) = self.room(chunk.len, &mut taken, &is_end).await else { return taken };
            let (reader, take) = (self.reader.clone(), self.take.clone());
            self.under_way.spawn(async move {
                let read = reader.chunk(chunk).await;
                let taken = vec![taking(move || take(chunk, what, read)).await];
                drop(room);
                taken
            });
        }
        taken
    }

    /// Waits until one more request may be under way. None if something has come after which it is of no use.
    async fn room(
        &mut self,
        bytes: u32,
        taken: &mut Vec<T>,
        is_end: &impl Fn(&T) -> bool,
    ) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes.min(PARALLEL_BYTES);
        loop {
            if self.under_way.len() < PARALLEL_REQUESTS
                && let Ok(room) = self.room.clone().try_acquire_many_owned(bytes)
            {
                return Some(room);
            }
            // There is one: without any there is room.
            let more = self.next().await.unwrap_or_default();
            let ends = more.iter().any(is_end);
            taken.extend(more);
            if ends {
                return None;
            }
        }
    }

    /// What comes of one of the requests that are under way; none if there are none.
    pub async fn next(&mut self) -> Option<Vec<T>> {
        let ended = self.under_way.join_next().await?;
        Some(ended.expect("what takes a chunk does not panic"))
    }

    /// Waits for all that was asked for.
    pub async fn rest(&mut self) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(more) = self.next().await {
            taken.extend(more);
        }
        taken
    }

    /// Gives up what is under way. Returns when nothing is being taken any more.
    pub async fn abandon(mut self) {
        self.under_way.shutdown().await;
        drop(self.take);
        // What it is told is that the other end is gone.
        let _ = self.let_go.await;
    }
}

/// Has a chunk taken on a CPU thread.
async fn taking<T: Send + 'static>(take: impl FnOnce() -> T + Send + 'static) -> T {
    on_cpu(take).await.expect("what takes a chunk does not panic")
}

impl Reader {
    async fn read<W: Send + 'static, T: Send + 'static>(
        self: Arc<Self>,
        mut run: Run<W>,
        take: &Take<W, T>,
    ) -> Vec<T> {
        let Range { start, end } = run.range();
        let range = u64::from(start)..u64::from(end);
        let read = self.repo().store.get_range(&object::pack_key(run.pack), range).await.map_err(Error::from);
        let mut taken = Vec::with_capacity(run.records.len());
        let mut rest = Vec::new();
        match read {
            Ok(bytes) => {
                let opening = run.records.into_iter().map(|(chunk, place, what)| {
                    let from = (place.offset - start) as usize;
                    let to = from + place.len as usize;
                    let record = (to <= bytes.len()).then(|| bytes.slice(from..to));
                    let (reader, take) = (self.clone(), take.clone());
                    taking(move || match record.map(|record| reader.open_as(chunk, &place, &record)) {
                        Some(Ok(plain)) => Ok(take(chunk, what, Ok(plain))),
                        // With `take`, which whoever waits for the end of all taking waits for.
                        _ => Err((chunk, what, take)),
                    })
                });
                for opened in join_all(opening).await {
                    match opened {
                        Ok(done) => taken.push(done),
                        Err((chunk, what, _)) => rest.push((chunk, what)),
                    }
                }
            }
            // Each record would wait as long as this request has, and be told the same; unless it lies elsewhere too.
            Err(error) if error.is_inconclusive() => {
                let Some((chunk, _, what)) = run.records.pop() else { return taken };
                let is_elsewhere = self.index().places(&RecordId::Chunk(chunk.id)).nth(1).is_some();
                let read = if is_elsewhere { self.chunk(chunk).await } else { Err(error) };
                if read.is_ok() {
                    rest.extend(run.records.into_iter().map(|(chunk, _, what)| (chunk, what)));
                }
                let take = take.clone();
                taken.push(taking(move || take(chunk, what, read)).await);
            }
            Err(_) => rest.extend(run.records.into_iter().map(|(chunk, _, what)| (chunk, what))),
        }
        // One by one: what is found elsewhere has no part of the room.
        for (chunk, what) in rest {
            let (read, take) = (self.chunk(chunk).await, take.clone());
            let is_end = read.as_ref().is_err_and(Error::is_inconclusive);
            taken.push(taking(move || take(chunk, what, read)).await);
            if is_end {
                break;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::crypto::kdf::Params;
    use crate::format::config;
    use crate::format::id::{ChunkId, KeyId};
    use crate::format::index::{IndexPack, IndexRecord};
    use crate::format::pack::PackKind;
    use crate::repo::{Degrade, IndexBuilder, Init, Repository, init};
    use crate::store::Store;
    use crate::store::testing::Far;
    use crate::world::{Time, fixed};

    fn chunk(n: u8) -> ChunkRef {
        ChunkRef { id: ChunkId([n; 32]), len: 1 }
    }

    fn record(n: u8, len: u32) -> IndexRecord {
        IndexRecord { id: [n; 32], len }
    }

    fn pack(n: u8, records: Vec<IndexRecord>) -> IndexPack {
        IndexPack {
            id: PackId([n; 16]),
            kind: PackKind::Data,
            len: 64 * 1024 * 1024,
            hash: [0; 32],
            origin: KeyId([0; 16]),
            verified: false,
            sessions: Vec::new(),
            records,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_waits_for_no_answer_and_is_held_by_nobody() {
        let how = Init {
            passphrase: None,
            cost: Params::CHEAP,
            chunker: config::Chunker::DEFAULT,
            degrade: Degrade::Refuse,
            like: None,
        };
        let world = fixed::world(1, Time(0));
        let (repo, _) = init(Store::memory(), &world, how).await.unwrap();
        let away = Duration::from_secs(3600);
        let repo = Repository { store: repo.store.decorated(|inner| Far::over(inner, away)), ..repo };
        let mut builder = IndexBuilder::new(None, false);
        builder.add(&pack(1, vec![record(1, 100)]), None, true).unwrap();
        let reader = Arc::new(Reader::new(&repo, Arc::new(builder.finish().unwrap())));
        let mut fetch = Fetch::new(reader, |_, what: Arc<()>, _| drop(what));
        let what = Arc::new(());
        let begin = tokio::time::Instant::now();
        assert!(
            fetch
                .ask(vec![(ChunkRef { id: ChunkId([1; 32]), len: 1 }, what.clone())], |()| false)
                .await
                .is_empty()
        );
        assert_eq!(Arc::strong_count(&what), 2);
        fetch.abandon().await;
        assert_eq!((Arc::strong_count(&what), begin.elapsed()), (1, Duration::ZERO));
    }

    #[test]
    fn records_that_lie_near_each_other_are_read_together() {
        let mut builder = IndexBuilder::new(None, false);
        let far = 1000 + GAP_BYTES;
        // Records 20 and 21 lie between those that are wanted.
        let first = [(1, 100), (2, 100), (20, 800), (3, 1), (21, GAP_BYTES + 1), (4, 5)];
        let first = first.map(|(n, len)| record(n, len)).to_vec();
        builder.add(&pack(1, first), None, true).unwrap();
        let second = vec![record(7, 200), record(5, 10), record(6, REQUEST_BYTES)];
        builder.add(&pack(2, second), None, true).unwrap();
        let index = builder.finish().unwrap();
        let wanted = |n| (chunk(n), n);
        let (runs, unknown) = plan(&index, [7, 9, 4, 3, 1, 6, 5].map(wanted).to_vec());
        let shapes: Vec<_> = runs
            .iter()
            .map(|run| {
                (run.pack.0[0], run.records.iter().map(|(.., what)| *what).collect::<Vec<_>>(), run.range())
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
