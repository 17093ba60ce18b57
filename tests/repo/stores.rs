//! Stores that can't do what kist needs, or are full.

use std::sync::Arc;

use kist::repo::{self, Class, Degrade, Error, Init};
use kist::store::Store;
use kist::store::Verb;
use kist::store::testing::{Failure, Faulty, Moment};
use object_store::memory::InMemory;

use crate::scene::{Scene, backup, check, grow, init, over, repo_error};

fn ignoring_create(beneath: &InMemory) -> Store {
    Store::over(Faulty::over(Arc::new(beneath.clone())).ignoring_create().wrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_t_create_exclusively_is_refused_and_nothing_is_left_in_it() {
    let scene = Scene::new().await;
    let beneath = InMemory::new();
    let refused = repo::init(ignoring_create(&beneath), &scene.world(), init()).await.err().unwrap();
    assert_eq!(refused.class(), Class::Usage);
    assert!(refused.to_string().contains("does not keep what kist needs of a store"), "{refused}");
    assert_eq!(over(beneath).list("").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_single_writer_it_is_taken_and_the_repository_remembers() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let beneath = InMemory::new();
    let alone = Init { degrade: Degrade::SingleWriter, ..init() };
    let (_, key) = repo::init(ignoring_create(&beneath), &scene.world(), alone).await.unwrap();
    let unlock = repo::Unlock::KeyFile(key.unwrap());
    let opened = repo::open(ignoring_create(&beneath), &scene.world(), &unlock, None).await.unwrap();
    assert!(opened.store.is_degraded() && opened.config.single_writer());
    let done = backup(&opened, &scene.source()).await.unwrap();
    scene.restore_whole(&opened, &done.snapshot.name(), "degraded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_made_once() {
    let scene = Scene::new().await;
    let again = repo::init(scene.store(), &scene.world(), init()).await.err().unwrap();
    assert!(matches!(again, Error::Exists { .. }), "{again}");
    scene.open(scene.store()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_ends_the_backup_and_what_it_took_counts_for_the_next() {
    let scene = Scene::new().await;
    grow(&scene.source());
    // Full to the last byte; or full for one pack, and the delta that tells of the others still fits.
    let to_the_last = |store: Faulty| store.capacity(400_000);
    let for_a_pack = |store: Faulty| store.fail(&[Verb::Put], 20..21, Moment::Before, Failure::Full);
    let all = backup(&scene.open(scene.copy()).await.unwrap(), &scene.source()).await.unwrap();
    let all = all.stats.uploaded.packs;
    for (fill, is_taken_up) in [(&to_the_last as &dyn Fn(Faulty) -> Faulty, false), (&for_a_pack, true)] {
        let beneath = scene.beneath.fork();
        let small = Store::over(fill(Faulty::over(Arc::new(beneath.clone()))).wrap());
        let full = backup(&scene.open(small).await.unwrap(), &scene.source()).await.err().unwrap();
        assert_eq!(repo_error(full).class(), Class::Full);
        let opened = scene.open(over(beneath)).await.unwrap();
        assert_eq!(opened.store.list("commits").await.unwrap(), []);
        let done = backup(&opened, &scene.source()).await.unwrap();
        assert!(!is_taken_up || done.stats.uploaded.packs + 15 < all, "{:?} of {all}", done.stats.uploaded);
        scene.restore_whole(&opened, &done.snapshot.name(), "after the store was full").await;
        assert!(check(&opened).await.findings.is_empty());
    }
}

/// Each effect in turn happens, and its answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_costs_the_run_at_most() {
    let scene = Scene::new().await;
    std::fs::write(scene.source().join("file"), crate::scene::noise(150_000, 1)).unwrap();
    let mut done = 0;
    for nth in 0.. {
        let beneath = scene.beneath.fork();
        let effects = [Verb::Put, Verb::Create];
        let faults = Faulty::over(Arc::new(beneath.clone()));
        let store = faults.fail(&effects, nth..nth + 1, Moment::After, Failure::Transient).wrap();
        let failing = scene.open(Store::over(store)).await.unwrap();
        let ended = backup(&failing, &scene.source()).await;
        let opened = scene.open(over(beneath.clone())).await.unwrap();
        let commits = over(beneath).list("commits").await.unwrap().len();
        assert_eq!(commits, usize::from(ended.is_ok()), "effect {nth}");
        if ended.is_ok() {
            done += 1;
        }
        let again = backup(&opened, &scene.source()).await.unwrap();
        scene.restore_whole(&opened, &again.snapshot.name(), &format!("effect {nth}")).await;
        assert!(check(&opened).await.findings.is_empty(), "effect {nth}");
        // The commit's own lost answer, and then a number that no effect has any more.
        if done == 2 {
            return assert!(nth > 4, "{nth} effects");
        }
    }
}
