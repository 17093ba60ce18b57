//! A schedule as a CronJob takes it: five fields, or a word such as `@daily`.
//!
//! The API server would refuse a wrong one too, but only when half of the objects are there.

use crate::cluster::{Error, Result};

const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: what it is called, its least and its largest number, and the names that some numbers have.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day", least: 1, most: 31, names: &[] },
    Field { what: "month", least: 1, most: 12, names: &MONTHS },
    Field { what: "weekday", least: 0, most: 6, names: &WEEKDAYS },
];

/// A schedule that Kubernetes understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(String);

impl Schedule {
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Unfit { what: format!("the schedule {text:?} ({why})") };
        if text.starts_with('@') {
            return match WORDS.contains(&text) {
                true => Ok(Self(text.to_owned())),
                false => Err(wrong(format!("there are {}", WORDS.join(", ")))),
            };
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            let names: Vec<&str> = FIELDS.iter().map(|field| field.what).collect();
            return Err(wrong(format!("it takes five fields: {}", names.join(", "))));
        }
        for (field, part) in FIELDS.iter().zip(&parts) {
            if !part.split(',').all(|item| is_item(field, item)) {
                return Err(wrong(format!(
                    "{part:?} is no {}: {} to {}",
                    field.what, field.least, field.most
                )));
            }
        }
        Ok(Self(parts.join(" ")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `*`, `5`, `1-5`, each with a step behind a slash or without.
fn is_item(field: &Field, item: &str) -> bool {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let has_step = step.is_none_or(|step| digits(step).is_some_and(|step| step > 0));
    let is_range = matches!(range, "*" | "?")
        || match range.split_once('-') {
            Some((first, last)) => {
                number(field, first).zip(number(field, last)).is_some_and(|(first, last)| first <= last)
            }
            None => number(field, range).is_some(),
        };
    has_step && is_range
}

fn number(field: &Field, text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let named = field.names.iter().position(|name| *name == lower);
    let number = match named {
        Some(place) => field.least + u32::try_from(place).ok()?,
        None => digits(text)?,
    };
    (field.least..=field.most).contains(&number).then_some(number)
}

/// A sign is none of them.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_of_five_fields_and_words_are_taken() {
        for text in [
            "*/30 * * * *",
            "0 2 * * *",
            "5,35 8-18/2 1,15 jan-mar MON-fri",
            "0 0 ? * sun",
            "@daily",
            "@hourly",
        ] {
            assert_eq!(Schedule::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Schedule::parse(" 0  2 * * * ").unwrap().as_str(), "0 2 * * *");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_field() {
        for (text, why) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("TZ=UTC 0 2 * * *", "five fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "weekday"),
            ("*/0 * * * *", "minute"),
            ("5-1 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            ("1, * * * *", "minute"),
            ("@reboot", "@daily"),
        ] {
            let error = Schedule::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
