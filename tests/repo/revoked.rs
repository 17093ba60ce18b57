//! Keys that were removed or drawn anew: what their former holders make afterwards does not count, and nothing that
//! was made before is lost by it.

use std::sync::Arc;

use kist::format::id::SessionId;
use kist::format::keys::{Role, Trust};
use kist::format::log::Action;
use kist::format::object;
use kist::job::backup::Done;
use kist::repo::{self, Error, Index, Log, NewKey, Repository, Snapshots, ToCommit, Unlock, View};
use kist::store::testing::{Failure, Faulty, Moment};
use kist::store::{Store, Verb};

use crate::scene::{Scene, backup, check, grow, names, noise, over, prune, record_ids, repo_error};

async fn remove(owner: &Repository, name: &str) {
    for slot in repo::list_keys(owner).await.unwrap().slots(name).unwrap() {
        repo::remove_key(owner, slot).await.unwrap();
    }
}

async fn assert_revoked(scene: &Scene, repo: &Repository) {
    let refused = repo_error(backup(repo, &scene.source()).await.err().expect("it was revoked"));
    assert!(matches!(refused, Error::Revoked), "{refused}");
}

/// In an order that no clock decides.
async fn sorted_names(repo: &Repository) -> Vec<String> {
    let mut names = names(repo).await;
    names.sort();
    names
}

/// What a thief does with what was in the slot: he asks nobody, and commits.
async fn commit_all_the_same(thief: &Repository, like: &repo::Snapshot) -> SessionId {
    let epoch = Log::load(thief).await.unwrap().epoch;
    commit_in(epoch, thief, like).await
}

/// The same in some epoch.
pub async fn commit_in(epoch: u32, thief: &Repository, like: &repo::Snapshot) -> SessionId {
    let log = Log::load(thief).await.unwrap();
    let before = Snapshots::load(thief).await.unwrap();
    commit_with(thief, like, (epoch, View { slot: log.head, head: log.digest() }), &before).await
}

/// And says what he likes of the log, and of what was there before.
async fn commit_with(
    thief: &Repository,
    like: &repo::Snapshot,
    (epoch, view): (u32, View),
    before: &Snapshots,
) -> SessionId {
    let session = SessionId::new(epoch, thief.world.bytes());
    let what = ToCommit {
        view,
        time: thief.world.now(),
        source: like.commit.source,
        complete: true,
        class: vec![],
        held: false,
        roots: like.commit.roots.clone(),
        summary: repo::summary(thief, like).unwrap().unwrap(),
    };
    repo::commit(thief, session, before, what).await.unwrap().id
}

