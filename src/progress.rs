//! How far a run is, told upwards; and whether it shall stop, told downwards.
//!
//! The library counts and never shows: a terminal, a log or a test decides what becomes of it.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Entries of trees that are done, of any type.
    Entries,
    /// Bytes of files that are done, read or not.
    Bytes,
    /// Bytes of packs read or written.
    PackBytes,
}

pub trait Progress: Send + Sync {
    fn advance(&self, unit: Unit, by: u64);

    /// Bytes of what is backed up are about to be read. Holds the reader back where reading is limited.
    fn will_read(&self, _bytes: u64) {}

    /// Whether the run shall end soon; asked often.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// How soon a cancelled run is noticed by who waits.
const LOOK: Duration = Duration::from_millis(100);

/// Ends when the run is cancelled.
pub async fn cancelled(progress: &dyn Progress) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !progress.is_cancelled() {
        look.tick().await;
    }
}

/// Counts nothing and never ends.
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _: Unit, _: u64) {}
}
