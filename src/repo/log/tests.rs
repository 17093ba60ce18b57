//! What a log means, and what is left of one that does not hold together. The entries are real ones, in a memory store.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::format::keys::Role;
use crate::format::log::{Hold, Verified};
use crate::format::pack::PackKind;
use crate::repo::gc::renew;
use crate::repo::testing::seeded;
use crate::repo::{NewKey, PruneSettings, Unlock, add_key, begin, open, prune};
use crate::store::testing::Far;

const A: PackId = PackId([0xa; 16]);
const B: PackId = PackId([0xb; 16]);

/// Adds an entry behind all that can be read.
async fn says(repo: &Repository, action: Action) -> u64 {
    let mut log = Log::load(repo).await.unwrap();
    match log.append(repo, action).await.unwrap() {
        Appended::Mine(slot) => slot,
        Appended::Taken => panic!("nobody else writes here"),
    }
}

fn hold(id: u8) -> Action {
    Action::Hold(Hold { id: [id; 16], scope: Scope::All, note: String::new() })
}

fn damaged(pack: PackId) -> Action {
    Action::Damaged { packs: vec![pack] }
}

fn condemn(packs: &[PackId]) -> Action {
    Action::Condemn { packs: packs.to_vec() }
}

/// An entry that another has made in a slot of his own repository, or of this one.
async fn moved(from: &Repository, slot: u64, to: &Repository, there: u64) {
    let bytes = from.store.get(&object::log_key(slot)).await.unwrap();
    to.store.put(&object::log_key(there), bytes).await.unwrap();
}

async fn flip(repo: &Repository, key: &str) {
    let mut bytes = repo.store.get(key).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    repo.store.put(key, bytes.into()).await.unwrap();
}

/// A checkpoint that stands for all up to now.
async fn checkpoint(repo: &Repository) -> u64 {
    let at_once =
        PruneSettings { silence: Duration::ZERO, patience: Duration::ZERO, ..PruneSettings::default() };
    let renewed = renew(repo, &at_once, true).await.unwrap();
    assert!(renewed.waiting.is_none() && renewed.lost.is_empty(), "{renewed:?}");
    Log::load(repo).await.unwrap().base_slot().unwrap()
}

fn holds(log: &Log) -> Vec<u8> {
    log.state.holds.keys().map(|id| id[0]).collect()
}

/// All that a log says, but for the slots that it was read in.
fn meaning(log: &Log) -> impl PartialEq + std::fmt::Debug + use<> {
    let plan = log.plan.as_ref().map(|plan| (plan.slot, plan.packs.iter().copied().collect::<BTreeSet<_>>()));
    let sets = [&log.swept, &log.damaged].map(|set| set.iter().copied().collect::<BTreeSet<_>>());
    let verified: BTreeMap<_, _> = log.verified.iter().map(|(pack, digest)| (*pack, *digest)).collect();
    (log.epoch, log.ended, log.last_sweep, log.opened.clone(), plan, sets, verified, log.state.clone())
}

#[tokio::test]
async fn what_is_damaged_outlives_a_checkpoint_and_leaves_the_state_once_it_is_swept() {
    let repo = seeded(1).await;
    repo.store.put(&object::pack_key(A), vec![0; 1000].into()).await.unwrap();
    says(&repo, Action::Damaged { packs: vec![A, B] }).await;
    checkpoint(&repo).await;
    let log = Log::load(&repo).await.unwrap();
    assert_eq!(log.state.damaged, [A, B]);
    assert!(log.damaged.contains(&A) && log.is_barred(A) && !log.is_going(A));

    // No index names it, so it goes; B is not there, and nobody condemns it.
    prune(&repo, PruneSettings::default(), &|_| {}).await.unwrap();
    let log = Log::load(&repo).await.unwrap();
    assert_eq!((log.state.swept.clone(), log.state.damaged.clone()), (vec![A], vec![B]));
    assert!(!log.damaged.contains(&A) && log.is_barred(A) && log.is_going(A));
    // Whoever says it again changes nothing: the next state has it no more.
    says(&repo, damaged(A)).await;
    checkpoint(&repo).await;
    assert_eq!(Log::load(&repo).await.unwrap().state.damaged, [B]);
}

