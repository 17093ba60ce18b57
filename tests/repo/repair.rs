//! Repairs: what is whole comes back, what a copy has comes back, what the next backup has comes back; and nothing is
//! worse than before, whenever a repair is killed.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kist::format::id::hex;
use kist::format::keys::Role;
use kist::format::object;
use kist::format::pack::PackKind;
use kist::format::summary::{CopiedFrom, Summary};
use kist::job::repair::{Outcome, Request, Step, run};
use kist::job::{self, Result};
use kist::progress::Silent;
use kist::repo::{self, Begun, Index, Log, NewKey, Reading, Repository, Snapshots, ToCommit, Unlock};
use kist::store::Store;
use kist::world::Time;

use crate::checks::After;
use crate::copy::{Elsewhere, copy_all};
use crate::crash::{End, killed_at_each};
use crate::scene::{
    Checked, Scene, backup, change, check, check_structure, grow, names, noise, now, over, prune,
};

/// With all packs read, and nothing else.
pub fn all() -> Request<'static> {
    Request {
        reading: Some(Reading::default()),
        waiting: now(),
        other: None,
        cut: false,
        dry_run: false,
        kist: "test".into(),
    }
}

pub async fn repair_with(repo: &Repository, request: Request<'_>) -> Result<(Outcome, Vec<String>)> {
    let told = Mutex::new(Vec::new());
    let tell = |step: Step<'_>| {
        told.lock().unwrap().extend(match step {
            Step::Healed { snapshot, .. } => Some(format!("healed {}", snapshot.name())),
            Step::NoHelp { snapshot, why } => Some(format!("no help for {}: {why}", snapshot.name())),
            Step::Cut(cut) => Some(format!("cut {} kept {:?}", cut.snapshot.name(), cut.kept)),
            Step::Repaired(repaired) => Some(format!("{repaired:?}")),
            Step::Told(_) | Step::Planned(_) => None,
        })
    };
    let outcome = run(repo, request, &tell, Arc::new(Silent)).await?;
    Ok((outcome, told.into_inner().unwrap()))
}

