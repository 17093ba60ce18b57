//! Sessions that are at work and have nothing to upload, beside a prune.

use std::sync::Arc;
use std::time::Duration;

use kist::format::id::PackId;
use kist::format::object;
use kist::repo::{self, Left, PruneSettings, Repository, Unlock};

use crate::actors::{checked, go_on};
use crate::draw::Draw;
use crate::run::{Scene, virtually};
use crate::sea::Rates;
use crate::time::{wait, world};
use crate::trees;

async fn open(scene: &Scene, name: &str, key: &Unlock, seed: u64) -> Repository {
    let (_, store) = scene.sea.process(name, 1, None);
    repo::open(store, &world(&scene.sea.since, seed), key, None).await.unwrap()
}

/// A session begins; an hour later a prune comes that waits for nobody and takes a session for dead after 15 minutes.
async fn an_hour(scene: Arc<Scene>, is_held: bool) -> Result<(), String> {
    let maintainer = open(&scene, "maintainer", &scene.maintainer, 1).await;
    // Something to condemn: a pack that no index names.
    let pack = object::pack_key(PackId([7; 16]));
    maintainer.store.put(&pack, vec![0; 1000].into()).await.unwrap();
    // What has come since a session at work began may be its own.
    wait(Duration::from_secs(60)).await;
    let writer = open(&scene, "writer", &scene.writers[0], 2).await;
    let begun = repo::begin(&writer, 1).await.unwrap();
    let session = begun.session;
    let begun = is_held.then_some(begun);
    wait(Duration::from_secs(60 * 60)).await;
    let signs = maintainer.store.list(object::INDEX).await.unwrap().len();
    let impatient = PruneSettings { patience: Duration::ZERO, ..Default::default() };
    let pruned = repo::prune(&maintainer, impatient, &|_| {}).await.unwrap();
    let Some(begun) = begun else {
        assert_eq!((signs, pruned.fenced, pruned.left), (0, 1, None));
        return Ok(());
    };
    assert_eq!((pruned.fenced, pruned.left), (0, Some(Left::Sessions(1))));
    assert!((11..=12).contains(&signs), "{signs} in an hour");
    let mut draw = Draw::new(3);
    let tree = trees::sown(&mut draw);
    let number = scene.ledger.lock().unwrap().begin(&tree);
    let (committed, _) = go_on(&writer, begun, draw, &tree, (number, 0)).await.unwrap();
    assert_eq!(committed, session);
    scene.ledger.lock().unwrap().told.insert(committed, number);
    let (_, findings) = checked(&maintainer, None).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    Ok(())
}

fn play(is_held: bool) {
    virtually(async {
        let scene = Arc::new(Scene::new(1).await);
        scene.sea.set_rates(Rates::default());
        scene.play(vec![Box::pin(an_hour(scene.clone(), is_held))]).await.unwrap();
    });
}

/// The story: a backup that read a touched volume again, or waited for pods, named nothing for a quarter of an hour. A
/// prune fenced it, and swept what it had uploaded.
#[test]
fn a_session_with_nothing_to_upload_for_an_hour_is_not_fenced_and_commits() {
    play(true);
}

#[test]
fn a_session_whose_process_has_ended_gives_no_more_signs_and_is_fenced() {
    play(false);
}