#[tokio::test]
async fn a_verify_of_a_damaged_pack_has_no_effect_whichever_came_first() {
    let repo = seeded(2).await;
    let pack = |id| IndexPack {
        id,
        kind: PackKind::Data,
        len: 1000,
        hash: [7; 32],
        origin: KeyId([9; 16]),
        verified: false,
        sessions: Vec::new(),
        records: Vec::new(),
    };
    let verify = |id| Verified { pack: id, digest: pack(id).digest() };
    says(&repo, damaged(A)).await;
    says(&repo, Action::Verify { packs: vec![verify(A), verify(B)] }).await;
    let log = Log::load(&repo).await.unwrap();
    assert_eq!([A, B].map(|id| log.is_verified(&pack(id))), [false, true]);
    says(&repo, damaged(B)).await;
    assert!(!Log::load(&repo).await.unwrap().is_verified(&pack(B)));
}

#[tokio::test]
async fn a_condemned_or_swept_pack_is_going_and_a_damaged_one_is_only_barred() {
    let repo = seeded(3).await;
    let said = async || {
        let log = Log::load(&repo).await.unwrap();
        [A, B].map(|pack| (log.is_going(pack), log.is_barred(pack)))
    };
    assert_eq!(said().await, [(false, false), (false, false)]);
    says(&repo, damaged(B)).await;
    let condemned = says(&repo, condemn(&[A])).await;
    assert_eq!(said().await, [(true, true), (false, true)]);
    says(&repo, Action::Sweep { condemned, packs: vec![] }).await;
    assert_eq!(said().await, [(false, false), (false, true)], "pardoned");
    checkpoint(&repo).await;
    let condemned = says(&repo, condemn(&[A, B])).await;
    says(&repo, Action::Sweep { condemned, packs: vec![A, B] }).await;
    assert_eq!(said().await, [(true, true), (true, true)]);
}

#[tokio::test]
async fn an_entry_by_a_revoked_author_has_no_effect_but_for_its_place() {
    let repo = seeded(4).await;
    let key = add_key(&repo, &NewKey::of(Role::Maintainer, "m")).await.unwrap();
    let maintainer = open(repo.store.clone(), &repo.world, &Unlock::KeyFile(key), None).await.unwrap();
    let session = SessionId::new(0, [1; 12]);
    let certificate = maintainer.keys.certificate.clone();
    says(&maintainer, damaged(A)).await;
    says(&repo, Action::Revoke { key: certificate.key, serial: certificate.serial }).await;
    let before = Log::load(&repo).await.unwrap();
    let all = [
        damaged(B),
        hold(1),
        Action::Observe { sessions: vec![session] },
        Action::Forget { sessions: vec![session] },
        condemn(&[B]),
    ];
    let count = all.len() as u64;
    for action in all {
        says(&maintainer, action).await;
    }
    let after = Log::load(&repo).await.unwrap();
    assert_eq!(meaning(&after), meaning(&before));
    assert_eq!(after.head, before.head + count);
    assert!(after.is_barred(A), "what it said before counts");
    assert_eq!(verify(&repo).await.unwrap(), None);
    says(&repo, damaged(B)).await;
    assert!(Log::load(&repo).await.unwrap().is_barred(B), "the same of the owner's counts");
}

#[tokio::test]
async fn a_renew_has_no_effect_on_what_a_log_means() {
    let repo = seeded(5).await;
    says(&repo, hold(1)).await;
    checkpoint(&repo).await;
    says(&repo, damaged(A)).await;
    says(&repo, Action::Forget { sessions: vec![SessionId::new(1, [1; 12])] }).await;
    says(&repo, condemn(&[B])).await;
    let before = Log::load(&repo).await.unwrap();
    let slot = says(&repo, Action::Renew { epoch: 0 }).await;
    let after = Log::load(&repo).await.unwrap();
    assert_eq!(meaning(&after), meaning(&before));
    assert_eq!(after.head, slot);
}

#[tokio::test]
async fn only_the_owner_renews() {
    let repo = seeded(6).await;
    let key = add_key(&repo, &NewKey::of(Role::Maintainer, "m")).await.unwrap();
    let maintainer = open(repo.store.clone(), &repo.world, &Unlock::KeyFile(key), None).await.unwrap();
    let mut log = Log::load(&maintainer).await.unwrap();
    let refused = log.append(&maintainer, Action::Renew { epoch: 0 }).await.unwrap_err();
    assert!(matches!(refused, Error::Role { needed: "owner", .. }), "{refused}");
}

/// What may have come over an entry.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Missing,
    Flipped,
    /// It was made for another repository.
    Foreign,
    /// It was made for another slot.
    Moved,
}