/// The same without anything else; every snapshot is whole after it.
async fn repair(repo: &Repository, what: &str) -> Vec<String> {
    let (outcome, told) = repair_with(repo, all()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(outcome.lost.is_empty() && outcome.waiting.is_none(), "{what}: {told:?}");
    assert!(outcome.refused.is_empty(), "{what}: {outcome:?}");
    assert!(!outcome.was_sound, "{what}: something was damaged");
    told
}

pub async fn nothing_is_found(repo: &Repository, what: &str) {
    let Checked { findings, touched, .. } = check(repo).await;
    assert!(findings.is_empty() && touched.is_empty(), "{what}: {findings:?} {touched:?}");
}

/// A repository with two snapshots, the second of the folder as it is now, and its writer.
pub struct Past {
    pub scene: Scene,
    writer: repo::Unlock,
    first: String,
    second: String,
}

impl Past {
    pub async fn new() -> Self {
        let scene = Scene::new().await;
        grow(&scene.source());
        let writer = scene.writer("writer").await;
        let first = Self::backup_as(&scene, &writer).await;
        change(&scene.source());
        let second = Self::backup_as(&scene, &writer).await;
        Self { scene, writer, first, second }
    }

    pub async fn backup_as(scene: &Scene, writer: &repo::Unlock) -> String {
        backup(&scene.open_with(writer).await, &scene.source()).await.unwrap().snapshot.name()
    }

    pub async fn backup(&self) -> String {
        Self::backup_as(&self.scene, &self.writer).await
    }

    pub async fn owner(&self) -> Repository {
        self.scene.open(self.scene.store()).await.unwrap()
    }

    /// Both restore; of the first only that nothing is missing can be told by a comparison with the folder.
    pub async fn is_whole(&self, repo: &Repository, what: &str) {
        self.scene.restore_whole(repo, &self.second, what).await;
        let first = self.scene.restore(repo, &self.first).await.unwrap();
        assert!(first.lost.is_empty(), "{what}: {first:?}");
    }
}

/// Packs of a kind, by the index, in the order of their ids.
pub async fn packs(repo: &Repository, kind: PackKind) -> Vec<String> {
    let index = Index::load(repo).await.unwrap();
    index.packs().iter().filter(|pack| pack.kind == kind).map(|pack| object::pack_key(pack.id)).collect()
}

pub async fn flip(store: &Store, key: &str, at: impl FnOnce(usize) -> usize) {
    let mut bytes = store.get(key).await.unwrap().to_vec();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    store.put(key, bytes.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sound_repository_a_repair_changes_nothing() {
    let past = Past::new().await;
    let owner = past.owner().await;
    check(&owner).await;
    let before = past.scene.store().list("").await.unwrap();
    let (outcome, _) = repair_with(&owner, Request { reading: None, ..all() }).await.unwrap();
    assert!(outcome.was_sound && outcome.lost.is_empty());
    assert_eq!(past.scene.store().list("").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_repairs() {
    let past = Past::new().await;
    let error = repair_with(&past.scene.open_with(&past.writer).await, all()).await.unwrap_err();
    assert!(matches!(&error, job::Error::Repo(repo::Error::Role { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_in_damaged_packs_is_kept_and_a_prune_deletes_them() {
    let past = Past::new().await;
    let owner = past.owner().await;
    for kind in [PackKind::Data, PackKind::Nodes] {
        for key in packs(&owner, kind).await {
            // Of the table or the padding: records are as they were.
            flip(&owner.store, &key, |len| len - 1).await;
        }
    }
    let told = repair(&owner, "tables").await;
    nothing_is_found(&owner, "after the repair").await;
    past.is_whole(&owner, "after the repair").await;
    let pruned = prune(&owner).await;
    assert!(pruned.swept_packs > 10, "{pruned:?} {told:?}");
    let next = past.backup().await;
    past.scene.restore_whole(&owner, &next, "the next").await;
    nothing_is_found(&owner, "after the prune").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_comes_back_with_the_next_backup_and_heals_the_past() {
    let past = Past::new().await;
    let owner = past.owner().await;
    for key in packs(&owner, PackKind::Data).await {
        flip(&owner.store, &key, |_| 500).await;
    }
    let (outcome, told) = repair_with(&owner, all()).await.unwrap();
    assert_eq!(outcome.lost.len(), 2, "{told:?}");
    let known = check(&owner).await;
    assert!(known.findings.is_empty(), "what is known is found no more: {:?}", known.findings);
    assert!(!known.touched.is_empty(), "what it costs is told");
    let next = past.backup().await;
    past.scene.restore_whole(&owner, &next, "the next").await;
    let left = check(&owner).await.touched;
    // Small files are bundled with others than then; large ones have the same chunks.
    let is_large = |touched: &&repo::Touched| match &touched.lost {
        repo::Lost::File { size, .. } => *size > 10_000,
        lost => panic!("{lost:?}"),
    };
    assert!(known.touched.iter().any(|touched| is_large(&touched)), "{:?}", known.touched);
    assert_eq!(left.iter().find(is_large), None);
    assert!(left.iter().all(|touched| touched.snapshot != next), "{left:?}");
    assert!(prune(&owner).await.swept_packs > 0);
    let after = check(&owner).await;
    assert_eq!((after.findings.len(), after.touched), (0, left));
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_no_index_names_any_more_are_named_again() {
    for keep_first in [false, true] {
        let past = Past::new().await;
        let owner = past.owner().await;
        for found in owner.store.list("index").await.unwrap() {
            match keep_first {
                true => flip(&owner.store, &found.key, |len| len / 2).await,
                false => owner.store.delete(&found.key).await.unwrap(),
            }
        }
        let packs_before = owner.store.list("packs").await.unwrap();
        repair(&owner, "without an index").await;
        assert_eq!(owner.store.list("packs").await.unwrap(), packs_before, "nothing was copied");
        nothing_is_found(&owner, "after the repair").await;
        past.is_whole(&owner, "after the repair").await;
        prune(&owner).await;
        past.is_whole(&owner, "after a prune").await;
        let done = backup(&past.scene.open_with(&past.writer).await, &past.scene.source()).await.unwrap();
        assert_eq!(done.stats.new_chunks, 0, "its writer believes its packs as before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_can_not_be_read_begins_anew() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let gone = past.backup().await;
    let id = Snapshots::load(&owner).await.unwrap().all.into_iter().find(|s| s.name() == gone).unwrap().id;
    repo::observe(&owner).await.unwrap();
    repo::forget(&owner, &[id]).await.unwrap();
    prune(&owner).await;
    past.backup().await;
    prune(&owner).await;
    past.backup().await;
    repo::observe(&owner).await.unwrap();
    let log = Log::load(&owner).await.unwrap();
    let (base, _) = log.base.clone().unwrap();
    let generations = owner.store.list("generations").await.unwrap();
    let newest = |key: &&String| key.contains(&format!("/{base}-"));
    let parts: Vec<String> = generations.into_iter().map(|found| found.key).collect();
    let mut damaged: Vec<String> = parts.iter().filter(newest).cloned().collect();
    assert!(damaged.len() >= 2, "a part of the state and one of the index: {parts:?}");
    damaged.extend([object::checkpoint_key(base), object::log_key(base), object::log_key(log.head)]);
    damaged.extend([object::log_key(1), object::log_key(base - 1)]);
    let before = names(&owner).await;
    for key in &damaged {
        for is_missing in [false, true] {
            let what = format!("{key}{}", if is_missing { " missing" } else { " flipped" });
            let repo = past.scene.open(past.scene.copy()).await.unwrap();
            match is_missing {
                true => repo.store.delete(key).await.unwrap(),
                false => flip(&repo.store, key, |len| len / 2).await,
            }
            if is_missing && *key == object::log_key(log.head) {
                // Nobody can tell; this machine, which has seen it, can.
                names(&repo).await;
                continue;
            }
            repair(&repo, &what).await;
            nothing_is_found(&repo, &what).await;
            let mut after = names(&repo).await;
            after.retain(|name| before.contains(name));
            assert_eq!(after, before, "{what}");
            past.is_whole(&repo, &what).await;
            let writer =
                repo::open(repo.store.clone(), &past.scene.world(), &past.writer, None).await.unwrap();
            let next = backup(&writer, &past.scene.source()).await.unwrap();
            prune(&repo).await;
            past.scene.restore_whole(&repo, &next.snapshot.name(), &what).await;
            nothing_is_found(&repo, &what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_commit_is_gone_is_given_up_and_is_no_alarm_any_more() {
    for is_row in [false, true] {
        let past = Past::new().await;
        let owner = past.owner().await;
        if is_row {
            repo::observe(&owner).await.unwrap();
            prune(&owner).await;
        }
        let third = past.backup().await;
        let key = owner.store.list("commits").await.unwrap().into_iter();
        let key = key.map(|found| found.key).find(|key| key.ends_with(&past.first)).unwrap_or_else(|| {
            panic!("the first has a commit: {}", past.first);
        });
        flip(&owner.store, &key, |len| len / 2).await;
        let before = owner.store.list("checkpoints").await.unwrap();
        let (outcome, _) = repair_with(&owner, all()).await.unwrap();
        assert!(!outcome.refused.is_empty(), "nothing is given up unasked: {outcome:?}");
        assert_eq!(owner.store.list("checkpoints").await.unwrap(), before);
        assert!(repo::prune(&owner, now(), &|_| {}).await.is_err(), "and nothing deleted");
        let (outcome, _) = repair_with(&owner, Request { cut: true, ..all() }).await.unwrap();
        assert!(outcome.refused.is_empty() && outcome.lost.is_empty(), "{outcome:?}");
        assert_eq!(names(&owner).await, [past.second.clone(), third], "the row: {is_row}");
        nothing_is_found(&owner, "after the repair").await;
        prune(&owner).await;
        past.scene.restore_whole(&owner, &past.second, "the second").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_heals_the_first_and_one_that_is_not_the_same_does_not() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let other = Elsewhere::new(&past.scene).await;
    let there = other.open(&past.scene).await;
    copy_all(&owner, &there).await.unwrap();
    for kind in [PackKind::Data, PackKind::Nodes] {
        for key in packs(&owner, kind).await {
            owner.store.delete(&key).await.unwrap();
        }
    }
    let unrelated = Elsewhere::new(&past.scene).await.open(&past.scene).await;
    let (outcome, told) = repair_with(&owner, Request { other: Some(&unrelated), ..all() }).await.unwrap();
    assert_eq!(outcome.lost.len(), 2, "{told:?}");
    assert_eq!(told.iter().filter(|line| line.starts_with("no help")).count(), 2, "{told:?}");
    let (outcome, told) = repair_with(&owner, Request { other: Some(&there), ..all() }).await.unwrap();
    assert!(outcome.lost.is_empty(), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.starts_with("healed")).count(), 2, "{told:?}");
    past.is_whole(&owner, "healed").await;
    nothing_is_found(&owner, "healed").await;
    prune(&owner).await;
    past.is_whole(&owner, "healed and pruned").await;
    nothing_is_found(&owner, "healed and pruned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_damaged_and_is_put_back_is_lost_no_more() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let data = packs(&owner, PackKind::Data).await;
    let whole = owner.store.get(&data[0]).await.unwrap();
    data_is_gone(&owner, &data[..1]).await;
    let (outcome, _) = repair_with(&owner, all()).await.unwrap();
    assert!(!outcome.lost.is_empty());
    let dry = Request { dry_run: true, ..all() };
    assert!(!repair_with(&owner, dry).await.unwrap().0.was_sound, "what is lost is told by a dry run too");
    owner.store.put(&data[0], whole).await.unwrap();
    nothing_is_found(&owner, "put back").await;
    let (outcome, told) = repair_with(&owner, all()).await.unwrap();
    assert!(outcome.lost.is_empty(), "{told:?}");
    let (findings, touched) = (check_structure(&owner).await.findings, check_structure(&owner).await.touched);
    assert!(findings.is_empty() && touched.is_empty(), "{findings:?} {touched:?}");
    assert!(repair_with(&owner, all()).await.unwrap().0.was_sound, "it is copied once");
    prune(&owner).await;
    past.is_whole(&owner, "pruned").await;
    nothing_is_found(&owner, "pruned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_interrupted_says_of_no_pack_that_it_is_damaged() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let data = packs(&owner, PackKind::Data).await;
    for key in &data {
        flip(&owner.store, key, |len| len - 1).await;
    }
    let all_packs = owner.store.list("packs").await.unwrap().len() as i64;
    let progress = Arc::new(After((all_packs + 2).into()));
    let ended = run(&owner, all(), &|_| {}, progress).await;
    assert!(matches!(ended, Err(job::Error::Interrupted)), "{ended:?}");
    assert!(Log::load(&owner).await.unwrap().damaged.is_empty());
    repair(&owner, "after it").await;
    nothing_is_found(&owner, "after it").await;
    past.is_whole(&owner, "after it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_falsely_said_to_be_a_copy_does_not_hide_the_one_that_is() {
    let past = Past::new().await;
    let owner = past.owner().await;
    let other = Elsewhere::new(&past.scene).await;
    let there = other.open(&past.scene).await;
    copy_all(&owner, &there).await.unwrap();
    let key = Unlock::KeyFile(repo::add_key(&there, &NewKey::of(Role::Writer, "liar")).await.unwrap());
    let liar = repo::open(over(other.beneath.clone()), &past.scene.world(), &key, None).await.unwrap();
    std::fs::write(past.scene.source().join("another"), "file").unwrap();
    let done = backup(&liar, &past.scene.source()).await.unwrap();
    let commit = &done.snapshot.commit;
    let (repository, snapshot) = (hex(&owner.config.repo.0), past.second.clone());
    let copied_from = Some(CopiedFrom { repository, snapshot, lost: 0 });
    let Begun { session, view, .. } = repo::begin(&liar, 1).await.unwrap();
    let what = ToCommit {
        view,
        // The oldest of all: it is asked first.
        time: Time(0),
        source: commit.source,
        complete: true,
        class: Vec::new(),
        held: false,
        roots: commit.roots.clone(),
        summary: Summary { copied_from, ..done.summary },
    };
    repo::commit(&liar, session, &Snapshots::load(&liar).await.unwrap(), what).await.unwrap();
    data_is_gone(&owner, &packs(&owner, PackKind::Data).await).await;
    let (outcome, told) = repair_with(&owner, Request { other: Some(&there), ..all() }).await.unwrap();
    assert!(outcome.lost.is_empty() && told.iter().any(|line| line.starts_with("no help")), "{told:?}");
    nothing_is_found(&owner, "healed").await;
}

pub async fn data_is_gone(repo: &Repository, keys: &[String]) {
    for key in keys {
        repo.store.delete(key).await.unwrap();
    }
}

/// A repair that is killed anywhere leaves what another one goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_killed_anywhere_is_taken_up_by_the_next() {
    let scene = Scene::new().await;
    small(&scene.source());
    let writer = scene.writer("writer").await;
    let first = Past::backup_as(&scene, &writer).await;
    let owner = scene.open(scene.store()).await.unwrap();
    repo::observe(&owner).await.unwrap();
    std::fs::write(scene.source().join("new"), noise(9_000, 7)).unwrap();
    let second = Past::backup_as(&scene, &writer).await;
    // Some of everything: tables of packs, a delta, an entry of the log.
    for kind in [PackKind::Data, PackKind::Nodes] {
        let keys = packs(&owner, kind).await;
        flip(&owner.store, &keys[0], |len| len - 1).await;
    }
    let delta = owner.store.list("index").await.unwrap().remove(0).key;
    owner.store.delete(&delta).await.unwrap();
    flip(&owner.store, &object::log_key(1), |len| len / 2).await;
    each_kill(&scene, all, async |repo, what| {
        assert_eq!(names(&repo).await, [first.clone(), second.clone()], "{what}");
        scene.restore_whole(&repo, &second, &what).await;
        prune(&repo).await;
        scene.restore_whole(&repo, &second, &what).await;
    })
    .await;
}

/// Kills a repair before and after each of its effects, repairs what is left, and hands it to `then`: nothing is damaged
/// any more, nor lost.
pub async fn each_kill(
    scene: &Scene,
    request: impl Fn() -> Request<'static>,
    then: impl AsyncFn(Repository, String),
) {
    for end in [End::Before, End::After] {
        let kills = Cell::new(0);
        let run = async |store: Store| {
            let Ok(dying) = repo::open(store, &scene.world(), &scene.owner, None).await else { return false };
            repair_with(&dying, request()).await.is_ok()
        };
        killed_at_each(&scene.beneath, end, run, async |nth, beneath, is_done| {
            let what = format!("{end:?} effect {nth}");
            let repo = scene.open(over(beneath)).await.unwrap();
            if !is_done {
                let (outcome, told) =
                    repair_with(&repo, request()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(outcome.lost.is_empty(), "{what}: {told:?}");
                kills.set(kills.get() + 1);
            }
            nothing_is_found(&repo, &what).await;
            then(repo, what).await;
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        assert!(kills.get() > 6, "{end:?}: {} kills", kills.get());
    }
}

pub fn small(source: &Path) {
    std::fs::write(source.join("large"), noise(60_000, 5)).unwrap();
    for number in 0..20 {
        std::fs::write(source.join(format!("small {number}")), noise(300, 100 + number)).unwrap();
    }
}
