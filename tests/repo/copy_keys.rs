//! Which keys a copy takes, and what a repository that is made like another one takes over from it.

use kist::format::keys::Role;
use kist::job;
use kist::repo::{self, Class, Init, NewKey, Repository, Unlock};

use crate::copy::{Elsewhere, copy_all, copy_one, owner};
use crate::scene::{Scene, backup, change, check, grow, init, over, repo_error};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_who_reads_the_source_and_who_adds_to_the_target_and_no_more() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop = scene.writer("shop").await;
    let shop = repo::open(scene.store(), &scene.world(), &shop, None).await.unwrap();
    backup(&shop, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    let refused = repo_error(copy_all(&shop, &target).await.err().unwrap());
    assert_eq!(refused.class(), Class::Denied, "{refused}");
    let bundle = async |name| {
        let new = NewKey::of(Role::Writer, name);
        let key = repo::add_key(&elsewhere.open(&scene).await, &new).await.unwrap();
        let store = over(elsewhere.beneath.clone());
        repo::open(store, &scene.world(), &Unlock::KeyFile(key), None).await.unwrap()
    };
    let (liar, copier) = (bundle("liar").await, bundle("copier").await);
    let source = owner(&scene).await;
    let lie = copy_one(&source, &liar).await;
    // Another's word that it is there already does not count, nor is its tree followed.
    let copied = copy_one(&source, &copier).await;
    assert_eq!((copied.stats.new_chunks, copied.summary.parent), (lie.stats.new_chunks, None));
    scene.restore_whole(&target, &copied.snapshot.name(), "by a bundle").await;
    let refused = scene.restore(&copier, &copied.snapshot.name()).await.err().unwrap();
    assert_eq!(repo_error(refused).class(), Class::Denied);
    let same = copy_all(&source, &owner(&scene).await).await.err().unwrap();
    assert!(matches!(same, job::Error::SameRepository { .. }), "{same}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_s_bundle_is_enough_for_the_source_and_never_for_the_target() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let reader = scene.add(NewKey::of(Role::Reader, "dr")).await;
    let reader = scene.open_with(&reader).await;
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    let copied = copy_one(&reader, &target).await;
    scene.restore_whole(&target, &copied.snapshot.name(), "by a reader").await;
    for role in [Role::Reader, Role::Maintainer] {
        let key = repo::add_key(&target, &NewKey::of(role, &role.to_string())).await.unwrap();
        let store = over(elsewhere.beneath.clone());
        let opened = repo::open(store, &scene.world(), &Unlock::KeyFile(key), None).await.unwrap();
        let refused = repo_error(copy_all(&reader, &opened).await.err().unwrap());
        assert_eq!(refused.class(), Class::Denied, "{role}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_domain_is_copied_into_another_of_the_same_repository() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let archive = scene.open_in("archive").await;
    let copied = copy_one(&owner(&scene).await, &archive).await;
    scene.restore_whole(&archive, &copied.snapshot.name(), "in the other domain").await;
    let (plan, again) = copy_all(&owner(&scene).await, &archive).await.unwrap();
    assert_eq!((plan.passed.len(), again.len()), (1, 0));
}

/// A repository like the scene's, with the snapshots of that one.
async fn like(scene: &Scene) -> (Elsewhere, Repository) {
    let source = owner(scene).await;
    let like = source.keys.like_keys(source.config.chunker).unwrap();
    let elsewhere = Elsewhere::made(scene, Init { like: Some(like), ..init() }).await;
    let target = elsewhere.open(scene).await;
    copy_all(&source, &target).await.unwrap();
    (elsewhere, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_repository_made_like_another_stores_nothing_that_was_copied() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let (_, target) = like(&scene).await;
    assert!(check(&target).await.findings.is_empty());
    scene.restore_whole(&target, "latest", "the copy").await;
    let moved =
        |from: &str, to: &str| std::fs::rename(scene.source().join(from), scene.source().join(to)).unwrap();
    // Under other names nothing helps but the cuts and ids themselves.
    moved("a large file", "another large file");
    moved("folder 3", "z folder");
    let by_like = backup(&target, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let other = elsewhere.open(&scene).await;
    copy_all(&owner(&scene).await, &other).await.unwrap();
    let by_other = backup(&other, &scene.source()).await.unwrap();
    assert!(by_like.stats.new_chunks < 12, "{:?}", by_like.stats);
    assert!(by_other.stats.new_chunks > 150, "{:?}", by_other.stats);
    scene.restore_whole(&target, &by_like.snapshot.name(), "on top of the copy").await;
    // And the other way round: what was backed up directly is not copied again.
    change(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    backup(&target, &scene.source()).await.unwrap();
    let copied = copy_one(&owner(&scene).await, &target).await;
    // But for bundles: what lay in the first one's stream was more.
    assert!(copied.stats.new_chunks < 12, "{:?}", copied.stats);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_has_copied_is_not_uploaded_again_by_a_writer_once_a_check_has_read_it() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let mut new_chunks = Vec::new();
    for is_checked in [false, true] {
        let (elsewhere, target) = like(&scene).await;
        let key = repo::add_key(&target, &NewKey::of(Role::Writer, "shop")).await.unwrap();
        if is_checked {
            assert!(check(&target).await.report.verified > 0);
        }
        let store = over(elsewhere.beneath.clone());
        let shop = repo::open(store, &scene.world(), &Unlock::KeyFile(key), None).await.unwrap();
        let done = backup(&shop, &scene.source()).await.unwrap();
        scene.restore_whole(&target, &done.snapshot.name(), "by the writer").await;
        new_chunks.push(done.stats.new_chunks);
    }
    // It believes nobody's word but that of who has read what it would refer to.
    assert!(new_chunks[0] > 150 && new_chunks[1] < 12, "{new_chunks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_gives_what_a_repository_is_made_like_and_nothing_else_is_shared() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    for role in [Role::Writer, Role::Reader] {
        let key = scene.add(NewKey::of(role, &role.to_string())).await;
        let opened = scene.open_with(&key).await;
        let refused = opened.keys.like_keys(opened.config.chunker).err().unwrap();
        assert_eq!(refused.class(), Class::Denied, "{role}");
    }
    let (elsewhere, target) = like(&scene).await;
    assert_eq!(target.config.chunker, owner(&scene).await.config.chunker);
    // One's owner is a stranger to the other.
    let store = over(elsewhere.beneath.clone());
    let refused = repo::open(store, &scene.world(), &scene.owner, None).await.err().unwrap();
    assert_eq!(refused.class(), Class::Denied);
    // Whoever writes there later cuts alike too.
    let new = NewKey::of(Role::Writer, "shop");
    let key = repo::add_key(&target, &new).await.unwrap();
    let store = over(elsewhere.beneath.clone());
    let shop = repo::open(store, &scene.world(), &Unlock::KeyFile(key), None).await.unwrap();
    let ids = (shop.keys.ids().unwrap(), owner(&scene).await);
    assert_eq!(ids.0.chunk_id(b"x"), ids.1.keys.ids().unwrap().chunk_id(b"x"));
}
