//! What must hold of every decision, tried with thousands: also against a writer who adds anything at all.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::RngSeed;

use super::*;

const MINUTE: i64 = 60 * 1_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-10-20, some days before clocks are put back.
const BASE: i64 = 1_792_454_400 * 1_000_000_000;

fn zone() -> impl Strategy<Value = TimeZone> {
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    prop_oneof![Just(TimeZone::UTC), Just(berlin), Just(TimeZone::fixed(jiff::tz::offset(-11)))]
}

fn span() -> impl Strategy<Value = Option<Span>> {
    const TEXTS: [&str; 6] = ["1h", "36h", "2d", "1w", "1mo", "1y2mo"];
    proptest::option::weighted(
        0.3,
        proptest::sample::select(&TEXTS[..]).prop_map(|text| text.parse().unwrap()),
    )
}

fn by_period<T: Clone + fmt::Debug>(
    value: impl Fn() -> BoxedStrategy<T>,
) -> impl Strategy<Value = ByPeriod<T>> {
    (value(), value(), value(), value(), value()).prop_map(|(hourly, daily, weekly, monthly, yearly)| {
        ByPeriod { hourly, daily, weekly, monthly, yearly }
    })
}

fn count() -> BoxedStrategy<u32> {
    prop_oneof![3 => Just(0), 4 => 1..6_u32, 1 => 6..30_u32, 1 => Just(u32::MAX)].boxed()
}

fn policy() -> impl Strategy<Value = Policy> {
    let tags = prop_oneof![3 => Just(vec![]), 1 => Just(vec![vec!["a".to_owned()]])];
    let within_each = by_period(|| span().boxed());
    (count(), by_period(count), span(), within_each, tags, 0..9_u32, zone()).prop_map(
        |(last, each, within, within_each, tags, min_good, zone)| {
            let policy = Policy { last, each, within, within_each, tags, min_good, zone, keep_none: false };
            Policy { keep_none: policy.is_empty(), ..policy }
        },
    )
}

/// A time: often on the quarter of an hour, so that ends of periods and ties are met.
fn time(from: i64, to: i64) -> impl Strategy<Value = Time> {
    let quarters = (from / (15 * MINUTE))..=(to / (15 * MINUTE));
    prop_oneof![(from..=to).prop_map(Time), quarters.prop_map(|quarter| Time(quarter * 15 * MINUTE))]
}

/// Any time that a client may claim: often a believable one.
fn claimed() -> impl Strategy<Value = Time> {
    prop_oneof![5 => time(BASE - 20 * DAY, BASE + 20 * DAY), 1 => any::<i64>().prop_map(Time)]
}

/// A snapshot of one of two sources and two classes, not observed yet.
fn snapshot(number: std::ops::Range<u64>) -> impl Strategy<Value = Candidate> {
    let tags = prop_oneof![8 => Just(Some(vec![])), 1 => Just(Some(vec!["a".to_owned()])), 1 => Just(None)];
    let group = (prop_oneof![3 => Just(1_u8), 1 => Just(2)], prop_oneof![3 => Just(b"a"), 1 => Just(b"b")]);
    (number, group, claimed(), prop::bool::weighted(0.7), tags, prop::bool::weighted(0.05)).prop_map(
        |(number, (source, class), time, complete, tags, held)| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&number.to_be_bytes());
            let seen = Seen { after: None, by: None };
            let source = SourceId([source; 16]);
            let (id, class, by_owner) = (SessionId(id), class.to_vec(), false);
            Candidate { id, source, class, time, by_owner, seen, complete, tags, held }
        },
    )
}

/// Times at which a maintainer looked, ascending, the first being `from`.
fn looks(from: i64, to: i64, most: usize) -> impl Strategy<Value = Vec<Time>> {
    vec(time(from, to), 1..most).prop_map(move |mut looks| {
        looks.push(Time(from));
        looks.sort();
        looks.dedup();
        looks
    })
}

/// Gives each snapshot the look that first saw it; some are not seen yet.
fn observed(
    snapshots: impl Strategy<Value = Vec<Candidate>>,
    looks: Vec<Time>,
    is_first: bool,
) -> impl Strategy<Value = Vec<Candidate>> {
    let last = looks.len();
    snapshots.prop_flat_map(move |snapshots| {
        let looks = looks.clone();
        let chosen = vec(usize::from(!is_first)..=last, snapshots.len());
        (Just(snapshots), chosen).prop_map(move |(mut snapshots, chosen)| {
            for (snapshot, look) in snapshots.iter_mut().zip(chosen) {
                let after = look.checked_sub(1).map(|before| looks[before]);
                snapshot.seen = Seen { after, by: looks.get(look).copied() };
            }
            snapshots
        })
    })
}

