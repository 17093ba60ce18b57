//! Stores that break their word: objects that are lost, bits that rot, lists that come late.
//!
//! What nothing has touched restores; of what was touched nothing false is given, and a check says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kist::format::id::SessionId;
use kist::format::object;
use kist::progress::Silent;
use kist::repo::{self, Error, Index, Log, PruneSettings, Reading, Repository, Snapshots, Unlock, chain};
use kist::store::Store;
use object_store::memory::InMemory;

use crate::actors::back_up;
use crate::draw::Draw;
use crate::oracle::{Oracle, View};
use crate::run::{Scene, init, virtually};
use crate::sea::{Rates, Sea};
use crate::time::world;
use crate::trees::Tree;

/// Seeds whose stores are damaged, and how often each is.
const SEEDS: u64 = 6;
const DAMAGES: u64 = 12;

/// What a reader gets of each snapshot that he is shown; no more than that there is something to show.
type Shown = BTreeMap<SessionId, Result<Tree, String>>;

/// The damage of one store.
#[derive(Debug)]
struct Damage {
    key: String,
    is_lost: bool,
}

impl Damage {
    async fn draw(store: &Store, draw: &mut Draw) -> Self {
        let all = store.list("").await.unwrap();
        let folders = ["packs/", "index/", "sessions/", "commits/", "gc/", "checkpoints/", "generations/"];
        let folder = draw.pick(&folders);
        let of: Vec<_> = all.iter().filter(|found| found.key.starts_with(folder)).collect();
        match of.is_empty() {
            true => Box::pin(Self::draw(store, draw)).await,
            false => Self { key: draw.pick(&of).key.clone(), is_lost: draw.per_mille(500) },
        }
    }

    async fn strike(&self, store: &Store, draw: &mut Draw) {
        if self.is_lost {
            return store.delete(&self.key).await.unwrap();
        }
        let mut bytes = store.get(&self.key).await.unwrap().to_vec();
        let at = draw.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << draw.below(8);
        store.put(&self.key, bytes.into()).await.unwrap();
    }

    fn is_of_a_pack(&self) -> bool {
        self.key.starts_with("packs/")
    }

    /// That bits have changed inside of a pack no listing shows, and a session whose epoch has ended is not read again:
    /// both are for a check.
    async fn shows_when_a_backup_begins(&self, repo: &Repository) -> bool {
        match object::parse_session(object::SESSIONS, &self.key) {
            Some(session) => {
                Log::load(repo).await.is_ok_and(|log| log.open_epochs().contains(&session.epoch()))
            }
            None => self.is_lost || !self.is_of_a_pack(),
        }
    }
}

async fn open(scene: &Scene, beneath: &InMemory, unlock: &Unlock, seed: u64) -> Repository {
    let store = Store::over(Arc::new(beneath.clone()));
    repo::open(store, &world(&scene.sea.since, seed), unlock, None).await.unwrap()
}

/// What is shown and restores. What is shown may be nothing at all, with an error.
async fn shown(repo: &Repository) -> Result<Shown, Error> {
    let snapshots = Snapshots::load(repo).await?;
    let view = View::of(repo.clone(), Index::load(repo).await?).await.unwrap();
    let mut shown = Shown::new();
    for snapshot in &snapshots.all {
        let restored = Oracle::default().restore(&view, snapshot.commit.roots[0].node).await;
        shown.insert(snapshot.id, restored);
    }
    Ok(shown)
}

