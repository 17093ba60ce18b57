//! A store that does not give what it has, once: the run ends with that, and nothing is told as damaged or lost.

use kist::format::id::SlotId;
use kist::format::pack::PackKind;
use kist::job::backup::Done;
use kist::job::copy::{Copied, Plan};
use kist::repo::{self, Class, Repository, Unlock};
use kist::store::Verb;
use kist::store::testing::{Failure, Faulty, Log, Moment, Recording};
use kist::world::Time;
use object_store::memory::InMemory;

use crate::copy::{Elsewhere, copy_all};
use crate::repair::{all, flip, packs as packs_of, repair_with};
use crate::scene::{
    Checked, Scene, backup, change, check, check_as, failing_once, grow, names, noise, over, prune,
    repo_error,
};

/// A snapshot whose session is of an epoch that has ended, so that its keys have to be asked for.
async fn past() -> (Scene, String) {
    let scene = Scene::new().await;
    let repo = scene.open(scene.store()).await.unwrap();
    grow(&scene.source());
    let first = backup(&repo, &scene.source()).await.unwrap().snapshot.id;
    change(&scene.source());
    let kept = backup(&repo, &scene.source()).await.unwrap().snapshot.name();
    repo::observe(&repo).await.unwrap();
    repo::forget(&repo, &[first]).await.unwrap();
    prune(&repo).await;
    (scene, kept)
}

fn count(asked: &Log) -> u64 {
    READS.iter().map(|verb| asked.count(*verb) as u64).sum()
}

const READS: &[Verb] = &[Verb::Get, Verb::Size, Verb::List];

/// How a store does not give what it has, and what that is told as: it refuses, does not answer, or says something odd.
const FAILURES: [(Failure, Class); 3] =
    [(Failure::Denied, Class::Denied), (Failure::Timeout, Class::Transient), (Failure::Other, Class::Other)];

