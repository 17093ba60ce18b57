//! The flags that say what to keep, as every verb that forgets has them, and the policy they mean.
//!
//! Invariant: without a flag that keeps something nothing is decided, and what could be read in two ways
//! is refused: a wrong retention policy is found out when the snapshot is gone.

use clap::Args as ClapArgs;
use jiff::tz::{Offset, TimeZone};

use crate::cli::exit::Failure;
use crate::policy::period::ByPeriod;
use crate::policy::retention::Policy;
use crate::policy::span::Span;

/// What to keep; a snapshot that any of these keeps is kept.
#[derive(ClapArgs)]
#[command(next_help_heading = "What is kept")]
pub struct KeepArgs {
    /// Keep the newest N snapshots of each source, and the newest of each of the last days (at most N and 7)
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_last: Option<u32>,
    /// Keep the newest snapshot of each of the newest N hours that have one; N may be `all`
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_hourly: Option<u32>,
    /// The same for days
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_daily: Option<u32>,
    /// The same for weeks, which begin on Monday
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N", value_parser = count)]
    pub keep_yearly: Option<u32>,
    /// Keep all that are at most this much older than the newest complete one: 36h, 30d, 2w, 6mo, 1y6mo
    #[arg(long, value_name = "TIME")]
    pub keep_within: Option<Span>,
    /// Of these, keep the newest snapshot of each hour
    #[arg(long, value_name = "TIME")]
    pub keep_within_hourly: Option<Span>,
    /// The same for days
    #[arg(long, value_name = "TIME")]
    pub keep_within_daily: Option<Span>,
    /// The same for weeks
    #[arg(long, value_name = "TIME")]
    pub keep_within_weekly: Option<Span>,
    /// The same for months
    #[arg(long, value_name = "TIME")]
    pub keep_within_monthly: Option<Span>,
    /// The same for years
    #[arg(long, value_name = "TIME")]
    pub keep_within_yearly: Option<Span>,
    /// Keep all with this label, or with all of several: A,B; may be given several times
    #[arg(long, value_name = "TAG")]
    pub keep_tag: Vec<String>,
    /// Whatever else is said, keep the newest N complete snapshots of each source, as with --keep-last
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub keep_min_good: u32,
    /// Whose hours and days: a name such as Europe/Berlin, or an offset such as +02:00 [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub keep_time_zone: Option<String>,
    /// Keep nothing, beyond --keep-min-good and what is held
    #[arg(long)]
    pub keep_none: bool,
}

impl KeepArgs {
    /// Whether a flag says what to keep.
    pub fn is_given(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        let any = counts.iter().any(Option::is_some) || spans.iter().any(Option::is_some);
        any || !self.keep_tag.is_empty() || self.keep_none
    }

    pub fn policy(&self) -> Result<Policy, Failure> {
        let count = |given: Option<u32>| given.unwrap_or(0);
        let policy = Policy {
            last: count(self.keep_last),
            each: ByPeriod {
                hourly: count(self.keep_hourly),
                daily: count(self.keep_daily),
                weekly: count(self.keep_weekly),
                monthly: count(self.keep_monthly),
                yearly: count(self.keep_yearly),
            },
            within: self.keep_within,
            within_each: ByPeriod {
                hourly: self.keep_within_hourly,
                daily: self.keep_within_daily,
                weekly: self.keep_within_weekly,
                monthly: self.keep_within_monthly,
                yearly: self.keep_within_yearly,
            },
            tags: self.keep_tag.iter().map(|text| tags(text)).collect::<Result<_, _>>()?,
            min_good: self.keep_min_good,
            zone: self.keep_time_zone.as_deref().map_or(Ok(TimeZone::UTC), zone)?,
            keep_none: self.keep_none,
        };
        policy.check()?;
        Ok(policy)
    }
}

/// A number, or `all`.
fn count(text: &str) -> Result<u32, String> {
    match text {
        "all" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "neither a number nor `all`".to_owned()),
    }
}

/// The labels that a snapshot must all have.
fn tags(text: &str) -> Result<Vec<String>, Failure> {
    let tags: Vec<_> = text.split(',').map(str::to_owned).collect();
    match tags.iter().any(String::is_empty) {
        true => Err(Failure::usage(format!("--keep-tag {text:?} has an empty label"))),
        false => Ok(tags),
    }
}

