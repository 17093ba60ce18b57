//! Forgetting and pruning: what goes, what stays, who may be at work meanwhile, and what a killed prune leaves.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kist::format::id::{ChunkId, RecordId, SessionId};
use kist::format::log::Scope;
use kist::format::refs::ChunkRef;
use kist::progress::{Progress, Unit};
use kist::repo::{self, Class, Error, Index, Left, PruneSettings, Repository, Snapshots};
use kist::store::Store;
use kist::store::testing::{Failure, Faulty, Log, Recording};

use crate::crash::{End, killed_at_each};
use crate::scene::{
    ABOVE, Scene, backup, backup_until, change, check, grow, names, noise, now, over, prune, record_ids,
};

async fn forget(repo: &Repository, ids: &[SessionId]) {
    repo::observe(repo).await.unwrap();
    repo::forget(repo, ids).await.unwrap();
}

async fn bytes_of_packs(store: &Store) -> u64 {
    store.list("packs").await.unwrap().iter().map(|pack| pack.size).sum()
}

/// Three snapshots of a source that is written anew each time; the last is what the source is now.
async fn three(scene: &Scene, repo: &Repository) -> [SessionId; 3] {
    grow(&scene.source());
    let mut ids = Vec::new();
    for seed in [100, 200, 300] {
        std::fs::write(scene.source().join("a changing file"), noise(400_000, seed)).unwrap();
        change(&scene.source());
        ids.push(backup(repo, &scene.source()).await.unwrap().snapshot.id);
        let _ = std::fs::write(scene.source().join("folder 4").join("another"), noise(300, seed));
        std::fs::write(scene.source().join("folder 4").join("one more"), noise(5000, seed)).unwrap();
        if !scene.source().join("folder 4").join(gone()).exists() {
            std::fs::write(scene.source().join("folder 4").join(gone()), noise(200, 7)).unwrap();
        }
    }
    ids.push(backup(repo, &scene.source()).await.unwrap().snapshot.id);
    [ids[0], ids[1], ids[3]]
}

/// The file that `change` removes.
fn gone() -> String {
    format!("{:03} file {}", 7, kist::format::id::hex(&noise(80, 7)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_gives_its_space_back_and_the_rest_restores_whole() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, last] = three(&scene, &owner).await;
    let before = bytes_of_packs(&owner.store).await;
    forget(&owner, &[first, second]).await;
    assert!(!names(&owner).await.contains(&first.snapshot_name()));
    let pruned = prune(&owner).await;
    assert!(pruned.swept_packs > 10 && pruned.swept_bytes > 400_000, "{pruned:?}");
    assert_eq!(pruned.left, None);
    assert!(bytes_of_packs(&owner.store).await + 600_000 < before, "{pruned:?}");
    assert!(owner.store.list("gc").await.unwrap().len() >= 4);
    assert_eq!(owner.store.list("checkpoints").await.unwrap().len(), 1);
    assert_eq!(owner.store.list("index").await.unwrap(), [], "the deltas are compacted");
    let gone = owner.store.list("commits").await.unwrap();
    assert!(!gone.iter().any(|commit| commit.key.contains(&first.snapshot_name())));
    scene.restore_whole(&owner, &last.snapshot_name(), "after the prune").await;
    let findings = check(&owner).await.findings;
    assert!(findings.is_empty(), "{findings:?}");
    // And the repository goes on: the next backup finds what is there, the next prune has nothing to do.
    let next = backup(&owner, &scene.source()).await.unwrap();
    assert_eq!(next.stats.new_chunks, 0);
    assert!(next.stats.new_nodes <= ABOVE, "{}", next.stats.new_nodes);
    let again = prune(&owner).await;
    assert_eq!((again.swept_packs, again.left), (0, None));
    scene.restore_whole(&owner, &next.snapshot.name(), "after another prune").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_snapshot_comes_back_until_it_is_swept() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, _, last] = three(&scene, &owner).await;
    forget(&owner, &[last]).await;
    assert!(!names(&owner).await.contains(&last.snapshot_name()));
    repo::recall(&owner, &[last]).await.unwrap();
    prune(&owner).await;
    scene.restore_whole(&owner, &last.snapshot_name(), "recalled").await;
    forget(&owner, &[first]).await;
    prune(&owner).await;
    let late = repo::recall(&owner, &[first]).await.unwrap_err();
    assert!(matches!(late, Error::NoSuchSnapshot { .. }), "{late}");
    assert!(check(&owner).await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_snapshot_is_not_forgotten_until_the_hold_is_lifted() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, _] = three(&scene, &owner).await;
    repo::observe(&owner).await.unwrap();
    let source = Snapshots::load(&owner).await.unwrap().all[0].commit.source;
    for scope in [Scope::All, Scope::Source(source.0), Scope::Snapshot(first)] {
        let hold = repo::hold(&owner, scope, "an audit").await.unwrap();
        let refused = repo::forget(&owner, &[second, first]).await.unwrap_err();
        assert!(refused.to_string().contains("an audit"), "{refused}");
        assert_eq!(names(&owner).await.len(), 4, "nothing is forgotten in part");
        // A prune keeps to the holds as well: they lie behind the checkpoint then.
        prune(&owner).await;
        assert!(repo::forget(&owner, &[first]).await.is_err());
        repo::lift(&owner, &[hold]).await.unwrap();
        assert!(repo::lift(&owner, &[hold]).await.is_err(), "it is gone");
    }
    repo::forget(&owner, &[first]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_touches_nothing_if_something_is_damaged() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, _, _] = three(&scene, &owner).await;
    forget(&owner, &[first]).await;
    let index = Index::load(&owner).await.unwrap();
    let nodes = index.packs().iter().filter(|pack| pack.kind == kist::format::pack::PackKind::Nodes);
    for pack in nodes {
        let key = kist::format::object::pack_key(pack.id);
        let store = scene.copy();
        let copied = scene.open(store).await.unwrap();
        copied.store.delete(&key).await.unwrap();
        let before = copied.store.list("").await.unwrap();
        match repo::prune(&copied, now(), &|_| {}).await {
            Err(error) => {
                assert_eq!(error.class(), Class::Corrupt, "{error}");
                assert_eq!(copied.store.list("").await.unwrap(), before, "{key}");
            }
            // Only the forgotten one needed it.
            Ok(_) => assert!(check(&copied).await.findings.is_empty(), "{key}"),
        }
    }
}

