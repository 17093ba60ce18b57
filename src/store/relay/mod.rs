//! A store that is reached by way of another process: a mover's, through its job.
//!
//! Spec: chapter 10, *Relay*. `remote` is the mover's side, a [`Store`](crate::store::Store) whose
//! operations are requests; `answer` is the job's side, which does them; `may` says which.
//! The bytes in between are carried by whoever has a link (`job`). Invariant: whatever a mover asks
//! for, no object that was there is changed, and none is read that its task does not need.

mod answer;
mod may;
mod remote;

pub use answer::Relayed;
pub use may::May;
pub use remote::{Remote, RemoteGone};
