//! The repository that is damaged: small, and with all that a long history leaves.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use kist::format::id::{PackId, SessionId};
use kist::format::keys::Role;
use kist::format::log::Scope;
use kist::format::object;
use kist::repo::{self, Log, NewKey, Repository, Snapshots, Unlock};
use kist::store::testing::{Failure, Faulty, Log as Recorded, Recording};
use kist::store::{Store, Verb};
use object_store::memory::InMemory;

use crate::scene::{Scene, backup, check, init, noise, over, prune};

/// Two sources of the writers, and one of the owner.
const SOURCES: [&str; 3] = ["shop", "bank", "own"];

/// A snapshot, and what was backed up.
#[derive(Clone)]
pub struct Made {
    pub id: SessionId,
    pub source: PathBuf,
    /// The source as it was then.
    pub like: PathBuf,
}

/// What there is before the damage.
pub struct Past {
    pub scene: Scene,
    pub shop: Unlock,
    pub reader: Unlock,
    /// Snapshots that are neither gone nor forgotten, in the order in which they were made.
    pub there: Vec<Made>,
    /// By the names of [`Past::made`].
    ids: HashMap<&'static str, SessionId>,
    /// Sessions that were fenced.
    pub fenced: Vec<SessionId>,
    /// The shop's source as it is now, which no snapshot has yet.
    pub next: Made,
    /// The `config` of another repository.
    pub other_config: Bytes,
    /// Which of the snapshots read a pack when they are restored.
    pub readers: HashMap<PackId, BTreeSet<usize>>,
}

/// A history on its way.
struct Story {
    scene: Scene,
    keys: [Unlock; 3],
    made: Vec<(&'static str, Made)>,
    fenced: Vec<SessionId>,
    step: u64,
}

impl Past {
    /// Three epochs: two that checkpoints stand for, and an open one with a source of its own.
    pub async fn new() -> Self {
        let mut story = Story::begin().await;
        story.back_up(0, "shop 1").await;
        story.back_up(1, "bank 1, held").await;
        story.back_up(0, "shop 2, gone").await;
        story.back_up(1, "bank 2").await;
        story.die().await;
        story.hold("bank 1, held").await;
        story.forget("shop 2, gone").await;
        story.prune().await;
        story.back_up(0, "shop 3").await;
        story.back_up(1, "bank 3, gone").await;
        story.die().await;
        story.check().await;
        story.forget("bank 3, gone").await;
        story.prune().await;
        story.back_up(0, "shop 4").await;
        story.back_up(1, "bank 4, forgotten").await;
        story.back_up(2, "own 1").await;
        story.check().await;
        story.back_up(0, "shop 5").await;
        story.back_up(1, "bank 5").await;
        story.back_up(2, "own 2").await;
        story.forget("bank 4, forgotten").await;
        story.end().await
    }

    pub fn id(&self, name: &str) -> SessionId {
        self.ids[name]
    }

    /// The place of a snapshot among those that are there.
    pub fn place(&self, name: &str) -> usize {
        let id = self.id(name);
        self.there.iter().position(|made| made.id == id).unwrap()
    }

    /// All that a list may show: what is there, and what was only forgotten.
    pub fn known(&self) -> BTreeSet<SessionId> {
        self.ids.iter().filter(|(name, _)| !name.contains("gone")).map(|(_, id)| *id).collect()
    }

    pub async fn owner(&self, store: Store) -> repo::Result<Repository> {
        self.scene.open(store).await
    }

    pub async fn as_reader(&self, store: Store) -> repo::Result<Repository> {
        repo::open(store, &self.scene.world(), &self.reader, None).await
    }