const HARMS: [Harm; 4] = [Harm::Missing, Harm::Flipped, Harm::Foreign, Harm::Moved];

async fn harm(repo: &Repository, slot: u64, harm: Harm) {
    match harm {
        Harm::Missing => repo.store.delete(&object::log_key(slot)).await.unwrap(),
        Harm::Flipped => flip(repo, &object::log_key(slot)).await,
        Harm::Foreign => {
            let other = seeded(1000).await;
            for id in 0..slot {
                says(&other, hold(id as u8)).await;
            }
            moved(&other, slot, repo, slot).await;
        }
        Harm::Moved => moved(repo, slot - 1, repo, slot).await,
    }
}

#[tokio::test]
async fn a_salvage_takes_what_holds_around_an_entry_that_does_not() {
    for (number, what) in HARMS.into_iter().enumerate() {
        let repo = seeded(10 + number as u64).await;
        for id in 1..=4 {
            says(&repo, hold(id)).await;
        }
        harm(&repo, 3, what).await;
        let Salvaged { log, lost, newest } = Log::salvage(&repo).await.unwrap();
        assert_eq!((holds(&log), log.head, newest), (vec![1, 2, 4], 4, None), "{what:?}");
        assert!(lost.len() == 1 && lost[0].contains('3'), "{what:?}: {lost:?}");
        let entry = entry_digest(&repo, 4).await.unwrap();
        assert_eq!(Some(log.digest()), entry, "{what:?}: what comes next goes on from the last one");
    }
}

#[tokio::test]
async fn a_salvage_takes_a_fork_and_verify_tells_of_it() {
    let (repo, fork) = (seeded(20).await, seeded(20).await);
    says(&repo, hold(1)).await;
    says(&repo, hold(2)).await;
    says(&fork, hold(3)).await;
    moved(&fork, 1, &repo, 1).await;
    let Salvaged { log, lost, .. } = Log::salvage(&repo).await.unwrap();
    assert_eq!((holds(&log), lost), (vec![2, 3], vec![]));
    let wrong = verify(&repo).await.unwrap().unwrap();
    assert!(wrong.contains("entry 2") && wrong.contains("does not continue"), "{wrong}");
}

/// The next entry goes on from what is stored, whatever that is.
#[tokio::test]
async fn behind_a_head_that_does_not_hold_a_renew_goes_on_and_answers_for_it() {
    for (number, what) in HARMS.into_iter().enumerate() {
        let repo = seeded(30 + number as u64).await;
        for id in 1..=3 {
            says(&repo, hold(id)).await;
        }
        if !matches!(what, Harm::Missing) {
            harm(&repo, 3, what).await;
        }
        harm(&repo, 2, what).await;
        let stored = repo.store.get(&object::log_key(3)).await.unwrap();
        assert!(verify(&repo).await.unwrap().is_some(), "{what:?}");
        let Salvaged { mut log, .. } = Log::salvage(&repo).await.unwrap();
        assert_eq!(
            log.append(&repo, Action::Renew { epoch: 0 }).await.unwrap(),
            Appended::Mine(4),
            "{what:?}"
        );
        let (renew, _) = read_entry(&repo, 4).await.unwrap().unwrap();
        assert_eq!(renew.previous, hash::plain(&stored), "{what:?}");
        assert_eq!(verify(&repo).await.unwrap(), None, "{what:?}");
        assert_eq!(log.append(&repo, hold(5)).await.unwrap(), Appended::Mine(5));
        assert_eq!(verify(&repo).await.unwrap(), None, "{what:?}");
        assert_eq!(log.append(&repo, hold(6)).await.unwrap(), Appended::Mine(6));
        flip(&repo, &object::log_key(5)).await;
        let wrong = verify(&repo).await.unwrap().unwrap();
        assert!(wrong.contains("gc/5"), "a renew does not answer for what comes later: {what:?}: {wrong}");
    }
}

/// Spoils the newest checkpoint in one of four ways, and gives which.
async fn spoiled(repo: &Repository, slot: u64, number: usize) -> &'static str {
    let (_, checkpoint) = Log::load(repo).await.unwrap().base.unwrap();
    let part = object::generation_key(slot, checkpoint.name, 0);
    match number {
        0 => flip(repo, &object::checkpoint_key(slot)).await,
        1 => flip(repo, &part).await,
        2 => repo.store.delete(&part).await.unwrap(),
        3 => {
            let other = repo.store.get(&object::checkpoint_key(2)).await.unwrap();
            repo.store.put(&object::checkpoint_key(slot), other).await.unwrap();
        }
        number => panic!("there is no harm {number}"),
    }
    ["flipped", "a flipped part", "a missing part", "another's"][number]
}

