//! Copies into another repository, with other keys: they restore as the first does, cost what changed, go on
//! after a kill, tell what they could not have, and believe nobody but themselves.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use kist::format::object;
use kist::format::pack::PackKind;
use kist::job::copy::{Chosen, Copied, Copying, Plan, Request};
use kist::job::find::{Filter, Which};
use kist::job::{self, Result};
use kist::progress::{Progress, Silent};
use kist::repo::{self, Class, Index, Init, Repository, Unlock};
use kist::store::testing::{Log, Recording};
use kist::store::{Store, Verb};
use object_store::memory::InMemory;

use crate::crash::{End, Patience, indexed, killed_at_each};
use crate::gc::PruneAt;
use crate::scene::{
    ABOVE, Scene, WRITER, backup, chain, change, check, described, grow, init, noise, over, record_ids,
    repo_error, restore_into,
};

/// A second repository, with an owner of its own.
pub struct Elsewhere {
    pub beneath: InMemory,
    pub owner: Unlock,
}

impl Elsewhere {
    pub async fn new(scene: &Scene) -> Self {
        Self::made(scene, init()).await
    }

    pub async fn made(scene: &Scene, init: Init) -> Self {
        let beneath = InMemory::new();
        let (_, key) = repo::init(over(beneath.clone()), &scene.world(), init).await.unwrap();
        Self { beneath, owner: Unlock::KeyFile(key.unwrap()) }
    }

    pub async fn open(&self, scene: &Scene) -> Repository {
        self.open_at(scene, over(self.beneath.clone())).await
    }

    pub async fn open_at(&self, scene: &Scene, store: Store) -> Repository {
        repo::open(store, &scene.world(), &self.owner, None).await.unwrap()
    }
}

pub fn request(chosen: Chosen) -> Request {
    Request { chosen, filter: Filter::default(), again: false, writer: WRITER, kist: "test".into() }
}

async fn copy_with(
    source: &Repository,
    target: &Repository,
    request: Request,
    progress: Arc<dyn Progress>,
) -> Result<(Plan, Vec<Copied>)> {
    let (mut copying, plan) = Copying::plan(source, target, request).await?;
    let mut copied = Vec::new();
    for snapshot in &plan.snapshots {
        copied.push(copying.copy(snapshot, progress.clone()).await?);
    }
    Ok((plan, copied))
}

/// Copies all that is not there yet.
pub async fn copy_all(source: &Repository, target: &Repository) -> Result<(Plan, Vec<Copied>)> {
    copy_with(source, target, request(Chosen::All), Arc::new(Silent)).await
}

pub async fn copy_one(source: &Repository, target: &Repository) -> Copied {
    let (_, mut copied) = copy_all(source, target).await.unwrap();
    assert_eq!(copied.len(), 1);
    copied.remove(0)
}

pub async fn owner(scene: &Scene) -> Repository {
    scene.open(scene.store()).await.unwrap()
}

async fn packs(repo: &Repository, kind: PackKind) -> Vec<String> {
    let index = Index::load(repo).await.unwrap();
    let packs = index.packs().iter().filter(|pack| pack.kind == kind);
    packs.map(|pack| object::pack_key(pack.id)).collect()
}

/// Bytes that were asked for of data packs.
pub async fn data_read(repo: &Repository, log: &Log) -> u64 {
    let packs: HashSet<String> = packs(repo, PackKind::Data).await.into_iter().collect();
    let of_data = |event: &kist::store::testing::Event| event.verb == Verb::Get && packs.contains(&event.key);
    log.events().iter().filter(|event| of_data(event)).map(|event| event.bytes).sum()
}

/// The owner's view of the scene's repository, and what is asked of its store.
async fn watched(scene: &Scene) -> (Repository, Log) {
    let log = Log::default();
    let store = Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log));
    (scene.open(store).await.unwrap(), log)
}

