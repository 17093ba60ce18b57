//! What is kept of dates that people know, rule by rule.

use jiff::Timestamp;

use super::*;

const AHEAD: Time = Time(i64::MAX);

fn time(text: &str) -> Time {
    let text = if text.contains('T') { text.to_owned() } else { format!("{text}T12:00Z") };
    Time(text.parse::<Timestamp>().unwrap().as_nanosecond().try_into().unwrap())
}

/// A complete snapshot of source 1, honest, and seen at once.
fn snapshot(number: u8, at: &str) -> Candidate {
    let at = time(at);
    Candidate {
        id: SessionId([number; 16]),
        source: SourceId([1; 16]),
        class: Vec::new(),
        time: at,
        by_owner: false,
        seen: Seen { after: None, by: Some(at) },
        complete: true,
        tags: Some(Vec::new()),
        held: false,
    }
}

/// Snapshots at these times, numbered from 1.
fn snapshots(times: &[&str]) -> Vec<Candidate> {
    (1..).zip(times).map(|(number, at)| snapshot(number, at)).collect()
}

fn utc() -> Policy {
    Policy::new(TimeZone::UTC)
}

/// The clocks of Berlin, written out, so that no machine's tables are asked.
fn berlin() -> Policy {
    Policy::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
}

fn span(text: &str) -> Option<Span> {
    Some(text.parse().unwrap())
}

fn decided(policy: &Policy, candidates: &[Candidate]) -> Vec<Verdict> {
    decide(policy, candidates, AHEAD).unwrap()
}

/// The numbers of those that are kept, ascending.
fn kept(policy: &Policy, candidates: &[Candidate]) -> Vec<u8> {
    let kept = decided(policy, candidates).into_iter().filter(|verdict| verdict.keep);
    let mut numbers: Vec<_> = kept.map(|verdict| verdict.id.0[0]).collect();
    numbers.sort();
    numbers
}

/// Why the snapshot with this number is kept.
fn why(policy: &Policy, candidates: &[Candidate], number: u8) -> String {
    let verdicts = decided(policy, candidates);
    verdicts.iter().find(|verdict| verdict.id.0[0] == number).unwrap().why()
}

#[test]
fn last_keeps_the_newest() {
    let times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03", "2026-09-04"]);
    assert_eq!(kept(&Policy { last: 1, ..utc() }, &times), [4]);
    assert_eq!(kept(&Policy { last: 3, ..utc() }, &times), [2, 3, 4]);
    assert_eq!(kept(&Policy { last: u32::MAX, ..utc() }, &times), [1, 2, 3, 4]);
}

#[test]
fn a_rule_for_periods_keeps_the_newest_of_each() {
    let times = snapshots(&[
        "2025-12-31T23:59Z", // 1, week 1 of 2026
        "2026-01-01T00:00Z", // 2, the same week
        "2026-01-01T00:30Z", // 3
        "2026-01-01T01:00Z", // 4
        "2026-01-04T12:00Z", // 5, Sunday of that week
        "2026-01-05T12:00Z", // 6, week 2
        "2026-02-02T12:00Z", // 7, week 6
    ]);
    let check = |each: ByPeriod<u32>, expected: &[u8]| {
        assert_eq!(kept(&Policy { each, ..utc() }, &times), expected, "{each:?}");
    };
    let none = ByPeriod::default();
    check(ByPeriod { hourly: 5, ..none }, &[3, 4, 5, 6, 7]);
    check(ByPeriod { hourly: 6, ..none }, &[1, 3, 4, 5, 6, 7]);
    check(ByPeriod { daily: 1, ..none }, &[7]);
    check(ByPeriod { daily: 4, ..none }, &[4, 5, 6, 7]);
    check(ByPeriod { weekly: 2, ..none }, &[6, 7]);
    check(ByPeriod { weekly: 3, ..none }, &[5, 6, 7]);
    check(ByPeriod { monthly: 2, ..none }, &[6, 7]);
    check(ByPeriod { monthly: 3, ..none }, &[1, 6, 7]);
    check(ByPeriod { yearly: 2, ..none }, &[1, 7]);
    check(ByPeriod { yearly: 1, monthly: 2, daily: 3, ..none }, &[5, 6, 7]);
}

