//! Creating an object if its key is free: the one primitive that the protocol rests on.
//!
//! A store's answer to a create can't be taken at its word. S3 answers 409 where nothing
//! landed; a client that sends again after a 500 meets its own object; a time-out says
//! nothing. So the object itself is asked: each body carries a nonce, and the same bytes
//! mean "mine" (format-spec/08). Invariant: for one key, over all callers and all time,
//! at most one body is ever answered [`Created::Mine`], if the store creates exclusively.

use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::store::Store;
use crate::store::error::{Class, Error, Result, Verb, classify};

/// How often a create is tried. Conflicts without effect last as long as another's
/// request is under way, so the pauses (20 ms, doubled each time) add up to 2.5 s.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Whose object a create has left under the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The key holds the body that was given.
    Mine,
    /// The key holds another's body: this one.
    Other(Bytes),
}

impl Store {
    /// Creates an object if its key is free, and tells whose object is there now.
    ///
    /// `body` must carry a nonce that makes it unique. After an error the outcome is open:
    /// the object may be there, or may still appear.
    pub async fn create_exclusive(&self, key: &str, body: Bytes) -> Result<Created> {
        let path = self.path(Verb::Create, key)?;
        if self.degraded {
            return self.create_alone(key, &path, body).await;
        }
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let refusal = match self.create_once(&path, body.clone()).await {
                Ok(()) => return Ok(Created::Mine),
                Err(e) => e,
            };
            let taken = matches!(refusal, object_store::Error::AlreadyExists { .. });
            let error = match classify(self.at(Verb::Create, key), refusal) {
                _ if taken => match self.get(key).await {
                    Ok(found) => return Ok(whose(&body, found)),
                    Err(Error::Missing { .. }) => self.conflict(key),
                    Err(e) => e,
                },
                // Object lock without versions: the server denies before it looks at the condition.
                e if e.class() == Class::Denied => match self.get(key).await {
                    Ok(found) => return Ok(whose(&body, found)),
                    Err(_) => e,
                },
                e => e,
            };
            match error.class() {
                Class::Transient | Class::Other => last = Some(error),
                _ => return Err(error),
            }
        }
        let last = last.expect("each attempt that does not return leaves its error");
        // A store that fails its creates but answers reads: what is there is there. Other
        // errors (a folder that can't be synced) could mean that it is not there to stay.
        match (last.class(), self.get(key).await) {
            (Class::Transient, Ok(found)) => Ok(whose(&body, found)),
            _ => Err(last),
        }
    }

    fn conflict(&self, key: &str) -> Error {
        let source = "the store says that the key is taken, but there is no object".into();
        Error::Transient { at: self.at(Verb::Create, key), source }
    }

    /// For the single writer of a store that can't create exclusively.
    async fn create_alone(&self, key: &str, path: &Path, body: Bytes) -> Result<Created> {
        match self.get(key).await {
            Ok(found) => return Ok(whose(&body, found)),
            Err(Error::Missing { .. }) => {}
            Err(e) => return Err(e),
        }
        let put = self.inner.put(path, body.clone().into()).await;
        match (put, self.get(key).await) {
            (_, Ok(found)) => Ok(whose(&body, found)),
            (Err(e), Err(_)) => Err(classify(self.at(Verb::Create, key), e)),
            (Ok(_), Err(e)) => Err(e),
        }
    }
}

