//! Tries out whether a store keeps the promises that the protocol rests on.
//!
//! `init` runs it once (format-spec/08). A probe can show that a store does not create
//! exclusively; it can't prove that one always will. The probe's objects lie under
//! `probe/`, which nothing else uses, and are removed at the end.

use std::fmt;

use bytes::Bytes;
use futures::future::join_all;

use crate::store::error::{Class, Error, Result};
use crate::store::{Created, Store};

/// How many create the same key at once.
const RACERS: u8 = 8;

/// What a probe has found; nothing, for a sound store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// The promises that were broken.
    pub findings: Vec<Finding>,
}

/// A promise that a store has broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The store refuses to create on condition; with what it said.
    CreateRefused(String),
    /// Of several creates of one key, not exactly one won.
    CreateNotExclusive {
        /// How many were told that they won.
        winners: usize,
    },
    /// A read does not give what was just written.
    StaleRead,
    /// A listing does not show what was just written.
    StaleList,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::CreateRefused(why) => write!(f, "it can't create on condition: {why}"),
            Finding::CreateNotExclusive { winners } => {
                write!(f, "{winners} creates of one key succeeded, not 1")
            }
            Finding::StaleRead => f.write_str("a read does not give what was just written"),
            Finding::StaleList => f.write_str("a listing does not show what was just written"),
        }
    }
}

impl Probe {
    /// Tells whether the store kept every promise.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// Tells whether the store may be used by a single writer ([`Store::degraded`]).
    pub fn is_sound_if_degraded(&self) -> bool {
        let create = |f: &Finding| !matches!(f, Finding::StaleRead | Finding::StaleList);
        self.findings.iter().all(create)
    }
}

impl Store {
    /// Tries out creating, reading and listing; `nonce` keeps probes apart.
    ///
    /// An error means that the store could not be tried: not there, denied, full.
    pub async fn probe(&self, nonce: [u8; 16]) -> Result<Probe> {
        let name: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = ["written", "created", "raced"].map(|what| format!("probe/{name}/{what}"));
        // A degraded store is probed for what it would be without.
        let store = Store { degraded: false, ..self.clone() };
        let probed = store.try_out(&keys, &nonce).await;
        let mut removed = Ok(());
        for key in &keys {
            removed = removed.and(store.delete(key).await);
        }
        match (probed, removed) {
            // A store that keeps everything (object lock) is a fine place for backups.
            (Ok(probe), Err(e)) if matches!(e.class(), Class::Retained | Class::Denied) => Ok(probe),
            (Ok(probe), removed) => removed.map(|()| probe),
            (failed, _) => failed,
        }
    }

    async fn try_out(&self, keys: &[String; 3], nonce: &[u8; 16]) -> Result<Probe> {
        let mut findings = Vec::new();
        let body = |tag: u8| Bytes::from([nonce.as_slice(), &[tag]].concat());

        let [written, created, raced] = keys;
        self.put(written, body(0)).await?;
        match self.get(written).await {
            Ok(found) if found == body(0) => {}
            Ok(_) | Err(Error::Missing { .. }) => findings.push(Finding::StaleRead),
            Err(e) => return Err(e),
        }
        if !self.list("probe").await?.iter().any(|object| object.key == *written) {
            findings.push(Finding::StaleList);
        }
        if !findings.is_empty() {
            // Creating rests on reading, so there is nothing more to learn.
            return Ok(Probe { findings });
        }

        let first = self.create_exclusive(created, body(1)).await;
        match first.map(|first| first == Created::Mine) {
            Ok(true) => {
                let second = self.create_exclusive(created, body(2)).await?;
                if second != Created::Other(body(1)) {
                    let winners = 1 + usize::from(second == Created::Mine);
                    findings.push(Finding::CreateNotExclusive { winners });
                }
            }
            Ok(false) => findings.push(Finding::CreateNotExclusive { winners: 0 }),
            // The put above went through, so these speak of creating, not of the store.
            Err(e) if matches!(e.class(), Class::Denied | Class::Usage | Class::Other) => {
                let why = std::error::Error::source(&e).map_or(e.to_string(), |s| s.to_string());
                findings.push(Finding::CreateRefused(why));
                return Ok(Probe { findings });
            }
            Err(e) => return Err(e),
        }

        let race = (0..RACERS).map(|racer| self.create_exclusive(raced, body(3 + racer)));
        let race = join_all(race).await.into_iter().collect::<Result<Vec<_>>>()?;
        let winners = race.iter().filter(|created| **created == Created::Mine).count();
        if winners != 1 {
            findings.push(Finding::CreateNotExclusive { winners });
        }
        Ok(Probe { findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::error::Verb;
    use crate::store::testing::{Failure, Faulty, Moment};

    async fn probe(faults: impl FnOnce(Faulty) -> Faulty) -> Result<Probe> {
        let store = Store::memory().decorated(|inner| faults(Faulty::over(inner)).wrap());
        store.probe([7; 16]).await
    }

    #[tokio::test]
    async fn a_sound_store_is_found_sound_and_left_empty() {
        let store = Store::memory();
        let probe = store.probe([1; 16]).await.unwrap();
        assert!(probe.is_sound() && probe.is_sound_if_degraded());
        assert_eq!(store.list("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_store_that_ignores_the_condition_is_found_out() {
        let probe = probe(Faulty::ignoring_create).await.unwrap();
        let twice = Finding::CreateNotExclusive { winners: 2 };
        let raced = Finding::CreateNotExclusive { winners: usize::from(RACERS) };
        assert_eq!(probe.findings, [twice, raced]);
        assert!(probe.is_sound_if_degraded());
    }

    #[tokio::test]
    async fn a_store_that_can_not_create_is_found_out() {
        for failure in [Failure::Denied, Failure::Unsupported] {
            let probe = probe(|f| f.fail(&[Verb::Create], 0..1000, Moment::Before, failure)).await.unwrap();
            assert!(matches!(probe.findings[..], [Finding::CreateRefused(_)]), "{failure:?}");
            assert!(!probe.is_sound() && probe.is_sound_if_degraded());
        }
    }

    #[tokio::test]
    async fn a_store_that_does_not_show_what_was_written_is_found_out() {
        let probe = probe(Faulty::stale).await.unwrap();
        assert!(probe.findings.contains(&Finding::StaleRead));
        assert!(probe.findings.contains(&Finding::StaleList));
        assert!(!probe.is_sound_if_degraded());
    }

    #[tokio::test]
    async fn a_store_that_can_not_be_tried_is_an_error_and_not_a_finding() {
        for (failure, class) in [(Failure::Denied, Class::Denied), (Failure::Full, Class::Full)] {
            let error = probe(|f| f.fail(&[Verb::Put], 0..1, Moment::Before, failure)).await.unwrap_err();
            assert_eq!(error.class(), class);
        }
    }

    #[tokio::test]
    async fn faults_on_the_way_do_not_make_a_sound_store_unsound() {
        for nth in 0..10 {
            for moment in [Moment::Before, Moment::After] {
                let probe = probe(|f| f.fail(&[Verb::Create], nth..nth + 1, moment, Failure::Timeout));
                assert!(probe.await.unwrap().is_sound(), "{nth} {moment:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_store_that_keeps_everything_can_be_probed() {
        let probe = probe(|f| f.fail(&[Verb::Delete], 0..1000, Moment::Before, Failure::Denied)).await;
        assert!(probe.unwrap().is_sound());
    }
}
