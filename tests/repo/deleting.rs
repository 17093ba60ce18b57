//! What a prune deletes beside packs, and what it leaves when the store or an index says no.

use std::collections::HashSet;
use std::sync::Arc;

use kist::format::id::SessionId;
use kist::format::object;
use kist::repo::{self, Class, Repository, begin};
use kist::store::testing::{Failure, Faulty, Log, Moment, Recording};
use kist::store::{Store, Verb};

use crate::scene::{Scene, backup, noise, now, prune};

async fn sessions(repo: &Repository) -> Vec<SessionId> {
    let listed = repo.store.list(object::SESSIONS).await.unwrap();
    listed.iter().filter_map(|found| object::parse_session(object::SESSIONS, &found.key)).collect()
}

/// Backs up a source of one file that is another one each time.
async fn back_up(scene: &Scene, repo: &Repository, seed: u64) -> SessionId {
    std::fs::write(scene.source().join("the only file"), noise(50_000, seed)).unwrap();
    backup(repo, &scene.source()).await.unwrap().snapshot.id
}

async fn forget(repo: &Repository, id: SessionId) {
    repo::observe(repo).await.unwrap();
    repo::forget(repo, &[id]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_keeps_is_counted_and_goes_with_the_next_prune() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let first = back_up(&scene, &owner, 1).await;
    back_up(&scene, &owner, 2).await;
    forget(&owner, first).await;
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
