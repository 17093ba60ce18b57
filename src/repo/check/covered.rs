//! Which part of the packs is due, and what is known afterwards: ranges of the ids of packs, as values.
//!
//! Spec: chapter 12. Times only choose what is read next.

use crate::format::checks::{Range, joins};
use crate::format::limits;
use crate::world::Time;

/// A stretch of places of packs: its first and its last.
pub type Stretch = (u32, u32);

/// Of a range that nobody has read.
const NEVER: Time = Time(i64::MIN);

/// All that there is, in ranges: those between the known ones were never read.
fn all(ranges: &[Range]) -> Vec<Range> {
    let mut out = Vec::with_capacity(2 * ranges.len() + 1);
    let mut next = Some(0);
    for range in ranges {
        if let Some(first) = next.filter(|first| *first < range.first) {
            out.push(Range { first, last: range.first - 1, since: NEVER, upto: NEVER });
        }
        out.push(*range);
        next = range.last.checked_add(1);
    }
    out.extend(next.map(|first| Range { first, last: u32::MAX, since: NEVER, upto: NEVER }));
    out
}

/// What to read next, ascending: what was read longest ago, and only what was read before `before`. `share` bounds how
/// much, in places of the 2^32.
pub fn due(ranges: &[Range], share: Option<u64>, before: Option<Time>) -> Vec<Stretch> {
    let mut due = all(ranges);
    due.retain(|range| before.is_none_or(|before| range.since < before));
    due.sort_by_key(|range| (range.since, range.first));
    let mut left = share.unwrap_or(u64::MAX);
    let mut out = Vec::new();
    for range in due {
        if left == 0 {
            break;
        }
        let len = u64::from(range.last - range.first) + 1;
        let last = if len <= left { range.last } else { range.first + (left - 1) as u32 };
        left = left.saturating_sub(len);
        out.push((range.first, last));
    }
    out.sort_unstable();
    out
}

/// Whether a place lies in one of the stretches, which ascend.
pub fn is_in(stretches: &[Stretch], place: u32) -> bool {
    let behind = stretches.partition_point(|(_, last)| *last < place);
    stretches.get(behind).is_some_and(|(first, _)| *first <= place)
}

/// The range that a place lies in, if it was ever read.
pub fn range_of(ranges: &[Range], place: u32) -> Option<&Range> {
    let behind = ranges.partition_point(|range| range.last < place);
    ranges.get(behind).filter(|range| range.first <= place)
}

/// The stretches up to a place, without it; and without single places.
pub fn without(stretches: &[Stretch], end: Option<u32>, places: &[u32]) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    for (first, last) in stretches {
        let last = match end {
            Some(end) if end <= *first => continue,
            Some(end) => (*last).min(end - 1),
            None => *last,
        };
        let mut next = Some(*first);
        for place in places.iter().filter(|place| (*first..=last).contains(place)) {
            if let Some(from) = next.filter(|from| from < place) {
                out.push((from, place - 1));
            }
            next = place.checked_add(1);
        }
        out.extend(next.filter(|from| *from <= last).map(|from| (from, last)));
    }
    out
}

/// Cuts the stretches out of the ranges.
pub fn clear(ranges: &[Range], stretches: &[Stretch]) -> Vec<Range> {
    let mut out = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut next = Some(range.first);
        let meets = |(first, last): &&Stretch| *last >= range.first && *first <= range.last;
        for (first, last) in stretches.iter().filter(meets) {
            if let Some(from) = next.filter(|from| from < first) {
                out.push(Range { first: from, last: first - 1, ..*range });
            }
            next = last.checked_add(1);
        }
        let rest = next.filter(|from| *from <= range.last);
        out.extend(rest.map(|first| Range { first, ..*range }));
    }
    out
}

/// Takes in that the stretches were read: none before `since`, and all that were there before `upto`.
pub fn read(ranges: &[Range], stretches: &[Stretch], since: Time, upto: Time) -> Vec<Range> {
    let mut out = clear(ranges, stretches);
    out.extend(stretches.iter().map(|(first, last)| Range { first: *first, last: *last, since, upto }));
    tidy(out)
}

/// Takes in that what had come since was read too, in all that was ever read.
pub fn read_young(ranges: &[Range], upto: Time) -> Vec<Range> {
    tidy(ranges.iter().map(|range| Range { upto: range.upto.max(upto), ..*range }).collect())
}

