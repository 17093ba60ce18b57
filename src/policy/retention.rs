//! Which snapshots are kept, and why: a plan, made from what a maintainer may know.
//!
//! Sits between the list of commits and the forget that goes into the gc log. A writer's key may be stolen,
//! so a client's time counts only between the maintainer's observations, and nothing that is committed
//! later uses up a rule faster than time does ([`decide`] says what is promised). What somebody vouches for
//! is judged by its own time too, and that only keeps more. Invariant: a snapshot is forgotten only if no
//! rule keeps it; what is not sure is kept.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;

use crate::format::id::{SessionId, SourceId};
use crate::policy::period::{ByPeriod, Period};
use crate::policy::span::Span;
use crate::world::Time;

/// For how many days a flood of commits can't push out the newest snapshot that each of them has brought.
///
/// A week: what begins on a Friday evening is still found on Monday. It is not the count itself, because
/// then `last: 48` of half-hourly backups, which means a day, would keep 48 days.
const FLOOD_DAYS: u32 = 7;

/// A snapshot, as the maintainer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: SessionId,
    pub source: SourceId,
    /// Snapshots of one source and one class are decided on together. Opaque.
    pub class: Vec<u8>,
    /// When it was cut, by the clock of whoever made it: not to be trusted.
    pub time: Time,
    /// Made with the owner's key. Its time is that of a snapshot that it is a copy of, perhaps.
    pub by_owner: bool,
    pub seen: Seen,
    pub complete: bool,
    /// None if they can't be read.
    pub tags: Option<Vec<String>>,
    pub held: bool,
}

/// Between which observations of the maintainer a commit came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It was not there yet; none if nobody has looked before.
    pub after: Option<Time>,
    /// It was there; none if nobody has looked since. One time for all that was seen in one look.
    pub by: Option<Time>,
}

/// What to keep. Rules add up: a snapshot that any of them keeps is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many, complete or not.
    pub last: u32,
    /// The newest snapshot of each of the newest so many periods that have one.
    pub each: ByPeriod<u32>,
    /// All that are at most this much older than the newest complete one.
    pub within: Option<Span>,
    /// The newest of each period, of those that are at most this much older than the newest complete one.
    pub within_each: ByPeriod<Option<Span>>,
    /// All that have every tag of one of these sets.
    pub tags: Vec<Vec<String>>,
    /// The newest so many complete ones of each source, whatever its classes. A floor under the other
    /// rules, and none by itself.
    pub min_good: u32,
    /// Whose calendar the periods are of.
    pub zone: TimeZone,
    /// Forget everything but for the floor, what is held, and what is not observed yet.
    pub keep_none: bool,
}

impl Policy {
    /// A policy without rules: refused, as it is.
    pub fn new(zone: TimeZone) -> Self {
        Self {
            last: 0,
            each: ByPeriod::default(),
            within: None,
            within_each: ByPeriod::default(),
            tags: Vec::new(),
            min_good: 0,
            zone,
            keep_none: false,
        }
    }

    /// Refuses a policy that would forget everything and does not say so.
    pub fn check(&self) -> Result<(), Error> {
        match (self.is_empty(), self.keep_none) {
            (true, false) => Err(Error::Empty),
            (false, true) => Err(Error::Contradiction),
            _ => Ok(()),
        }
    }

    /// Whether there is no rule but the floor.
    fn is_empty(&self) -> bool {
        let counts = self.last > 0 || self.each.all().iter().any(|(_, count)| *count > 0);
        let spans = self.within.is_some() || self.within_each.all().iter().any(|(_, span)| span.is_some());
        !counts && !spans && self.tags.is_empty()
    }
}

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the retention policy has no rule: every snapshot would be forgotten")]
    Empty,
    #[error("the retention policy says to keep none, and has rules that keep some")]
    Contradiction,
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub id: SessionId,
    pub keep: bool,
    /// Why it is kept; empty if it is not.
    pub reasons: Vec<Reason>,
    /// The time that it counts at; none if it counts for nothing yet. Its own if that is vouched for: it is the one
    /// that is shown and sorted by wherever people look for a snapshot, also if the bounded one keeps it.
    pub time: Option<Time>,
}