/// Strikes a copy of the store once, and lets everybody at it.
async fn damaged(scene: &Scene, draw: &mut Draw, before: &Shown) -> String {
    let beneath = scene.sea.beneath.fork();
    let store = Store::over(Arc::new(beneath.clone()));
    let damage = Damage::draw(&store, draw).await;
    let owner = open(scene, &beneath, &scene.owner, draw.number()).await;
    let is_named = Index::load(&owner).await.unwrap();
    let is_named = is_named.packs().iter().any(|pack| object::pack_key(pack.id) == damage.key);
    damage.strike(&store, draw).await;
    let what = format!("{damage:?}");
    let report = repo::check(&owner, Some(Reading::default()), &|_| {}, &Silent).await;
    let is_found = report.map_or(true, |report| report.findings > 0);
    let after = match shown(&owner).await {
        Ok(after) => after,
        // An alarm: nothing is given at all.
        Err(error) => {
            assert!(is_found, "{what}: {}", chain(&error));
            return what;
        }
    };
    for (id, restored) in &after {
        match restored {
            Ok(tree) => assert_eq!(Ok(tree), before[id].as_ref(), "{what}: something false is given"),
            Err(why) => assert!(is_found, "{what}: a check finds nothing, but {why}"),
        }
    }
    assert!(is_found || !is_named, "{what}: the pack's damage is not found");
    if damage.is_of_a_pack() {
        assert_eq!(after.len(), before.len(), "{what}: all snapshots are shown");
    }
    // A prune deletes nothing on a guess.
    let maintainer = open(scene, &beneath, &scene.maintainer, draw.number()).await;
    let settings = PruneSettings { silence: Duration::ZERO, ..Default::default() };
    let pruned = repo::prune(&maintainer, settings, &|_| {}).await;
    if let Ok(pruned) = shown(&owner).await {
        for (id, restored) in after.iter().filter(|(_, restored)| restored.is_ok()) {
            assert_eq!(pruned.get(id), Some(restored), "{what}: a prune has taken it");
        }
    } else {
        assert!(pruned.is_err(), "{what}: a prune has come to its end where nothing can be read any more");
    }
    goes_on(scene, draw, &beneath, &damage).await;
    what
}

/// The next backup of a source: what it says is complete is.
async fn goes_on(scene: &Scene, draw: &mut Draw, beneath: &InMemory, damage: &Damage) {
    let writer = open(scene, beneath, &scene.writers[0], draw.number()).await;
    let tree = scene.ledger.lock().unwrap().runs.values().next_back().unwrap().clone();
    let saved = back_up(&writer, Draw::new(0), &tree, 0, 0).await;
    if let (Ok((id, _)), true) = (saved, damage.shows_when_a_backup_begins(&writer).await) {
        let owner = open(scene, beneath, &scene.owner, draw.number()).await;
        let shown = shown(&owner).await.unwrap_or_else(|error| panic!("{damage:?}: {}", chain(&error)));
        assert_eq!(shown.get(&id), Some(&Ok(tree)), "{damage:?}: the new snapshot is not whole");
    }
}

#[test]
fn of_a_damaged_store_nothing_false_is_given_and_a_check_says_so() {
    for seed in 1000..1000 + SEEDS {
        virtually(async {
            let scene = Scene::new(seed).await;
            scene.history().await.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            let owner = open(&scene, &scene.sea.beneath, &scene.owner, 1).await;
            let before = shown(&owner).await.unwrap();
            assert!(before.values().all(|restored| restored.is_ok()), "seed {seed}: {before:?}");
            let mut draw = Draw::new(seed);
            for _ in 0..DAMAGES {
                println!("seed {seed}: {}", damaged(&scene, &mut draw, &before).await);
            }
        });
    }
}

#[test]
fn a_store_whose_lists_come_late_is_refused() {
    virtually(async {
        let rates = Rates { lag: Duration::from_secs(5), ..Default::default() };
        let sea = Sea::new(Draw::new(1), rates);
        let (_, store) = sea.process("init", 1, None);
        let world = world(&sea.since, 1);
        let made = async { repo::init(store, &world, init()).await.err().expect("it is refused") };
        let grants = async {
            loop {
                sea.step().await;
            }
        };
        tokio::select! {
            biased;
            refused = made => assert!(matches!(refused, Error::UnfitStore { .. }), "{refused}"),
            () = grants => {}
        }
    });
}
