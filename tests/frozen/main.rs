//! Repositories as they were made when the format got its version, kept for ever: every kist restores them.
//!
//! Needs root, as restores of other people's files do, and the reader's Python. `KIST_FROZEN=write` makes those that are
//! missing; one that is there is never changed.

#[path = "../support/cluster.rs"]
mod cluster;
mod clusters;
#[path = "../support/compare.rs"]
mod compare;
mod frozen;
mod listing;
mod made;
#[path = "../support/programs.rs"]
mod programs;
mod promises;
#[path = "../support/trees.rs"]
mod trees;
mod unchanged;