impl Verdict {
    /// The reasons in words.
    pub fn why(&self) -> String {
        match self.reasons.is_empty() {
            true => "nothing keeps it".to_owned(),
            false => self.reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Why a snapshot is kept. Ranks count from 1, the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Held,
    /// No maintainer has observed it yet.
    New,
    /// Its observation lies after now, so one of the two clocks is wrong.
    Ahead,
    Tags(Vec<String>),
    /// There is a rule for tags, and its tags can't be read.
    TagsUnknown,
    Last {
        rank: u32,
        count: u32,
    },
    Each {
        period: Period,
        rank: u32,
        count: u32,
    },
    /// The oldest complete one, while a rule for periods has fewer of them than it may keep.
    Oldest {
        period: Period,
    },
    Within {
        span: Span,
    },
    WithinEach {
        period: Period,
        span: Span,
    },
    Good {
        rank: u32,
        count: u32,
    },
    /// The newest of those that were first seen on one of the last days, so that a flood doesn't push it out.
    FirstSeen,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Held => f.write_str("hold"),
            Reason::New => f.write_str("new: not observed yet"),
            Reason::Ahead => f.write_str("observed at a time that is yet to come"),
            Reason::Tags(tags) => write!(f, "tag {}", tags.join(",")),
            Reason::TagsUnknown => f.write_str("its tags can't be read"),
            Reason::Last { rank, count } => write!(f, "last {}", of(*rank, *count)),
            Reason::Each { period, rank, count } => write!(f, "{period} {}", of(*rank, *count)),
            Reason::Oldest { period } => write!(f, "oldest, {period} has room"),
            Reason::Within { span } => write!(f, "within {span}"),
            Reason::WithinEach { period, span } => write!(f, "{period} within {span}"),
            Reason::Good { rank, count } => write!(f, "complete {}", of(*rank, *count)),
            Reason::FirstSeen => f.write_str("newest first seen on its day"),
        }
    }
}

impl Reason {
    /// Whether both are of one rule, whatever the ranks.
    fn is_of_rule(&self, other: &Reason) -> bool {
        match (self, other) {
            (Reason::Last { .. }, Reason::Last { .. }) | (Reason::Good { .. }, Reason::Good { .. }) => true,
            (Reason::Each { period: a, .. }, Reason::Each { period: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }
}

fn of(rank: u32, count: u32) -> String {
    match count {
        u32::MAX => rank.to_string(),
        count => format!("{rank} of {count}"),
    }
}

/// Where a snapshot stands among the others of its source; the greatest is the newest. Of two at one time
/// the one that was observed first is the older one: else a later commit, put at the very time of an
/// observation, could take the place of one that was there. Of those that were first seen in one look the
/// client's time decides, because there is nothing better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    time: Time,
    by: Time,
    said: Time,
    id: SessionId,
}

/// A candidate, and what speaks for it so far.
struct Judged<'a> {
    candidate: &'a Candidate,
    /// None if it counts for nothing yet.
    place: Option<Place>,
    reasons: Vec<Reason>,
}

impl<'a> Judged<'a> {
    fn new(candidate: &'a Candidate, policy: &Policy, now: Time) -> Self {
        let mut reasons = Vec::new();
        if candidate.held {
            reasons.push(Reason::Held);
        }
        let place = match candidate.seen.by {
            None => Err(Reason::New),
            Some(by) if by > now => Err(Reason::Ahead),
            Some(by) => {
                let (said, id) = (candidate.time, candidate.id);
                Ok(Place { time: bounded(candidate, by), by, said, id })
            }
        };
        let place = place.map_err(|reason| reasons.push(reason)).ok();
        if !policy.tags.is_empty() {
            reasons.extend(tagged(candidate, &policy.tags));
        }
        Self { candidate, place, reasons }
    }

    fn group(&self) -> (SourceId, &'a [u8]) {
        (self.candidate.source, &self.candidate.class)
    }

    /// Goes where its own time is, if that is vouched for. Whether that is elsewhere.
    fn vouch(&mut self) -> bool {
        let Some(place) = &mut self.place else { return false };
        let before = std::mem::replace(&mut place.time, vouched(self.candidate, place.by));
        place.time != before
    }