    pub async fn as_shop(&self, store: Store) -> repo::Result<Repository> {
        repo::open(store, &self.scene.world(), &self.shop, None).await
    }
}

impl Story {
    async fn begin() -> Self {
        let scene = Scene::new().await;
        for (seed, name) in (1..).zip(SOURCES) {
            let folder = scene.dir.path().join(name);
            fs::create_dir_all(folder.join("folder")).unwrap();
            fs::write(folder.join("large file"), noise(50_000, seed)).unwrap();
        }
        let shop = scene.writer("shop").await;
        let bank = scene.writer("bank").await;
        let own = scene.owner.clone();
        Self { scene, keys: [shop, bank, own], made: Vec::new(), fenced: Vec::new(), step: 0 }
    }

    fn folder(&self, source: usize) -> PathBuf {
        self.scene.dir.path().join(SOURCES[source])
    }

    async fn owner(&self) -> Repository {
        self.scene.open(self.scene.store()).await.unwrap()
    }

    fn id(&self, name: &str) -> SessionId {
        self.made.iter().find(|(known, _)| *known == name).unwrap().1.id
    }

    /// One file is new, a small one is not as it was, and a large one has other chunks at its end.
    fn change(&mut self, source: usize) {
        self.step += 1;
        let (folder, seed) = (self.folder(source), 100 * self.step);
        for (number, name) in ["first", "second", "third"].into_iter().enumerate() {
            let file = folder.join("folder").join(format!("small file {name}"));
            if number == 0 || !file.exists() {
                fs::write(file, noise(300, seed + number as u64)).unwrap();
            }
        }
        fs::write(folder.join(format!("file {}", self.step)), noise(3_000, seed + 10)).unwrap();
        let large = folder.join("large file");
        let mut bytes = fs::read(&large).unwrap();
        bytes.truncate(40_000);
        bytes.extend(noise(10_000, seed + 11));
        fs::write(large, bytes).unwrap();
    }

    async fn back_up(&mut self, source: usize, name: &'static str) {
        self.change(source);
        let writer = self.scene.open_with(&self.keys[source]).await;
        let done = backup(&writer, &self.folder(source)).await.unwrap();
        assert!(done.summary.missing.is_empty(), "{name}");
        let made = self.as_it_is(source, done.snapshot.id);
        self.made.push((name, made));
    }

    /// Keeps the source as it is now.
    fn as_it_is(&self, source: usize, id: SessionId) -> Made {
        let (source, like) = (self.folder(source), self.scene.dir.path().join(format!("like {}", self.step)));
        let copied = Command::new("cp").arg("-a").args([&source, &like]).status().unwrap();
        assert!(copied.success());
        Made { id, source, like }
    }

    /// A backup that dies when it has uploaded something: it will be fenced.
    async fn die(&mut self) {
        self.change(0);
        let dead = Faulty::over(Arc::new(self.scene.beneath.clone())).stop_after(4, Failure::Denied);
        let world = self.scene.world();
        let dying = repo::open(Store::over(dead.wrap()), &world, &self.keys[0], None).await.unwrap();
        assert!(backup(&dying, &self.folder(0)).await.is_err());
    }

    async fn hold(&self, name: &str) {
        repo::hold(&self.owner().await, Scope::Snapshot(self.id(name)), "an audit").await.unwrap();
    }

    async fn forget(&self, name: &str) {
        let owner = self.owner().await;
        repo::observe(&owner).await.unwrap();
        repo::forget(&owner, &[self.id(name)]).await.unwrap();
    }

    async fn prune(&mut self) {
        let owner = self.owner().await;
        let ended = async || {
            let listed = owner.store.list(object::COMMITS).await.unwrap();
            let all =
                listed.into_iter().filter_map(|found| object::parse_session(object::COMMITS, &found.key));
            all.collect::<BTreeSet<_>>()
        };
        let before = ended().await;
        let pruned = prune(&owner).await;
        assert!(pruned.swept_packs > 0 && pruned.fenced == 1 && pruned.left.is_none(), "{pruned:?}");
        self.fenced.extend(ended().await.difference(&before).copied());
    }

