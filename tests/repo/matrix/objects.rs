//! One object of each kind, what it is damaged with, and who needs it.

use std::collections::BTreeSet;

use bytes::Bytes;
use kist::format::id::{PackId, SessionId};
use kist::format::object;
use kist::format::pack::PackKind;
use kist::repo::{self, Index, Limits, Log, PackInfo, Repository, Unlock};
use kist::store::Store;

use crate::matrix::past::Past;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Config,
    OwnerSlot,
    WriterSlot,
    /// Of a snapshot of an epoch that has not ended; of one that has.
    OpenSession,
    EndedSession,
    /// The last of its writer; one that another follows; one that has a row in the checkpoint.
    NewestCommit,
    MiddleCommit,
    OldCommit,
    Fence,
    Delta,
    /// Named by the generation; by a delta.
    DataPack,
    NewDataPack,
    /// Named by a delta; the next prune writes anew what is used in it.
    WastefulPack,
    NodePack,
    NewNodePack,
    LogHead,
    /// Behind the newest checkpoint; the one that it stands for; before it.
    LogMiddle,
    LogBase,
    LogOld,
    Checkpoint,
    OlderCheckpoint,
    /// Of the newest checkpoint.
    StatePart,
    IndexPart,
    Checks,
}

pub const KINDS: [Kind; 24] = [
    Kind::Config,
    Kind::OwnerSlot,
    Kind::WriterSlot,
    Kind::OpenSession,
    Kind::EndedSession,
    Kind::NewestCommit,
    Kind::MiddleCommit,
    Kind::OldCommit,
    Kind::Fence,
    Kind::Delta,
    Kind::DataPack,
    Kind::NewDataPack,
    Kind::WastefulPack,
    Kind::NodePack,
    Kind::NewNodePack,
    Kind::LogHead,
    Kind::LogMiddle,
    Kind::LogBase,
    Kind::LogOld,
    Kind::Checkpoint,
    Kind::OlderCheckpoint,
    Kind::StatePart,
    Kind::IndexPart,
    Kind::Checks,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Missing,
    Cut,
    Empty,
    Flipped,
    /// By another object of its kind.
    Replaced,
}

pub const DAMAGES: [Damage; 5] =
    [Damage::Missing, Damage::Cut, Damage::Empty, Damage::Flipped, Damage::Replaced];

/// An object that is going to be damaged.
pub struct Object {
    pub kind: Kind,
    pub key: String,
    pub whole: Bytes,
    /// Another of its kind.
    other: Bytes,
    /// The places of the snapshots that can't be had without it.
    pub needed_by: BTreeSet<usize>,
}

impl Object {
    /// What is there after the damage; none: nothing.
    pub fn damaged(&self, how: Damage, seed: u64) -> Option<Bytes> {
        let whole = &self.whole;
        let mut bytes = whole.to_vec();
        match how {
            Damage::Missing => return None,
            Damage::Cut => bytes.truncate(whole.len() / 2),
            Damage::Empty => bytes.clear(),
            Damage::Flipped => {
                let drawn = blake3::hash(format!("{seed} {:?}", self.kind).as_bytes());
                let at = u64::from_le_bytes(*drawn.as_bytes().first_chunk().unwrap());
                bytes[at as usize % whole.len()] ^= 1 << (drawn.as_bytes()[8] % 8);
            }
            Damage::Replaced => bytes = self.other.to_vec(),
        }
        assert_ne!(bytes, *whole, "{:?} {how:?}", self.kind);
        Some(bytes.into())
    }
}

/// Finds one object of each kind.
pub struct Finder<'a> {
    past: &'a Past,
    store: Store,
    log: Log,
    index: Index,
    /// Packs that the next prune writes anew.
    wasteful: BTreeSet<PackId>,
}

impl<'a> Finder<'a> {
    pub async fn new(past: &'a Past) -> Self {
        let owner: Repository = past.owner(past.scene.store()).await.unwrap();
        let (log, index) = (Log::load(&owner).await.unwrap(), Index::load(&owner).await.unwrap());
        let plan = repo::prune_plan(&owner, Limits::default()).await.unwrap().unwrap();
        let wasteful = plan.repacked().collect();
        Self { past, store: owner.store, log, index, wasteful }
    }

