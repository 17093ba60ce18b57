//! Runs that were killed: after each effect on the store in turn, the next run just runs.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kist::format::id::RecordId;
use kist::repo::{Repository, Unlock};
use kist::store::Store;
use kist::store::testing::{EFFECTS, Failure, Faulty, Log, Moment, Recording};
use object_store::memory::InMemory;

use kist::job;
use kist::progress::{Progress, Unit};

use crate::scene::{ABOVE, Scene, backup, backup_until, change, check, grow, over, record_ids};

/// How a run ends in the midst of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next effect never reaches the store.
    Before,
    /// It does, but nobody is there any more to hear of it.
    After,
}

/// The store of a run that is killed at its effect number `nth`.
pub fn killed(beneath: &InMemory, nth: u64, end: End) -> Store {
    let faults = Faulty::over(Arc::new(beneath.clone()));
    let faults = match end {
        End::Before => faults.stop_after(nth, Failure::Denied),
        // The stop is counted apart: what follows the effect fails, reads included.
        End::After => faults.stop_after(nth + 1, Failure::Denied).fail(
            EFFECTS,
            nth..nth + 1,
            Moment::After,
            Failure::Denied,
        ),
    };
    Store::over(faults.wrap())
}

/// Kills `run` at each of its effects in turn, each time on a copy of what lies beneath, and hands what is left to `then`
/// with its number, and whether the run said that it was done. Goes on until `then` says that it is enough.
pub async fn killed_at_each(
    beneath: &InMemory,
    end: End,
    run: impl AsyncFn(Store) -> bool,
    then: impl AsyncFn(u64, InMemory, bool) -> ControlFlow<()>,
) {
    for nth in 0.. {
        let left = beneath.fork();
        let is_done = run(killed(&left, nth, end)).await;
        if then(nth, left, is_done).await.is_break() {
            break;
        }
    }
}

/// How many chunks and nodes the deltas that landed name.
pub async fn indexed(repo: &Repository) -> (u64, u64) {
    let ids = record_ids(repo).await;
    let chunks = ids.iter().filter(|id| matches!(id, RecordId::Chunk(_))).count() as u64;
    (chunks, ids.len() as u64 - chunks)
}

/// Kills a backup at each of its effects, and each time lets the next one run on what is there.
async fn kill_everywhere(scene: &Scene, writer: &Unlock, end: End) {
    let log = Log::default();
    let recorded = Store::over(Recording::over(Arc::new(scene.beneath.fork()), &log));
    let reference = kist::repo::open(recorded, &scene.world(), writer, None).await.unwrap();
    let before = indexed(&reference).await;
    let done = backup(&reference, &scene.source()).await.unwrap();
    let all = (before.0 + done.stats.new_chunks, before.1 + done.stats.new_nodes);
    let effects = log.effects();
    assert!(effects.len() > 10, "{effects:?}");
    assert!(effects.last().unwrap().key.starts_with("commits/"), "the commit comes last: {effects:?}");
    assert!(effects[0].key.starts_with("sessions/"), "the session comes first: {effects:?}");
    let taken_up = RefCell::new(HashSet::new());
    let had = scene.store().list("commits").await.unwrap().len();
    let landed = Cell::new(0);
    let run = async |store: Store| {
        let dying = kist::repo::open(store, &scene.world(), writer, None).await.unwrap();
        backup(&dying, &scene.source()).await.is_ok()
    };
    killed_at_each(&scene.beneath, end, run, async |nth, beneath, is_done| {
        let what = format!("{end:?} effect {nth} of about {}", effects.len());
        if is_done {
            // Records go to packs at random, so a run may have some effects more or less than another.
            assert!(nth + 10 > effects.len() as u64, "{what}: told to be done");
            return ControlFlow::Break(());
        }
        let commits = over(beneath.clone()).list("commits").await.unwrap().len();
        assert!(commits == had || (end == End::After && commits == had + 1), "{what}");
        landed.set(landed.get() + commits - had);
        let opened = kist::repo::open(over(beneath.clone()), &scene.world(), writer, None).await.unwrap();
        let there = indexed(&opened).await;
        let next = backup(&opened, &scene.source()).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(next.snapshot.commit.complete, "{what}");
        assert_eq!(next.stats.new_chunks, all.0 - there.0, "{what}: only what is missing");
        let missing = all.1 - all.1.min(there.1);
        assert!((missing..=missing + ABOVE).contains(&next.stats.new_nodes), "{what}: {missing}");
        taken_up.borrow_mut().insert(there);
        let owner = scene.open(over(beneath)).await.unwrap();
        scene.restore_whole(&owner, &next.snapshot.name(), &what).await;
        let findings = check(&owner).await.findings;
        assert!(findings.is_empty(), "{what}: {findings:?}");
        ControlFlow::Continue(())
    })
    .await;
    let (landed, taken_up) = (landed.get(), taken_up.into_inner());
    assert!(landed == 0 || end == End::After, "only the last effect makes a snapshot");
    assert!(taken_up.len() > 1, "no killed run has left anything to take up: {taken_up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_killed_before_any_effect_is_taken_up_by_the_next() {
    let scene = Scene::new().await;
    grow(&scene.source());
    kill_everywhere(&scene, &scene.writer("killed").await, End::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_killed_after_any_effect_harms_neither_the_first_nor_the_next() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let writer = scene.writer("killed").await;
    let opened = kist::repo::open(scene.store(), &scene.world(), &writer, None).await.unwrap();
    let first = backup(&opened, &scene.source()).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    scene.restore_whole(&owner, &first.snapshot.name(), "the first").await;
    change(&scene.source());
    std::fs::write(scene.source().join("d new file"), crate::scene::noise(1_600_000, 9)).unwrap();
    kill_everywhere(&scene, &writer, End::After).await;
    let findings = check(&owner).await.findings;
    assert!(findings.is_empty(), "{findings:?}");
}

/// Says that it is enough when it has been asked so many times.
pub struct Patience(pub AtomicI64);

impl Progress for Patience {
    fn advance(&self, _: Unit, _: u64) {}

    fn is_cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

/// The story: Ctrl-C while the last large file was being read, when the walk was over and the last batch was
/// taken. The file was cut short, the question had been asked just before, and the snapshot was committed
/// as complete.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_commits_nothing_whenever_the_word_comes() {
    let scene = Scene::new().await;
    std::fs::write(scene.source().join("a large file"), crate::scene::noise(700_000, 1)).unwrap();
    std::fs::write(scene.source().join("another large file"), crate::scene::noise(300_000, 2)).unwrap();
    let mut interrupted = 0;
    for questions in (0..).step_by(5) {
        let opened = scene.open(scene.copy()).await.unwrap();
        let progress = Arc::new(Patience(AtomicI64::new(questions)));
        match backup_until(&opened, &scene.source(), progress).await {
            Err(job::Error::Interrupted) => {
                interrupted += 1;
                assert_eq!(opened.store.list("commits").await.unwrap(), [], "after {questions} questions");
            }
            Err(error) => panic!("after {questions} questions: {error}"),
            Ok(done) => {
                let what = format!("after {questions} questions");
                scene.restore_whole(&opened, &done.snapshot.name(), &what).await;
                assert!(interrupted > 10, "{interrupted} interrupts, {what}");
                return;
            }
        }
        let next = backup(&opened, &scene.source()).await.unwrap();
        scene.restore_whole(&opened, &next.snapshot.name(), "the next run").await;
        let findings = check(&opened).await.findings;
        assert!(findings.is_empty(), "after {questions} questions: {findings:?}");
    }
}
