//! What a forget decides in a whole repository: whose times it believes, what a dry run says, and what is refused.

use std::collections::BTreeSet;
use std::fs;

use jiff::tz::TimeZone;
use kist::format::id::{SessionId, hex};
use kist::format::keys::Role;
use kist::format::log::Scope;
use kist::format::pack::PackKind;
use kist::job::backup::Done;
use kist::job::forget::{self, Decided, What};
use kist::job::{Error, Result};
use kist::policy::period::ByPeriod;
use kist::policy::retention::Policy;
use kist::repo::{self, Begun, Log, NewKey, Repository, Snapshots, ToCommit, Unlock};
use kist::world::{Time, World, fixed};

use crate::copy::{Elsewhere, copy_all};
use crate::repair::{all, packs, repair_with};
use crate::scene::{Scene, backup, noise, over};

const DAY: i64 = 24 * HOUR;
const HOUR: i64 = 3600 * 1_000_000_000;

/// Days after the first backup.
fn day(days: i64) -> Time {
    Time(1_800_000_000_000_000_000 + days * DAY)
}

/// The same at another time.
fn at(repo: &Repository, now: Time) -> Repository {
    let mut repo = repo.clone();
    repo.world = World { clock: fixed::world(0, now).clock, random: repo.world.random.clone() };
    repo
}

/// Who backs up, and what one backup has made.
struct Backups {
    repo: Repository,
    first: Done,
}

impl Backups {
    async fn new(scene: &Scene, repo: Repository) -> Self {
        fs::write(scene.source().join("large"), noise(60_000, 1)).unwrap();
        fs::write(scene.source().join("small"), noise(300, 2)).unwrap();
        let first = backup(&at(&repo, day(0)), &scene.source()).await.unwrap();
        Self { repo, first }
    }

    /// The same tree once more, by another commit; what else that says may be changed.
    async fn commit(&self, time: Time, change: impl FnOnce(&mut ToCommit)) -> SessionId {
        let repo = at(&self.repo, time);
        let Begun { session, view, .. } = repo::begin(&repo, 1).await.unwrap();
        let like = &self.first.snapshot.commit;
        let mut what = ToCommit {
            view,
            time,
            source: like.source,
            complete: true,
            class: vec![],
            held: false,
            roots: like.roots.clone(),
            summary: self.first.summary.clone(),
        };
        change(&mut what);
        let before = Snapshots::load(&repo).await.unwrap();
        repo::commit(&repo, session, &before, what).await.unwrap().id
    }

    async fn dailies(&self, days: std::ops::Range<i64>) {
        for number in days {
            self.commit(day(number), |_| {}).await;
        }
    }
}

/// A scene with an owner who backs up and forgets.
async fn scene() -> (Scene, Backups) {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let backups = Backups::new(&scene, owner).await;
    (scene, backups)
}

/// A scene with a writer and a maintainer, each with a key of its own.
async fn apart() -> (Scene, Backups, Repository) {
    let scene = Scene::new().await;
    let (writer, maintainer) =
        (scene.writer("shop").await, scene.add(NewKey::of(Role::Maintainer, "m")).await);
    let backups = Backups::new(&scene, scene.open_with(&writer).await).await;
    let maintainer = scene.open_with(&maintainer).await;
    (scene, backups, maintainer)
}

fn keep(each: ByPeriod<u32>) -> Policy {
    Policy { each, ..Policy::new(TimeZone::UTC) }
}

fn daily(daily: u32) -> Policy {
    keep(ByPeriod { daily, ..ByPeriod::default() })
}

fn last(last: u32) -> Policy {
    Policy { last, ..Policy::new(TimeZone::UTC) }
}

async fn planned(repo: &Repository, policy: Policy, source: Option<&str>, dry: bool) -> Result<Vec<Decided>> {
    let what = What::Policy { policy: Box::new(policy), source: source.map(str::to_owned) };
    forget::plan(repo, &what, dry).await
}

