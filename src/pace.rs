//! How fast a run may go, so that what runs beside it stays fast.
//!
//! A [`Rate`] is an average: who takes much at once gets it at once, and who comes next waits for it. All who share a
//! rate are served in the order in which they come.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::progress::{Progress, Unit};

/// So many a second: a wait for many bytes is cut into waits of this part of a second, to notice an interrupt.
const PARTS: u64 = 4;

/// What takes less than this part of a second is not waited for by itself.
const GRAINS: u64 = 20;

/// The limits that a user sets, in bytes a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of what is backed up.
    pub read: Option<NonZeroU64>,
    /// To the store.
    pub upload: Option<NonZeroU64>,
}

impl Limits {
    /// For each of so many who work side by side.
    pub fn shared_by(self, count: usize) -> Self {
        let part =
            |limit: NonZeroU64| NonZeroU64::new(limit.get() / count.max(1) as u64).unwrap_or(NonZeroU64::MIN);
        Self { read: self.read.map(part), upload: self.upload.map(part) }
    }
}

/// Bytes a second.
#[derive(Debug)]
pub struct Rate {
    bytes: NonZeroU64,
    /// What was taken and not waited for yet.
    owed: AtomicU64,
    /// Until what was taken last has had its time. Whoever waits holds the lock, so the others wait behind.
    last: tokio::sync::Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Rate {
    pub fn new(bytes: NonZeroU64) -> Self {
        Self { bytes, owed: AtomicU64::new(0), last: tokio::sync::Mutex::new(None) }
    }

    /// Takes `bytes` without a wait; who comes next waits for them too.
    pub fn take(&self, bytes: u64) {
        self.owed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until what was taken before has had its time, and takes `bytes`.
    pub async fn wait(&self, bytes: u64) {
        self.take(bytes);
        // A wait is rounded up to a millisecond: a thousand small ones a second would be all that is done.
        if self.owed.load(Ordering::Relaxed) < self.bytes.get() / GRAINS {
            return;
        }
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_mut() {
            last.await;
        }
        let owed = self.owed.swap(0, Ordering::Relaxed);
        let time = Duration::from_secs_f64(owed as f64 / self.bytes.get() as f64);
        *last = Some(Box::pin(tokio::time::sleep(time)));
    }
}

/// Progress of a run whose reading is limited.
pub struct Held {
    inner: Arc<dyn Progress>,
    rate: Rate,
    runtime: Handle,
}

/// The same progress, held back if there is a limit. Must be called within a tokio runtime.
pub fn held(progress: Arc<dyn Progress>, limit: Option<NonZeroU64>) -> Arc<dyn Progress> {
    match limit {
        Some(limit) => Arc::new(Held { inner: progress, rate: Rate::new(limit), runtime: Handle::current() }),
        None => progress,
    }
}

impl Progress for Held {
    fn advance(&self, unit: Unit, by: u64) {
        self.inner.advance(unit, by);
    }

    fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }

    fn will_read(&self, bytes: u64) {
        let part = (self.rate.bytes.get() / PARTS).max(1);
        let mut left = bytes;
        while left > 0 && !self.is_cancelled() {
            let next = left.min(part);
            self.runtime.block_on(self.rate.wait(next));
            left -= next;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::progress::Silent;

    fn limit(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_at_once_is_waited_for_by_who_comes_next() {
        let rate = Rate::new(limit(1000));
        let start = Instant::now();
        rate.wait(2500).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        rate.wait(500).await;
        assert_eq!(start.elapsed().as_millis(), 2500);
        rate.wait(50).await;
        assert_eq!(start.elapsed().as_millis(), 3000);
        // Time in which nothing was taken is not made up for.
        tokio::time::advance(Duration::from_secs(100)).await;
        let start = Instant::now();
        rate.wait(1000).await;
        rate.wait(50).await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_takes_are_as_fast_as_few_large_ones() {
        let rate = Rate::new(limit(1_000_000));
        let start = Instant::now();
        for _ in 0..30_000 {
            rate.wait(100).await;
        }
        // The last part of what was taken is not waited for.
        assert!((2900..=3100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[test]
    fn reading_takes_as_long_as_the_limit_says() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_time().worker_threads(1).build().unwrap();
        let _inside = runtime.enter();
        let held = held(Arc::new(Silent), Some(limit(1_000_000)));
        let start = Instant::now();
        held.will_read(300_000);
        held.will_read(100_000);
        // The last part is had at once.
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        struct Ended;
        impl Progress for Ended {
            fn advance(&self, _: Unit, _: u64) {}
            fn is_cancelled(&self) -> bool {
                true
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        held(Arc::new(Ended), Some(limit(1))).will_read(u64::MAX);
    }

    #[test]
    fn those_who_share_a_limit_have_it_together() {
        let limits = Limits { read: Some(limit(100)), upload: None }.shared_by(3);
        assert_eq!((limits.read, limits.upload), (Some(limit(33)), None));
        assert_eq!(Limits { upload: Some(limit(1)), read: None }.shared_by(9).upload, Some(limit(1)));
    }
}
