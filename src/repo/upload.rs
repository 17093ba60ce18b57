//! The seam from CPU threads to the store: sealed packs go in, index deltas come after them.
//!
//! Bounded: a pack takes its share of [`BUDGET_BYTES`] when it is opened and gives it back
//! when it is uploaded, so whoever fills packs faster than the store takes them waits.
//! Order (spec chapter 8): a delta is written only after all of its packs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// A share of the budget.
pub type Share = OwnedSemaphorePermit;

/// The way to the store. Dropping it ends the uploads without an index for the rest.
pub struct Uploads {
    budget: Arc<Semaphore>,
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
            Ok(share) => Ok(share),
            Err(_) => Err(self.failure.check().err().unwrap_or(Error::Abandoned)),
        }
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

async fn put(repo: Repository, pack: SealedPack, share: Share) -> Result<IndexPack> {
    repo.store.put(&object::pack_key(pack.index.id), pack.bytes.into()).await?;
    drop(share);
    Ok(pack.index)
}
