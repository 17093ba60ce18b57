//! What whoever holds the store can take away or put back, and is seen: the log cut off, a commit, a checkpoint, a whole
//! old copy.

use kist::format::id::SessionId;
use kist::format::keys::Role;
use kist::format::log::{Action, Scope};
use kist::format::{commit, object};
use kist::job::{self, repair::Request};
use kist::repo::{self, Error, Log, NewKey, Repository, Snapshots};
use object_store::memory::InMemory;

use crate::repair::{all, repair_with};
use crate::revoked::commit_in;
use crate::scene::{Scene, backup, chain, check, names, noise, now, over, prune, repo_error};

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
    log.append(&owner, Action::Condemn { packs: vec![] }).await.unwrap();
    let said = alarm(&scene, |key| key == object::checkpoint_key(second)).await;
    assert!(said.contains(&format!("checkpoint of entry {second}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_old_copy_is_seen_by_who_has_seen_more() {
    let (scene, owner, _) = aged().await;
    let old: InMemory = scene.beneath.fork();
    repo::observe(&owner).await.unwrap();
    repo::hold(&owner, Scope::All, "more").await.unwrap();
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
    repo::hold(&back, Scope::All, "another").await.unwrap();
    repo::hold(&back, Scope::All, "another").await.unwrap();
    back.seen = repo::Seen::new(seen);
    let error = Snapshots::load(&back).await.err().expect("it has seen another");
    assert!(chain(&error).contains("forked"), "{}", chain(&error));
    // Also when a checkpoint stands for what was seen.
    back.seen = repo::Seen::default();
    prune(&back).await;
    back.seen = repo::Seen::new(seen);
    assert!(Snapshots::load(&back).await.is_err());
}

/// Whose rights in the bucket are a writer's, and who has no key of kist's, can do this.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_folder_of_an_epoch_to_come_and_is_no_commit_stops_nobody() {
    let (scene, owner, ids) = aged().await;
    let shop = scene.open_with(&scene.writer("shop").await).await;
    let snapshot = backup(&shop, &scene.source()).await.unwrap().snapshot;
    let next = Log::load(&owner).await.unwrap().epoch + 1;
    let put = async |id: SessionId, bytes: Vec<u8>| {
        owner.store.put(&object::commit_key(id), bytes.into()).await.unwrap();
    };
    put(SessionId::new(next, [1; 12]), vec![]).await;
    put(SessionId::new(next, [2; 12]), noise(1000, 1)).await;
    // A commit from another place, and a fence, which nobody signs.
    let commit = owner.store.get(&object::commit_key(ids[2])).await.unwrap();
    put(SessionId::new(next, [3; 12]), commit.to_vec()).await;
    let key = object::commit_key(SessionId::new(next, [4; 12]));
    let (structure, world) = (&owner.keys.structure, scene.world());
    put(
        SessionId::new(next, [4; 12]),
        object::seal_object(structure, world.bytes(), owner.config.repo, &key, commit::fence()),
    )
    .await;
    // And what a key has signed that is revoked.
    for slot in repo::list_keys(&owner).await.unwrap().slots("shop").unwrap() {
        repo::remove_key(&owner, slot).await.unwrap();
    }
    commit_in(next, &shop, &snapshot).await;

    let writer = scene.open_with(&scene.writer("writer").await).await;
    let newest = backup(&writer, &scene.source()).await.unwrap().snapshot;
    assert!(names(&owner).await.contains(&newest.name()));
    assert!(repo::observe(&owner).await.unwrap().contains(&newest.id));
    repo::forget(&owner, &[ids[0]]).await.unwrap();
    repo::prune_plan(&owner, Default::default()).await.unwrap();
    let removed = repo::list_keys(&owner).await.unwrap().slots("writer").unwrap();
    repo::remove_key(&owner, removed[0]).await.unwrap();
    assert!(check(&owner).await.findings.is_empty());
    scene.restore_whole(&owner, &newest.name(), "the newest").await;
}

/// The log that was cut off behind a slot, with its checkpoints. It has a hold, a snapshot and an observe for each epoch, and
/// what opened the next; if that `ends` them, a sweep and a checkpoint, so that there is no index but the last epoch's.
async fn cut_off(behind: u64, epochs: u64, ends: bool) -> (Scene, Vec<SessionId>) {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let writer = scene.open_with(&scene.writer("writer").await).await;
    let mut ids = Vec::new();
    for epoch in 0..epochs {
        repo::hold(&owner, Scope::All, "").await.unwrap();
        ids.push(backup_of(&scene, &writer, epoch).await);
        repo::observe(&owner).await.unwrap();
        let mut log = Log::load(&owner).await.unwrap();
        if epoch + 1 < epochs {
            let condemned = log.head + 1;
            log.append(&owner, Action::Condemn { packs: vec![] }).await.unwrap();
            if ends {
                log.append(&owner, Action::Sweep { condemned, packs: vec![] }).await.unwrap();
                prune(&owner).await;
            }
        }
    }
    assert_eq!(ids.last().unwrap().epoch() as u64, epochs - 1);
    for object in scene.store().list("").await.unwrap() {
        let is_cut = object::parse_slot(object::GC_LOG, &object.key).is_some_and(|slot| slot > behind);
        if is_cut || object.key.starts_with(object::CHECKPOINTS) {
            scene.store().delete(&object.key).await.unwrap();
        }
    }
    (scene, ids)
}

/// Each snapshot has the file as it was in its epoch.
async fn all_come_back(scene: &Scene, repo: &Repository, ids: &[SessionId], what: &str) {
    for (epoch, id) in ids.iter().enumerate() {
        std::fs::write(scene.source().join("file"), noise(20_000, epoch as u64)).unwrap();
        let outcome = scene.restore(repo, &id.snapshot_name()).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{what}, epoch {epoch}: {}", chain(&error)));
        let is_whole = outcome.absent.is_empty() && outcome.lost.is_empty() && outcome.problems.is_empty();
        let is_same = outcome.different.iter().all(|line| line.contains(": mtime:"));
        assert!(is_whole && is_same, "{what}, epoch {epoch}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_was_cut_off_a_snapshot_is_restored_by_its_id_and_nothing_is_added() {
    // All; what opened the second epoch; what its snapshot has seen.
    for behind in [0, 2, 3] {
        let (scene, ids) = cut_off(behind, 2, false).await;
        let reader = scene.add(NewKey::of(Role::Reader, "reader")).await;
        let going_on = scene.open_with(&reader).await.going_on();
        all_come_back(&scene, &going_on, &ids, &format!("cut behind {behind}")).await;
        let strict = scene.open_with(&reader).await;
        let alarm = scene.restore(&strict, &ids[1].snapshot_name()).await;
        let alarm = repo_error(alarm.expect_err("who does not go on is told"));
        assert!(matches!(alarm, Error::Log { .. }), "{}", chain(&alarm));
        if behind < 3 {
            let writer = scene.open_with(&scene.writer("another").await).await;
            let alarm = repo_error(backup(&writer, &scene.source()).await.err().expect("nothing is added"));
            assert!(matches!(alarm, Error::Log { .. }), "{}", chain(&alarm));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_was_cut_off_a_repair_goes_on_with_every_snapshot() {
    for (behind, epochs, ends) in [(0, 3, true), (4, 3, true), (8, 3, true), (0, 2, false), (3, 2, false)] {
        let (scene, ids) = cut_off(behind, epochs, ends).await;
        let owner = scene.open(scene.store()).await.unwrap();
        let (outcome, told) = repair_with(&owner, all()).await.unwrap();
        let what = format!("cut behind {behind} in {epochs} epochs: {told:?}");
        assert!(outcome.refused.is_empty() && outcome.lost.is_empty() && !outcome.was_sound, "{what}");
        let writer = scene.open_with(&scene.writer("another").await).await;
        let next = backup(&writer, &scene.source()).await.unwrap().snapshot.id;
        let mut all: Vec<String> = ids.iter().chain([&next]).map(|id| id.snapshot_name()).collect();
        all.sort();
        for _ in 0..2 {
            let mut there = names(&owner).await;
            there.sort();
            assert_eq!(there, all, "{what}");
            all_come_back(&scene, &owner, &ids, &what).await;
            assert!(check(&owner).await.findings.is_empty(), "{what}");
            prune(&owner).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_a_stolen_key_made_up_is_mended_by_a_repair_and_then_the_key_can_be_removed() {
    let (scene, owner, ids) = aged().await;
    let shop = scene.open_with(&scene.writer("shop").await).await;
    let snapshot = backup(&shop, &scene.source()).await.unwrap().snapshot;
    let next = Log::load(&owner).await.unwrap().epoch + 1;
    for epoch in [next + 9, next] {
        commit_in(epoch, &shop, &snapshot).await;
    }
    let alarm = repo_error(backup(&owner, &scene.source()).await.err().expect("nothing is added"));
    let key = shop.keys.certificate.key.to_string();
    assert!(matches!(alarm, Error::Log { .. }) && chain(&alarm).contains(&key), "{}", chain(&alarm));
    let (outcome, told) = repair_with(&owner, all()).await.unwrap();
    assert!(outcome.refused.is_empty() && outcome.lost.is_empty(), "{told:?}");
    let slot = repo::list_keys(&owner).await.unwrap().slots("shop").unwrap()[0];
    repo::remove_key(&owner, slot).await.unwrap();
    let newest = backup(&owner, &scene.source()).await.unwrap().snapshot;
    prune(&owner).await;
    let there = names(&owner).await;
    assert!(ids.iter().chain([&snapshot.id, &newest.id]).all(|id| there.contains(&id.snapshot_name())));
}

/// Whoever may create objects can lay these, and nobody can tell them from sound ones that were written over.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_commit_or_session_in_an_open_epoch_stops_prunes_until_a_repair_and_costs_no_snapshot() {
    for folder in [object::COMMITS, object::SESSIONS] {
        let (scene, owner, _) = aged().await;
        let id = SessionId::new(Log::load(&owner).await.unwrap().epoch, [1; 12]);
        let key = object::commit_key(id).replacen(object::COMMITS, folder, 1);
        owner.store.put(&key, noise(1000, 1).into()).await.unwrap();
        let newest = backup(&owner, &scene.source()).await.unwrap().snapshot;
        scene.restore_whole(&owner, &newest.name(), folder).await;
        let before = Snapshots::load(&owner).await.unwrap().all.len();
        assert!(repo::prune(&owner, now(), &|_| {}).await.is_err(), "{folder}");
        let named = job::forget::What::Named(vec![newest.name()]);
        let forgets = job::forget::plan(&owner, &named, true).await.is_ok();
        assert_eq!(forgets, folder == object::SESSIONS);
        let found = check(&owner).await.findings;
        assert!(found.len() == 1 && found[0].to_string().contains(&key), "{found:?}");

        let cut = folder == object::COMMITS;
        let (outcome, told) = repair_with(&owner, Request { cut, ..all() }).await.unwrap();
        assert!(outcome.refused.is_empty() && outcome.lost.is_empty(), "{folder}: {told:?}");
        assert_eq!(names(&owner).await.len(), before, "{folder}");
        prune(&owner).await;
        assert!(check(&owner).await.findings.is_empty(), "{folder}");
    }
}
