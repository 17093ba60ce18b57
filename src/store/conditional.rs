//! Puts that ask for a free name: for buckets that take no other writes.
//!
//! A bucket's policy can refuse each write without `If-None-Match`. Then a writer's credentials
//! add objects, and neither overwrite nor delete (README, Append-only storage). The names that
//! kist puts are random, so they are free; where one is taken all the same, by the first try of
//! the same request as a rule, the object itself is asked. Invariant: after `Ok` of a put the key
//! holds its body, as without this layer. Stands between a cloud's client and all else.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, PutResult, Result};

use crate::store::error::status;
use crate::store::layer::{Layer, Layered};

/// The pause before the second try; doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the file's head.
#[derive(Debug)]
pub(super) struct Conditional {
    inner: Arc<dyn ObjectStore>,
    /// How long a put is tried again.
    patience: Duration,
    /// Set once the store has refused the condition and taken the same put without it.
    is_unknown: AtomicBool,
}

impl Conditional {
    pub(super) fn over(inner: Arc<dyn ObjectStore>, patience: Duration) -> Arc<dyn ObjectStore> {
        Layered::wrap(Self { inner, patience, is_unknown: AtomicBool::new(false) })
    }

    /// Creates; the client does not try a create again whose answer is lost, because it could not
    /// tell its own object from another's.
    async fn put_free(&self, path: Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mut patience = Box::pin(tokio::time::sleep(self.patience));
        let mut pause = FIRST_PAUSE;
        loop {
            let create = PutOptions { mode: PutMode::Create, ..opts.clone() };
            let error = match self.inner.put_opts(&path, body.clone(), create).await {
                Ok(put) => return Ok(put),
                Err(error) => error,
            };
            let again = match &error {
                Error::AlreadyExists { .. } => match self.holds(&path, &body).await {
                    Ok(Some(put)) => return Ok(put),
                    Ok(None) => return self.inner.put_opts(&path, body, opts).await,
                    // A conflict where nothing landed.
                    Err(Error::NotFound { .. }) => true,
                    Err(error) => return Err(error),
                },
                // Object lock without versions: the server denies before it looks at the condition.
                Error::PermissionDenied { .. } => match self.holds(&path, &body).await {
                    Ok(Some(put)) => return Ok(put),
                    _ => false,
                },
                error if is_unanswered(error) => true,
                error if matches!(status(error), Some(400 | 405 | 501)) => {
                    let put = self.inner.put_opts(&path, body, opts).await?;
                    self.is_unknown.store(true, Ordering::Relaxed);
                    return Ok(put);
                }
                _ => false,
            };
            if !again || futures::poll!(&mut patience).is_ready() {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What a put would have answered, if the key holds this body; nothing if it holds another.
    async fn holds(&self, path: &Path, body: &PutPayload) -> Result<Option<PutResult>> {
        let found = self.inner.get_opts(path, GetOptions::default()).await?;
        let meta = found.meta.clone();
        if meta.size != body.content_length() as u64 {
            return Ok(None);
        }
        let found = found.bytes().await?;
        let mut rest = &found[..];
        for part in body {
            let Some(after) = rest.strip_prefix(&part[..]) else { return Ok(None) };
            rest = after;
        }
        let put = PutResult { e_tag: meta.e_tag, version: meta.version, extensions: Default::default() };
        Ok(rest.is_empty().then_some(put))
    }
}

impl fmt::Display for Conditional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Layer for Conditional {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(&self, path: Path, body: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        let plain = opts.mode != PutMode::Overwrite || self.is_unknown.load(Ordering::Relaxed);
        Box::pin(async move {
            match plain {
                true => self.inner.put_opts(&path, body, opts).await,
                false => self.put_free(path, body, opts).await,
            }
        })
    }
}

/// Whether the request may have arrived, but no answer came; all else the client tries again.
fn is_unanswered(error: &Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(link) = next {
        if let Some(http) = link.downcast_ref::<HttpError>() {
            return matches!(http.kind(), HttpErrorKind::Timeout | HttpErrorKind::Interrupted);
        }
        next = link.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::store::error::Verb;
    use crate::store::testing::{Failure, Faulty, Log, Moment, Recording};
    use crate::store::{Class, Store};

    fn body(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn over(faulty: Faulty, log: &Log) -> Store {
        Store::over(Conditional::over(Recording::over(faulty.wrap(), log), Duration::from_secs(60)))
    }

    fn beneath() -> Faulty {
        Faulty::over(Arc::new(object_store::memory::InMemory::new()))
    }

    #[tokio::test]
    async fn a_put_creates_and_a_taken_name_is_overwritten_only_by_another_body() {
        let log = Log::default();
        let store = over(beneath(), &log);
        for (text, effects) in [("one", 1), ("one", 2), ("two", 4)] {
            store.put("packs/a", body(text)).await.unwrap();
            assert_eq!(store.get("packs/a").await.unwrap(), text);
            assert_eq!(log.effects().len(), effects, "{:?}", log.effects());
        }
        let verbs: Vec<_> = log.effects().iter().map(|event| event.verb).collect();
        assert_eq!(verbs, [Verb::Create, Verb::Create, Verb::Create, Verb::Put]);
    }

    #[tokio::test]
    async fn where_overwriting_is_denied_the_same_body_is_still_a_success() {
        let denied = beneath().fail(&[Verb::Put], 0..u64::MAX, Moment::Before, Failure::Denied);
        let store = over(denied, &Log::default());
        store.put("packs/a", body("one")).await.unwrap();
        store.put("packs/a", body("one")).await.expect("the first try has landed");
        let error = store.put("packs/a", body("two")).await.unwrap_err();
        assert_eq!(error.class(), Class::Denied);
        assert_eq!(store.get("packs/a").await.unwrap(), "one");
        let locked = beneath().fail(&[Verb::Create], 1..u64::MAX, Moment::Before, Failure::Denied);
        let store = over(locked, &Log::default());
        store.put("packs/a", body("one")).await.unwrap();
        store.put("packs/a", body("one")).await.expect("the first try has landed");
        assert_eq!(store.put("packs/a", body("two")).await.unwrap_err().class(), Class::Denied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_without_effect_is_tried_again_but_not_for_ever() {
        let conflicts = |count| beneath().fail(&[Verb::Create], 0..count, Moment::Before, Failure::Conflict);
        let store = over(conflicts(3), &Log::default());
        store.put("packs/a", body("one")).await.unwrap();
        let log = Log::default();
        let store = over(conflicts(u64::MAX), &log);
        store.put("packs/a", body("one")).await.unwrap_err();
        assert!((5..50).contains(&log.effects().len()), "{}", log.effects().len());
    }
}