/// The time zone with this name or offset.
fn zone(text: &str) -> Result<TimeZone, Failure> {
    if text.starts_with(['+', '-']) {
        return offset(text).map(TimeZone::fixed).ok_or_else(|| {
            Failure::usage(format!("{text:?} is not an offset from UTC")).hint("write +02:00 or -08:30")
        });
    }
    TimeZone::get(text).map_err(|_| {
        Failure::usage(format!("the time zone {text:?} is not known on this machine"))
            .hint("write it as Europe/Berlin, or give an offset such as +02:00; is tzdata installed?")
    })
}

/// `+hh:mm` or `-hh:mm`.
fn offset(text: &str) -> Option<Offset> {
    let two = |at: usize| {
        let digits = text.get(at..at + 2).filter(|two| two.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i32>().ok()
    };
    let (hours, minutes) = (two(1)?, two(4).filter(|minutes| *minutes < 60)?);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let is_whole = text.len() == 6 && text.as_bytes()[3] == b':';
    is_whole.then(|| Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok())?
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::exit::Exit;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        keep: KeepArgs,
    }

    fn policy(flags: &str) -> Result<Policy, Failure> {
        let flags = std::iter::once("kist").chain(flags.split_whitespace());
        let only = Only::try_parse_from(flags).map_err(|error| Failure::usage(error.to_string()))?;
        only.keep.policy()
    }

    #[track_caller]
    fn refused(flags: &str, message: &str) {
        let failure = policy(flags).expect_err("it means nothing");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains(message), "{}", failure.message);
    }

    #[test]
    fn the_flags_are_consistent() {
        Only::command().debug_assert();
    }

    #[test]
    fn each_flag_is_its_rule() {
        let span = |text: &str| Some(text.parse().unwrap());
        let expected = Policy {
            last: 1,
            each: ByPeriod { hourly: 2, daily: 3, weekly: 4, monthly: 5, yearly: u32::MAX },
            within: span("1d"),
            within_each: ByPeriod {
                hourly: span("2d"),
                daily: span("3w"),
                weekly: span("4mo"),
                monthly: span("1y6mo"),
                yearly: span("36h"),
            },
            tags: vec![vec!["a".into(), "b".into()], vec!["c".into()]],
            min_good: 7,
            zone: TimeZone::fixed(jiff::tz::offset(2)),
            keep_none: false,
        };
        let given = "--keep-last 1 --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5 \
                     --keep-yearly all --keep-within 1d --keep-within-hourly 2d --keep-within-daily 3w \
                     --keep-within-weekly 4mo --keep-within-monthly 1y6mo --keep-within-yearly 36h \
                     --keep-tag a,b --keep-tag c --keep-min-good 7 --keep-time-zone +02:00";
        assert_eq!(policy(given).unwrap(), expected);
    }

    #[test]
    fn the_newest_complete_snapshot_stays_if_nothing_else_is_said() {
        let expected = Policy { last: 3, min_good: 1, ..Policy::new(TimeZone::UTC) };
        assert_eq!(policy("--keep-last 3").unwrap(), expected);
    }

    #[test]
    fn flags_that_keep_nothing_are_refused_unless_that_is_said() {
        for flags in ["", "--keep-last 0", "--keep-min-good 5", "--keep-time-zone UTC"] {
            refused(flags, "every snapshot would be forgotten");
        }
        assert!(policy("--keep-none").unwrap().keep_none);
        refused("--keep-none --keep-daily 7", "has rules that keep some");
    }

    #[test]
    fn flags_that_mean_nothing_are_refused() {
        refused("--keep-last=-1", "neither a number nor `all`");
        refused("--keep-last some", "neither a number nor `all`");
        refused("--keep-last 1 --keep-tag a,", "empty label");
        refused("--keep-within 6m", "m can mean minutes or months");
        refused("--keep-within 30", "not a length of time");
    }

    #[test]
    fn a_time_zone_is_a_name_or_an_offset() {
        assert_eq!(zone("UTC").unwrap(), TimeZone::UTC);
        assert_eq!(offset("-08:30"), Offset::from_seconds(-30_600).ok());
        assert_eq!(offset("+00:00"), Some(Offset::UTC));
        for wrong in ["+2", "+02", "+0200", "+02:60", "+02:000", "+99:00", "-0é:0", "+02-00"] {
            assert_eq!(offset(wrong), None, "{wrong}");
        }
        refused("--keep-last 1 --keep-time-zone Nowhere/Town", "not known on this machine");
        refused("--keep-last 1 --keep-time-zone=+2", "not an offset");
    }
}