    /// Adds a reason, unless there is one of its rule.
    fn keep(&mut self, reason: Reason) {
        if !self.reasons.iter().any(|known| known.is_of_rule(&reason)) {
            self.reasons.push(reason);
        }
    }
}

/// The client's time as far as the observations bear it out. Observations of several clocks may be the
/// wrong way round; then the later one in the log is believed.
fn bounded(candidate: &Candidate, by: Time) -> Time {
    candidate.time.max(candidate.seen.after.unwrap_or(Time(i64::MIN))).min(by)
}

/// The client's time where somebody vouches for it, else as far as the observations bear it out.
///
/// The owner can forget anything anyway, and what was made with that key is not younger than its first
/// observation. Where nothing lies between two observations the clock of one was wrong (the log puts a time
/// that goes back at the one before it), so neither says when the commit came, and there is only its own time.
fn vouched(candidate: &Candidate, by: Time) -> Time {
    match candidate.seen.after {
        Some(after) if after >= by => candidate.time,
        _ if candidate.by_owner => candidate.time.min(by),
        _ => bounded(candidate, by),
    }
}

fn tagged(candidate: &Candidate, sets: &[Vec<String>]) -> Option<Reason> {
    let Some(tags) = &candidate.tags else { return Some(Reason::TagsUnknown) };
    let set = sets.iter().find(|set| set.iter().all(|tag| tags.contains(tag)))?;
    Some(Reason::Tags(set.clone()))
}

/// Decides what is kept, and says why; by source and class, the newest first.
///
/// `now` only tells whether an observation can be true: no rule counts from it. So neither a wrong clock
/// nor backups that have stopped let anything be forgotten.
///
/// It is judged twice, and what either judgement keeps is kept. In the first each time counts between the
/// observations only. There, snapshots that were all copied in one night, or came while the observations
/// had a wrong clock's time, count at one instant, and all but one would go. So in the second those that
/// somebody vouches for count at their own time (`vouched`).
///
/// # What is promised
///
/// Whoever has a writer's key can add commits: any number, with any times, all called complete.
/// What was observed before they began is then forgotten no sooner than if honest backups had gone on:
///
/// - A rule for periods is used up by time alone. What is committed after an observation counts in the
///   period of that observation or a later one, so `daily: 7` needs seven dates to fill with rubbish.
/// - `last` and `min_good` have no calendar, and a flood would fill them in a minute. So they keep, beyond
///   their count, the newest of what was first seen on each of the last days on which something was: as many
///   days as the count says, and at most seven.
/// - `within` goes back from the newest complete snapshot, which never lies after its observation: nothing
///   can be committed in the future.
/// - Groups don't touch each other, but for the floor, which is per source.
///
/// The first judgement keeps these promises alone, and the second takes nothing away. What only the second keeps
/// is safe from whoever has a writer's key as well, as long as the maintainer's clock is right. If it is not, his
/// commits may count at any time there: they may take the places of what only the second keeps, and so may stay.
///
/// Not promised: what was first seen together with the attack can't be told from it, so observe often. The
/// period in which the attack falls may have only rubbish left; those before it keep their own. What was
/// there at the first observation of all may claim any time before it. A commit can be made to stay (a
/// hold, a new source), which costs space.
pub fn decide(policy: &Policy, candidates: &[Candidate], now: Time) -> Result<Vec<Verdict>, Error> {
    policy.check()?;
    let mut all: Vec<_> = candidates.iter().map(|candidate| Judged::new(candidate, policy, now)).collect();
    judge(policy, &mut all);
    if all.iter_mut().map(Judged::vouch).filter(|elsewhere| *elsewhere).count() > 0 {
        judge(policy, &mut all);
    }
    Ok(all.into_iter().map(verdict).collect())
}

/// Applies the rules to all, by the places that they have, and puts them in order.
fn judge(policy: &Policy, all: &mut [Judged<'_>]) {
    // What has no place yet is newer than what has.
    all.sort_by_key(|one| (one.group(), one.place.is_some(), Reverse(one.place), one.candidate.id));
    for group in all.chunk_by_mut(|a, b| a.group() == b.group()) {
        let new = group.partition_point(|one| one.place.is_none());
        judge_group(policy, &mut group[new..]);
    }
    for source in all.chunk_by_mut(|a, b| a.candidate.source == b.candidate.source) {
        let mut good: Vec<_> =
            source.iter_mut().filter(|one| one.candidate.complete && one.place.is_some()).collect();
        good.sort_by_key(|one| Reverse(one.place));
        let count = policy.min_good;
        keep_newest(&mut good, count, &policy.zone, |rank| Reason::Good { rank, count });
    }
}

fn verdict(judged: Judged<'_>) -> Verdict {
    Verdict {
        id: judged.candidate.id,
        keep: !judged.reasons.is_empty(),
        time: judged.place.map(|place| place.time),
        reasons: judged.reasons,
    }
}

/// Applies the rules to one group, all of it observed, the newest first.
fn judge_group(policy: &Policy, group: &mut [Judged<'_>]) {
    let count = policy.last;
    let mut every: Vec<_> = group.iter_mut().collect();
    keep_newest(&mut every, count, &policy.zone, |rank| Reason::Last { rank, count });
    for (period, count) in policy.each.all() {
        if count > 0 {
            keep_each(group, period, count, &policy.zone);
        }
    }
    let Some(end) = group.iter().find(|one| one.candidate.complete).or(group.first()) else { return };
    let Some(end) = end.place.map(|place| place.time) else { return };
    if let Some(span) = policy.within {
        let begin = span.before(end);
        for one in group.iter_mut().filter(|one| is_since(one, begin)) {
            one.keep(Reason::Within { span });
        }
    }
    for (period, span) in policy.within_each.all() {
        let Some(span) = span else { continue };
        let begin = span.before(end);
        for at in newest_of_each(group, period, &policy.zone) {
            if is_since(&group[at], begin) {
                group[at].keep(Reason::WithinEach { period, span });
            }
        }
    }
}

fn is_since(one: &Judged<'_>, begin: Time) -> bool {
    one.place.is_some_and(|place| place.time >= begin)
}

/// Keeps the first `count`, and the first that was observed on each of the last days (see [`FLOOD_DAYS`]).
fn keep_newest(
    snapshots: &mut [&mut Judged<'_>],
    count: u32,
    zone: &TimeZone,
    reason: impl Fn(u32) -> Reason,
) {
    let mut days = BTreeMap::new();
    for (at, one) in snapshots.iter().enumerate() {
        if let Some(place) = one.place {
            days.entry(Period::Daily.of(place.by, zone)).or_insert(at);
        }
    }
    for (rank, one) in (1..=count).zip(snapshots.iter_mut()) {
        one.keep(reason(rank));
    }
    let days = days.into_values().rev().take(count.min(FLOOD_DAYS) as usize);
    for at in days.filter(|at| *at >= count as usize) {
        snapshots[at].keep(Reason::FirstSeen);
    }
}

/// Keeps the newest of each of the newest `count` periods. While there are fewer periods than that, the
/// oldest snapshot stays too: so the first one is there until the rule has something older than a period.
fn keep_each(group: &mut [Judged<'_>], period: Period, count: u32, zone: &TimeZone) {
    let each = newest_of_each(group, period, zone);
    let has_room = each.len() < count as usize;
    for (rank, at) in (1..=count).zip(&each) {
        group[*at].keep(Reason::Each { period, rank, count });
    }
    if has_room {
        let oldest = group.iter().rposition(|one| one.candidate.complete);
        let oldest = oldest.or(group.len().checked_sub(1));
        if let Some(oldest) = oldest.filter(|oldest| !each.contains(oldest)) {
            group[oldest].keep(Reason::Oldest { period });
        }
    }
}

/// The newest complete snapshot of each period, or its newest if none is complete; the newest period first.
fn newest_of_each(group: &[Judged<'_>], period: Period, zone: &TimeZone) -> Vec<usize> {
    let mut newest = BTreeMap::new();
    for (at, one) in group.iter().enumerate() {
        let Some(place) = one.place else { continue };
        let chosen = newest.entry(period.of(place.time, zone)).or_insert(at);
        if !group[*chosen].candidate.complete && one.candidate.complete {
            *chosen = at;
        }
    }
    newest.into_values().rev().collect()
}

#[cfg(test)]
mod promises;
#[cfg(test)]
mod tests;