/// The days of what is left when all else was forgotten.
async fn left(repo: &Repository, policy: Policy) -> Vec<i64> {
    let plan = planned(repo, policy, None, false).await.unwrap();
    forget::carry_out(repo, &plan).await.unwrap();
    let all = Snapshots::load(repo).await.unwrap().all;
    assert_eq!(all.len(), plan.iter().filter(|one| one.keep).count());
    all.iter().map(|snapshot| (snapshot.commit.time.0 - day(0).0) / DAY).collect()
}

fn monthly_and_below() -> Policy {
    keep(ByPeriod { daily: 7, weekly: 4, monthly: 12, ..ByPeriod::default() })
}

/// The story: of dailies that were copied into a repository where a forget had run, the next one left two.
#[tokio::test(flavor = "multi_thread")]
async fn of_copies_by_the_owner_a_forget_leaves_what_it_would_leave_of_the_first() {
    let (scene, backups) = scene().await;
    backups.dailies(1..60).await;
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    let new = NewKey::of(Role::Writer, "copier");
    let bundle = Unlock::KeyFile(repo::add_key(&target, &new).await.unwrap());
    let bundle = repo::open(over(elsewhere.beneath.clone()), &scene.world(), &bundle, None).await.unwrap();
    assert_eq!(left(&at(&target, day(60)), monthly_and_below()).await, [0; 0]);
    copy_all(&backups.repo, &at(&target, Time(day(60).0 + HOUR))).await.unwrap();
    let of_copies = left(&at(&target, day(61)), monthly_and_below()).await;
    let of_first = left(&at(&backups.repo, day(61)), monthly_and_below()).await;
    assert!(of_first.len() > 9, "{of_first:?}");
    assert_eq!(of_copies, of_first);
    // A writer's word is not enough.
    copy_all(&backups.repo, &at(&bundle, day(62))).await.unwrap();
    let by_bundle = left(&at(&target, day(63)), monthly_and_below()).await;
    assert_eq!(by_bundle.len(), of_copies.len() + 2, "{by_bundle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_repair_makes_anew_a_forget_leaves_what_it_would_have_left_before() {
    let (scene, backups, maintainer) = apart().await;
    for number in 1..20 {
        backups.commit(day(number), |_| {}).await;
        repo::observe(&at(&maintainer, Time(day(number).0 + HOUR))).await.unwrap();
    }
    let plan = planned(&at(&maintainer, day(20)), monthly_and_below(), None, true).await.unwrap();
    let kept: BTreeSet<Time> =
        plan.iter().filter(|one| one.keep).map(|one| one.snapshot.commit.time).collect();
    let owner = at(&scene.open(scene.store()).await.unwrap(), day(20));
    owner.store.delete(&packs(&owner, PackKind::Data).await[0]).await.unwrap();
    let (outcome, told) =
        repair_with(&owner, kist::job::repair::Request { cut: true, ..all() }).await.unwrap();
    assert!(outcome.lost.is_empty(), "{told:?}");
    let made = Snapshots::load(&owner).await.unwrap().all;
    assert!(made.len() == 20 && made.iter().all(|snapshot| !snapshot.commit.complete));
    left(&at(&maintainer, day(21)), monthly_and_below()).await;
    let made = Snapshots::load(&owner).await.unwrap().all;
    let made: BTreeSet<Time> = made.iter().map(|snapshot| snapshot.commit.time).collect();
    assert!((9..15).contains(&kept.len()), "{kept:?}");
    assert_eq!(made, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn dailies_that_a_wrong_clock_has_observed_are_all_kept_once_it_is_right() {
    for wrong in [30, -365] {
        let (_scene, backups, maintainer) = apart().await;
        let observe = async |now| repo::observe(&at(&maintainer, now)).await.unwrap();
        let is_once = wrong > 0;
        observe(if is_once { day(wrong) } else { day(0) }).await;
        for number in 1..30 {
            backups.commit(day(number), |_| {}).await;
            let off = if is_once { 0 } else { wrong };
            let now = at(&maintainer, Time(day(number + off).0 + HOUR));
            // As long as an observation is yet to come, all that it has seen stays.
            assert_eq!(left(&now, daily(1)).await.len() as i64, number + 1, "{wrong}");
        }
        backups.commit(day(30), |_| {}).await;
        let kept = left(&at(&maintainer, day(31)), daily(30)).await;
        assert!((1..=30).all(|number| kept.contains(&number)), "{wrong}: {kept:?}");
    }
}

fn said(plan: &[Decided]) -> Vec<(SessionId, bool, String)> {
    plan.iter().map(|one| (one.snapshot.id, one.keep, one.why.clone())).collect()
}

/// The story: a dry run called all that nobody had observed new and kept, and the run right after it forgot most.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_the_run_then_does() {
    let (_scene, backups, maintainer) = apart().await;
    for days in [1..6, 6..12] {
        backups.dailies(days.clone()).await;
        let maintainer = at(&maintainer, day(days.end));
        let before = Log::load(&maintainer).await.unwrap().head;
        let dry = planned(&maintainer, daily(3), None, true).await.unwrap();
        assert_eq!(Log::load(&maintainer).await.unwrap().head, before, "it says nothing");
        assert!(dry.iter().all(|one| !one.why.contains("new")), "{:?}", said(&dry));
        let run = planned(&maintainer, daily(3), None, false).await.unwrap();
        assert_eq!(said(&dry), said(&run));
        let going = run.iter().filter(|one| !one.keep).count();
        assert!(going >= 3, "{:?}", said(&run));
        assert_eq!(forget::carry_out(&maintainer, &run).await.unwrap(), going);
    }
}

/// A commit that says that it is of the evening of a day long gone would take the place of that day's.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_s_time_counts_between_two_looks_of_the_maintainer() {
    let (_scene, backups, maintainer) = apart().await;
    backups.dailies(1..4).await;
    assert_eq!(left(&at(&maintainer, Time(day(3).0 + HOUR)), daily(4)).await, [0, 1, 2, 3]);
    let ids = Snapshots::load(&maintainer).await.unwrap().all;
    let liar = backups.commit(Time(day(1).0 + 2 * HOUR), |_| {}).await;
    let ahead = backups.commit(Time(day(500).0), |_| {}).await;
    let maintainer = at(&maintainer, day(4));
    let plan = planned(&maintainer, daily(4), None, false).await.unwrap();
    let kept: BTreeSet<SessionId> = plan.iter().filter(|one| one.keep).map(|one| one.snapshot.id).collect();
    let honest = [ids[1].id, ids[2].id];
    // On the third day and after it; so of the four days that count none is the very first.
    assert!(honest.iter().all(|id| kept.contains(id)), "{:?}", said(&plan));
    assert!(kept.contains(&ahead) && kept.contains(&liar), "{:?}", said(&plan));
    let within = Policy { within: Some("2d".parse().unwrap()), ..Policy::new(TimeZone::UTC) };
    let plan = planned(&maintainer, within, None, false).await.unwrap();
    let kept = plan.iter().filter(|one| one.keep).count();
    assert_eq!(kept, 4, "two days before it was seen, not before what it says: {:?}", said(&plan));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_source_are_counted_apart() {
    let (scene, backups, maintainer) = apart().await;
    let other = scene.writer("thief").await;
    let other = Backups::new(&scene, scene.open_with(&other).await).await;
    assert_eq!(other.first.snapshot.commit.source, backups.first.snapshot.commit.source);
    let honest = backups.commit(day(1), |_| {}).await;
    let theirs = other.commit(day(2), |_| {}).await;
    let classed = other.commit(day(2), |what| what.class = b"weekly".to_vec()).await;
    let maintainer = at(&maintainer, day(3));
    left(&maintainer, last(1)).await;
    let kept: BTreeSet<SessionId> =
        Snapshots::load(&maintainer).await.unwrap().all.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(kept, BTreeSet::from([honest, theirs, classed]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forget_of_one_source_decides_about_that_one_and_refuses_what_fits_none_or_several() {
    let (_scene, backups, maintainer) = apart().await;
    let mine = backups.first.snapshot.commit.source;
    let mut beside = mine;
    beside.0[15] ^= 1;
    for number in 1..4 {
        backups.commit(day(number), |_| {}).await;
        backups.commit(day(number), |what| what.source = beside).await;
    }
    let maintainer = at(&maintainer, day(4));
    let of = async |source: &str| planned(&maintainer, last(1), Some(source), false).await;
    let plan = of(&hex(&mine.0)).await.unwrap();
    assert!(
        plan.len() == 4 && plan.iter().all(|one| one.snapshot.commit.source == mine),
        "{:?}",
        said(&plan)
    );
    for several in ["", &hex(&mine.0)[..8], &hex(&mine.0)[..31]] {
        let refused = of(several).await.err().unwrap();
        assert!(matches!(&refused, Error::AmbiguousSource { fits, .. } if fits.len() == 2), "{refused}");
        let refused = forget::source_id(&maintainer, several).await.unwrap_err();
        assert!(matches!(refused, Error::AmbiguousSource { .. }), "{refused}");
    }
    let refused = of("xyz").await.err().unwrap();
    assert!(matches!(refused, Error::NoSuchSource { .. }), "{refused}");
    assert_eq!(forget::source_id(&maintainer, &hex(&mine.0)).await.unwrap(), mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_for_labels_is_refused_to_who_can_not_read_them() {
    let (scene, backups, maintainer) = apart().await;
    let tagged = backups.commit(day(1), |what| what.summary.tags = vec!["audit".into()]).await;
    backups.commit(day(2), |_| {}).await;
    let policy = || Policy { tags: vec![vec!["audit".into()]], ..last(1) };
    let refused = planned(&at(&maintainer, day(3)), policy(), None, false).await.err().unwrap();
    assert!(matches!(refused, Error::TagsNotReadable), "{refused}");
    let owner = scene.open(scene.store()).await.unwrap();
    let plan = planned(&at(&owner, day(3)), policy(), None, false).await.unwrap();
    let why = &plan.iter().find(|one| one.snapshot.id == tagged).unwrap().why;
    assert_eq!(why, "tag audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_and_says_by_which_note() {
    let (_scene, backups, maintainer) = apart().await;
    backups.dailies(1..4).await;
    let held = Snapshots::load(&maintainer).await.unwrap().all[1].id;
    let hold = repo::hold(&maintainer, Scope::Snapshot(held), "an auditor").await.unwrap();
    let maintainer = at(&maintainer, day(4));
    let why = async || {
        let plan = planned(&maintainer, last(1), None, false).await.unwrap();
        let one = plan.into_iter().find(|one| one.snapshot.id == held).unwrap();
        (one.keep, one.why)
    };
    assert_eq!(why().await, (true, "held: an auditor".to_owned()));
    repo::lift(&maintainer, &[hold]).await.unwrap();
    assert_eq!(why().await, (false, "nothing keeps it".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_held_when_it_was_made_is_not_forgotten_until_that_is_lifted() {
    let (_scene, backups, maintainer) = apart().await;
    let held = backups.commit(day(1), |what| what.held = true).await;
    backups.commit(day(2), |_| {}).await;
    let maintainer = at(&maintainer, day(3));
    let plan = planned(&maintainer, last(1), None, false).await.unwrap();
    let why = &plan.iter().find(|one| one.snapshot.id == held).unwrap().why;
    assert_eq!(why, "held: held since it was made");
    let refused = repo::forget(&maintainer, &[held]).await.unwrap_err();
    assert!(
        matches!(&refused, repo::Error::Held { hold, .. } if hold.contains("since it was made")),
        "{refused}"
    );
    assert!(Snapshots::load(&maintainer).await.unwrap().forgotten.is_empty());
    repo::lift(&maintainer, &[held.0]).await.unwrap();
    repo::forget(&maintainer, &[held]).await.unwrap();
    assert_eq!(Snapshots::load(&maintainer).await.unwrap().forgotten.len(), 1);
}
