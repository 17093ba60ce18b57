//! Decorators for tests: stores that fail, that remember, that rot, that are far away.
//!
//! Each is an `ObjectStore` over another one, so they can be stacked and put over any
//! backend with [`Store::decorated`](crate::store::Store::decorated). They are compiled
//! always, because tests of other layers and the benches use them; nothing in a running
//! kist does. Invariant: deterministic; what happens depends on the calls alone.

mod far;
mod faulty;
mod flip;
mod recording;

pub use far::Far;
pub use faulty::{Failure, Faulty, Moment};
pub use flip::Flip;
pub use recording::{Event, Log, Recording};

use crate::store::error::Verb;

/// The verbs that change what is in the store.
pub const EFFECTS: &[Verb] = &[Verb::Put, Verb::Create, Verb::Delete];

/// All verbs.
pub const ANY: &[Verb] = &[Verb::Put, Verb::Create, Verb::Delete, Verb::Get, Verb::Size, Verb::List];

/// Which verb a write is.
fn verb_of_put(options: &object_store::PutOptions) -> Verb {
    match options.mode {
        object_store::PutMode::Create => Verb::Create,
        _ => Verb::Put,
    }
}

/// Which verb a read is.
fn verb_of_get(options: &object_store::GetOptions) -> Verb {
    if options.head { Verb::Size } else { Verb::Get }
}