#[test]
fn the_first_snapshot_stays_while_a_rule_has_room() {
    let times = snapshots(&["2026-03-01", "2026-05-01", "2026-07-01"]);
    let yearly = |count| Policy { each: ByPeriod { yearly: count, ..ByPeriod::default() }, ..utc() };
    assert_eq!(kept(&yearly(1), &times), [3]);
    assert_eq!(kept(&yearly(2), &times), [1, 3]);
    assert_eq!(why(&yearly(2), &times, 1), "oldest, yearly has room");
    // The year that follows takes its place.
    let times = snapshots(&["2026-03-01", "2026-05-01", "2026-07-01", "2027-01-01"]);
    assert_eq!(kept(&yearly(2), &times), [3, 4]);
}

#[test]
fn the_day_goes_by_the_time_zone() {
    // In Berlin the second is on the day after, at 00:30.
    let times = snapshots(&["2026-12-31T22:30Z", "2026-12-31T23:30Z", "2027-01-01T12:00Z"]);
    let daily = |policy| Policy { each: ByPeriod { daily: 2, ..ByPeriod::default() }, ..policy };
    assert_eq!(kept(&daily(utc()), &times), [2, 3]);
    assert_eq!(kept(&daily(berlin()), &times), [1, 3]);
}

#[test]
fn the_night_of_the_long_hour_has_both_hours_and_is_one_day() {
    let times = snapshots(&["2026-10-25T00:30Z", "2026-10-25T01:30Z", "2026-10-26T00:30Z"]);
    let hourly = Policy { each: ByPeriod { hourly: 3, ..ByPeriod::default() }, ..berlin() };
    assert_eq!(kept(&hourly, &times), [1, 2, 3]);
    let daily = Policy { each: ByPeriod { daily: 2, ..ByPeriod::default() }, ..berlin() };
    assert_eq!(kept(&daily, &times), [2, 3]);
}

#[test]
fn within_counts_back_from_the_newest_complete_snapshot() {
    let mut times = snapshots(&["2026-01-31", "2026-02-27", "2026-02-28", "2026-03-31", "2026-05-15"]);
    let within = |text| Policy { within: span(text), ..utc() };
    times.pop();
    assert_eq!(kept(&within("1d"), &times), [4]);
    // A month before the last of March is the last of February.
    assert_eq!(kept(&within("1mo"), &times), [3, 4]);
    assert_eq!(kept(&within("2mo"), &times), [1, 2, 3, 4]);
    // Later ones that are not complete are within it too, and move nothing.
    times.push(Candidate { complete: false, ..snapshot(5, "2026-05-15") });
    assert_eq!(kept(&within("1mo"), &times), [3, 4, 5]);
}

#[test]
fn within_each_keeps_the_newest_of_each_period_within() {
    let times = snapshots(&["2026-08-30", "2026-08-31T01:00Z", "2026-08-31T02:00Z", "2026-09-01T12:00Z"]);
    let daily = |text| Policy { within_each: ByPeriod { daily: span(text), ..ByPeriod::default() }, ..utc() };
    assert_eq!(kept(&daily("1d"), &times), [4]);
    assert_eq!(kept(&daily("35h"), &times), [3, 4]);
    assert_eq!(kept(&daily("1w"), &times), [1, 3, 4]);
    assert_eq!(why(&daily("1w"), &times, 1), "daily within 1w");
}

#[test]
fn an_incomplete_snapshot_stands_for_a_period_that_has_no_complete_one() {
    let mut times = snapshots(&["2026-09-01T10:00Z", "2026-09-01T20:00Z", "2026-09-02", "2026-09-03"]);
    times[1].complete = false;
    times[2].complete = false;
    let daily = Policy { each: ByPeriod { daily: 3, ..ByPeriod::default() }, ..utc() };
    assert_eq!(kept(&daily, &times), [1, 3, 4]);
}

#[test]
fn the_floor_counts_complete_snapshots_of_a_source_whatever_its_classes() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03", "2026-09-04"]);
    times[3].complete = false;
    times[1].class = b"other".to_vec();
    let floor = |count| Policy { keep_none: true, min_good: count, ..utc() };
    assert_eq!(kept(&floor(0), &times), [0; 0]);
    assert_eq!(kept(&floor(1), &times), [3]);
    assert_eq!(kept(&floor(2), &times), [2, 3]);
    assert_eq!(why(&floor(2), &times, 2), "complete 2 of 2");
    times[0].source = SourceId([9; 16]);
    assert_eq!(kept(&floor(1), &times), [1, 3]);
}

#[test]
fn sources_and_classes_are_decided_on_apart() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03"]);
    let last = Policy { last: 1, ..utc() };
    assert_eq!(kept(&last, &times), [3]);
    times[1].class = b"other".to_vec();
    assert_eq!(kept(&last, &times), [2, 3]);
    times[0].source = SourceId([0; 16]);
    assert_eq!(kept(&last, &times), [1, 2, 3]);
}