/// As another process has it: it has read nothing yet.
fn opened_anew(repo: &Repository) -> Repository {
    Repository { latest: Latest::default(), ..repo.clone() }
}

#[tokio::test]
async fn a_salvage_goes_around_a_damaged_newest_checkpoint_by_the_one_before() {
    for number in 0..4 {
        let repo = seeded(40 + number as u64).await;
        assert_eq!(checkpoint(&repo).await, 2);
        says(&repo, hold(1)).await;
        says(&repo, damaged(A)).await;
        let second = checkpoint(&repo).await;
        says(&repo, hold(2)).await;
        let whole = Log::load(&repo).await.unwrap();
        let what = spoiled(&repo, second, number).await;
        let repo = opened_anew(&repo);
        assert!(Log::load(&repo).await.is_err(), "{what}");
        let Salvaged { log, lost, newest } = Log::salvage(&repo).await.unwrap();
        assert_eq!((log.base_slot(), newest, lost.len()), (Some(2), Some(second), 1), "{what}: {lost:?}");
        assert_eq!((holds(&log), log.damaged.contains(&A)), (vec![1, 2], true), "{what}");
        assert_eq!((log.head, log.epoch, log.ended), (whole.head, whole.epoch, whole.ended), "{what}");
        assert_eq!(log.digest(), whole.digest(), "{what}");
    }
}

#[tokio::test]
async fn a_salvage_opens_by_a_checkpoint_whose_own_entry_is_lost() {
    for what in [Harm::Missing, Harm::Flipped] {
        let repo = seeded(50).await;
        says(&repo, hold(1)).await;
        let slot = checkpoint(&repo).await;
        says(&repo, hold(2)).await;
        harm(&repo, slot, what).await;
        let repo = opened_anew(&repo);
        assert!(Log::load(&repo).await.is_err(), "{what:?}");
        let Salvaged { log, lost, newest } = Log::salvage(&repo).await.unwrap();
        assert_eq!((holds(&log), log.base_slot(), newest), (vec![1, 2], Some(slot), Some(slot)), "{what:?}");
        assert_eq!((log.epoch, lost), (1, vec![]), "{what:?}");
    }
}

#[tokio::test]
async fn a_lost_condemn_has_opened_the_epoch_of_the_sessions_that_are_there() {
    for what in [Harm::Missing, Harm::Flipped] {
        let repo = seeded(60).await;
        says(&repo, hold(1)).await;
        let condemned = says(&repo, condemn(&[A])).await;
        says(&repo, hold(2)).await;
        let begun = begin(&repo, 1).await.unwrap();
        assert_eq!((begun.session.epoch(), begun.view.slot), (1, 3));
        harm(&repo, condemned, what).await;
        let Salvaged { mut log, lost, .. } = Log::salvage(&repo).await.unwrap();
        assert_eq!((log.epoch, log.plan.is_none(), lost.len()), (1, true, 1), "{what:?}");
        log.check_view(1, begun.view.slot, begun.view.head).unwrap();
        let epoch = log.epoch;
        assert_eq!(log.append(&repo, Action::Renew { epoch }).await.unwrap(), Appended::Mine(4));
        assert_eq!(log.append(&repo, condemn(&[])).await.unwrap(), Appended::Mine(5));
        assert_eq!(log.open_epochs(), 0..=2, "{what:?}: the session's epoch is closed, not opened again");
        let Salvaged { log, .. } = Log::salvage(&repo).await.unwrap();
        assert_eq!((log.open_epochs(), log.plan.is_some()), (0..=2, true), "{what:?}: who counts again");
        log.check_view(1, begun.view.slot, begun.view.head).unwrap();
    }
}