/// The same as they are when some are the owner's, and some came while the clock of the observations was wrong.
fn vouched_for(snapshots: impl Strategy<Value = Vec<Candidate>>) -> impl Strategy<Value = Vec<Candidate>> {
    let which = |len| vec(prop_oneof![2 => Just(0_u8), 1 => Just(1), 1 => Just(2)], len);
    let drawn = snapshots.prop_flat_map(move |all| (which(all.len()), Just(all)));
    drawn.prop_map(|(which, mut all)| {
        for (snapshot, which) in all.iter_mut().zip(which) {
            match which {
                1 => snapshot.by_owner = true,
                2 => snapshot.seen.after = snapshot.seen.by,
                _ => {}
            }
        }
        all
    })
}

/// No two with one id.
fn apart(mut snapshots: Vec<Candidate>) -> Vec<Candidate> {
    snapshots.sort_by_key(|snapshot| snapshot.id);
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    snapshots
}

fn history() -> impl Strategy<Value = Vec<Candidate>> {
    looks(BASE - 20 * DAY, BASE, 12)
        .prop_flat_map(|looks| vouched_for(observed(vec(snapshot(0..200), 0..60), looks, true)))
        .prop_map(apart)
}

const NOW: Time = Time(BASE + 30 * DAY);

fn kept(policy: &Policy, candidates: &[Candidate]) -> Vec<SessionId> {
    kept_of(decide(policy, candidates, NOW).unwrap())
}

fn kept_of(verdicts: Vec<Verdict>) -> Vec<SessionId> {
    let mut kept: Vec<_> = verdicts.into_iter().filter(|one| one.keep).map(|one| one.id).collect();
    kept.sort();
    kept
}

/// What the first judgement says by itself.
fn judged_first(policy: &Policy, candidates: &[Candidate]) -> Vec<Verdict> {
    let mut all: Vec<_> = candidates.iter().map(|one| Judged::new(one, policy, NOW)).collect();
    judge(policy, &mut all);
    all.into_iter().map(verdict).collect()
}

/// One rule is raised.
fn raised(policy: &Policy, which: usize) -> Policy {
    let mut policy = Policy { keep_none: false, ..policy.clone() };
    let (each, within) = (&mut policy.each, &mut policy.within_each);
    let month = Some("2mo".parse().unwrap());
    let longer = |span: &mut Option<Span>| {
        if span.is_none_or(|span| span.before(Time(BASE)) > Time(BASE - 40 * DAY)) {
            *span = month;
        }
    };
    let more = |count: &mut u32| *count = count.saturating_add(1);
    match which {
        0 => more(&mut policy.last),
        1 => more(&mut each.hourly),
        2 => more(&mut each.daily),
        3 => more(&mut each.weekly),
        4 => more(&mut each.monthly),
        5 => more(&mut each.yearly),
        6 => more(&mut policy.min_good),
        7 => longer(&mut policy.within),
        8 => longer(&mut within.hourly),
        9 => longer(&mut within.daily),
        10 => longer(&mut within.weekly),
        11 => longer(&mut within.monthly),
        _ => longer(&mut within.yearly),
    }
    Policy { keep_none: policy.is_empty(), ..policy }
}

/// Whether a snapshot is kept, said without any order of work: each rule by its definition, at the bounded times and
/// at those that are vouched for.
fn is_kept(policy: &Policy, all: &[Candidate], one: &Candidate) -> bool {
    let bounded = |one: &Candidate, by: Time| {
        let after = one.seen.after.unwrap_or(Time(i64::MIN));
        one.time.max(after).min(by)
    };
    let vouched = |one: &Candidate, by: Time| match (one.seen.after == Some(by), one.by_owner) {
        (true, _) => one.time,
        (false, true) => one.time.min(by),
        (false, false) => bounded(one, by),
    };
    is_kept_at(&bounded, policy, all, one) || is_kept_at(&vouched, policy, all, one)
}