#[test]
fn a_hold_keeps_until_it_is_lifted() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02"]);
    times[0].held = true;
    let last = Policy { last: 1, ..utc() };
    assert_eq!(kept(&last, &times), [1, 2]);
    assert_eq!(why(&last, &times, 1), "hold");
    times[0].held = false;
    assert_eq!(kept(&last, &times), [2]);
    assert_eq!(why(&last, &times, 1), "nothing keeps it");
}

#[test]
fn a_tag_keeps_and_tags_that_cannot_be_read_keep_too() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03", "2026-09-04", "2026-09-05"]);
    let tags = |text: &str| Some(text.split(',').map(str::to_owned).collect::<Vec<_>>());
    times[0].tags = tags("audit,2026,x");
    times[1].tags = tags("audit");
    times[2].tags = None;
    times[3].tags = tags("release");
    let sets = vec![tags("audit,2026").unwrap(), tags("release").unwrap()];
    let policy = Policy { tags: sets, ..utc() };
    assert_eq!(kept(&policy, &times), [1, 3, 4]);
    assert_eq!(why(&policy, &times, 1), "tag audit,2026");
    assert_eq!(why(&policy, &times, 3), "its tags can't be read");
    // Without a rule for tags nobody asks for them.
    assert_eq!(kept(&Policy { last: 1, ..utc() }, &times), [5]);
}

#[test]
fn what_nobody_has_observed_stays_and_counts_for_nothing() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03"]);
    times[2].seen.by = None;
    let policy = Policy { last: 1, within: span("1h"), min_good: 1, ..utc() };
    assert_eq!(kept(&policy, &times), [2, 3]);
    assert_eq!(why(&policy, &times, 3), "new: not observed yet");
    assert_eq!(why(&policy, &times, 2), "last 1 of 1, within 1h, complete 1 of 1");
}

#[test]
fn every_reason_is_told() {
    let times = snapshots(&["2026-09-01", "2026-09-02"]);
    let each = ByPeriod { daily: 7, monthly: 12, ..ByPeriod::default() };
    let policy = Policy { last: u32::MAX, each, within: span("2d"), min_good: 1, ..utc() };
    assert_eq!(why(&policy, &times, 2), "last 1, daily 1 of 7, monthly 1 of 12, within 2d, complete 1 of 1");
    assert_eq!(why(&policy, &times, 1), "last 2, daily 2 of 7, oldest, monthly has room, within 2d");
}

#[test]
fn verdicts_are_in_order_the_newest_first() {
    let mut times = snapshots(&["2026-09-02", "2026-09-01", "2026-09-03", "2026-09-02", "2026-09-01"]);
    times[2].source = SourceId([2; 16]);
    times[4].seen.by = None;
    let verdicts = decided(&Policy { last: 1, ..utc() }, &times);
    assert_eq!(verdicts.iter().map(|verdict| verdict.id.0[0]).collect::<Vec<_>>(), [5, 4, 1, 2, 3]);
}

#[test]
fn a_policy_that_would_forget_everything_is_refused() {
    let times = snapshots(&["2026-09-01"]);
    assert_eq!(decide(&utc(), &times, AHEAD), Err(Error::Empty));
    // The floor alone says what must stay, not what is wanted.
    assert_eq!(decide(&Policy { min_good: 1, ..utc() }, &times, AHEAD), Err(Error::Empty));
    let both = Policy { keep_none: true, last: 1, ..utc() };
    assert_eq!(decide(&both, &times, AHEAD), Err(Error::Contradiction));
    assert_eq!(kept(&Policy { keep_none: true, ..utc() }, &times), [0; 0]);
}

/// A commit that claims to be of the year 2200 would be the newest for ever, and with it would end
/// everything that `within` keeps.
#[test]
fn a_commit_from_the_future_counts_when_it_was_observed() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03"]);
    times[2].time = time("2200-01-01");
    let policy = Policy { within: span("2d"), ..utc() };
    assert_eq!(kept(&policy, &times), [1, 2, 3]);
    assert_eq!(decided(&policy, &times)[0].time, Some(time("2026-09-03")));
}

/// A commit that claims to be of the evening of a day long gone would take the place of that day's.
#[test]
fn a_commit_from_the_past_counts_when_it_was_not_there_yet() {
    let mut times = snapshots(&["2026-08-01", "2026-08-02", "2026-08-03", "2026-08-01T23:00Z"]);
    times[3].seen = Seen { after: Some(time("2026-08-03")), by: Some(time("2026-08-04T03:00Z")) };
    let daily = Policy { each: ByPeriod { daily: 3, ..ByPeriod::default() }, ..utc() };
    assert_eq!(kept(&daily, &times), [1, 2, 4]);
    assert_eq!(decided(&daily, &times)[0].time, Some(time("2026-08-03")));
    // If nobody had looked before, it would be believed.
    times[3].seen.after = None;
    assert_eq!(kept(&daily, &times), [2, 3, 4]);
}

