//! What whoever holds the store can take away or put back, and is seen: the log cut off, a commit, a checkpoint, a whole
//! old copy.

use kist::format::id::SessionId;
use kist::format::object;
use kist::repo::{self, Error, Log, Repository, Snapshots};
use object_store::memory::InMemory;

use crate::scene::{Scene, backup, chain, noise, now, over, prune};

async fn backup_of(scene: &Scene, repo: &Repository, seed: u64) -> SessionId {
    std::fs::write(scene.source().join("file"), noise(20_000, seed)).unwrap();
    backup(repo, &scene.source()).await.unwrap().snapshot.id
}

/// A repository with two prunes behind it, and snapshots of three epochs.
async fn aged() -> (Scene, Repository, Vec<SessionId>) {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let mut ids = Vec::new();
    for round in 0..3 {
        let going = backup_of(&scene, &owner, 10 * round).await;
        ids.push(backup_of(&scene, &owner, 10 * round + 1).await);
        if round < 2 {
            repo::observe(&owner).await.unwrap();
            repo::forget(&owner, &[going]).await.unwrap();
            prune(&owner).await;
        }
    }
    (scene, owner, ids)
}

/// The alarm that whoever opens a copy of the store has, from which keys were removed.
async fn alarm(scene: &Scene, is_gone: impl Fn(&str) -> bool) -> String {
    let copied = scene.open(scene.copy()).await.unwrap();
    for object in copied.store.list("").await.unwrap() {
        if is_gone(&object.key) {
            copied.store.delete(&object.key).await.unwrap();
        }
    }
    let error = match Snapshots::load(&copied).await {
        Err(error) => error,
        Ok(mut found) => found.problems.pop().expect("nothing was noticed"),
    };
    assert!(matches!(error, Error::Log { .. }), "{}", chain(&error));
    assert!(repo::prune(&copied, now(), &|_| {}).await.is_err(), "nothing may be deleted");
    chain(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_off_below_an_epoch_is_seen_by_the_commits_of_that_epoch() {
    let (scene, owner, ids) = aged().await;
    let log = Log::load(&owner).await.unwrap();
    let newest = ids.last().unwrap();
    assert_eq!((log.epoch, newest.epoch()), (2, 2));
    let checkpoint = object::checkpoint_key(log.last_sweep);
    // The second condemn, and all behind it; the checkpoint too.
    let from = (1..=log.head).rev().find(|slot| *slot < log.last_sweep).unwrap();
    let is_cut = |key: &str| object::parse_slot(object::GC_LOG, key).is_some_and(|slot| slot >= from);
    let said = alarm(&scene, |key| is_cut(key) || key == checkpoint).await;
    assert!(said.contains("there is a commit of epoch 2") && said.contains("shortened"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_checkpoint_names_and_that_is_gone_is_an_alarm() {
    let (scene, _owner, ids) = aged().await;
    let key = object::commit_key(ids[0]);
    let said = alarm(&scene, |found| found == key).await;
    assert!(said.contains(&ids[0].snapshot_name()) && said.contains("nothing has let it go"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_built_on_and_is_hidden_is_an_alarm() {
    let (scene, owner, _) = aged().await;
    // A third prune condemns behind the second's checkpoint; its own is not there yet.
    let mut log = Log::load(&owner).await.unwrap();
    let second = log.last_sweep;
    log.append(&owner, kist::format::log::Action::Condemn { packs: vec![] }).await.unwrap();
    let said = alarm(&scene, |key| key == object::checkpoint_key(second)).await;
    assert!(said.contains(&format!("checkpoint of entry {second}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_old_copy_is_seen_by_who_has_seen_more() {
    let (scene, owner, _) = aged().await;
    let old: InMemory = scene.beneath.fork();
    repo::observe(&owner).await.unwrap();
    repo::hold(&owner, kist::format::log::Scope::All, "more").await.unwrap();
    Log::load(&owner).await.unwrap();
    let seen = owner.seen.view();
    assert!(seen.slot > 0);

    let mut back = scene.open(over(old)).await.unwrap();
    assert!(Snapshots::load(&back).await.unwrap().problems.is_empty(), "a new machine can't know");
    back.seen = repo::Seen::new(seen);
    let error = Snapshots::load(&back).await.err().expect("it has seen more");
    assert!(chain(&error).contains("an old copy of the store was put back"), "{}", chain(&error));
    // And gone on with, elsewhere: as long, but another.
    back.seen = repo::Seen::default();
    repo::hold(&back, kist::format::log::Scope::All, "another").await.unwrap();
    repo::hold(&back, kist::format::log::Scope::All, "another").await.unwrap();
    back.seen = repo::Seen::new(seen);
    let error = Snapshots::load(&back).await.err().expect("it has seen another");
    assert!(chain(&error).contains("forked"), "{}", chain(&error));
    // Also when a checkpoint stands for what was seen.
    back.seen = repo::Seen::default();
    prune(&back).await;
    back.seen = repo::Seen::new(seen);
    assert!(Snapshots::load(&back).await.is_err());
}
