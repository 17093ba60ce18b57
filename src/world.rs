//! What the library needs from outside and must not take by itself: the time and random bytes.
//!
//! Handed in from the top, so that a whole repository can run in a simulation from one seed.
//! Invariant: nothing else in the library asks the system for time or randomness.

use std::sync::Arc;

/// Nanoseconds since 1970-01-01 UTC; negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
}

/// Tells the time of day.
pub trait Clock: Send + Sync {
    fn now(&self) -> Time;
}

/// Gives random bytes fit for keys.
pub trait Random: Send + Sync {
    /// Fills all of `out`; does not return before it has.
    fn fill(&self, out: &mut [u8]);
}

/// The outside, as the library sees it.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

impl World {
    pub fn new(clock: impl Clock + 'static, random: impl Random + 'static) -> Self {
        Self { clock: Arc::new(clock), random: Arc::new(random) }
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// `N` fresh random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.random.fill(&mut out);
        out
    }
}

/// A world for tests: a clock that stands still and bytes drawn from a seed.
pub mod fixed {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Clock, Random, Time, World};

    struct Still(Time);

    impl Clock for Still {
        fn now(&self) -> Time {
            self.0
        }
    }

    /// Bytes drawn from a seed and a counter; the same calls in the same order give the same bytes.
    pub struct Seeded {
        seed: u64,
        calls: AtomicU64,
    }

    impl Random for Seeded {
        fn fill(&self, out: &mut [u8]) {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.seed.to_le_bytes()).update(&call.to_le_bytes());
            hasher.finalize_xof().fill(out);
        }
    }

    /// A world that stands still at `now` and draws its randomness from `seed`.
    pub fn world(seed: u64, now: Time) -> World {
        World::new(Still(now), Seeded { seed, calls: AtomicU64::new(0) })
    }
}