#[test]
fn observations_the_wrong_way_round_give_the_later_one_and_keep_by_the_own_time_too() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02"]);
    times[0].seen = Seen { after: Some(time("2099-01-01")), by: Some(time("2026-09-01T18:00Z")) };
    let reached = |text| why(&Policy { within: span(text), ..utc() }, &times, 1);
    assert_eq!([reached("17h"), reached("18h")], ["nothing keeps it", "within 18h"]);
    // The later one in a day that nothing else is of: its own is another.
    times[0].time = time("2026-08-31");
    let daily = Policy { each: ByPeriod { daily: 2, ..ByPeriod::default() }, ..utc() };
    times.push(snapshot(3, "2026-09-01T20:00Z"));
    assert_eq!(kept(&daily, &times), [2, 3]);
    let daily = Policy { each: ByPeriod { daily: 3, ..ByPeriod::default() }, ..utc() };
    assert_eq!(kept(&daily, &times), [1, 2, 3]);
}

/// A maintainer whose clock is back in 1970 must not squeeze a year of snapshots into one day, and one
/// whose clock was in 2099 once must not be believed.
#[test]
fn an_observation_that_is_yet_to_come_lets_nothing_be_forgotten() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03"]);
    times[2].seen.by = Some(time("2099-01-01"));
    times[2].time = time("2099-01-01");
    let policy = Policy { last: 1, within: span("1d"), ..utc() };
    let verdicts = decide(&policy, &times, time("2026-09-04")).unwrap();
    assert_eq!(verdicts[0].why(), "observed at a time that is yet to come");
    assert_eq!(verdicts.iter().map(|verdict| verdict.keep).collect::<Vec<_>>(), [true; 3]);
    let verdicts = decide(&policy, &times, time("1970-01-01")).unwrap();
    assert_eq!(verdicts.iter().map(|verdict| verdict.keep).collect::<Vec<_>>(), [true; 3]);
}

/// A flood of commits in one night would fill `last` and the floor, which count snapshots and not time.
#[test]
fn a_flood_does_not_push_out_the_newest_of_the_days_before() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03T08:00Z", "2026-09-03"]);
    for number in 10..200 {
        times.push(Candidate {
            time: time("2026-09-03T23:00Z"),
            seen: Seen { after: Some(time("2026-09-03")), by: Some(time("2026-09-04T03:00Z")) },
            ..snapshot(number, "2026-09-04")
        });
    }
    let honest = |policy: Policy| {
        let kept = kept(&policy, &times);
        kept.into_iter().filter(|number| *number < 10).collect::<Vec<_>>()
    };
    assert_eq!(honest(Policy { last: 1, ..utc() }), [0; 0]);
    assert_eq!(honest(Policy { last: 2, ..utc() }), [4]);
    assert_eq!(honest(Policy { last: 5, ..utc() }), [1, 2, 4]);
    assert_eq!(honest(Policy { keep_none: true, min_good: 3, ..utc() }), [2, 4]);
    assert_eq!(why(&Policy { last: 3, ..utc() }, &times, 2), "newest first seen on its day");
}

#[test]
fn days_of_a_flood_are_at_most_a_week() {
    let days: Vec<_> = (1..=20).map(|day| format!("2026-09-{day:02}")).collect();
    let times: Vec<_> = days.iter().map(String::as_str).flat_map(|day| [day; 10]).collect();
    let kept = kept(&Policy { last: 10, ..utc() }, &snapshots(&times));
    assert_eq!(kept.len(), 10 + 6);
    assert_eq!(kept[..6], [140, 150, 160, 170, 180, 190]);
}

/// Dailies at noon, from the first of August on.
fn dailies(count: u8) -> Vec<Candidate> {
    let day = |number: u8| Time(time("2026-08-01").0 + i64::from(number - 1) * 24 * 3600 * 1_000_000_000);
    (1..=count).map(|number| Candidate { time: day(number), ..snapshot(number, "2026-08-01") }).collect()
}

fn monthly_and_below() -> Policy {
    Policy { each: ByPeriod { daily: 7, weekly: 4, monthly: 12, ..ByPeriod::default() }, ..utc() }
}

