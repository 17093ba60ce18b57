//! What is lost for good is cut out and named, once, and the rest goes on.

use kist::format::log::Scope;
use kist::format::pack::PackKind;
use kist::job::repair::Request;
use kist::repo::{self, Snapshots};

use crate::repair::{Past, all, data_is_gone, each_kill, nothing_is_found, packs, repair_with, small};
use crate::scene::{Scene, check_structure, names, noise, now, prune};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_for_good_is_cut_out_and_named_and_the_rest_goes_on() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let nodes = packs(&owner, PackKind::Nodes).await;
    let data = packs(&owner, PackKind::Data).await;
    for key in [&nodes[nodes.len() / 2], &data[0], &data[data.len() / 2]] {
        owner.store.delete(key).await.unwrap();
    }
    let refused = repo::prune(&owner, now(), &|_| {}).await;
    let (outcome, _) = repair_with(&owner, all()).await.unwrap();
    assert!(!outcome.lost.is_empty());
    let hurt: Vec<String> = outcome.lost.iter().map(|snapshot| snapshot.name()).collect();
    let before = check_structure(&owner).await.touched;
    assert!(!before.is_empty() && before.iter().all(|touched| hurt.contains(&touched.snapshot)));
    let (outcome, told) = repair_with(&owner, Request { cut: true, ..all() }).await.unwrap();
    assert!(outcome.lost.is_empty(), "{told:?}");
    nothing_is_found(&owner, "cut").await;
    let left = Snapshots::load(&owner).await.unwrap();
    assert_eq!(left.forgotten.len(), hurt.len(), "{refused:?}");
    assert!(left.all.iter().any(|snapshot| !snapshot.commit.complete), "it says that something is missing");
    prune(&owner).await;
    nothing_is_found(&owner, "cut and pruned").await;
    for snapshot in &left.all {
        let outcome = past.scene.restore(&owner, &snapshot.name()).await.unwrap();
        assert!(outcome.lost.is_empty() && outcome.problems.is_empty(), "{outcome:?}");
    }
    let next = past.backup().await;
    past.scene.restore_whole(&owner, &next, "the next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_snapshot_is_cut_and_not_forgotten() {
    let past = Past::new().await;
    let owner = past.owner().await;
    repo::hold(&owner, Scope::All, "an auditor").await.unwrap();
    let data = packs(&owner, PackKind::Data).await;
    data_is_gone(&owner, &data).await;
    let (outcome, told) = repair_with(&owner, Request { cut: true, ..all() }).await.unwrap();
    assert_eq!(outcome.lost.len(), 2, "{told:?}");
    assert!(
        told.iter().filter(|line| line.starts_with("cut")).all(|line| line.contains("an auditor")),
        "{told:?}"
    );
    assert!(Snapshots::load(&owner).await.unwrap().forgotten.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_made_anew_once_however_often_it_is_cut() {
    let past = Past::new().await;
    let owner = past.owner().await;
    repo::hold(&owner, Scope::All, "an auditor").await.unwrap();
    let data = packs(&owner, PackKind::Data).await;
    data_is_gone(&owner, &data[..1]).await;
    repair_with(&owner, Request { cut: true, ..all() }).await.unwrap();
    let once = names(&owner).await;
    assert!(once.len() > 2, "{once:?}");
    repair_with(&owner, Request { cut: true, ..all() }).await.unwrap();
    assert_eq!(names(&owner).await, once);
}

/// Each snapshot that is left is whole, and what was lost is made anew once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_is_killed_anywhere_is_taken_up_by_the_next() {
    let scene = Scene::new().await;
    small(&scene.source());
    let writer = scene.writer("writer").await;
    Past::backup_as(&scene, &writer).await;
    let owner = scene.open(scene.store()).await.unwrap();
    let data = packs(&owner, PackKind::Data).await;
    std::fs::write(scene.source().join("new"), noise(9_000, 7)).unwrap();
    Past::backup_as(&scene, &writer).await;
    data_is_gone(&owner, &data[..1]).await;
    each_kill(
        &scene,
        || Request { cut: true, ..all() },
        async |repo, what| {
            let left = names(&repo).await;
            assert_eq!(left.len(), 2, "{what}: {left:?}");
            for name in left {
                let outcome = scene.restore(&repo, &name).await.unwrap();
                assert!(outcome.lost.is_empty() && outcome.problems.is_empty(), "{what}: {outcome:?}");
            }
        },
    )
    .await;
}