/// In order, with those joined that say the same, and no more than there may be: then neighbours are joined that were
/// read longest ago, and count as the older one.
fn tidy(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|range| range.first);
    let mut out: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if joins(last, &range) => last.last = range.last,
            _ => out.push(range),
        }
    }
    while out.len() > limits::CHECK_RANGES {
        let touches = |at: &usize| out[*at].last.checked_add(1) == Some(out[*at + 1].first);
        let oldest = |at: &usize| out[*at].since.max(out[*at + 1].since);
        match (0..out.len() - 1).filter(touches).min_by_key(oldest) {
            Some(at) => {
                let behind = out.remove(at + 1);
                let (since, upto) = (out[at].since.min(behind.since), out[at].upto.min(behind.upto));
                out[at] = Range { first: out[at].first, last: behind.last, since, upto };
            }
            // None touches another: what was read longest ago counts as never read.
            None => {
                let oldest = (0..out.len()).min_by_key(|at| out[*at].since).expect("there are too many");
                out.remove(oldest);
            }
        }
    }
    // What was joined may now say what its neighbours say.
    out.dedup_by(|behind, before| {
        let same = joins(before, behind);
        before.last = if same { behind.last } else { before.last };
        same
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, last: u32, since: i64, upto: i64) -> Range {
        Range { first, last, since: Time(since), upto: Time(upto) }
    }

    #[test]
    fn twenty_parts_of_a_twentieth_read_everything_once_and_begin_again_with_the_first() {
        let share = (1_u64 << 32).div_ceil(20);
        let mut ranges = Vec::new();
        let mut read_places = 0;
        for round in 0..20 {
            let part = due(&ranges, Some(share), None);
            read_places += part.iter().map(|(first, last)| u64::from(last - first) + 1).sum::<u64>();
            ranges = read(&ranges, &part, Time(round), Time(round));
        }
        assert!((1 << 32..(1 << 32) + 20 * 20).contains(&read_places));
        assert!(ranges.first().unwrap().first == 0 && ranges.last().unwrap().last == u32::MAX);
        assert!(ranges.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
        assert_eq!(
            due(&ranges, Some(share), None)[0].0,
            ranges.iter().min_by_key(|r| r.since).unwrap().first
        );
    }

    #[test]
    fn only_what_was_read_before_is_due_and_the_oldest_first() {
        let ranges = [range(0, 9, 5, 5), range(10, 19, 3, 3), range(30, u32::MAX, 9, 9)];
        assert_eq!(due(&ranges, None, Some(Time(6))), [(0, 9), (10, 19), (20, 29)]);
        assert_eq!(due(&ranges, None, Some(Time(5))), [(10, 19), (20, 29)]);
        assert_eq!(due(&ranges, Some(12), Some(Time(6))), [(10, 11), (20, 29)]);
        assert_eq!(due(&[], None, Some(Time(6))), [(0, u32::MAX)]);
        assert_eq!(due(&ranges, Some(0), None), []);
    }

    #[test]
    fn an_interrupted_part_counts_up_to_where_it_came_and_without_what_is_damaged() {
        let part = [(10, 19), (30, 39), (50, 59)];
        assert_eq!(without(&part, Some(35), &[10, 15]), [(11, 14), (16, 19), (30, 34)]);
        assert_eq!(without(&part, Some(30), &[19]), [(10, 18)]);
        assert_eq!(without(&part, Some(0), &[]), []);
        assert_eq!(without(&part, None, &[59]), [(10, 19), (30, 39), (50, 58)]);
        assert_eq!(without(&[(u32::MAX, u32::MAX)], None, &[u32::MAX]), []);
    }

    #[test]
    fn what_says_the_same_is_one_range_and_what_was_cleared_is_none() {
        let ranges = read(&[range(0, 99, 1, 1)], &[(10, 19), (20, 29)], Time(2), Time(3));
        assert_eq!(ranges, [range(0, 9, 1, 1), range(10, 29, 2, 3), range(30, 99, 1, 1)]);
        assert_eq!(clear(&ranges, &[(5, 30)]), [range(0, 4, 1, 1), range(31, 99, 1, 1)]);
        let young = read_young(&ranges, Time(7));
        assert_eq!(young, [range(0, 9, 1, 7), range(10, 29, 2, 7), range(30, 99, 1, 7)]);
        assert_eq!(range_of(&ranges, 29), Some(&range(10, 29, 2, 3)));
        assert_eq!(range_of(&ranges, 100), None);
        assert!(is_in(&[(1, 2), (5, 9)], 5) && !is_in(&[(1, 2), (5, 9)], 4) && !is_in(&[], 0));
    }

    #[test]
    fn of_too_many_ranges_the_oldest_are_joined_and_count_as_the_older_one() {
        let many = limits::CHECK_RANGES as u32 + 2;
        let ranges = (0..many).map(|n| range(n, n, 1000 + i64::from(n), 0)).collect();
        let tidied = tidy(ranges);
        assert_eq!(tidied.len(), limits::CHECK_RANGES);
        assert_eq!(tidied[0], range(0, 2, 1000, 0));
        assert_eq!(tidied.last().unwrap().last, many - 1);
        let apart = (0..many).map(|n| range(2 * n, 2 * n, i64::from(n), 0)).collect();
        assert_eq!(tidy(apart)[0], range(4, 4, 2, 0), "never is older than any time");
    }
}