/// The story: a repair made sixty dailies anew in one night, and the next forget left two of them.
#[test]
fn copies_by_the_owner_count_at_the_times_of_what_they_are_copies_of() {
    let seen = |seen: fn(Time) -> Seen, by_owner| -> Vec<Candidate> {
        dailies(60).into_iter().map(|one| Candidate { seen: seen(one.time), by_owner, ..one }).collect()
    };
    let in_one_night =
        |_| Seen { after: Some(time("2026-10-01T03:00Z")), by: Some(time("2026-10-02T03:00Z")) };
    let each_in_its_night = |at: Time| Seen { after: None, by: Some(at) };
    let honest = kept(&monthly_and_below(), &seen(each_in_its_night, false));
    assert_eq!(honest.len(), 11, "{honest:?}");
    let copies = seen(in_one_night, true);
    assert_eq!(kept(&monthly_and_below(), &copies), honest);
    assert_eq!(
        why(&monthly_and_below(), &copies, 60),
        "daily 1 of 7, weekly 1 of 4, monthly 1 of 12",
        "the same of both judgements is told once"
    );
    assert_eq!(why(&monthly_and_below(), &copies, 54), "daily 7 of 7");
    assert_eq!(decided(&monthly_and_below(), &copies)[6].time, Some(copies[53].time));
    // Of others anything may be said: only the newest, and the oldest while there is room.
    assert_eq!(kept(&monthly_and_below(), &seen(in_one_night, false)), [1, 60]);
}

#[test]
fn a_copy_by_the_owner_does_not_count_after_it_was_seen() {
    let mut times = snapshots(&["2026-09-01", "2026-09-02", "2026-09-03"]);
    times[2] = Candidate { by_owner: true, time: time("2200-01-01"), ..times[2].clone() };
    assert_eq!(decided(&Policy { last: 1, ..utc() }, &times)[0].time, Some(time("2026-09-03")));
}

/// What the log says of dailies that were each observed in the evening, by a clock that is wrong by so many days in some.
fn observed_by(clock_is_off: impl Fn(u8) -> i64) -> Vec<Candidate> {
    let mut last = None;
    let mut all = dailies(60);
    for one in &mut all {
        let evening = one.time.0 + (clock_is_off(one.id.0[0]) * 24 + 6) * 3600 * 1_000_000_000;
        // As the log has it: a time that goes back counts as the one before.
        let by = last.map_or(Time(evening), |last: Time| last.max(Time(evening)));
        one.seen = Seen { after: last, by: Some(by) };
        last = Some(by);
    }
    all
}

/// The story: one forget ran with a clock a month ahead, and as soon as it was a month later one of thirty was left.
#[test]
fn a_clock_that_was_wrong_forgets_nothing_that_a_right_one_would_keep() {
    let daily = |count| Policy { each: ByPeriod { daily: count, ..ByPeriod::default() }, ..utc() };
    let newest = |count: u8| (61 - count..=60).collect::<Vec<u8>>();
    let ahead_once = observed_by(|day| if day == 20 { 30 } else { 0 });
    let behind_for_long = observed_by(|day| if (20..55).contains(&day) { -365 } else { 0 });
    for (what, all) in [("ahead", &ahead_once), ("behind", &behind_for_long)] {
        let degenerate = all.iter().filter(|one| one.seen.after == one.seen.by).count();
        assert!(degenerate >= 30, "{what}: {degenerate}");
        for count in [30, 45] {
            let left = kept(&daily(count.into()), all);
            assert!(newest(count).iter().all(|number| left.contains(number)), "{what}: {left:?}");
        }
        let left = kept(&monthly_and_below(), all);
        let right = kept(&monthly_and_below(), &observed_by(|_| 0));
        assert!(right.iter().all(|number| left.contains(number)), "{what}: {left:?} {right:?}");
    }
}

#[test]
fn of_a_batch_that_counts_at_one_time_the_newest_by_its_own_wins() {
    let seen = Seen { after: Some(time("2026-10-01")), by: Some(time("2026-10-02")) };
    let mut times: Vec<_> = dailies(9).into_iter().map(|one| Candidate { seen, ..one }).collect();
    times.iter_mut().for_each(|one| one.id.0[0] = 10 - one.id.0[0]);
    assert_eq!(kept(&Policy { last: 3, ..utc() }, &times), [1, 2, 3]);
    // But not before what was seen earlier and stands at the same time.
    times[0].seen = Seen { after: None, by: Some(time("2026-10-01")) };
    times[0].time = time("2026-10-01");
    assert_eq!(kept(&Policy { last: 1, ..utc() }, &times), [1]);
}