    pub async fn object(&self, kind: Kind) -> Object {
        let (key, other) = self.keys(kind).await;
        assert_ne!(key, other);
        let other = match kind {
            Kind::Config => self.past.other_config.clone(),
            _ => self.store.get(&other).await.unwrap(),
        };
        let whole = self.store.get(&key).await.unwrap();
        let needed_by = self.needed_by(kind, &key);
        let all = self.past.there.len();
        assert!(needed_by.len() < all || kind == Kind::Config, "{kind:?}: nobody does without {key}");
        Object { kind, key, whole, other, needed_by }
    }

    /// Its key, and that of another of its kind.
    async fn keys(&self, kind: Kind) -> (String, String) {
        let session = |name: &str| object::session_key(self.past.id(name));
        let commit = |name: &str| object::commit_key(self.past.id(name));
        let (base, checkpoint) = self.log.base.as_ref().unwrap();
        let parts = checkpoint.state.len();
        let log = |slot, other| (object::log_key(slot), object::log_key(other));
        match kind {
            Kind::Config => (object::CONFIG.to_owned(), String::new()),
            Kind::OwnerSlot => (slot(&self.past.scene.owner), slot(&self.past.shop)),
            Kind::WriterSlot => (slot(&self.past.shop), slot(&self.past.reader)),
            Kind::OpenSession => (session("shop 4"), session("bank 5")),
            Kind::EndedSession => (session("shop 1"), session("bank 1, held")),
            Kind::NewestCommit => (commit("shop 5"), commit("bank 5")),
            Kind::MiddleCommit => (commit("shop 4"), commit("bank 5")),
            Kind::OldCommit => (commit("shop 1"), commit("bank 2")),
            Kind::Fence => (object::commit_key(self.past.fenced[1]), object::commit_key(self.past.fenced[0])),
            Kind::Delta => (self.delta("shop 4").await, self.delta("bank 5").await),
            Kind::DataPack => self.packs(PackKind::Data, false),
            Kind::NewDataPack => self.packs(PackKind::Data, true),
            Kind::WastefulPack => self.wasteful(),
            Kind::NodePack => self.packs(PackKind::Nodes, false),
            Kind::NewNodePack => self.packs(PackKind::Nodes, true),
            Kind::LogHead => log(self.log.head, self.log.head - 1),
            Kind::LogMiddle => {
                assert!(self.log.head > base + 2);
                log(base + 1, base + 2)
            }
            Kind::LogBase => log(*base, base - 1),
            Kind::LogOld => log(2, 1),
            Kind::Checkpoint => (object::checkpoint_key(*base), self.older(object::CHECKPOINTS).await),
            Kind::OlderCheckpoint => (self.older(object::CHECKPOINTS).await, object::checkpoint_key(*base)),
            Kind::StatePart => (self.part(0), self.older_part("0").await),
            Kind::IndexPart => (self.part(parts), self.older_part(&parts.to_string()).await),
            Kind::Checks => (object::checks_key(2), object::checks_key(1)),
        }
    }

    async fn delta(&self, name: &str) -> String {
        let folder = object::session_key(self.past.id(name)).replace(object::SESSIONS, object::INDEX);
        self.store.list(&folder).await.unwrap().remove(0).key
    }

    /// A pack that most but not all snapshots read, and another.
    fn packs(&self, kind: PackKind, is_new: bool) -> (String, String) {
        let fits = |pack: &PackInfo| pack.kind == kind && pack.session.is_some() == is_new;
        let mut packs: Vec<PackInfo> = self.index.packs().iter().filter(fits).collect();
        let next_to = self.past.place("shop 5");
        packs.sort_by_key(|pack| {
            let readers = self.past.readers.get(&pack.id);
            readers.map_or((0, false), |readers| (readers.len(), readers.contains(&next_to)))
        });
        let pack = packs.pop().unwrap();
        assert!(self.past.readers.contains_key(&pack.id));
        self.pack_and_other(&pack, &packs)
    }

