//! The virtual clock, as kist and as the actors see it, and randomness from a seed.
//!
//! The clock is tokio's, paused: it goes on to the next timer when no task can run and nothing blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kist::world::{Clock, Random, Time, World};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::draw::Draw;

/// Some day in 2027, in nanoseconds since 1970.
const BEGIN: i64 = 1_800_000_000_000_000_000;
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// Virtual time since the simulation began.
#[derive(Clone)]
pub struct Since {
    runtime: Handle,
    begin: Instant,
}

impl Since {
    /// From now on; within a runtime.
    pub fn now() -> Self {
        Self { runtime: Handle::current(), begin: Instant::now() }
    }

    pub fn elapsed(&self) -> Duration {
        // A thread that is not the runtime's would be told the real time.
        let _within = self.runtime.enter();
        self.begin.elapsed()
    }

    pub fn time(&self) -> Time {
        Time(BEGIN + self.elapsed().as_nanos() as i64)
    }
}

struct Virtual(Since);

impl Clock for Virtual {
    fn now(&self) -> Time {
        self.0.time()
    }
}

struct Seeded {
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

/// The world of one process.
pub fn world(since: &Since, seed: u64) -> World {
    World::new(Virtual(since.clone()), Seeded { seed, calls: AtomicU64::new(0) })
}

/// Lets so much virtual time go by.
pub async fn wait(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// Mostly no pause, sometimes one of seconds, of minutes, of days.
pub async fn pause(draw: &mut Draw) {
    let millis = match draw.below(100) {
        0 => draw.below(3 * DAY) * 1000,
        1..4 => draw.below(40 * MINUTE) * 1000,
        4..20 => draw.below(20_000),
        _ => return,
    };
    wait(Duration::from_millis(millis)).await;
}

/// Between two works of an actor: mostly so short that the actors meet.
pub async fn rest(draw: &mut Draw) {
    let millis = match draw.below(10) {
        0 => draw.below(2 * 60 * MINUTE) * 1000,
        1..4 => draw.below(MINUTE) * 1000,
        _ => draw.below(4_000),
    };
    wait(Duration::from_millis(millis)).await;
}