fn is_kept_at(
    time: &dyn Fn(&Candidate, Time) -> Time,
    policy: &Policy,
    all: &[Candidate],
    one: &Candidate,
) -> bool {
    let tagged =
        |set: &Vec<String>| one.tags.as_ref().is_none_or(|tags| set.iter().all(|tag| tags.contains(tag)));
    let Some(by) = one.seen.by else { return true };
    if one.held || policy.tags.iter().any(tagged) {
        return true;
    }
    let place = |other: &Candidate| {
        let by = other.seen.by.expect("only observed ones are asked for");
        (time(other, by), by, other.time, other.id)
    };
    let source: Vec<_> =
        all.iter().filter(|other| other.source == one.source && other.seen.by.is_some()).collect();
    let good: Vec<_> = source.iter().copied().filter(|other| other.complete).collect();
    let group: Vec<_> = source.iter().copied().filter(|other| other.class == one.class).collect();
    let day = |by: Time| Period::Daily.of(by, &policy.zone);
    let newest = |of: &[&Candidate], count: u32| {
        let newer: Vec<_> = of.iter().filter(|other| place(other) > place(one)).collect();
        let later = of.iter().map(|other| day(other.seen.by.unwrap())).filter(|other| *other > day(by));
        let later = later.collect::<std::collections::BTreeSet<_>>();
        let is_first_of_day = newer.iter().all(|other| day(other.seen.by.unwrap()) != day(by));
        newer.len() < count as usize || is_first_of_day && later.len() < count.min(FLOOD_DAYS) as usize
    };
    let end = group.iter().filter(|other| other.complete).map(|other| place(other).0).max();
    let end = end.or(group.iter().map(|other| place(other).0).max()).unwrap();
    let is_within = |span: Option<Span>| span.is_some_and(|span| place(one).0 >= span.before(end));
    let in_period = |period: Period| {
        let number = |other: &Candidate| period.of(place(other).0, &policy.zone);
        let rank = |other: &Candidate| (other.complete, place(other));
        let same = group.iter().filter(|other| number(other) == number(one));
        let stands = same.max_by_key(|other| rank(other)).unwrap().id == one.id;
        let later = group.iter().map(|other| number(other)).filter(|other| *other > number(one));
        let numbers = group.iter().map(|other| number(other)).collect::<std::collections::BTreeSet<_>>();
        let oldest = group.iter().min_by_key(|other| (!other.complete, place(other))).unwrap().id;
        let later = later.collect::<std::collections::BTreeSet<_>>().len();
        (stands, later, oldest == one.id, numbers.len())
    };
    newest(&group, policy.last)
        || one.complete && newest(&good, policy.min_good)
        || is_within(policy.within)
        || policy.each.all().into_iter().any(|(period, count)| {
            let (stands, later, is_oldest, numbers) = in_period(period);
            stands && later < count as usize || is_oldest && numbers < count as usize
        })
        || policy.within_each.all().into_iter().any(|(period, span)| in_period(period).0 && is_within(span))
}

/// What a writer with a stolen key adds from `BASE` on, the looks that see it, and how long that goes on.
fn attack() -> impl Strategy<Value = (Vec<Time>, Vec<Candidate>)> {
    looks(BASE, BASE + 4 * DAY, 5).prop_flat_map(|looks| {
        let attack = observed(vec(snapshot(1000..2000), 0..60), looks.clone(), false);
        (Just(looks), attack.prop_map(apart))
    })
}

/// A backup every quarter of an hour, from the first look to the last, in each group, and when a look comes
/// as many as a rule counts at most: more than any attack can look like.
fn busy(looks: &[Time], policy: &Policy) -> Vec<Candidate> {
    let mut busy = Vec::new();
    let most = policy.last.max(policy.min_good).min(100);
    for (from, to) in looks.iter().zip(&looks[1..]) {
        let quarters =
            (from.0..to.0).step_by((15 * MINUTE) as usize).map(|at| at - at.rem_euclid(15 * MINUTE));
        let at_looks = std::iter::repeat_n(to.0, most as usize + 1);
        for at in quarters.chain([from.0]).chain(at_looks) {
            for (source, class) in [(1, b"a"), (1, b"b"), (2, b"a"), (2, b"b")] {
                let mut id = [0xff; 16];
                id[8..].copy_from_slice(&(busy.len() as u64).to_be_bytes());
                busy.push(Candidate {
                    id: SessionId(id),
                    source: SourceId([source; 16]),
                    class: class.to_vec(),
                    time: Time(at),
                    by_owner: false,
                    seen: Seen { after: Some(*from), by: Some(*to) },
                    complete: true,
                    tags: Some(Vec::new()),
                    held: false,
                });
            }
        }
    }
    busy
}

