//! How far a run is, told upwards; and whether it shall stop, told downwards.
//!
//! The library counts and never shows: a terminal, a log or a test decides what becomes of it.

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

/// Counts nothing and never ends.
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _: Unit, _: u64) {}
}
