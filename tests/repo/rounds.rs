//! What a store that is far away costs: how often a run waits for an answer before it can ask on.
//!
//! Each request takes a second of a clock that goes on only when nothing else can be done, so the seconds that a run
//! takes are the requests that waited for each other.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use kist::catalog::{Catalog, Found, Pattern};
use kist::format::object;
use kist::format::pack::PackKind;
use kist::job::record;
use kist::repo::{self, Index, Limits, Log, PruneSettings, Repository};
use kist::store::testing::{self, Far, Recording};
use tokio::time::Instant;

use crate::scene::{Scene, backup, change, grow, now};

/// How often it waited for an answer.
async fn rounds<T>(work: impl Future<Output = T>) -> (u64, T) {
    let begin = Instant::now();
    let done = work.await;
    (begin.elapsed().as_secs(), done)
}

/// The clock can't tell how often a restore waits: it goes on while CPU threads work.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_reads_each_pack_of_data_by_one_request() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let near = scene.open(scene.store()).await.unwrap();
    let done = backup(&near, &scene.source()).await.unwrap();
    let index = Index::load(&near).await.unwrap();
    let data = index.packs().iter().filter(|pack| pack.kind == PackKind::Data);
    let data: HashSet<String> = data.map(|pack| object::pack_key(pack.id)).collect();
    let recorded = testing::Log::default();
    let store = scene.store().decorated(|inner| Recording::over(inner, &recorded));
    let repo = scene.open(store).await.unwrap();
    assert!(scene.restore(&repo, &done.snapshot.name()).await.unwrap().is_whole());
    let read = recorded.events().into_iter().filter(|event| data.contains(&event.key)).count();
    assert!(data.len() > 20, "{} packs", data.len());
    assert_eq!(read, data.len());
}

/// All that the catalog says of all paths.
fn said(path: &Path, repo: &Repository) -> Vec<String> {
    let mut all = Vec::new();
    let take = |found: Found| {
        all.push(format!("{found:?}"));
        ControlFlow::Continue(())
    };
    let catalog = Catalog::open(path, repo.catalog_id()).unwrap();
    catalog.find(None, &Pattern::glob("*").unwrap(), take).unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_backup_the_catalog_asks_for_the_trees_that_are_new_and_for_nothing_else() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let recorded = testing::Log::default();
    let repo = scene.open(scene.store().decorated(|inner| Recording::over(inner, &recorded))).await.unwrap();
    let catalog = scene.dir.path().join("catalog");
    for nth in 0..2 {
        if nth > 0 {
            change(&scene.source());
        }
        let done = backup(&repo, &scene.source()).await.unwrap();
        assert!(done.stats.new_nodes > 0);
        recorded.clear();
        record::add(&repo, &catalog, done.known, done.reader).await.unwrap();
        let asked = recorded.events();
        assert!(!asked.is_empty(), "backup {nth}");
        assert!(asked.iter().all(|event| event.key.starts_with(object::PACKS)), "backup {nth}: {asked:?}");
        let filled = said(&catalog, &repo);
        record::rebuild(&repo, &catalog).await.unwrap();
        assert_eq!(filled, said(&catalog, &repo), "backup {nth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_backup_the_catalog_is_filled_from_what_was_written_though_it_was_there_damaged() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let repo = scene.open(scene.store()).await.unwrap();
    backup(&repo, &scene.source()).await.unwrap();
    let index = Index::load(&repo).await.unwrap();
    for pack in index.packs().iter().filter(|pack| pack.kind == PackKind::Nodes) {
        let key = object::pack_key(pack.id);
        let mut bytes = repo.store.get(&key).await.unwrap().to_vec();
        bytes[100..].iter_mut().for_each(|byte| *byte ^= 1);
        repo.store.put(&key, bytes.into()).await.unwrap();
    }
    let done = backup(&repo, &scene.source()).await.unwrap();
    let catalog = scene.dir.path().join("catalog");
    // Of the first one what lies above the source may be lost: others make folders there too.
    let mut known = done.known;
    known.all.retain(|snapshot| snapshot.id == done.snapshot.id);
    record::add(&repo, &catalog, known, done.reader).await.unwrap_or_else(|error| panic!("{error:?}"));
    let filled = said(&catalog, &repo);
    assert!(!filled.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_filled_though_another_run_was_quicker() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let open = async || scene.open(scene.store()).await.unwrap();
    let catalog = scene.dir.path().join("catalog");
    let (one, other) = (open().await, open().await);
    let slow = backup(&one, &scene.source()).await.unwrap();
    change(&scene.source());
    let quick = backup(&other, &scene.source()).await.unwrap();
    // As if the slow one had not ended when the quick one began.
    let mut known = quick.known;
    known.all.retain(|snapshot| snapshot.id == quick.snapshot.id);
    known.left_out.clear();
    record::add(&other, &catalog, known, quick.reader).await.unwrap();
    record::add(&one, &catalog, slow.known, slow.reader).await.unwrap();
    let filled = said(&catalog, &one);
    record::rebuild(&one, &catalog).await.unwrap();
    assert_eq!(filled.len(), said(&catalog, &one).len());
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_a_few_times_for_a_store_that_is_far_away() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let near = scene.open(scene.store()).await.unwrap();
    let first = backup(&near, &scene.source()).await.unwrap();
    backup(&near, &scene.source()).await.unwrap();
    let far = scene.store().decorated(|inner| Far::over(inner, Duration::from_secs(1)));

    let (opening, far) = rounds(scene.open(far)).await;
    let far = far.unwrap();
    let (beginning, begun) = rounds(repo::begin(&far, 1)).await;
    let begun = begun.unwrap();
    let (looking_back, before) = rounds(begun.load_before(&far)).await;
    assert_eq!(before.unwrap().0.all.len(), 2);
    let (again, log) = rounds(Log::load(&far)).await;
    log.unwrap();
    assert_eq!((opening, beginning, looking_back, again), (1, 4, 6, 1));

    repo::forget(&near, &[first.snapshot.id]).await.unwrap();
    // Packs of a test are all small, and are not what is measured here.
    let limits = Limits { small_pack_bytes: 0, min_used_percent: 0, ..Default::default() };
    let (pruning, pruned) = rounds(repo::prune(&far, PruneSettings { limits, ..now() }, &|_| {})).await;
    assert_eq!(pruned.unwrap().left, None);
    assert!(pruning <= 60, "{pruning}");
}