/// The story: the newest checkpoint and a condemn behind the one before were lost; the epochs were counted one too low,
/// and commits that were whole could not have their views.
#[tokio::test]
async fn behind_a_lost_entry_no_epoch_is_too_low_and_no_view_is_refused() {
    for lost in 3..=6 {
        let repo = seeded(80 + lost).await;
        assert_eq!(checkpoint(&repo).await, 2);
        says(&repo, hold(1)).await;
        let condemned = says(&repo, condemn(&[])).await;
        let second = begin(&repo, 1).await.unwrap();
        says(&repo, Action::Sweep { condemned, packs: vec![] }).await;
        says(&repo, hold(2)).await;
        assert_eq!(checkpoint(&repo).await, 8);
        says(&repo, condemn(&[])).await;
        let third = begin(&repo, 1).await.unwrap();
        assert_eq!((second.session.epoch(), third.session.epoch()), (2, 4));
        flip(&repo, &object::checkpoint_key(8)).await;
        harm(&repo, lost, Harm::Missing).await;
        let Salvaged { log, .. } = Log::salvage(&repo).await.unwrap();
        assert!(log.plan.is_some() && log.epoch >= 4, "{lost}: {}", log.epoch);
        for begun in [second, third] {
            log.check_view(begun.session.epoch(), begun.view.slot, begun.view.head).unwrap();
        }
    }
}

#[tokio::test]
async fn a_sweep_ends_the_epochs_that_a_renew_has_passed_over() {
    let repo = seeded(90).await;
    let condemned = says(&repo, condemn(&[])).await;
    let before = Log::load(&repo).await.unwrap();
    let mut after = before.clone();
    says(&repo, Action::Renew { epoch: 3 }).await;
    says(&repo, Action::Sweep { condemned, packs: vec![] }).await;
    after.read_on(&repo).await.unwrap();
    assert_eq!((after.epoch, after.ended), (3, 3));
    assert!(after.is_renewed_behind(before.head) && !after.is_renewed_behind(after.head));
}

#[tokio::test]
async fn of_a_log_that_holds_a_salvage_gives_what_a_load_gives() {
    let repo = seeded(70).await;
    says(&repo, hold(1)).await;
    checkpoint(&repo).await;
    says(&repo, damaged(A)).await;
    says(&repo, condemn(&[B])).await;
    begin(&repo, 1).await.unwrap();
    let whole = Log::load(&repo).await.unwrap();
    let Salvaged { log, lost, newest } = Log::salvage(&repo).await.unwrap();
    assert_eq!(meaning(&log), meaning(&whole));
    assert_eq!((log.head, log.digest(), newest), (whole.head, whole.digest(), whole.base_slot()));
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(verify(&repo).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_long_log_is_held_together_in_a_few_rounds() {
    let near = seeded(1).await;
    for _ in 0..100 {
        says(&near, Action::Observe { sessions: Vec::new() }).await;
    }
    let far = near.store.decorated(|inner| Far::over(inner, Duration::from_secs(1)));
    let far = Repository { store: far, ..near };
    let begin = tokio::time::Instant::now();
    assert_eq!(verify(&far).await.unwrap(), None);
    // The list, and 32 entries at a time.
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
}

/// The story: a writer loaded the log twice at the same time. One had looked for an entry right before it came, and ended
/// after the other, which had seen it.
#[tokio::test]
async fn a_load_that_ends_after_a_later_one_is_no_alarm() {
    let repo = seeded(1).await;
    let before = Log::load(&repo).await.unwrap();
    let other = Repository { latest: Default::default(), ..repo.clone() };
    let slot = says(&other, hold(1)).await;
    assert_eq!(repo.seen.view().slot, before.head);
    Log::load(&other).await.unwrap();
    assert_eq!(repo.seen.view().slot, slot);
    assert_eq!(before.held(&repo).await.unwrap().head, slot);
}

#[tokio::test]
async fn what_only_lets_go_of_more_leaves_a_decision_right_and_all_else_does_not() {
    let repo = seeded(1).await;
    let lift = Action::Lift { holds: vec![[1; 16]] };
    let revoke = Action::Revoke { key: KeyId([7; 16]), serial: 1 };
    let session = vec![SessionId::new(0, [3; 12])];
    let verify = Action::Verify { packs: vec![Verified { pack: A, digest: [5; 32] }] };
    for (action, stands) in [
        (Action::Observe { sessions: session.clone() }, true),
        (Action::Forget { sessions: session.clone() }, true),
        (hold(1), true),
        (lift, true),
        (verify, true),
        (Action::Recall { sessions: session }, false),
        (damaged(B), false),
        (revoke, false),
        (condemn(&[A]), false),
        (Action::Renew { epoch: 3 }, false),
    ] {
        let mut log = Log::load(&repo).await.unwrap();
        let before = log.head;
        says(&repo, action.clone()).await;
        log.read_on(&repo).await.unwrap();
        assert_eq!(log.stands_since(before), stands, "{action:?}");
        assert!(log.stands_since(log.head), "{action:?}");
    }
}