    fn wasteful(&self) -> (String, String) {
        let packs: Vec<PackInfo> =
            self.index.packs().iter().filter(|pack| pack.kind == PackKind::Data).collect();
        let is_it = |pack: &&PackInfo| self.wasteful.contains(&pack.id) && pack.session.is_some();
        let pack = packs.iter().find(is_it).expect("the next prune writes one anew");
        assert!(self.past.readers.contains_key(&pack.id));
        self.pack_and_other(pack, &packs)
    }

    fn pack_and_other(&self, pack: &PackInfo, packs: &[PackInfo]) -> (String, String) {
        // As long, if there is one: no listing tells them apart.
        let others = packs.iter().filter(|other| other.id != pack.id);
        let other = others.min_by_key(|other| other.len.abs_diff(pack.len)).unwrap();
        (object::pack_key(pack.id), object::pack_key(other.id))
    }

    fn part(&self, number: usize) -> String {
        let (base, checkpoint) = self.log.base.as_ref().unwrap();
        object::generation_key(*base, checkpoint.name, number)
    }

    async fn older(&self, folder: &str) -> String {
        let newest = self.log.base.as_ref().unwrap().0;
        let listed = self.store.list(folder).await.unwrap();
        let slot = |key: &String| object::parse_slot(folder, key);
        listed.into_iter().map(|found| found.key).find(|key| slot(key) < Some(newest)).unwrap()
    }

    /// A part of the checkpoint before the newest.
    async fn older_part(&self, number: &str) -> String {
        let newest = format!("{}/{}-", object::GENERATIONS, self.log.base.as_ref().unwrap().0);
        let listed = self.store.list(object::GENERATIONS).await.unwrap();
        let mut parts = listed.into_iter().map(|found| found.key);
        let is_it = |key: &String| !key.starts_with(&newest) && key.ends_with(&format!("/{number}"));
        parts.find(is_it).unwrap()
    }

    fn needed_by(&self, kind: Kind, key: &str) -> BTreeSet<usize> {
        let all = || (0..self.past.there.len()).collect();
        let of = |is_it: &dyn Fn(&PackInfo) -> bool| {
            let packs = self.index.packs().iter().filter(|pack| is_it(pack));
            packs.flat_map(|pack| self.past.readers.get(&pack.id).cloned().unwrap_or_default()).collect()
        };
        let named_by = |session: SessionId| of(&move |pack| pack.session == Some(session));
        let own = |name| BTreeSet::from([self.past.place(name)]);
        match kind {
            Kind::Config => all(),
            Kind::OpenSession | Kind::Delta => named_by(self.past.id("shop 4")),
            Kind::EndedSession => of(&|pack| pack.sessions.contains(&self.past.id("shop 1"))),
            Kind::NewestCommit => own("shop 5"),
            Kind::MiddleCommit => own("shop 4"),
            Kind::OldCommit => own("shop 1"),
            Kind::DataPack | Kind::NewDataPack | Kind::WastefulPack | Kind::NodePack | Kind::NewNodePack => {
                of(&|pack| object::pack_key(pack.id) == key)
            }
            Kind::IndexPart => of(&|pack| pack.session.is_none()),
            // The keys of who restores are in another slot.
            Kind::OwnerSlot | Kind::WriterSlot => BTreeSet::new(),
            // What the log says decides what may go and what is new, not what is in a snapshot.
            Kind::LogHead | Kind::LogMiddle | Kind::LogBase | Kind::LogOld => BTreeSet::new(),
            Kind::Checkpoint | Kind::OlderCheckpoint | Kind::StatePart => BTreeSet::new(),
            Kind::Fence | Kind::Checks => BTreeSet::new(),
        }
    }
}

fn slot(unlock: &Unlock) -> String {
    match unlock {
        Unlock::KeyFile(key) => object::slot_key(key.slot),
        Unlock::Passphrase(_) => unreachable!("made with a key file"),
    }
}