fn whose(mine: &Bytes, found: Bytes) -> Created {
    if found == mine { Created::Mine } else { Created::Other(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Failure, Faulty, Moment};

    const KEY: &str = "commits/aa";

    fn body(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// A store that holds `there`, and from then on has the faults.
    async fn faulty(there: Option<Bytes>, faults: impl FnOnce(Faulty) -> Faulty) -> Store {
        let store = Store::memory();
        if let Some(there) = there {
            store.put(KEY, there).await.unwrap();
        }
        store.decorated(|inner| faults(Faulty::over(inner)).wrap())
    }

    /// Creates under each fault; `None` stands for an error.
    async fn outcome(
        there: Option<Bytes>,
        nths: std::ops::Range<u64>,
        moment: Moment,
        failure: Failure,
    ) -> (Option<Created>, Option<Bytes>) {
        let store = faulty(there, |f| f.fail(&[Verb::Create], nths, moment, failure)).await;
        let created = store.create_exclusive(KEY, body("mine")).await.ok();
        (created, store.get(KEY).await.ok())
    }

    #[tokio::test]
    async fn one_fault_of_any_kind_is_settled_by_asking_the_object() {
        for failure in [Failure::Transient, Failure::Timeout, Failure::Conflict, Failure::Other] {
            for moment in [Moment::Before, Moment::After] {
                let free = outcome(None, 0..1, moment, failure).await;
                assert_eq!(free, (Some(Created::Mine), Some(body("mine"))), "{failure:?} {moment:?}");
                let taken = outcome(Some(body("theirs")), 0..1, moment, failure).await;
                let theirs = (Some(Created::Other(body("theirs"))), Some(body("theirs")));
                assert_eq!(taken, theirs, "{failure:?} {moment:?}");
            }
        }
    }

    #[tokio::test]
    async fn definite_errors_are_not_tried_again() {
        for (failure, class) in [(Failure::Denied, Class::Denied), (Failure::Full, Class::Full)] {
            let store = faulty(None, |f| f.fail(&[Verb::Create], 0..1, Moment::Before, failure)).await;
            let error = store.create_exclusive(KEY, body("mine")).await.unwrap_err();
            assert_eq!(error.class(), class);
            assert_eq!(store.get(KEY).await.unwrap_err().class(), Class::Missing);
        }
    }

    #[tokio::test]
    async fn a_create_that_is_denied_where_the_key_is_taken_tells_whose_it_is() {
        for (there, created) in [("mine", Created::Mine), ("theirs", Created::Other(body("theirs")))] {
            let found = outcome(Some(body(there)), 0..1000, Moment::Before, Failure::Denied).await;
            assert_eq!(found, (Some(created), Some(body(there))));
        }
    }

    #[tokio::test]
    async fn faults_that_last_end_in_an_error_or_in_what_is_there() {
        let all = || 0..u64::from(ATTEMPTS);
        let absent = outcome(None, all(), Moment::Before, Failure::Timeout).await;
        assert_eq!(absent, (None, None));
        let conflict = outcome(None, all(), Moment::Before, Failure::Conflict).await;
        assert_eq!(conflict, (None, None));
        let landed = outcome(None, 0..1000, Moment::After, Failure::Timeout).await;
        assert_eq!(landed, (Some(Created::Mine), Some(body("mine"))));
        let doubtful = outcome(None, 0..1000, Moment::After, Failure::Other).await;
        assert_eq!(doubtful, (None, Some(body("mine"))), "it may not be there to stay");
    }

    #[tokio::test]
    async fn a_conflict_is_outwaited_until_the_other_has_landed() {
        let store = faulty(None, |f| f.fail(&[Verb::Create], 0..3, Moment::Before, Failure::Conflict)).await;
        assert_eq!(store.create_exclusive(KEY, body("mine")).await.unwrap(), Created::Mine);
    }

    #[tokio::test]
    async fn a_failing_read_back_is_tried_again() {
        let store =
            faulty(Some(body("theirs")), |f| f.fail(&[Verb::Get], 0..2, Moment::Before, Failure::Timeout))
                .await;
        let created = store.create_exclusive(KEY, body("mine")).await.unwrap();
        assert_eq!(created, Created::Other(body("theirs")));
    }

    #[tokio::test]
    async fn a_degraded_store_creates_without_the_condition() {
        let store = faulty(None, |f| f.fail(&[Verb::Create], 0..1000, Moment::Before, Failure::Other)).await;
        let store = store.degraded();
        assert!(store.is_degraded());
        assert_eq!(store.create_exclusive(KEY, body("one")).await.unwrap(), Created::Mine);
        assert_eq!(store.create_exclusive(KEY, body("one")).await.unwrap(), Created::Mine);
        let lost = store.create_exclusive(KEY, body("two")).await.unwrap();
        assert_eq!(lost, Created::Other(body("one")));
    }

    #[tokio::test]
    async fn a_degraded_create_asks_the_object_after_a_failed_put() {
        for (moment, created) in [(Moment::After, Some(Created::Mine)), (Moment::Before, None)] {
            let store = faulty(None, |f| f.fail(&[Verb::Put], 0..1, moment, Failure::Timeout)).await;
            let got = store.degraded().create_exclusive(KEY, body("mine")).await.ok();
            assert_eq!(got, created);
        }
    }
}