async fn kill_prune_everywhere(end: End) {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, last] = three(&scene, &owner).await;
    // A session that has died, and packs that no index names.
    let dead = Faulty::over(Arc::new(scene.beneath.clone())).stop_after(5, Failure::Denied);
    let dying = scene.open(Store::over(dead.wrap())).await.unwrap();
    let other = scene.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("file"), noise(400_000, 900)).unwrap();
    assert!(backup(&dying, &other).await.is_err());
    forget(&owner, &[first, second]).await;
    let log = Log::default();
    let recorded = Store::over(Recording::over(Arc::new(scene.beneath.fork()), &log));
    prune(&scene.open(recorded).await.unwrap()).await;
    let effects = log.effects();
    assert!(effects.len() > 30, "{effects:?}");
    let least = {
        let whole = scene.open(scene.copy()).await.unwrap();
        prune(&whole).await;
        bytes_of_packs(&whole.store).await
    };
    let run = async |store: Store| {
        let dying = scene.open(store).await.unwrap();
        repo::prune(&dying, now(), &|_| {}).await.is_ok()
    };
    killed_at_each(&scene.beneath, end, run, async |nth, beneath, is_done| {
        let what = format!("{end:?} effect {nth} of about {}", effects.len());
        let next = scene.open(over(beneath)).await.unwrap();
        scene.restore_whole(&next, &last.snapshot_name(), &what).await;
        let findings = check(&next).await.findings;
        assert!(findings.is_empty(), "{what}: {findings:?}");
        // In between somebody backs up; then anyone takes it up.
        let done = backup(&next, &scene.source()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        repo::prune(&next, now(), &|_| {}).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        prune(&next).await;
        for id in [last, done.snapshot.id] {
            scene.restore_whole(&next, &id.snapshot_name(), &what).await;
        }
        let findings = check(&next).await.findings;
        assert!(findings.is_empty(), "{what}: {findings:?}");
        let left = bytes_of_packs(&next.store).await;
        assert!(left <= least + least / 20, "{what}: {left} bytes are left, {least} would be enough");
        match is_done && nth as usize > effects.len() + 10 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_before_any_effect_is_taken_up_by_the_next() {
    kill_prune_everywhere(End::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_after_any_effect_is_taken_up_by_the_next() {
    kill_prune_everywhere(End::After).await;
}

/// Prunes in the midst of a backup, when it has been told of so many steps.
pub struct PruneAt {
    steps: AtomicI64,
    repo: Repository,
    runtime: tokio::runtime::Handle,
}

impl PruneAt {
    pub fn new(steps: i64, repo: Repository) -> Arc<Self> {
        Arc::new(Self { steps: AtomicI64::new(steps), repo, runtime: tokio::runtime::Handle::current() })
    }
}

impl Progress for PruneAt {
    fn advance(&self, _: Unit, _: u64) {
        if self.steps.fetch_sub(1, Ordering::SeqCst) == 0 {
            let (repo, runtime) = (self.repo.clone(), self.runtime.clone());
            let pruning = std::thread::spawn(move || runtime.block_on(repo::prune(&repo, now(), &|_| {})));
            pruning.join().unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_that_is_fenced_by_a_prune_ends_complete_all_the_same() {
    let scene = Scene::new().await;
    let base = scene.open(scene.store()).await.unwrap();
    let [first, second, last] = three(&scene, &base).await;
    forget(&base, &[first, second, last]).await;
    repo::recall(&base, &[last]).await.unwrap();
    std::fs::write(scene.source().join("a changing file"), noise(400_000, 400)).unwrap();
    let mut fenced = 0;
    for steps in [0, 1, 5, 30, 100, 400, 800] {
        let store = scene.copy();
        let writer = scene.open(store.clone()).await.unwrap();
        let progress = PruneAt::new(steps, scene.open(store.clone()).await.unwrap());
        let done = backup_until(&writer, &scene.source(), progress).await.unwrap();
        let resolved = writer.store.list("commits").await.unwrap().len();
        fenced += usize::from(resolved > names(&writer).await.len());
        let what = format!("after {steps} steps");
        scene.restore_whole(&writer, &done.snapshot.name(), &what).await;
        let findings = check(&writer).await.findings;
        assert!(findings.is_empty(), "{what}: {findings:?}");
        prune(&writer).await;
        prune(&writer).await;
        scene.restore_whole(&writer, &done.snapshot.name(), &what).await;
        let findings = check(&writer).await.findings;
        assert!(findings.is_empty(), "{what}: {findings:?}");
    }
    assert!(fenced > 3, "only {fenced} sessions were fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_work_is_waited_for_and_the_next_prune_goes_on() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, _, last] = three(&scene, &owner).await;
    forget(&owner, &[first]).await;
    let begun = repo::begin(&owner, 1).await.unwrap();
    let patient = PruneSettings {
        silence: Duration::from_secs(u32::MAX.into()),
        patience: Duration::ZERO,
        ..Default::default()
    };
    let pruned = repo::prune(&owner, patient, &|_| {}).await.unwrap();
    assert_eq!(pruned.left, Some(Left::Sessions(1)));
    assert_eq!(repo::prune(&owner, patient, &|_| {}).await.unwrap().left, Some(Left::Sessions(1)));
    let pruned = prune(&owner).await;
    assert_eq!((pruned.fenced, pruned.left), (1, None));
    assert!(pruned.swept_packs > 0);
    assert!(owner.store.get(&kist::format::object::commit_key(begun.session)).await.is_ok(), "a fence stays");
    scene.restore_whole(&owner, &last.snapshot_name(), "after the fence").await;
}

/// The story: a backup had died in a repository from which nothing was forgotten. Its session was taken for one at work for
/// ever, and what it had uploaded stayed.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_backup_has_left_is_pruned_also_where_nothing_was_forgotten() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let dead = Faulty::over(Arc::new(scene.beneath.clone())).stop_after(5, Failure::Denied);
    let dying = scene.open(Store::over(dead.wrap())).await.unwrap();
    assert!(backup(&dying, &scene.source()).await.is_err());
    let owner = scene.open(scene.store()).await.unwrap();
    assert!(bytes_of_packs(&owner.store).await > 0);
    let patient = PruneSettings { silence: Duration::from_secs(u32::MAX.into()), ..now() };
    let young = repo::prune(&owner, patient, &|_| {}).await.unwrap();
    assert_eq!(young.swept_packs, 0, "it may be at work");
    prune(&owner).await;
    assert_eq!(bytes_of_packs(&owner.store).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn prunes_and_backups_at_the_same_time_lose_nothing() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, last] = three(&scene, &owner).await;
    forget(&owner, &[first, second]).await;
    let prunes = (0..3).map(|_| async {
        let repo = scene.open(scene.store()).await.unwrap();
        for _ in 0..3 {
            match repo::prune(&repo, now(), &|_| {}).await {
                Ok(_) | Err(Error::Moving | Error::Fenced) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    let backups = (0..2).map(|_| async {
        let repo = scene.open(scene.store()).await.unwrap();
        for _ in 0..4 {
            match backup(&repo, &scene.source()).await {
                Ok(_) | Err(kist::job::Error::Repo(Error::Fenced)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    futures::join!(futures::future::join_all(prunes), futures::future::join_all(backups));
    prune(&owner).await;
    scene.restore_whole(&owner, &last.snapshot_name(), "in the end").await;
    for name in names(&owner).await {
        if name != last.snapshot_name() {
            scene.restore(&owner, &name).await.unwrap();
        }
    }
    let findings = check(&owner).await.findings;
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_changed_shortened_or_put_back_is_an_alarm() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, _] = three(&scene, &owner).await;
    forget(&owner, &[first]).await;
    backup(&owner, &scene.source()).await.unwrap();
    let alarm = async |key: &str, instead: Option<bytes::Bytes>| {
        let copied = scene.open(scene.copy()).await.unwrap();
        copied.store.delete(key).await.unwrap();
        if let Some(bytes) = instead {
            copied.store.put(key, bytes).await.unwrap();
        }
        let report = crate::scene::check_as(&copied, None).await;
        let found = match report {
            Ok(report) => {
                report.findings.iter().map(|f| crate::scene::chain(f)).collect::<Vec<_>>().join("\n")
            }
            Err(error) => crate::scene::chain(&error),
        };
        assert!(repo::prune(&copied, now(), &|_| {}).await.is_err(), "{key}");
        found
    };
    let gone = alarm("gc/2", None).await;
    assert!(gone.contains("shortened"), "{gone}");
    let gone = alarm("gc/1", None).await;
    assert!(!gone.is_empty(), "{gone}");
    let swapped = alarm("gc/1", Some(owner.store.get("gc/2").await.unwrap())).await;
    assert!(swapped.contains("gc/1"), "{swapped}");
    // Another history, made with the right key: a copy from before, gone on elsewhere.
    let other = scene.open(scene.copy()).await.unwrap();
    for key in ["gc/1", "gc/2"] {
        other.store.delete(key).await.unwrap();
    }
    for commit in other.store.list("commits").await.unwrap().into_iter().skip(3) {
        other.store.delete(&commit.key).await.unwrap();
    }
    repo::hold(&other, Scope::All, "another").await.unwrap();
    repo::hold(&other, Scope::Source(second.0), "another").await.unwrap();
    let forked = alarm("gc/2", Some(other.store.get("gc/2").await.unwrap())).await;
    assert!(forked.contains("forked or changed"), "{forked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_takes_as_many_lists_after_many_prunes_as_after_one() {
    let scene = Scene::new().await;
    std::fs::write(scene.source().join("file"), noise(5_000, 1)).unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let lists = async || {
        let log = Log::default();
        let counted =
            scene.open(Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log))).await.unwrap();
        Snapshots::load(&counted).await.unwrap();
        Index::load(&counted).await.unwrap();
        log.count(kist::store::Verb::List)
    };
    let mut counts = Vec::new();
    for round in 0..6 {
        let mut ids = Vec::new();
        for seed in 0..4 {
            std::fs::write(scene.source().join("file"), noise(5_000, round * 10 + seed)).unwrap();
            ids.push(backup(&owner, &scene.source()).await.unwrap().snapshot.id);
        }
        ids.pop();
        forget(&owner, &ids).await;
        prune(&owner).await;
        counts.push(lists().await);
    }
    assert!(counts.iter().all(|count| *count == counts[0] && *count <= 10), "{counts:?}");
    assert_eq!(names(&owner).await.len(), 6);
}

/// The story: a restore that had begun before a prune found its packs deleted, and told damage.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_prune_moves_is_read_on_by_who_has_loaded_the_index_before() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let [first, second, last] = three(&scene, &owner).await;
    let index = Arc::new(Index::load(&owner).await.unwrap());
    let reader = Arc::new(repo::Reader::new(&owner, index.clone()));
    forget(&owner, &[first, second]).await;
    let pruned = prune(&owner).await;
    assert!(pruned.swept_packs > 10, "{pruned:?}");
    let now = Index::load(&owner).await.unwrap();
    let moved =
        |id: &RecordId| index.places(id).all(|place| now.places(id).all(|now| now.pack != place.pack));
    let moved: Vec<RecordId> =
        record_ids(&owner).await.into_iter().filter(|id| index.contains(id) && moved(id)).collect();
    assert!(moved.len() > 20, "{}", moved.len());
    for id in moved {
        match id {
            // Found and opened, if what is refused is only the length that we say.
            RecordId::Chunk(id) => {
                let refused = reader.chunk(ChunkRef { id, len: u32::MAX }).await.unwrap_err();
                assert!(refused.to_string().contains("another length"), "{refused}");
            }
            RecordId::Node(id) => drop(reader.node(id).await.unwrap()),
        }
    }
    scene.restore_whole(&owner, &last.snapshot_name(), "after the prune").await;
    // What is really missing is told at once.
    let id = ChunkId([7; 32]);
    let unknown = reader.chunk(ChunkRef { id, len: 1 }).await.unwrap_err();
    assert!(matches!(unknown, Error::Unknown { .. }), "{unknown}");
}
