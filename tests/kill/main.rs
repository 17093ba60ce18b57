//! Kill -9 for real: processes of the binary at work on one bucket of a real S3 server, killed at drawn moments and begun
//! again; at the end every snapshot of which a backup said that it is done is restored and compared, byte for byte.
//!
//! KIST_SOAK_SECONDS says for how long (`make soak`: an hour), KIST_KILL_SEED begins as a run before did. What is drawn is
//! from the seed, but who is how quick is not: no run is like another.

#[path = "../support/compare.rs"]
mod compare;
mod crew;
mod process;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/signed.rs"]
mod signed;
#[path = "../support/versitygw.rs"]
mod versitygw;

use std::time::Duration;

use crate::crew::Crew;

/// How long processes are killed in `make test`; restoring all of it takes about as long.
const SECONDS: u64 = 120;

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn whoever_is_killed_whenever_what_was_told_as_done_restores() {
    let seed = given("KIST_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let time = Duration::from_secs(given("KIST_SOAK_SECONDS").unwrap_or(SECONDS));
    println!("seed {seed}, {} s: again with KIST_KILL_SEED={seed}", time.as_secs());
    let crew = Crew::new(seed);
    crew.work(time);
    let done = crew.proves();
    println!("{done:?}");
    let crew::Done { told, killed, pruned, forgotten, checked, restored, .. } = done;
    let each = [told, killed, pruned, forgotten, checked, restored];
    assert!(each.iter().all(|count| *count > 0), "nothing was proven: {done:?}");
}
