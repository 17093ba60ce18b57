//! What people and programs get to see. JSON has `version` 0 and one object a line.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::world::Time;

/// The version of every JSON shape.
pub const JSON_VERSION: u32 = 0;

/// Prints a line to stdout; a reader that has gone away ends nothing but the printing.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line to stderr.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints an object of a type.
pub fn object(kind: &str, mut fields: Value) {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("version".into(), JSON_VERSION.into());
        fields.insert("type".into(), kind.into());
    }
    line(&fields.to_string());
}

pub fn failure(failure: &Failure, as_json: bool) {
    if as_json {
        let fields = json!({
            "message": failure.message, "hint": failure.hint, "exitCode": failure.exit as u8,
        });
        object("error", fields);
        return;
    }
    note(&format!("kist: {}", failure.message));
    if let Some(hint) = &failure.hint {
        note(&format!("  {hint}"));
    }
}

/// A number of bytes for people: `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time in UTC, to the second.
pub fn time(time: Time) -> String {
    file_time(time.secs())
}

/// Seconds since 1970 as a time in UTC; as a number if it is beyond all calendars.
pub fn file_time(secs: i64) -> String {
    match jiff::Timestamp::from_second(secs) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
        assert_eq!(time(Time(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(file_time(i64::MAX), format!("{}s", i64::MAX));
    }
}
