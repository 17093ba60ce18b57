//! The seam from CPU threads to the store: sealed packs go in, index deltas come after them.
//!
//! Bounded: a pack takes its share of [`BUDGET_BYTES`] when it is opened and gives it back
//! when it is uploaded, so whoever fills packs faster than the store takes them waits.
//! Order (spec chapter 8): a delta is written only after all of its packs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::format::index::{Filling, IndexPack};
use crate::format::object;
use crate::repo::index::put_delta;
use crate::repo::pack_builder::SealedPack;
use crate::repo::session::Lane;
use crate::repo::{Class, Error, Repository, Result, chain};

/// Open packs and packs in flight together.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// The unit in which the budget is given out.
const PERMIT_BYTES: usize = 4096;
/// A delta is written when so many packs wait for it, …
const DELTA_PACKS: usize = 32;
/// … or so many records, far below what a delta may hold, …
const DELTA_RECORDS: usize = 128 * 1024;
/// … or when the oldest of them has waited for so long: what a killed run had uploaded by then counts.
const DELTA_WAIT: Duration = Duration::from_secs(10);

/// A share of the budget, and memory of that size for a pack.
pub struct Share {
    /// Empty. Reused from a pack that was uploaded: the kernel clears each page of new memory.
    buffer: Vec<u8>,
    spares: Spares,
    _permit: OwnedSemaphorePermit,
}

impl Share {
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffer = buffer;
    }
}