fn with(a: &[Candidate], b: &[Candidate]) -> Vec<Candidate> {
    a.iter().chain(b).cloned().collect()
}

/// Always the same cases.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_snapshot_is_kept_if_a_rule_says_so(policy in policy(), history in history()) {
        let expected = history.iter().filter(|one| is_kept(&policy, &history, one)).map(|one| one.id);
        prop_assert_eq!(kept(&policy, &history), expected.collect::<Vec<_>>());
    }

    #[test]
    fn the_order_in_which_snapshots_are_told_changes_nothing(
        policy in policy(),
        (history, shuffled) in history().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let decided = decide(&policy, &history, NOW);
        prop_assert_eq!(decided, decide(&policy, &shuffled, NOW));
    }

    #[test]
    fn raising_a_rule_forgets_nothing_more(policy in policy(), history in history(), which in 0..13_usize) {
        let more = kept(&raised(&policy, which), &history);
        prop_assert!(kept(&policy, &history).iter().all(|id| more.contains(id)));
    }

    #[test]
    fn what_is_left_is_kept_when_it_is_decided_on_again(policy in policy(), history in history()) {
        let kept_once = kept(&policy, &history);
        let left: Vec<_> = history.into_iter().filter(|one| kept_once.contains(&one.id)).collect();
        prop_assert_eq!(kept(&policy, &left), kept_once);
    }

    #[test]
    fn each_verdict_has_reasons_exactly_if_it_keeps(policy in policy(), history in history()) {
        let verdicts = decide(&policy, &history, NOW).unwrap();
        prop_assert_eq!(verdicts.len(), history.len());
        for verdict in verdicts {
            prop_assert_eq!(verdict.keep, !verdict.reasons.is_empty());
            prop_assert_eq!(verdict.why() == "nothing keeps it", !verdict.keep);
        }
    }

    #[test]
    fn the_newest_complete_snapshots_of_a_source_stay(policy in policy(), history in history()) {
        let kept = kept(&policy, &history);
        for source in [1, 2] {
            let good = history.iter().filter(|one| one.source.0[0] == source && one.complete);
            let good = good.filter(|one| one.seen.by.is_some()).count();
            let left = history.iter().filter(|one| one.source.0[0] == source && one.complete);
            let left = left.filter(|one| one.seen.by.is_some() && kept.contains(&one.id)).count();
            prop_assert!(left >= good.min(policy.min_good as usize));
        }
    }

    #[test]
    fn other_sources_change_nothing(policy in policy(), history in history()) {
        let (own, _): (Vec<_>, Vec<_>) = history.iter().cloned().partition(|one| one.source.0[0] == 1);
        let all = kept(&policy, &history);
        let all: Vec<_> = all.into_iter().filter(|id| own.iter().any(|one| one.id == *id)).collect();
        prop_assert_eq!(kept(&policy, &own), all);
    }

    #[test]
    fn by_vouched_times_only_more_is_kept(policy in policy(), history in history()) {
        let both = decide(&policy, &history, NOW).unwrap();
        for first in judged_first(&policy, &history) {
            let one = both.iter().find(|one| one.id == first.id).unwrap();
            prop_assert_eq!(&one.reasons[..first.reasons.len()], &first.reasons);
        }
    }

    /// The promise. Everything up to `BASE` is honest or not, and observed; then whoever has a writer's key
    /// adds anything, for days. What an honest schedule at its busiest would have left is still there.
    #[test]
    fn an_attack_forgets_nothing_that_busy_honest_backups_would_not(
        policy in policy(),
        history in history(),
        (looks, attack) in attack(),
    ) {
        // What was said before the attack is not of a time after it.
        let past = |one: Candidate| Candidate { time: one.time.min(Time(BASE)), ..one };
        let history: Vec<_> = history.into_iter().map(past).collect();
        let attacked = kept(&policy, &with(&history, &attack));
        for id in kept(&policy, &with(&history, &busy(&looks, &policy))) {
            let is_old = history.iter().any(|one| one.id == id);
            prop_assert!(!is_old || attacked.contains(&id), "{id:?} is lost");
        }
    }

    /// And whatever the maintainer's clock does meanwhile, nothing of what the first judgement leaves is lost.
    #[test]
    fn an_attack_while_a_clock_is_wrong_takes_nothing_from_the_first_judgement(
        policy in policy(),
        history in history(),
        (looks, attack) in attack().prop_flat_map(|(looks, attack)| (Just(looks), vouched_for(Just(attack)))),
    ) {
        let attack: Vec<_> = attack.into_iter().map(|one| Candidate { by_owner: false, ..one }).collect();
        let attacked = kept(&policy, &with(&history, &attack));
        for id in kept_of(judged_first(&policy, &with(&history, &busy(&looks, &policy)))) {
            let is_old = history.iter().any(|one| one.id == id);
            prop_assert!(!is_old || attacked.contains(&id), "{id:?} is lost");
        }
    }

    /// The same promise for a rule for periods, in numbers: an attack over `k` days takes `k` days off it.
    #[test]
    fn an_attack_takes_no_more_days_than_it_lasts(
        count in 1..15_u32,
        zone in zone(),
        history in history(),
        (looks, attack) in attack(),
    ) {
        let policy = |daily| Policy {
            each: ByPeriod { daily, ..ByPeriod::default() },
            keep_none: daily == 0,
            ..Policy::new(zone.clone())
        };
        let day = |at: i64| Period::Daily.of(Time(at), &zone);
        let last = looks.last().expect("the first look is there").0;
        let touched = (BASE..last).step_by((15 * MINUTE) as usize).chain([last]).map(day);
        let touched = touched.collect::<std::collections::BTreeSet<_>>();
        let attacked = kept(&policy(count), &with(&history, &attack));
        // What is kept of the days before the attack's first.
        let before: Vec<_> = judged_first(&policy(count.saturating_sub(touched.len() as u32)), &history)
            .into_iter()
            .filter(|one| one.keep && one.time.is_none_or(|time| day(time.0) < day(BASE)))
            .filter(|one| one.reasons.iter().any(|reason| matches!(reason, Reason::Each { .. })))
            .collect();
        for one in before {
            prop_assert!(attacked.contains(&one.id), "{:?} is lost", one);
        }
    }

    /// And for the floor: a flood over `k` days of observations leaves the newest of the days before.
    #[test]
    fn a_flood_leaves_the_newest_complete_of_the_days_before(
        min_good in 1..10_u32,
        history in history(),
        (looks, attack) in attack(),
    ) {
        let zone = TimeZone::UTC;
        let day = |at: Time| Period::Daily.of(at, &zone);
        let policy = Policy { min_good, keep_none: true, ..Policy::new(zone.clone()) };
        let attacked = kept(&policy, &with(&history, &attack));
        let touched = looks[1..].iter().map(|look| day(*look)).collect::<std::collections::BTreeSet<_>>();
        let mut days = BTreeMap::new();
        for one in history.iter().filter(|one| one.source.0[0] == 1 && one.complete) {
            let Some(by) = one.seen.by.filter(|by| !touched.contains(&day(*by))) else { continue };
            let place = (bounded(one, by), by, one.time, one.id);
            let newest = days.entry(day(by)).or_insert(place);
            *newest = place.max(*newest);
        }
        let spared = (min_good.min(FLOOD_DAYS) as usize).saturating_sub(touched.len());
        for (_, _, _, id) in days.into_values().rev().take(spared) {
            prop_assert!(attacked.contains(&id), "{id:?} is lost");
        }
    }

    /// A subset of the commits is what a maintainer sees whose list came early.
    #[test]
    fn what_is_not_observed_yet_changes_nothing(
        policy in policy(),
        (history, new) in history().prop_flat_map(|all| {
            let some = subsequence(all.clone(), 0..=all.len());
            (Just(all), some)
        }),
    ) {
        let new: Vec<_> = new
            .into_iter()
            .map(|one| {
                let mut id = one.id.0;
                id[0] = 1;
                Candidate { id: SessionId(id), seen: Seen { by: None, ..one.seen }, ..one }
            })
            .collect();
        let mut expected = with(&history, &new);
        let left = kept(&policy, &history);
        expected.retain(|one| one.id.0[0] == 1 || left.contains(&one.id));
        let mut expected: Vec<_> = expected.into_iter().map(|one| one.id).collect();
        expected.sort();
        prop_assert_eq!(kept(&policy, &with(&history, &new)), expected);
    }
}
