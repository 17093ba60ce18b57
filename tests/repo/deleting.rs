//! What a prune deletes beside packs, and what it leaves when the store, an index or the history says no.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kist::format::id::{PackId, SessionId};
use kist::format::log::Action;
use kist::format::object;
use kist::repo::{self, Class, Left, Limits, PruneSettings, Repository, begin};
use kist::store::testing::{Failure, Faulty, Log, Moment, Recording};
use kist::store::{Store, StoreSettings, StoreUrl, Verb};
use kist::world::{Time, fixed};

use crate::scene::{Scene, backup, check, failing_once, init, noise, now, over, prune};

async fn sessions(repo: &Repository) -> Vec<SessionId> {
    let listed = repo.store.list(object::SESSIONS).await.unwrap();
    listed.iter().filter_map(|found| object::parse_session(object::SESSIONS, &found.key)).collect()
}

/// Backs up a source of one file that is another one each time.
async fn back_up(scene: &Scene, repo: &Repository, seed: u64) -> SessionId {
    std::fs::write(scene.source().join("the only file"), noise(50_000, seed)).unwrap();
    backup(repo, &scene.source()).await.unwrap().snapshot.id
}

/// Of two snapshots that share no data the first is forgotten. Opened by the owner.
async fn one_forgotten() -> (Scene, Repository) {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let first = back_up(&scene, &owner, 1).await;
    back_up(&scene, &owner, 2).await;
    forget(&owner, first).await;
    (scene, owner)
}

/// The opening counts too.
async fn objects_read_by_a_prune(scene: &Scene) -> u64 {
    let recorded = Log::default();
    let store = scene.copy().decorated(|inner| Recording::over(inner, &recorded));
    prune(&scene.open(store).await.unwrap()).await;
    recorded.count(Verb::Get) as u64
}