/// A run that dies before its commit, and the next one, which refers to its packs: these must go on to count.
async fn behind_one_that_died(scene: &Scene, unlock: &Unlock) -> (Repository, Done) {
    let faults = Faulty::over(Arc::new(scene.beneath.clone()));
    let faults = faults.fail(&[Verb::Create], 0..1, Moment::Before, Failure::Denied);
    let died = repo::open(Store::over(faults.wrap()), &scene.world(), unlock, None).await.unwrap();
    assert!(backup(&died, &scene.source()).await.is_err());
    let writer = scene.open_with(unlock).await;
    let done = backup(&writer, &scene.source()).await.unwrap();
    assert_eq!(done.stats.new_chunks, 0, "all lies in the packs of the run that died");
    (writer, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_writer_s_key_makes_afterwards_does_not_count_and_what_it_made_before_stays() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let unlock = scene.writer("shop").await;
    let (writer, first) = behind_one_that_died(&scene, &unlock).await;
    let begun = repo::begin(&writer, 1).await.unwrap().session;

    remove(&owner, "shop").await;

    assert_revoked(&scene, &writer).await;
    let mine = sorted_names(&owner).await;
    assert_eq!(mine, [first.snapshot.name()]);
    let forged = commit_all_the_same(&writer, &first.snapshot).await;
    assert!(owner.store.get(&object::commit_key(forged)).await.is_ok());
    assert!(owner.store.get(&object::commit_key(begun)).await.is_ok(), "it was fenced");
    repo::observe(&owner).await.unwrap();
    assert_eq!(sorted_names(&owner).await, mine);
    scene.restore_whole(&owner, &mine[0], "before a prune").await;
    for _ in 0..2 {
        prune(&owner).await;
        assert_eq!(sorted_names(&owner).await, mine);
        scene.restore_whole(&owner, &mine[0], "after a prune").await;
        assert!(check(&owner).await.findings.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_revoked_key_are_referred_to_by_others_only_when_somebody_has_read_them() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let trusting = NewKey { trust: Trust::Shared, ..NewKey::of(Role::Writer, "trusting") };
    let trusting = scene.open_with(&scene.add(trusting).await).await;
    let shop = scene.open_with(&scene.writer("shop").await).await;
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&shop, &scene.source()).await.unwrap();
    let new_chunks = async |name: &str| {
        let session = repo::begin(&trusting, 1).await.unwrap().session;
        let index = Index::load_to_add(&trusting, session).await.unwrap();
        let ids = record_ids(&owner).await;
        let may = ids.iter().filter(|id| index.may_refer_to(id)).count();
        (name.to_owned(), may, ids.len())
    };
    let (_, may, all) = new_chunks("before").await;
    assert!(may == all && all > 100, "{may} of {all}");
    remove(&owner, "shop").await;
    assert_eq!(new_chunks("revoked").await.1, 0);
    // Who has read every record of a pack vouches for it.
    assert!(check(&owner).await.report.verified > 0);
    assert_eq!(new_chunks("verified").await.1, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_revoked_maintainer_have_no_effect() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let unlock: Unlock = scene.add(NewKey::of(Role::Maintainer, "keeper")).await;
    let keeper = scene.open_with(&unlock).await;
    let first = backup(&owner, &scene.source()).await.unwrap().snapshot;
    std::fs::write(scene.source().join("more"), noise(5_000, 5)).unwrap();
    let second = backup(&owner, &scene.source()).await.unwrap().snapshot;
    repo::observe(&keeper).await.unwrap();
    repo::forget(&keeper, &[first.id]).await.unwrap();
    assert_eq!(sorted_names(&owner).await, [second.name()]);
    remove(&owner, "keeper").await;
    repo::recall(&owner, &[first.id]).await.unwrap();

    let before = Log::load(&owner).await.unwrap();
    repo::forget(&keeper, &[first.id, second.id]).await.unwrap();
    let mut log = Log::load(&keeper).await.unwrap();
    log.append(&keeper, Action::Condemn { packs: vec![] }).await.unwrap();
    let after = Log::load(&owner).await.unwrap();
    assert_eq!(
        (after.head, after.epoch),
        (before.head + 2, before.epoch),
        "they stand there, and do nothing"
    );
    let mut both = [first.name(), second.name()];
    both.sort();
    assert_eq!(sorted_names(&owner).await, both);
    prune(&owner).await;
    assert_eq!(sorted_names(&owner).await, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_key_was_drawn_anew_goes_on_and_the_old_one_ends() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let old = scene.open_with(&scene.writer("shop").await).await;
    let first = backup(&old, &scene.source()).await.unwrap();
    let rotated = repo::rotate_key(&owner, "shop").await.unwrap();
    for slot in rotated.replaced {
        repo::remove_key(&owner, slot).await.unwrap();
    }
    assert_revoked(&scene, &old).await;
    let new = scene.open_with(&Unlock::KeyFile(rotated.key)).await;
    let second = backup(&new, &scene.source()).await.unwrap();
    assert_eq!((second.stats.new_chunks, second.stats.new_nodes), (0, 0));
    let mut both = [first.snapshot.name(), second.snapshot.name()];
    both.sort();
    assert_eq!(sorted_names(&owner).await, both);
    scene.restore_whole(&owner, &second.snapshot.name(), "the second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_domain_is_revoked_there() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let of_bank = NewKey { domain: Some("bank".into()), ..NewKey::of(Role::Writer, "bank") };
    let bank = scene.open_with(&scene.add(of_bank).await).await;
    let done = backup(&bank, &scene.source()).await.unwrap();
    remove(&owner, "bank").await;
    assert_revoked(&scene, &bank).await;
    assert_eq!(Log::load(&owner).await.unwrap().head, 0, "the default domain's log has nothing of it");
    scene.restore_whole(&scene.open_in("bank").await, &done.snapshot.name(), "of the bank").await;
}

/// The story: one commit of a stolen key that claimed to have seen more of the log than there is was an alarm for the whole
/// domain, when the key had been removed long since.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_that_claims_to_have_seen_another_log_alarms_nobody() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let thief = scene.open_with(&scene.writer("shop").await).await;
    let first = backup(&thief, &scene.source()).await.unwrap().snapshot;
    remove(&owner, "shop").await;
    let (before, epoch) = (Snapshots::load(&thief).await.unwrap(), Log::load(&owner).await.unwrap().epoch);
    for view in [View { slot: u64::MAX, head: [7; 32] }, View { slot: 1, head: [7; 32] }, View::default()] {
        commit_with(&thief, &first, (epoch, view), &before).await;
        assert_eq!(names(&owner).await, [first.name()], "{view:?}");
        let latest = crate::scene::described(&owner, "latest").await.unwrap();
        assert_eq!(latest.id, first.id, "{view:?}");
    }
    assert!(check(&owner).await.findings.is_empty());
    prune(&owner).await;
    scene.restore_whole(&owner, &first.name(), "after a prune").await;
}

/// The story: when a key was drawn anew for the second time, what a thief had made with the first one since it was revoked
/// was observed along with the rest, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_revoked_key_has_made_does_not_count_after_a_later_revocation_either() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let unlock = scene.writer("shop").await;
    let first = backup(&scene.open_with(&unlock).await, &scene.source()).await.unwrap().snapshot;
    // Session and commit of a run that knows of no revocation, put where they would not be let in.
    let elsewhere = over(scene.beneath.fork());
    let thief = repo::open(elsewhere.clone(), &scene.world(), &unlock, None).await.unwrap();
    let forged = backup(&thief, &scene.source()).await.unwrap().snapshot.id;
    let rotate = async || {
        for slot in repo::rotate_key(&owner, "shop").await.unwrap().replaced {
            repo::remove_key(&owner, slot).await.unwrap();
        }
    };
    rotate().await;
    for key in [object::session_key(forged), object::commit_key(forged)] {
        scene.store().put(&key, elsewhere.get(&key).await.unwrap()).await.unwrap();
    }
    assert_eq!(names(&owner).await, [first.name()]);
    rotate().await;
    assert_eq!(names(&owner).await, [first.name()]);
}

/// Whatever of a writer's past is damaged when its key is removed, it counts when it is put back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_when_its_key_is_removed_counts_when_it_is_put_back() {
    use object::{commit_key, session_key};
    let scene = Scene::new().await;
    grow(&scene.source());
    let unlock = scene.writer("shop").await;
    let (_, done) = behind_one_that_died(&scene, &unlock).await;
    let (id, of_the_dead) = (done.snapshot.id, scene.store().list("sessions/").await.unwrap());
    let of_the_dead = of_the_dead.into_iter().map(|found| found.key).find(|key| *key != session_key(id));
    let of_the_dead = of_the_dead.expect("it has begun");
    for damaged in [
        vec![commit_key(id)],
        vec![session_key(id)],
        vec![of_the_dead.clone()],
        vec![commit_key(id), session_key(id), of_the_dead],
    ] {
        let store = over(scene.beneath.fork());
        let owner = scene.open(store.clone()).await.unwrap();
        for key in &damaged {
            store.put(key, vec![7; 500].into()).await.unwrap();
        }
        remove(&owner, "shop").await;
        for key in &damaged {
            store.put(key, scene.store().get(key).await.unwrap()).await.unwrap();
        }
        assert_eq!(names(&owner).await, [done.snapshot.name()], "{damaged:?}");
        assert!(check(&owner).await.findings.is_empty(), "{damaged:?}");
        prune(&owner).await;
        scene.restore_whole(&owner, &done.snapshot.name(), &format!("{damaged:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_goes_on_behind_a_commit_with_the_highest_sequence_that_there_is() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let writer = scene.open_with(&scene.writer("shop").await).await;
    let first = backup(&writer, &scene.source()).await.unwrap().snapshot;
    let log = Log::load(&writer).await.unwrap();
    let mut before = Snapshots::load(&writer).await.unwrap();
    before.remembered.insert(writer.keys.certificate.key, vec![(u64::MAX - 1, first.digest)]);
    commit_with(&writer, &first, (log.epoch, View { slot: log.head, head: log.digest() }), &before).await;
    for round in 0..3 {
        let done = backup(&writer, &scene.source()).await.unwrap().snapshot;
        assert_eq!(done.commit.sequence, u64::MAX);
        repo::observe(&owner).await.unwrap();
        repo::forget(&owner, &[done.id]).await.unwrap();
        prune(&owner).await;
        assert_eq!(names(&owner).await.len(), 2, "round {round}");
        assert!(check(&owner).await.findings.is_empty(), "round {round}");
    }
    scene.restore_whole(&owner, &first.name(), "the first").await;
}
