//! A repository: open it, add to it, read it, check it.
//!
//! [`Repository`] only opens and hands out: a [`writer::Writer`] for one session, a
//! [`reader::Reader`] over the index, the [`snapshots`] that exist. The order of writes is
//! law (spec chapter 8): session, packs, index, commit.

mod bits;
mod carrier;
mod check;
mod cpu;
mod error;
mod fenced;
mod fetch;
mod forget;
mod gc;
mod ids;
mod index;
mod keys;
mod levels;
mod log;
mod open;
mod owner;
mod pack_builder;
mod reader;
mod repair;
mod revoke;
mod seen;
mod session;
mod shortened;
mod slots;
mod snapshots;
#[cfg(test)]
mod testing;
mod tree;
mod upload;
mod writer;

pub use check::{Finding, Lost, Reading, Report, Told, Touched, check};
pub use cpu::on_cpu;
pub use error::{Class, Error, Result, chain};
pub use fenced::commit_again;
pub use fetch::Fetch;
pub use forget::{as_if_observed, forget, held, hold, lift, observe, recall};
pub use gc::{Left, Limits, PrunePlan, PruneSettings, PruneStep, Pruned, prune, prune_plan};
pub use ids::Ids;
pub use index::{Index, IndexBuilder, PackInfo, Packs, Place, Scratch};
pub use keys::{AskLaneKey, Keys, MoverKeys};
pub use log::{Appended, Log, Plan};
pub use open::{Degrade, Init, Unlock, init, open, place_of, stored_config};
pub use owner::LikeKeys;
pub use pack_builder::open_record;
pub use reader::Reader;
pub use repair::{Losses, Planned, RepairPlan, Repaired, losses, plan_repair, repair};
pub use seen::Seen;
pub use session::{Begun, LANES, Lane, Session, View, begin};
pub use slots::{
    KeyInfo, KeyList, NewKey, Rotated, add_key, add_passphrase, list_keys, remove_key, rotate_key,
    rotate_owner,
};
pub use snapshots::{Resolved, Snapshot, Snapshots, ToCommit, commit, end_copying, summary};
pub use tree::{ExtentNode, PathNode, TreeReader};
pub use upload::Uploaded;
pub use writer::{Saved, Stats, Writer, WriterSettings};

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::config::Config;
use crate::format::id::RepoId;
use crate::format::object;
use crate::store::Store;
use crate::world::World;

/// A domain of an opened repository; cheap to clone.
#[derive(Clone)]
pub struct Repository {
    /// Where the domain's objects lie.
    pub store: Store,
    /// Where `config` and the slots lie, of all domains. A mover that works through its job has only the
    /// domain's.
    pub top: Store,
    pub config: Config,
    pub keys: Arc<Keys>,
    pub world: World,
    /// How far the gc log was seen, by whoever has opened this; to be kept for the next time.
    pub seen: Seen,
    /// The same of every domain, by its catalog's id.
    seen_of: Arc<dyn Fn(RepoId) -> Seen + Send + Sync>,
    latest: log::Latest,
    /// Where an index lies that is too long for memory; none: in memory all the same.
    pub scratch: Option<Scratch>,
    /// Go on with what is left of a log that does not hold: for who reads what is named by its id, and adds nothing.
    goes_on: bool,
}

impl Repository {
    /// The same, with a folder for an index that is too long for memory.
    pub fn with_scratch(self, folder: PathBuf) -> Self {
        let scratch = Some(Scratch::new(folder, self.world.clone()));
        Self { scratch, ..self }
    }

    /// The same, for who reads what is named by its id: a log that does not hold is a warning then, and no end.
    pub fn going_on(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// The same, for who remembers how far the log of each domain was seen.
    pub fn remembering(self, seen_of: impl Fn(RepoId) -> Seen + Send + Sync + 'static) -> Self {
        let seen = seen_of(self.catalog_id());
        Self { seen, seen_of: Arc::new(seen_of), ..self }
    }

    /// The same repository in some domain; the owner's.
    pub(super) fn in_domain(&self, name: &str) -> Result<Self> {
        let keys = Arc::new(self.keys.in_domain(&self.config, name)?);
        if keys.certificate.domain == self.keys.certificate.domain {
            return Ok(self.clone());
        }
        let store = place_of(&self.top, keys.certificate.domain);
        let other = Self { store, keys, latest: log::Latest::default(), ..self.clone() };
        Ok(Self { seen: (self.seen_of)(other.catalog_id()), ..other })
    }

    /// Seals what is to lie at `key` in the store.
    fn seal(&self, key: &str, plain: Vec<u8>) -> Bytes {
        object::seal_object(&self.keys.structure, self.world.bytes(), self.config.repo, key, plain).into()
    }

    /// Opens what lies at `key` in the store. Padding may follow what is in it.
    fn unseal(&self, what: &'static str, key: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        object::open_object(what, &self.keys.structure, self.config.repo, key, sealed)
            .map_err(Error::object(key))
    }

    /// What a local catalog is of: a domain of a repository. It is the repository's id for the default one.
    pub fn catalog_id(&self) -> RepoId {
        let (repo, domain) = (self.config.repo.0, self.keys.certificate.domain.0);
        RepoId(std::array::from_fn(|at| repo[at] ^ domain[at]))
    }

    /// A mover's view, from what it was handed; `config` was read and pinned by who hands it out, and `store`
    /// is the domain's.
    pub fn at_mover(
        store: Store,
        config: Config,
        keys: MoverKeys,
        asked: Option<Arc<dyn AskLaneKey>>,
        world: World,
    ) -> Self {
        let store = if config.single_writer() { store.degraded() } else { store };
        let keys = Arc::new(Keys::mover(&config, keys, asked));
        Self::of(store.clone(), store, config, keys, &world)
    }

    fn of(store: Store, top: Store, config: Config, keys: Arc<Keys>, world: &World) -> Self {
        Self {
            store,
            top,
            config,
            keys,
            world: world.clone(),
            seen: Seen::default(),
            seen_of: Arc::new(|_| Seen::default()),
            latest: log::Latest::default(),
            scratch: None,
            goes_on: false,
        }
    }
}