async fn forget(repo: &Repository, id: SessionId) {
    repo::observe(repo).await.unwrap();
    repo::forget(repo, &[id]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_keeps_is_counted_and_goes_with_the_next_prune() {
    let (scene, _) = one_forgotten().await;
    let recorded = Log::default();
    let refusing = |failure| {
        let faults = Faulty::over(Arc::new(scene.beneath.clone()));
        let store = Store::over(faults.fail(&[Verb::Delete], 0..u64::MAX, Moment::Before, failure).wrap());
        store.decorated(|inner| Recording::over(inner, &recorded))
    };
    let keeping = scene.open(refusing(Failure::Denied)).await.unwrap();
    let pruned = repo::prune(&keeping, now(), &|_| {}).await.unwrap();
    let deletes = recorded.events().into_iter().filter(|event| event.verb == Verb::Delete);
    let asked: HashSet<String> = deletes.map(|event| event.key).collect();
    assert!(asked.len() > 3, "{asked:?}");
    assert_eq!(pruned.retained, asked.len() as u64);
    // What fails in another way is no word of the store's.
    let failing = scene.open(refusing(Failure::Full)).await.unwrap();
    let error = repo::prune(&failing, now(), &|_| {}).await.expect_err("it can't delete");
    assert_eq!(error.class(), Class::Full);
    // Opened anew: each process has a later clock here, and what is swept goes when the checkpoint has its age.
    assert_eq!(prune(&scene.open(scene.store()).await.unwrap()).await.retained, 0);
    let left = scene.store().list("").await.unwrap();
    let left: Vec<_> = left.iter().filter(|found| asked.contains(&found.key)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_when_its_snapshot_is_gone_and_nothing_is_sealed_with_its_keys() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let first = back_up(&scene, &owner, 1).await;
    let second = back_up(&scene, &owner, 2).await;
    let dead = begin(&owner, 1).await.unwrap().session;
    forget(&owner, first).await;
    prune(&owner).await;
    let third = back_up(&scene, &owner, 3).await;
    let there = sessions(&owner).await;
    assert!(
        [first, second, dead, third].iter().all(|id| there.contains(id)),
        "its commit was there: {there:?}"
    );

    // What is not in the index may be sealed with the keys of any session.
    let delta = object::index_key(third, 0, 0);
    let sound = owner.store.get(&delta).await.unwrap();
    let mut damaged = sound.to_vec();
    damaged[40] ^= 1;
    owner.store.put(&delta, damaged.into()).await.unwrap();
    assert!(repo::prune(&owner, now(), &|_| {}).await.is_err());
    assert!(sessions(&owner).await.contains(&first), "the index is not whole");

    owner.store.put(&delta, sound).await.unwrap();
    prune(&owner).await;
    let there = sessions(&owner).await;
    assert!(!there.contains(&first), "{there:?}");
    assert!([second, dead, third].iter().all(|id| there.contains(id)), "{there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_snapshot_goes_also_where_no_pack_goes_with_it() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let first = back_up(&scene, &owner, 1).await;
    let second = backup(&owner, &scene.source()).await.unwrap().snapshot.id;
    forget(&owner, first).await;
    let pruned = prune(&owner).await;
    assert_eq!((pruned.swept_packs, pruned.left), (0, None));
    let commits = owner.store.list(object::COMMITS).await.unwrap();
    let commits: Vec<_> =
        commits.iter().filter_map(|c| object::parse_session(object::COMMITS, &c.key)).collect();
    assert_eq!(commits, [second]);
}

/// What a mark was told of the store is told on, and is not taken for damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_the_store_ends_says_so() {
    let (scene, _) = one_forgotten().await;
    let mut ended = 0;
    for nth in 0..objects_read_by_a_prune(&scene).await {
        let store = failing_once(scene.beneath.fork(), &[Verb::Get], nth, Failure::Denied);
        let Ok(repo) = scene.open(store).await else { continue };
        if let Err(error) = repo::prune(&repo, now(), &|_| {}).await {
            assert_eq!(error.class(), Class::Denied, "get {nth}: {}", repo::chain(&error));
            ended += 1;
        }
    }
    assert!(ended > 5, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_checkpoint_was_taken_away_no_other_is_made_of_what_is_left() {
    let (scene, owner) = one_forgotten().await;
    prune(&owner).await;
    let checkpoints = owner.store.list(object::CHECKPOINTS).await.unwrap();
    assert_eq!(checkpoints.len(), 1);
    owner.store.delete(&checkpoints[0].key).await.unwrap();
    // Another process: it has not read the log that went on from there.
    let next = scene.open(scene.store()).await.unwrap();
    assert!(repo::prune(&next, now(), &|_| {}).await.is_err());
    assert_eq!(next.store.list(object::CHECKPOINTS).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_commit_was_taken_away_no_session_is_fenced_for_the_plan_of_another() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    back_up(&scene, &owner, 1).await;
    let second = back_up(&scene, &owner, 2).await;
    back_up(&scene, &owner, 3).await;
    let begun = begin(&owner, 1).await.unwrap().session;
    let mut log = repo::Log::load(&owner).await.unwrap();
    log.append(&owner, Action::Condemn { packs: Vec::new() }).await.unwrap();
    owner.store.delete(&object::commit_key(second)).await.unwrap();
    assert!(repo::prune(&owner, now(), &|_| {}).await.is_err());
    assert!(owner.store.get(&object::commit_key(begun)).await.is_err(), "nobody has fenced it");
}

/// By the store's clock: by when it was given what a session has written.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_fenced_after_a_quarter_of_an_hour_of_silence_and_others_are_waited_for() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let folder = folder.path().join("repository");
    let url = StoreUrl::parse(folder.to_str().unwrap()).unwrap();
    let store = Store::open(&url, &StoreSettings { create_folder: true, ..Default::default() }).unwrap();
    let now = SystemTime::now();
    let nanos = now.duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    let (repo, _) = repo::init(store, &fixed::world(1, Time(nanos)), init()).await.unwrap();
    for minutes in [14, 16] {
        let session = begin(&repo, 1).await.unwrap().session;
        let object = File::options().write(true).open(folder.join(object::session_key(session))).unwrap();
        object.set_modified(now - Duration::from_secs(minutes * 60)).unwrap();
    }
    let mut log = repo::Log::load(&repo).await.unwrap();
    log.append(&repo, Action::Condemn { packs: Vec::new() }).await.unwrap();
    let settings = PruneSettings { patience: Duration::ZERO, ..Default::default() };
    let pruned = repo::prune(&repo, settings, &|_| {}).await.unwrap();
    assert_eq!((pruned.fenced, pruned.left), (1, Some(Left::Sessions(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_how_many_bytes_come_free() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let file = |number: u64| scene.source().join(format!("file {number}"));
    (0..60).for_each(|number| std::fs::write(file(number), noise(9_000, number)).unwrap());
    let first = backup(&owner, &scene.source()).await.unwrap().snapshot.id;
    (0..60).step_by(2).for_each(|number| std::fs::remove_file(file(number)).unwrap());
    backup(&owner, &scene.source()).await.unwrap();
    forget(&owner, first).await;
    let packs = async || owner.store.list(object::PACKS).await.unwrap();
    let before = packs().await;
    let size = |packs: &[kist::store::Object]| packs.iter().map(|pack| pack.size).sum::<u64>();
    // Packs of a test are all small, and would all be joined.
    let limits = Limits { small_pack_bytes: 0, ..Default::default() };
    let plan = repo::prune_plan(&owner, limits).await.unwrap().expect("no other is under way");
    let is_among = |packs: &mut dyn Iterator<Item = PackId>| {
        let keys: HashSet<String> = packs.map(object::pack_key).collect();
        before.iter().filter(|pack| keys.contains(&pack.key)).map(|pack| pack.size).sum::<u64>()
    };
    assert_eq!(plan.total_bytes, size(&before));
    assert_eq!(plan.unused_bytes, is_among(&mut plan.unused.iter().copied()));
    assert_eq!(plan.repack_bytes, is_among(&mut plan.repacked()));
    assert!(plan.unused_bytes > 0 && plan.repack_used_bytes > 0, "{plan:?}");
    assert_eq!(plan.freed_bytes(), plan.unused_bytes + plan.repack_bytes - plan.repack_used_bytes);
    repo::prune(&owner, PruneSettings { limits, ..now() }, &|_| {}).await.unwrap();
    let after = size(&packs().await);
    // The new packs have tables of their own.
    assert!((plan.used_bytes..size(&before)).contains(&after), "{after} of {plan:?}");
    assert!(after.abs_diff(size(&before) - plan.freed_bytes()) < 20_000, "{after} of {plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_loses_nothing_where_the_disk_could_not_read_an_object_once() {
    let (scene, _) = one_forgotten().await;
    for nth in 0..objects_read_by_a_prune(&scene).await {
        let beneath = scene.beneath.fork();
        let store = failing_once(beneath.clone(), &[Verb::Get], nth, Failure::Unreadable);
        let Ok(repo) = scene.open(store).await else { continue };
        let pruned = repo::prune(&repo, now(), &|_| {}).await.map(drop);
        let repo = scene.open(over(beneath)).await.unwrap();
        prune(&repo).await;
        let checked = check(&repo).await;
        assert!(checked.findings.is_empty(), "get {nth}, {pruned:?}: {:?}", checked.findings);
    }
}

/// A prune each night with a grace, and what was forgotten the night before.
async fn nights(between: u64, grace: u64) {
    let scene = Scene::new().await;
    let mut swept: Vec<(i64, String)> = Vec::new();
    let mut last: Option<SessionId> = None;
    for night in 0..10 {
        let at = 1_850_000_000 + night * between as i64;
        let world = fixed::world(1000 + night as u64, Time(at * 1_000_000_000));
        let owner = repo::open(scene.store(), &world, &scene.owner, None).await.unwrap();
        let made = back_up(&scene, &owner, night as u64).await;
        if let Some(last) = last.replace(made) {
            forget(&owner, last).await;
        }
        let before = repo::Log::load(&owner).await.unwrap().swept;
        let settings = PruneSettings { grace: Duration::from_secs(grace), ..now() };
        let pruned = repo::prune(&owner, settings, &|_| {}).await.unwrap();
        let log = repo::Log::load(&owner).await.unwrap();
        swept.extend(log.swept.difference(&before).map(|pack| (at, object::pack_key(*pack))));
        let there: HashSet<String> =
            scene.store().list("").await.unwrap().into_iter().map(|found| found.key).collect();
        let staying = swept.iter().filter(|(_, key)| there.contains(key)).count() as u64;
        assert_eq!(pruned.waiting, staying, "night {night}");
        for (since, key) in &swept {
            let age = (at - since) as u64;
            assert_eq!(there.contains(key), age < grace, "night {night}: {key}, swept {age} s before");
        }
    }
    assert!(swept.len() > 9, "{swept:?}");
}

/// The story: each checkpoint carries on what is to be deleted, and its age was taken for that of the sweep. So a prune
/// each night with a grace of a day deleted nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_swept_goes_when_the_grace_is_over_however_often_a_prune_comes() {
    const DAY: u64 = 24 * 60 * 60;
    nights(DAY, DAY).await;
    nights(DAY - 60, DAY).await;
    nights(DAY, 3 * DAY).await;
    nights(DAY, DAY / 2).await;
}
