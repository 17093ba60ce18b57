//! Hours, days, weeks, months and years of a calendar, as retention counts them.
//!
//! A period is an hour, day, ... as the clocks of a time zone show it. Weeks are those of ISO 8601: they
//! begin on Monday, and belong to the year of their Thursday. Invariant: a later period has a greater
//! number, so that counting does not depend on which snapshots are still there.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::world::Time;

/// The lengths of periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Hourly => "hourly",
            Period::Daily => "daily",
            Period::Weekly => "weekly",
            Period::Monthly => "monthly",
            Period::Yearly => "yearly",
        })
    }
}

/// Which of the periods of one length: a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number([i32; 3]);

impl Period {
    /// The period that `time` is in, by the clocks of `zone`.
    ///
    /// When clocks are put back an hour is there twice; these are two hours, the first with the
    /// greater offset from UTC.
    pub(super) fn of(self, time: Time, zone: &TimeZone) -> Number {
        let time = Timestamp::from_nanosecond(time.0.into()).expect("a calendar has more years than an i64");
        let offset = zone.to_offset(time);
        let local = offset.to_datetime(time);
        let (year, month) = (i32::from(local.year()), i32::from(local.month()));
        Number(match self {
            Period::Hourly => {
                let day = (year * 12 + month) * 31 + i32::from(local.day());
                [day, local.hour().into(), -offset.seconds()]
            }
            Period::Daily => [year, month, local.day().into()],
            Period::Weekly => {
                let week = local.date().iso_week_date();
                [week.year().into(), week.week().into(), 0]
            }
            Period::Monthly => [year, month, 0],
            Period::Yearly => [year, 0, 0],
        })
    }
}

/// One value for each length of periods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPeriod<T> {
    pub hourly: T,
    pub daily: T,
    pub weekly: T,
    pub monthly: T,
    pub yearly: T,
}

impl<T: Copy> ByPeriod<T> {
    /// All values, the shortest period's first.
    pub fn all(&self) -> [(Period, T); 5] {
        [
            (Period::Hourly, self.hourly),
            (Period::Daily, self.daily),
            (Period::Weekly, self.weekly),
            (Period::Monthly, self.monthly),
            (Period::Yearly, self.yearly),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(period: Period, time: &str, zone: &TimeZone) -> Number {
        let time: Timestamp = time.parse().unwrap();
        period.of(Time(time.as_nanosecond().try_into().unwrap()), zone)
    }

    /// Berlin, written out, so that no machine's tables are asked.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[track_caller]
    fn same(period: Period, zone: &TimeZone, a: &str, b: &str) {
        assert_eq!(number(period, a, zone), number(period, b, zone), "{a} and {b} differ");
    }

    /// `b` is in a later period than `a`.
    #[track_caller]
    fn later(period: Period, zone: &TimeZone, a: &str, b: &str) {
        assert!(number(period, a, zone) < number(period, b, zone), "{b} is not in a later one than {a}");
    }

    #[test]
    fn a_period_begins_where_its_calendar_says() {
        let utc = TimeZone::UTC;
        later(Period::Hourly, &utc, "2026-09-01T11:59:59Z", "2026-09-01T12:00:00Z");
        same(Period::Hourly, &utc, "2026-09-01T12:00:00Z", "2026-09-01T12:59:59.999Z");
        later(Period::Hourly, &utc, "2026-08-31T23:00:00Z", "2026-09-01T00:00:00Z");
        later(Period::Hourly, &utc, "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z");
        later(Period::Daily, &utc, "2024-02-28T23:59:59Z", "2024-02-29T00:00:00Z");
        later(Period::Monthly, &utc, "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z");
        later(Period::Yearly, &utc, "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_week_belongs_to_the_year_of_its_thursday() {
        let utc = TimeZone::UTC;
        later(Period::Weekly, &utc, "2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z");
        same(Period::Weekly, &utc, "2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z");
        same(Period::Weekly, &utc, "2026-12-28T12:00:00Z", "2027-01-03T12:00:00Z");
        later(Period::Weekly, &utc, "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z");
    }

    #[test]
    fn a_day_is_that_of_the_time_zone() {
        same(Period::Daily, &TimeZone::UTC, "2026-12-31T22:30:00Z", "2026-12-31T23:30:00Z");
        for period in [Period::Daily, Period::Monthly, Period::Yearly] {
            later(period, &berlin(), "2026-12-31T22:30:00Z", "2026-12-31T23:30:00Z");
        }
        // Summer time: midnight is at 22:00 UTC.
        later(Period::Daily, &berlin(), "2026-07-01T21:59:59Z", "2026-07-01T22:00:00Z");
    }

    #[test]
    fn the_hour_that_is_there_twice_is_two_hours_of_one_day() {
        // 2026-10-25: 02:30 summer time, an hour later 02:30 winter time.
        let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        later(Period::Hourly, &berlin(), first, second);
        same(Period::Daily, &berlin(), first, second);
        // 2026-03-29 has 23 hours: 01:59 is followed by 03:00.
        later(Period::Hourly, &berlin(), "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z");
        same(Period::Daily, &berlin(), "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z");
    }

    #[test]
    fn every_time_has_its_periods() {
        for nanos in [i64::MIN, -1, 0, i64::MAX] {
            for (period, ()) in ByPeriod::<()>::default().all() {
                period.of(Time(nanos), &berlin());
            }
        }
    }
}
