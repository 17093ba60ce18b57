//! A repository: open it, add to it, read it, check it.
//!
//! [`Repository`] only opens and hands out: a [`writer::Writer`] for one session, a
//! [`reader::Reader`] over the index, the [`snapshots`] that exist. The order of writes is
//! law (spec chapter 8): session, packs, index, commit.

mod check;
mod error;
mod index;
mod keys;
mod open;
mod pack_builder;
mod reader;
mod session;
mod snapshots;
mod upload;
mod writer;

pub use check::{Finding, Report, check};
pub use error::{Class, Error, Result};
pub use index::{Index, Place};
pub use keys::Keys;
pub use open::{Degrade, Init, Unlock, add_writer, init, open};
pub use reader::Reader;
pub use session::{Lane, Session, begin};
pub use snapshots::{Snapshot, Snapshots, ToCommit, commit, resolved, summary};
pub use upload::Uploaded;
pub use writer::{Saved, Stats, Writer, WriterSettings};

use std::sync::Arc;

use crate::format::config::Config;
use crate::store::Store;
use crate::world::World;

/// An opened repository; cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub store: Store,
    pub config: Config,
    pub keys: Arc<Keys>,
    pub world: World,
}
