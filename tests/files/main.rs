//! Walking, reading and writing real file systems: what comes back is what was there, nothing leaves the
//! target, and what can't be done is told. Needs root, as restores of other people's files do.

#[path = "../support/compare.rs"]
mod compare;
mod copy;
mod hostile;
mod limits;
mod mounts;
mod roundtrip;
#[path = "../support/trees.rs"]
mod trees;
mod unprivileged;
mod walking;