/// Does some work once for each request that reads, which fails. `sound` judges what comes of the work if it does not end
/// with that.
async fn each_refused<T>(
    scene: &Scene,
    beneath: impl Fn() -> InMemory,
    work: impl AsyncFn(&Repository) -> repo::Result<T>,
    sound: impl AsyncFn(T, InMemory, String),
) {
    for (failure, class) in FAILURES {
        let mut ended = 0;
        for nth in 0.. {
            let (beneath, asked) = (beneath(), Log::default());
            let store = failing_once(beneath.clone(), READS, nth, failure);
            let store = store.decorated(|inner| Recording::over(inner, &asked));
            let Ok(repo) = scene.open(store).await else { continue };
            let opened = count(&asked);
            match work(&repo).await {
                Ok(done) => sound(done, beneath, format!("{failure:?} of read {nth}")).await,
                Err(error) => {
                    assert_eq!(error.class(), class, "{failure:?} of read {nth}: {error:?}");
                    ended += 1;
                }
            }
            if count(&asked) <= nth {
                assert!(ended > 5 && nth > opened + 10, "{ended} of {nth}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_refused_a_request_finds_no_damage() {
    let (scene, _) = past().await;
    let sound = async |Checked { findings, touched, .. }, _, what: String| {
        assert!(findings.is_empty() && touched.is_empty(), "{what}: {findings:?} {touched:?}");
    };
    let work = async |repo: &Repository| check_as(repo, Some(repo::Reading::default())).await;
    each_refused(&scene, || scene.beneath.fork(), work, sound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_damaged_repository_that_is_refused_a_request_finds_no_more_than_there_is() {
    let (scene, _) = past().await;
    let packs = scene.store().list("packs/").await.unwrap();
    let damaged = scene.beneath.fork();
    // One is missing, of another the table is damaged.
    over(damaged.clone()).delete(&packs[0].key).await.unwrap();
    flip(&over(damaged.clone()), &packs[1].key, |len| len - 1).await;
    let told = |checked: &Checked| {
        let mut told: Vec<_> = checked.findings.iter().map(|found| format!("{found:?}")).collect();
        told.extend(checked.touched.iter().map(|touched| format!("{touched:?}")));
        told.sort();
        told
    };
    let all = told(&check(&scene.open(over(damaged.fork())).await.unwrap()).await);
    assert!(all.len() > 2, "{all:?}");
    let sound = async |checked: Checked, _, what: String| match checked.refused[..] {
        [] => assert_eq!(told(&checked), all, "{what}"),
        [_] => assert!(told(&checked).iter().all(|found| all.contains(found)), "{what}: {checked:?}"),
        _ => panic!("{what}: {checked:?}"),
    };
    let work = async |repo: &Repository| check_as(repo, Some(repo::Reading::default())).await;
    each_refused(&scene, || damaged.fork(), work, sound).await;
}

/// As of an object that a rule has moved to where it can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_goes_on_behind_a_pack_that_is_refused_and_tells_of_it_and_of_all_else() {
    let (scene, _) = past().await;
    let packs = scene.store().list("packs/").await.unwrap();
    let damaged = scene.beneath.fork();
    flip(&over(damaged.clone()), &packs[packs.len() - 1].key, |len| len - 1).await;
    let asked = Log::default();
    let recorded = over(damaged.fork()).decorated(|inner| Recording::over(inner, &asked));
    let repo = scene.open(recorded).await.unwrap();
    let found = check(&repo).await.findings.len();
    let data = packs_of(&repo, PackKind::Data).await.remove(0);
    let gets = asked.events().into_iter().filter(|event| event.verb == Verb::Get);
    let first = gets.map(|event| event.key).position(|key| key == data).unwrap() as u64;
    let failing = first..first + 1;
    let store = over(damaged.clone()).decorated(|inner| {
        Faulty::over(inner).fail(&[Verb::Get], failing, Moment::Before, Failure::Denied).wrap()
    });
    let repo = scene.open(store).await.unwrap();
    let checked = check(&repo).await;
    assert_eq!((checked.refused.len(), checked.findings.len()), (1, found), "{checked:?}");
    let due = Some(repo::Reading { share: Some(u64::MAX), before: Some(Time(0)) });
    let again = check_as(&repo, due).await.unwrap();
    assert_eq!(
        (again.report.read_packs, again.refused.len()),
        (2, 0),
        "what was not had is read next: {again:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_refused_a_request_cuts_out_nothing() {
    let (scene, kept) = past().await;
    let work = async |repo: &Repository| {
        let request = kist::job::repair::Request { cut: true, ..all() };
        repair_with(repo, request).await.map_err(repo_error)
    };
    let sound = async |(outcome, told): (kist::job::repair::Outcome, Vec<String>), beneath, what: String| {
        assert!(outcome.was_sound && told.is_empty(), "{what}: {told:?}");
        let repo = scene.open(over(beneath)).await.unwrap();
        scene.restore_whole(&repo, &kept, &what).await;
    };
    each_refused(&scene, || scene.beneath.fork(), work, sound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_refused_a_request_tells_of_no_lost_file() {
    let (scene, kept) = past().await;
    let work = async |repo: &Repository| scene.restore(repo, &kept).await.map_err(repo_error);
    let sound = async |outcome: crate::scene::Outcome, _, what: String| {
        assert!(outcome.is_whole(), "{what}: {outcome:?}");
    };
    each_refused(&scene, || scene.beneath.fork(), work, sound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_refused_a_request_is_whole_or_there_is_none() {
    let (scene, _) = past().await;
    let work = async |repo: &Repository| backup(repo, &scene.source()).await.map_err(repo_error);
    let sound = async |done: Done, beneath, what: String| {
        let repo = scene.open(over(beneath)).await.unwrap();
        scene.restore_whole(&repo, &done.snapshot.name(), &what).await;
    };
    std::fs::write(scene.source().join("a new file"), noise(50_000, 1)).unwrap();
    each_refused(&scene, || scene.beneath.fork(), work, sound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_refused_a_request_leaves_nothing_out() {
    let (scene, _) = past().await;
    let work = async |repo: &Repository| {
        let target = Elsewhere::new(&scene).await;
        let (plan, copied) = copy_all(repo, &target.open(&scene).await).await.map_err(repo_error)?;
        Ok((target, plan, copied))
    };
    let sound = async |(target, plan, copied): (Elsewhere, Plan, Vec<Copied>), _, what: String| {
        let copied = match &copied[..] {
            [copied] => copied,
            // That it could not be read is told.
            _ => return assert_eq!((copied.len(), plan.unreadable.len()), (0, 1), "{what}"),
        };
        let repo = target.open(&scene).await;
        scene.restore_whole(&repo, &copied.snapshot.name(), &what).await;
    };
    each_refused(&scene, || scene.beneath.fork(), work, sound).await;
}

/// A writer's snapshot of an epoch that has ended, and two of the open one, which need what a run that died has uploaded.
async fn of_shop() -> (Scene, Vec<String>, SlotId) {
    let scene = Scene::new().await;
    let file = |name: &str, seed| std::fs::write(scene.source().join(name), noise(20_000, seed)).unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let unlock = scene.writer("shop").await;
    let Unlock::KeyFile(key) = &unlock else { panic!("a writer has a key file") };
    file("passing", 1);
    let writer = scene.open_with(&unlock).await;
    let passing = backup(&writer, &scene.source()).await.unwrap().snapshot.id;
    std::fs::remove_file(scene.source().join("passing")).unwrap();
    file("kept", 2);
    let mut kept = vec![backup(&writer, &scene.source()).await.unwrap().snapshot.name()];
    repo::observe(&owner).await.unwrap();
    repo::forget(&owner, &[passing]).await.unwrap();
    prune(&owner).await;
    file("more", 3);
    let faults = Faulty::over(std::sync::Arc::new(scene.beneath.clone()));
    let faults = faults.fail(&[Verb::Create], 0..1, Moment::Before, Failure::Denied);
    let died = kist::store::Store::over(faults.wrap());
    let died = repo::open(died, &scene.world(), &unlock, None).await.unwrap();
    assert!(backup(&died, &scene.source()).await.is_err());
    for _ in 0..2 {
        let done = backup(&writer, &scene.source()).await.unwrap();
        assert_eq!(done.stats.new_chunks, 0, "all lies in the packs of the run that died");
        kept.push(done.snapshot.name());
    }
    kept.sort();
    (scene, kept, key.slot)
}

/// A key goes while the store refuses a request: all that it has made is there after a prune, and nothing counts that it
/// would make from then on.
async fn shop_goes(work: impl AsyncFn(&Repository, SlotId) -> repo::Result<()>) {
    let (scene, kept, slot) = of_shop().await;
    let id = scene.open(scene.store()).await.unwrap();
    let id = repo::list_keys(&id).await.unwrap().find("shop").unwrap()[0].key;
    let sound = async |(), beneath, what: String| {
        let owner = scene.open(over(beneath)).await.unwrap();
        assert!(repo::Log::load(&owner).await.unwrap().is_revoked(id, 0), "{what}");
        prune(&owner).await;
        let mut found = names(&owner).await;
        found.sort();
        assert_eq!(found, kept, "{what}");
        for name in &kept {
            let outcome = scene.restore(&owner, name).await.unwrap();
            assert!(outcome.lost.is_empty() && outcome.problems.is_empty(), "{what}, {name}: {outcome:?}");
        }
    };
    each_refused(&scene, || scene.beneath.fork(), async |repo| work(repo, slot).await, sound).await;
}

/// The story: a commit that was refused once was not observed before the revocation; so it did not count any more, no
/// word was said, and the next prune swept what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_a_key_that_is_refused_a_request_loses_no_snapshot() {
    shop_goes(repo::remove_key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_a_key_that_is_refused_a_request_loses_no_snapshot() {
    shop_goes(async |repo, _| {
        for slot in repo::rotate_key(repo, "shop").await?.replaced {
            repo::remove_key(repo, slot).await?;
        }
        Ok(())
    })
    .await;
}