impl Drop for Share {
    /// Also of one that nobody used, because another thread was first to open the next pack.
    fn drop(&mut self) {
        let buffer = self.take_buffer();
        if buffer.capacity() > 0 {
            self.spares.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// Buffers of packs that were uploaded. Together with those in use they do not exceed the budget by more than a table's
/// length each: one of another size is made only when all of these are gone.
type Spares = Arc<Mutex<Vec<Vec<u8>>>>;

/// The way to the store. Dropping it ends the uploads without an index for the rest.
pub struct Uploads {
    budget: Arc<Semaphore>,
    spares: Spares,
    queue: mpsc::UnboundedSender<(SealedPack, Share)>,
    failure: Failure,
    worker: JoinHandle<Result<Uploaded>>,
    runtime: tokio::runtime::Handle,
}

/// What was uploaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uploaded {
    pub packs: u64,
    pub pack_bytes: u64,
    pub index_bytes: u64,
}

/// The first failure; everything after it only repeats it.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<(String, Class)>>>);

impl Failure {
    fn set(&self, error: &Error) {
        let mut first = self.0.lock().expect("no holder of this lock panics");
        first.get_or_insert_with(|| (chain(error), error.class()));
    }

    fn check(&self) -> Result<()> {
        match &*self.0.lock().expect("no holder of this lock panics") {
            Some((first, class)) => Err(Error::Failed { first: first.clone(), class: *class }),
            None => Ok(()),
        }
    }
}

impl Uploads {
    /// Must be called within a tokio runtime.
    pub fn start(repo: Repository, lane: Lane) -> Self {
        let budget = Arc::new(Semaphore::new(BUDGET_BYTES / PERMIT_BYTES));
        // Not a bound by itself: what is in it holds shares of the budget.
        let (queue, packs) = mpsc::unbounded_channel();
        let failure = Failure::default();
        let spares = Spares::default();
        let worker = Worker {
            repo,
            lane,
            failure: failure.clone(),
            budget: budget.clone(),
            pending: Filling::default(),
            next_delta: 0,
            done: Uploaded::default(),
        };
        Self {
            budget,
            spares,
            queue,
            failure,
            worker: tokio::spawn(worker.run(packs)),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Waits for room for a pack. Not to be called on a thread of the runtime.
    pub fn share(&self, bytes: usize) -> Result<Share> {
        self.failure.check()?;
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).expect("packs are bounded");
        match self.runtime.block_on(self.budget.clone().acquire_many_owned(permits)) {
            Ok(permit) => {
                Ok(Share { buffer: self.buffer(bytes), spares: self.spares.clone(), _permit: permit })
            }
            Err(_) => Err(self.failure.check().err().unwrap_or(Error::Abandoned)),
        }
    }

    fn buffer(&self, bytes: usize) -> Vec<u8> {
        let mut spares = self.spares.lock().expect("no holder of this lock panics");
        match spares.iter().position(|spare| spare.capacity() == bytes) {
            Some(at) => spares.swap_remove(at),
            None => {
                // A record that is longer than a pack has a size that does not come again.
                spares.clear();
                Vec::with_capacity(bytes)
            }
        }
    }

    /// Whether whoever fills packs waits for the store, or soon will.
    pub fn is_behind(&self) -> bool {
        self.budget.available_permits() * PERMIT_BYTES < BUDGET_BYTES / 4
    }

    pub fn send(&self, pack: SealedPack, share: Share) -> Result<()> {
        self.failure.check()?;
        match self.queue.send((pack, share)) {
            Ok(()) => Ok(()),
            Err(_) => self.failure.check(),
        }
    }

    pub fn check(&self) -> Result<()> {
        self.failure.check()
    }

    /// Waits until all packs and their index are in the store.
    pub async fn finish(self) -> Result<Uploaded> {
        drop(self.queue);
        self.worker.await.expect("the uploading task does not panic")
    }
}

struct Worker {
    repo: Repository,
    lane: Lane,
    failure: Failure,
    budget: Arc<Semaphore>,
    pending: Filling,
    next_delta: u32,
    done: Uploaded,
}

impl Worker {
    async fn run(mut self, packs: mpsc::UnboundedReceiver<(SealedPack, Share)>) -> Result<Uploaded> {
        let result = self.upload(packs).await;
        if let Err(error) = &result {
            self.failure.set(error);
            self.budget.close();
        }
        result.map(|()| self.done)
    }

    async fn upload(&mut self, mut packs: mpsc::UnboundedReceiver<(SealedPack, Share)>) -> Result<()> {
        let mut in_flight = JoinSet::new();
        let mut open = true;
        let mut due = tokio::time::interval(DELTA_WAIT);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick of an interval is at once: a delta for whatever happens to be there is not what is wanted.
        due.reset();
        while open || !in_flight.is_empty() {
            tokio::select! {
                next = packs.recv(), if open => match next {
                    Some((pack, share)) => drop(in_flight.spawn(put(self.repo.clone(), pack, share))),
                    None => open = false,
                },
                Some(put) = in_flight.join_next() => {
                    match put.expect("uploading a pack does not panic") {
                        Ok(pack) => self.uploaded(pack).await?,
                        Err(error) => return Err(self.rescue(error, in_flight).await),
                    }
                    if self.pending.packs() >= DELTA_PACKS || self.pending.records() >= DELTA_RECORDS {
                        self.flush().await?;
                    }
                }
                _ = due.tick() => self.flush().await?,
            }
        }
        self.flush().await
    }

    async fn uploaded(&mut self, pack: IndexPack) -> Result<()> {
        self.done.packs += 1;
        self.done.pack_bytes += u64::from(pack.len);
        if !self.pending.takes(&pack) {
            self.flush().await?;
        }
        self.pending.push(pack);
        Ok(())
    }

    /// Where a full store still has room for a delta, what did get there counts for the next run.
    async fn rescue(&mut self, error: Error, mut in_flight: JoinSet<Result<IndexPack>>) -> Error {
        if error.class() == Class::Full {
            while let Some(put) = in_flight.join_next().await {
                let Ok(Ok(pack)) = put else { continue };
                // The first error is the one to tell.
                if self.uploaded(pack).await.is_err() {
                    return error;
                }
            }
            let _ = self.flush().await;
        }
        error
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(delta) = self.pending.take() else { return Ok(()) };
        self.done.index_bytes += put_delta(&self.repo, &self.lane, self.next_delta, &delta).await?;
        self.next_delta += 1;
        Ok(())
    }
}

async fn put(repo: Repository, pack: SealedPack, mut share: Share) -> Result<IndexPack> {
    let bytes = Bytes::from(pack.bytes);
    repo.store.put(&object::pack_key(pack.index.id), bytes.clone()).await?;
    // A store that still holds on to it keeps it.
    if let Ok(bytes) = bytes.try_into_mut() {
        share.give_back(Vec::from(bytes));
    }
    Ok(pack.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_nobody_else_holds_give_their_memory_back() {
        let mut buffer = Vec::with_capacity(16 * 1024 * 1024);
        buffer.extend_from_slice(&[7; 1000]);
        let before = (buffer.as_ptr(), buffer.capacity());
        let bytes = Bytes::from(buffer);
        drop(bytes.clone());
        let again = Vec::from(bytes.try_into_mut().unwrap());
        assert_eq!((again.as_ptr(), again.capacity()), before);
    }
}
