//! Lengths of time as people write them for retention: `30d`, `1y6mo`, `36h`.
//!
//! Years and months go by the calendar (in UTC, so that a later end never has an earlier beginning),
//! weeks and days have their usual length, whatever clocks are put forward or back in between.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::world::Time;

/// The most of one unit. Enough for every retention, and far from the end of every calendar.
const MOST: i32 = 9999;
/// The units, in the order in which they are written; none twice.
const UNITS: [&str; 5] = ["y", "mo", "w", "d", "h"];

/// A length of time; never nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How many of each of [`UNITS`].
    amounts: [i32; 5],
}

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{text:?} is not a length of time such as 30d or 1y6mo")]
    Malformed { text: String },
    #[error("{text:?}: m can mean minutes or months: write mo for months")]
    Ambiguous { text: String },
    #[error("{text:?}: at most {MOST} of one unit")]
    TooLong { text: String },
}

impl Span {
    /// The time that lies this long before `end`; the earliest of all if it would lie before that.
    pub fn before(&self, end: Time) -> Time {
        let [years, months, weeks, days, hours] = self.amounts;
        let span = jiff::Span::new().years(years).months(months).weeks(weeks).days(days).hours(hours);
        Timestamp::from_nanosecond(end.0.into())
            .and_then(|end| end.to_zoned(TimeZone::UTC).checked_sub(span))
            .ok()
            .and_then(|begin| i64::try_from(begin.timestamp().as_nanosecond()).ok())
            .map_or(Time(i64::MIN), Time)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed { text: text.to_owned() };
        let mut amounts = [0; 5];
        let mut rest = text;
        let mut next = 0;
        while !rest.is_empty() {
            let (number, behind) = split(rest, |c| c.is_ascii_digit());
            let (unit, behind) = split(behind, |c| c.is_ascii_alphabetic());
            if unit == "m" {
                return Err(Error::Ambiguous { text: text.to_owned() });
            }
            let place = UNITS.iter().position(|known| *known == unit).ok_or_else(malformed)?;
            if number.is_empty() || place < next {
                return Err(malformed());
            }
            let number = number.parse::<i32>().ok().filter(|number| *number <= MOST);
            amounts[place] = number.ok_or_else(|| Error::TooLong { text: text.to_owned() })?;
            (next, rest) = (place + 1, behind);
        }
        match amounts.iter().all(|amount| *amount == 0) {
            true => Err(malformed()),
            false => Ok(Self { amounts }),
        }
    }
}

/// What `text` begins with, as long as `fits`, and the rest.
fn split(text: &str, fits: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !fits(c)).unwrap_or(text.len()))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.amounts.iter().zip(UNITS).filter(|(amount, _)| **amount > 0);
        given.into_iter().try_for_each(|(amount, unit)| write!(f, "{amount}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn before(span: &str, end: &str, begin: &str) {
        let time = |text: &str| Time(text.parse::<Timestamp>().unwrap().as_nanosecond().try_into().unwrap());
        assert_eq!(span.parse::<Span>().unwrap().before(time(end)), time(begin));
    }

    #[test]
    fn years_and_months_go_by_the_calendar() {
        before("1y", "2024-02-29T12:00:00Z", "2023-02-28T12:00:00Z");
        before("1mo", "2026-03-31T00:00:00Z", "2026-02-28T00:00:00Z");
        before("1y6mo", "2026-07-15T08:00:00Z", "2025-01-15T08:00:00Z");
        before("2w1d36h", "2026-07-31T12:00:00Z", "2026-07-15T00:00:00Z");
    }

    #[test]
    fn before_the_beginning_of_time_is_its_beginning() {
        let long: Span = "9999y9999mo9999w9999d9999h".parse().unwrap();
        assert_eq!(long.before(Time(0)), Time(i64::MIN));
        assert_eq!("1h".parse::<Span>().unwrap().before(Time(i64::MIN)), Time(i64::MIN));
    }

    #[test]
    fn spans_are_shown_as_they_are_written() {
        for text in ["30d", "1y6mo", "2w", "36h", "9999y9999mo9999w9999d9999h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("0y7d".parse::<Span>().unwrap().to_string(), "7d");
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "d", "30", "0d", "-1d", "1d1y", "1d1d", "1.5d", "1 d", "1dd", "1D", "30s", "ä"] {
            let refused = text.parse::<Span>();
            assert_eq!(refused, Err(Error::Malformed { text: text.into() }), "{text}");
        }
        assert!(matches!("10000d".parse::<Span>(), Err(Error::TooLong { .. })));
        assert!(matches!("99999999999999d".parse::<Span>(), Err(Error::TooLong { .. })));
    }

    /// Elsewhere `6m` is six months, or six minutes; taken for the wrong one it would forget half a year.
    #[test]
    fn a_unit_that_can_mean_minutes_or_months_is_refused() {
        assert!(matches!("6m".parse::<Span>(), Err(Error::Ambiguous { .. })));
        assert!(matches!("1y6m".parse::<Span>(), Err(Error::Ambiguous { .. })));
    }
}
