//! Pure decisions: what is in goes in by value, a plan that can be printed comes out.
//!
//! [`retention`] says which snapshots are kept, and why. `job` gathers what it is told and carries
//! out the plan. Invariant: nothing here waits, reads, writes, or asks for the time.

pub mod period;
pub mod retention;
pub mod span;