    async fn check(&self) {
        let checked = check(&self.owner().await).await;
        assert!(checked.findings.is_empty() && checked.report.verified > 0, "{checked:?}");
    }

    async fn end(mut self) -> Past {
        let reader = self.scene.add(NewKey::of(Role::Reader, "drill")).await;
        self.change(0);
        let next = self.as_it_is(0, SessionId([0; 16]));
        let elsewhere = over(InMemory::new());
        repo::init(elsewhere.clone(), &self.scene.world(), init()).await.unwrap();
        let other_config = elsewhere.get(object::CONFIG).await.unwrap();
        let [shop, ..] = self.keys;
        let ids = self.made.iter().map(|(name, made)| (*name, made.id)).collect();
        let is_there = |name: &str| !name.contains("gone") && !name.contains("forgotten");
        let there = self.made.into_iter().filter(|(name, _)| is_there(name)).map(|(_, made)| made).collect();
        let (scene, fenced) = (self.scene, self.fenced);
        let readers = HashMap::new();
        let mut past = Past { scene, shop, reader, there, ids, fenced, next, other_config, readers };
        past.look().await;
        past
    }
}

impl Past {
    /// Sees to it that all is there that is to be damaged, and finds out who reads which pack.
    async fn look(&mut self) {
        let owner = self.owner(self.scene.store()).await.unwrap();
        let checked = check(&self.owner(self.scene.copy()).await.unwrap()).await;
        assert!(checked.findings.is_empty() && checked.touched.is_empty(), "{checked:?}");
        let all = Snapshots::load(&owner).await.unwrap();
        assert_eq!((all.all.len(), all.forgotten.len()), (self.there.len(), 1));
        let log = Log::load(&owner).await.unwrap();
        assert_eq!((log.epoch, log.ended, self.fenced.len()), (2, 2, 2));
        assert_eq!(owner.store.list(object::CHECKPOINTS).await.unwrap().len(), 2);
        for (place, made) in self.there.iter().enumerate() {
            for pack in self.packs_of(made).await {
                self.readers.entry(pack).or_default().insert(place);
            }
        }
    }

    /// The packs that a restore reads.
    async fn packs_of(&self, made: &Made) -> BTreeSet<PackId> {
        let recorded = Recorded::default();
        let store = Store::over(Recording::over(Arc::new(self.scene.beneath.clone()), &recorded));
        let reader = self.as_reader(store).await.unwrap();
        self.restore(&reader, made).await.unwrap_or_else(|said| panic!("{said}"));
        let gets = recorded.events().into_iter().filter(|event| event.verb == Verb::Get);
        let packs = gets.filter(|event| event.key.starts_with(object::PACKS));
        packs.filter_map(|event| PackId::parse(event.key.rsplit('/').next()?)).collect()
    }

    /// Restores; what keeps it from being whole, if something does.
    pub async fn restore(&self, repo: &Repository, made: &Made) -> Result<(), NotWhole> {
        match self.scene.restore_like(repo, &made.id.snapshot_name(), &made.source, &made.like).await {
            Err(error) => Err(NotWhole::Refused(crate::scene::chain(&error))),
            Ok(outcome) if outcome.is_whole() => Ok(()),
            Ok(outcome) if outcome.is_honest() => Err(NotWhole::Told(format!("{:?}", outcome.lost))),
            Ok(outcome) => Err(NotWhole::False(format!("{outcome:?}"))),
        }
    }
}

/// Why a restore has not given all.
#[derive(Debug)]
pub enum NotWhole {
    /// It gave nothing.
    Refused(String),
    /// It gave a part, and has named the rest.
    Told(String),
    /// Something was not as it was backed up, or was left out without a word.
    False(String),
}

impl std::fmt::Display for NotWhole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotWhole::Refused(why) | NotWhole::Told(why) | NotWhole::False(why) => write!(f, "{why}"),
        }
    }
}