/// The story: a copy whose session was fenced, and of which a prune had swept something, ended as failed, and so did the
/// next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_that_is_fenced_and_swept_by_a_prune_ends_complete_all_the_same() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let source = owner(&scene).await;
    backup(&source, &scene.source()).await.unwrap();
    let mut fenced = 0;
    for steps in [1, 10, 200, 700] {
        let elsewhere = Elsewhere::new(&scene).await;
        let target = elsewhere.open(&scene).await;
        let progress = PruneAt::new(steps, elsewhere.open(&scene).await);
        let (_, copied) = copy_with(&source, &target, request(Chosen::All), progress).await.unwrap();
        scene.restore_whole(&target, &copied[0].snapshot.name(), "a copy").await;
        assert!(check(&target).await.findings.is_empty());
        fenced += target.store.list(object::COMMITS).await.unwrap().len() - 1;
    }
    assert!(fenced > 2, "only {fenced} sessions were fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_restores_as_the_first_does_and_shares_no_id_with_it() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    for round in ["the first", "the second"] {
        let first = backup(&owner(&scene).await, &scene.source()).await.unwrap();
        let copied = copy_one(&owner(&scene).await, &target).await;
        scene.restore_whole(&target, &copied.snapshot.name(), round).await;
        scene.restore_whole(&target, "latest", round).await;
        let (a, b) = (&first.snapshot.commit, &copied.snapshot.commit);
        assert_eq!((a.time, a.complete), (b.time, b.complete), "{round}");
        assert_ne!((a.source, a.roots[0].node), (b.source, b.roots[0].node), "{round}");
        let shape = |counts: &kist::format::summary::Counts| (counts.entries, counts.files, counts.bytes);
        assert_eq!(shape(&first.summary.counts), shape(&copied.summary.counts), "{round}");
        assert_eq!(first.summary.source, copied.summary.source, "{round}");
        let from = copied.summary.copied_from.unwrap();
        assert_eq!((from.snapshot, from.lost), (first.snapshot.name(), 0), "{round}");
        if round == "the first" {
            change(&scene.source());
        }
    }
    let findings = check(&target).await.findings;
    assert!(findings.is_empty(), "{findings:?}");
    let (here, there) = (record_ids(&owner(&scene).await).await, record_ids(&target).await);
    assert_eq!(here.intersection(&there).count(), 0);
    assert!(there.len() > 200, "{}", there.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_the_copy_goes_on_where_the_copied_one_was() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let copied = copy_one(&owner(&scene).await, &elsewhere.open(&scene).await).await;
    // A small file that was only touched is known again by its hash, made with the new keys.
    let touched = scene.source().join("folder 3");
    let touched = fs::read_dir(touched).unwrap().next().unwrap().unwrap().path();
    fs::write(&touched, fs::read(&touched).unwrap()).unwrap();
    let target = elsewhere.open(&scene).await;
    let done = backup(&target, &scene.source()).await.unwrap();
    assert_eq!(done.parent.unwrap().id, copied.snapshot.id);
    assert_eq!(done.stats.new_chunks, 0);
    assert!((1..1000).contains(&done.summary.counts.read_bytes), "{:?}", done.summary.counts);
    scene.restore_whole(&target, &done.snapshot.name(), "on top of the copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_reads_what_changed_and_a_third_of_the_same_nothing() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let (source, log) = watched(&scene).await;
    let first = copy_one(&source, &target).await;
    let all = data_read(&source, &log).await;
    assert!(all > 1_000_000, "{all} bytes");
    // Few bytes of few files: one in the middle of the large one, whose extents are a tree.
    change(&scene.source());
    let large = scene.source().join("a large file");
    let mut bytes = fs::read(&large).unwrap();
    bytes.splice(400_000..400_000, noise(10, 77));
    fs::write(&large, bytes).unwrap();
    let done = backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let (source, log) = watched(&scene).await;
    let second = copy_one(&source, &target).await;
    let read = data_read(&source, &log).await;
    assert!((30_000..150_000).contains(&read), "{read} bytes");
    assert_eq!(second.summary.parent, Some(first.snapshot.name()));
    assert_eq!(second.stats.new_chunks, done.stats.new_chunks);
    scene.restore_whole(&target, "latest", "the second").await;
    // Nothing changed at all.
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let (source, log) = watched(&scene).await;
    let third = copy_one(&source, &target).await;
    assert_eq!((data_read(&source, &log).await, third.stats.new_chunks), (0, 0));
    assert!(third.stats.new_nodes <= ABOVE, "{}", third.stats.new_nodes);
    scene.restore_whole(&target, &third.snapshot.name(), "the third").await;
    // And now all of it is there.
    let log = Log::default();
    let store = Store::over(Recording::over(Arc::new(elsewhere.beneath.clone()), &log));
    let (plan, copied) = copy_all(&source, &elsewhere.open_at(&scene, store).await).await.unwrap();
    assert_eq!((plan.passed.len(), copied.len()), (3, 0));
    assert_eq!(log.effects(), []);
    assert!(check(&target).await.findings.is_empty());
}

/// Newest first, then the older one: the newer copy helps too.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_follows_a_newer_copy() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let old = backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let kept = scene.dir.path().join("kept");
    let source = owner(&scene).await;
    restore_into(&source, &old.snapshot.name(), &scene.source(), &kept).await.unwrap();
    change(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    let latest = request(Chosen::These(vec![Which::Latest]));
    let (_, newest) = copy_with(&source, &target, latest, Arc::new(Silent)).await.unwrap();
    let (source, log) = watched(&scene).await;
    let older = copy_one(&source, &target).await;
    assert_eq!(older.summary.parent, Some(newest[0].snapshot.name()));
    let read = data_read(&source, &log).await;
    assert!(read < 100_000, "{read} bytes");
    let back = scene.dir.path().join("back");
    restore_into(&target, &older.snapshot.name(), &scene.source(), &back).await.unwrap();
    assert_eq!(crate::compare::differences(&kept, &back), Vec::<String>::new());
    let newest = described(&target, "latest").await.unwrap();
    assert_eq!(newest.id, described(&target, &newest.name()).await.unwrap().id);
    assert!(newest.time > older.snapshot.commit.time, "the newest is the newest, whenever it was copied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_at_any_effect_goes_on_with_what_it_has_uploaded() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    change(&scene.source());
    fs::write(scene.source().join("d new file"), noise(300_000, 9)).unwrap();
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let source = owner(&scene).await;
    let reference = elsewhere.open_at(&scene, over(elsewhere.beneath.fork())).await;
    copy_all(&source, &reference).await.unwrap();
    let all = indexed(&reference).await;
    for end in [End::Before, End::After] {
        let taken_up = RefCell::new(HashSet::new());
        let run =
            async |store: Store| copy_all(&source, &elsewhere.open_at(&scene, store).await).await.is_ok();
        killed_at_each(&elsewhere.beneath, end, run, async |nth, beneath, is_done| {
            let what = format!("{end:?} effect {nth}");
            if is_done {
                assert!(nth > 60, "{what}: told to be done");
                return ControlFlow::Break(());
            }
            let opened = elsewhere.open_at(&scene, over(beneath)).await;
            let there = indexed(&opened).await;
            let landed = opened.store.list("commits").await.unwrap().len();
            let (plan, copied) = copy_all(&source, &opened).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((plan.passed.len(), copied.len()), (landed, 2 - landed), "{what}");
            let new: (u64, u64) = copied.iter().fold((0, 0), |sum, copied| {
                (sum.0 + copied.stats.new_chunks, sum.1 + copied.stats.new_nodes)
            });
            assert_eq!(new, (all.0 - there.0, all.1 - there.1), "{what}: only what is missing");
            taken_up.borrow_mut().insert(there);
            if nth % 7 == 0 {
                scene.restore_whole(&opened, "latest", &what).await;
                let findings = check(&opened).await.findings;
                assert!(findings.is_empty(), "{what}: {findings:?}");
            }
            ControlFlow::Continue(())
        })
        .await;
        let taken_up = taken_up.into_inner();
        assert!(taken_up.len() > 3, "{taken_up:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_commits_nothing_whenever_the_word_comes() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let source = owner(&scene).await;
    let mut interrupted = 0;
    for questions in (0..).step_by(97) {
        let target = elsewhere.open_at(&scene, over(elsewhere.beneath.fork())).await;
        let progress = Arc::new(Patience(AtomicI64::new(questions)));
        match copy_with(&source, &target, request(Chosen::All), progress).await {
            Err(job::Error::Interrupted) => {
                interrupted += 1;
                assert_eq!(target.store.list("commits").await.unwrap(), [], "after {questions} questions");
            }
            Err(error) => panic!("after {questions} questions: {error}"),
            Ok(_) => {
                scene.restore_whole(&target, "latest", &format!("after {questions} questions")).await;
                break;
            }
        }
    }
    assert!(interrupted > 3, "{interrupted} interrupts");
}

/// Of what a copy could not have, each path that is absent is told, and what is there is right.
async fn honest(scene: &Scene, target: &Repository, copied: &Copied, what: &str) {
    let mut outcome = scene.restore(target, &copied.snapshot.name()).await.unwrap();
    let source = scene.source().display().to_string();
    assert!(outcome.lost.is_empty(), "{what}: the copy itself is whole: {:?}", outcome.lost);
    assert_eq!(copied.snapshot.commit.complete, copied.lost.is_empty(), "{what}");
    let lost = copied.lost.iter().map(|lost| (lost.what.replace(&source, ""), lost.why.replace(&source, "")));
    outcome.lost = lost.collect();
    assert!(outcome.is_honest(), "{what}: {outcome:?}");
    let findings = check(target).await.findings;
    assert!(findings.is_empty(), "{what}: {findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_costs_its_files_which_are_told_and_can_be_copied_once_it_is_sound() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let data = packs(&owner(&scene).await, PackKind::Data).await;
    let mut lossy = 0;
    for (at, key) in data.iter().enumerate().step_by(5) {
        let elsewhere = Elsewhere::new(&scene).await;
        let target = elsewhere.open(&scene).await;
        let damaged = scene.open(scene.copy()).await.unwrap();
        if at % 2 == 0 {
            damaged.store.delete(key).await.unwrap();
        } else {
            let mut bytes = damaged.store.get(key).await.unwrap().to_vec();
            bytes[300] ^= 1;
            damaged.store.put(key, bytes.into()).await.unwrap();
        }
        let first = copy_one(&damaged, &target).await;
        honest(&scene, &target, &first, key).await;
        if first.lost.is_empty() {
            continue;
        }
        lossy += 1;
        let lost = first.lost.len() as u64;
        assert!(lost < 400, "{key}: {lost}");
        // It is not tried again by itself, and the loss stays known.
        let (plan, copied) = copy_all(&owner(&scene).await, &target).await.unwrap();
        assert_eq!((copied.len(), plan.passed[0].lost), (0, lost), "{key}");
        let again = Request { again: true, ..request(Chosen::All) };
        let (_, copied) = copy_with(&owner(&scene).await, &target, again, Arc::new(Silent)).await.unwrap();
        assert_eq!((copied[0].lost.len(), &copied[0].summary.parent), (0, &None), "{key}: no base");
        assert!(copied[0].snapshot.commit.complete && copied[0].stats.new_chunks < 60, "{key}");
        scene.restore_whole(&target, &copied[0].snapshot.name(), key).await;
        let (plan, _) = copy_all(&owner(&scene).await, &target).await.unwrap();
        assert_eq!(plan.passed[0].lost, 0, "{key}");
    }
    assert!(lossy > 5, "{lossy} packs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_node_costs_what_is_below_it_and_never_silently() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let (mut failed, mut lossy) = (0, 0);
    for key in packs(&owner(&scene).await, PackKind::Nodes).await {
        let elsewhere = Elsewhere::new(&scene).await;
        let target = elsewhere.open(&scene).await;
        let damaged = scene.open(scene.copy()).await.unwrap();
        damaged.store.delete(&key).await.unwrap();
        match copy_all(&damaged, &target).await {
            Ok((_, copied)) => {
                assert!(!copied[0].lost.is_empty(), "{key}");
                honest(&scene, &target, &copied[0], &key).await;
                lossy += 1;
            }
            Err(error) => {
                assert_eq!(repo_error(error).class(), Class::Corrupt, "{key}");
                assert_eq!(target.store.list("commits").await.unwrap(), [], "{key}");
                failed += 1;
            }
        }
    }
    assert!(failed >= 1 && lossy >= 2, "{failed} failed, {lossy} with losses");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_has_lost_is_copied_again() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    copy_one(&owner(&scene).await, &elsewhere.open(&scene).await).await;
    change(&scene.source());
    backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let source = owner(&scene).await;
    let opened = elsewhere.open(&scene).await;
    let data = packs(&opened, PackKind::Data).await;
    let nodes = packs(&opened, PackKind::Nodes).await;
    for key in data.iter().step_by(9).chain(&nodes) {
        let target = elsewhere.open_at(&scene, over(elsewhere.beneath.fork())).await;
        target.store.delete(key).await.unwrap();
        let copied = copy_one(&source, &target).await;
        assert!(copied.snapshot.commit.complete, "{key}");
        scene.restore_whole(&target, &copied.snapshot.name(), key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_heals_the_first_and_is_otherwise_not_copied_back() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let first = backup(&owner(&scene).await, &scene.source()).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let copy = elsewhere.open(&scene).await;
    let copied = copy_one(&owner(&scene).await, &copy).await;
    let (plan, back) = copy_all(&copy, &owner(&scene).await).await.unwrap();
    assert_eq!((plan.passed[0].copy.clone(), back.len()), (first.snapshot.name(), 0));
    // A third repository that has it from the first does not take it from the second too.
    let third = Elsewhere::new(&scene).await;
    let third = third.open(&scene).await;
    copy_one(&owner(&scene).await, &third).await;
    let (plan, again) = copy_all(&copy, &third).await.unwrap();
    assert_eq!((plan.passed.len(), again.len()), (1, 0));
    // The first is lost, commit and half of the data.
    let bare = owner(&scene).await;
    bare.store.delete(&object::commit_key(first.snapshot.id)).await.unwrap();
    let data = packs(&bare, PackKind::Data).await;
    for key in data.iter().step_by(2) {
        bare.store.delete(key).await.unwrap();
    }
    let healed = copy_one(&copy, &bare).await;
    assert_eq!(healed.summary.copied_from.unwrap().snapshot, copied.snapshot.name());
    assert!(healed.stats.new_chunks * 3 > copied.stats.new_chunks);
    assert!(healed.stats.new_chunks * 3 < copied.stats.new_chunks * 2, "what is there is not uploaded again");
    scene.restore_whole(&bare, &healed.snapshot.name(), "the healed one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_links_and_empty_files_come_over() {
    use std::os::unix::fs::FileExt;
    let scene = Scene::new().await;
    let source = scene.source();
    grow(&source);
    fs::write(source.join("empty"), b"").unwrap();
    for (name, at) in [("small with a hole", 1_500), ("large with a hole", 3_000_000)] {
        let file = fs::File::create(source.join(name)).unwrap();
        file.write_all_at(&noise(300, 5), 0).unwrap();
        file.write_all_at(&noise(40, 6), at).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", source.join("link")).unwrap();
    backup(&owner(&scene).await, &source).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    copy_one(&owner(&scene).await, &target).await;
    scene.restore_whole(&target, "latest", "the first").await;
    // The first name goes, and a further one comes: the group is called otherwise.
    fs::remove_file(source.join("b middle file")).unwrap();
    let small = source.join("folder 2");
    let linked = source.join("y linked file");
    fs::hard_link(&linked, small.join("zz another name")).unwrap();
    backup(&owner(&scene).await, &source).await.unwrap();
    copy_one(&owner(&scene).await, &target).await;
    scene.restore_whole(&target, "latest", "the second").await;
    assert!(Path::new(&linked).exists());
    let findings = check(&target).await.findings;
    assert!(findings.is_empty(), "{}", findings.iter().map(|found| chain(found)).collect::<String>());
}
