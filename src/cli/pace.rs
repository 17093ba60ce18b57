//! What a run may take of the machine: limits, threads, priority.

use std::num::NonZeroU64;

use rustix::process::{Resource, Rlimit};

use crate::cli::args::{Pace, Priority};
use crate::cli::exit::Failure;
use crate::pace::Limits;

/// The lowest priority. The kernel makes the lowest one of the usual class for disks of it, too.
const NICEST: i32 = 19;

/// Sets what holds for the whole process. To be called first: threads that are there already keep what they have.
pub fn apply(pace: &Pace) -> Result<(), Failure> {
    allow_open_files();
    if pace.priority == Priority::Low {
        // A courtesy: a pod whose system calls are filtered goes on without it.
        _ = rustix::process::setpriority_process(None, NICEST);
    }
    if let Some(threads) = pace.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .map_err(|error| Failure::other(format!("{threads} threads can't be started: {error}")))?;
    }
    Ok(())
}

/// A walk holds folders open, and what waits to be read does too: as many files as the system lets us have.
fn allow_open_files() {
    let allowed = rustix::process::getrlimit(Resource::Nofile);
    // With fewer it goes on, and tells of each file that could not be opened.
    _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, ..allowed });
}

pub fn limits(pace: &Pace) -> Result<Limits, Failure> {
    let limit = |option: &str, text: &Option<String>| match text.as_deref().map(size).transpose()? {
        None => Ok(None),
        Some(bytes) => NonZeroU64::new(bytes).map(Some).ok_or_else(|| {
            Failure::usage(format!("{option} is 0: nothing would ever be done"))
                .hint("leave it out for no limit")
        }),
    };
    Ok(Limits {
        read: limit("--limit-read", &pace.limit_read)?,
        upload: limit("--limit-upload", &pace.limit_upload)?,
    })
}

/// A number of bytes: `500M`, `20G`, `1.5GiB`; the units are powers of 1024.
pub fn size(text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let power = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => u32::MAX,
    };
    let number = digits.parse::<f64>().ok().filter(|number| *number >= 0.0 && power < u32::MAX);
    let bytes = number.map(|number| number * 1024_f64.powi(power as i32));
    match bytes {
        Some(bytes) => Ok(bytes as u64),
        None => Err(Failure::usage(format!("{text:?} is not a size")).hint("write 500M, 20G, 1T")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("0").unwrap(), 0);
        assert_eq!(size("512").unwrap(), 512);
        assert_eq!(size("1.5k").unwrap(), 1536);
        assert_eq!(size("20G").unwrap(), 20 << 30);
        assert_eq!(size("1GiB").unwrap(), 1 << 30);
        for wrong in ["", "G", "-1", "1x", "1 G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        let pace = |read: &str| Pace {
            limit_read: Some(read.into()),
            limit_upload: None,
            threads: None,
            priority: Priority::Normal,
        };
        assert_eq!(limits(&pace("1M")).unwrap().read, NonZeroU64::new(1 << 20));
        assert!(limits(&pace("0")).is_err() && limits(&pace("fast")).is_err());
    }
}
