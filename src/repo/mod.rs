//! A repository: open it, add to it, read it, check it.
//!
//! [`Repository`] only opens and hands out: a [`writer::Writer`] for one session, a
//! [`reader::Reader`] over the index, the [`snapshots`] that exist. The order of writes is
//! law (spec chapter 8): session, packs, index, commit.

mod check;
mod error;
mod fenced;
mod forget;
mod gc;
mod index;
mod keys;
mod log;
mod open;
mod pack_builder;
mod reader;
mod session;
mod snapshots;
mod upload;
mod writer;

pub use check::{Finding, Report, check};
pub use error::{Class, Error, Result, chain};
pub use fenced::commit_again;
pub use forget::{forget, held, hold, lift, observe, recall};
pub use gc::{Left, Limits, PrunePlan, PruneSettings, Pruned, prune, prune_plan};
pub use index::{Index, Place};
pub use keys::{AskLaneKey, Keys, MoverKeys};
pub use log::{Appended, Log, Plan};
pub use open::{Degrade, Init, Unlock, add_writer, init, open, stored_config};
pub use reader::Reader;
pub use session::{Begun, Lane, Session, View, begin};
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

impl Repository {
    /// A mover's view, from what it was handed; `config` was read and pinned by who hands it out.
    pub fn at_mover(
        store: Store,
        config: Config,
        keys: MoverKeys,
        asked: Option<Arc<dyn AskLaneKey>>,
        world: World,
    ) -> Self {
        let store = if config.single_writer() { store.degraded() } else { store };
        let keys = Arc::new(Keys::mover(&config, keys, asked));
        Self { store, config, keys, world }
    }
}
