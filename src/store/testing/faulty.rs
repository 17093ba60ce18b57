//! A store that fails when it is told to, before or after the effect.
//!
//! A rule names verbs, which of their calls (counted from 0, for each rule apart), whether
//! the effect takes place, and the failure. So "every effect, once, before and after" is
//! a loop, and a crash is a rule that never ends.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, Result,
};

use crate::store::error::Verb;
use crate::store::layer::{Layer, Layered};
use crate::store::testing::{ANY, EFFECTS, verb_of_get, verb_of_put};

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened.
    Before,
    /// The effect has taken place, only the answer is lost.
    After,
}

const EIO: i32 = 5;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection breaks.
    Transient,
    /// No answer comes in time.
    Timeout,
    /// The credentials do not allow it.
    Denied,
    /// No space is left.
    Full,
    /// The key is said to be taken, as with S3's 409.
    Conflict,
    /// The store does not know the operation.
    Unsupported,
    /// The disk can't read it.
    Unreadable,
    /// Something else.
    Other,
}

impl Failure {
    fn error(self, path: &str) -> Error {
        let path = path.to_owned();
        let generic = |kind: ErrorKind| Error::Generic {
            store: "faulty",
            source: Box::new(io::Error::new(kind, "injected")),
        };
        match self {
            Failure::Transient => generic(ErrorKind::ConnectionReset),
            Failure::Timeout => generic(ErrorKind::TimedOut),
            Failure::Full => generic(ErrorKind::StorageFull),
            Failure::Unreadable => {
                Error::Generic { store: "faulty", source: Box::new(io::Error::from_raw_os_error(EIO)) }
            }
            Failure::Other => generic(ErrorKind::Other),
            Failure::Denied => Error::PermissionDenied { path, source: "injected".into() },
            Failure::Conflict => Error::AlreadyExists { path, source: "injected".into() },
            Failure::Unsupported => {
                Error::NotImplemented { operation: "injected".into(), implementer: "faulty".into() }
            }
        }
    }
}

#[derive(Debug)]
struct Rule {
    verbs: Vec<Verb>,
    nths: Range<u64>,
    seen: AtomicU64,
    moment: Moment,
    failure: Failure,
}

/// A store that fails when it is told to.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    rules: Vec<Rule>,
    /// After so many effects everything fails.
    stop: Option<(u64, Failure)>,
    effects: AtomicU64,
    stopped: AtomicBool,
    capacity_bytes: u64,
    written_bytes: AtomicU64,
    ignores_create: bool,
    stale: bool,
}

impl Faulty {
    /// Makes a store without any fault yet.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            rules: Vec::new(),
            stop: None,
            effects: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            capacity_bytes: u64::MAX,
            written_bytes: AtomicU64::new(0),
            ignores_create: false,
            stale: false,
        }
    }

    /// Ends the list of faults.
    pub fn wrap(self) -> Arc<dyn ObjectStore> {
        Layered::wrap(self)
    }

    /// Lets those calls among `verbs` fail whose number, from 0, is in `nths`.
    pub fn fail(mut self, verbs: &[Verb], nths: Range<u64>, moment: Moment, failure: Failure) -> Self {
        let (verbs, seen) = (verbs.to_vec(), AtomicU64::new(0));
        self.rules.push(Rule { verbs, nths, seen, moment, failure });
        self
    }

    /// Lets `effects` effects happen, and from then on nothing at all, reads included: to
    /// whoever uses the store it is as if it had been killed.
    pub fn stop_after(mut self, effects: u64, failure: Failure) -> Self {
        self.stop = Some((effects, failure));
        self
    }

    /// Takes `bytes` bytes and is full then; deleting does not help.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity_bytes = bytes;
        self
    }

    /// Overwrites where it should create if the key is free.
    pub fn ignoring_create(mut self) -> Self {
        self.ignores_create = true;
        self
    }

    /// Never shows what was written.
    pub fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Counts the call, and tells the fault that it meets.
    fn fault(&self, verb: Verb, path: &str) -> Result<Option<Error>> {
        if let Some((limit, failure)) = self.stop {
            if EFFECTS.contains(&verb) && self.effects.fetch_add(1, Ordering::SeqCst) >= limit {
                self.stopped.store(true, Ordering::SeqCst);
            }
            if self.stopped.load(Ordering::SeqCst) && ANY.contains(&verb) {
                return Err(failure.error(path));
            }
        }
        let mut after = None;
        for rule in self.rules.iter().filter(|rule| rule.verbs.contains(&verb)) {
            let nth = rule.seen.fetch_add(1, Ordering::SeqCst);
            match rule.moment {
                _ if !rule.nths.contains(&nth) => {}
                Moment::Before => return Err(rule.failure.error(path)),
                Moment::After => after = Some(rule.failure.error(path)),
            }
        }
        Ok(after)
    }

    fn fill(&self, bytes: u64, path: &str) -> Result<()> {
        let before = self.written_bytes.fetch_add(bytes, Ordering::SeqCst);
        if before.saturating_add(bytes) > self.capacity_bytes {
            self.written_bytes.fetch_sub(bytes, Ordering::SeqCst);
            return Err(Failure::Full.error(path));
        }
        Ok(())
    }
}

/// Puts the fault that comes after the effect in the place of the answer.
fn answer<T>(after: Option<Error>, result: Result<T>) -> Result<T> {
    match after {
        Some(error) => Err(error),
        None => result,
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl Layer for Faulty {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(&self, path: Path, payload: PutPayload, mut opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(async move {
            let after = self.fault(verb_of_put(&opts), path.as_ref())?;
            self.fill(payload.content_length() as u64, path.as_ref())?;
            if self.ignores_create {
                opts.mode = PutMode::Overwrite;
            }
            answer(after, self.inner.put_opts(&path, payload, opts).await)
        })
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(async move {
            let after = self.fault(verb_of_get(&options), path.as_ref())?;
            if self.stale {
                return Err(Error::NotFound { path: path.to_string(), source: "stale".into() });
            }
            answer(after, self.inner.get_opts(&path, options).await)
        })
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let after = self.fault(Verb::Delete, path.as_ref())?;
            answer(after, self.inner.delete(&path).await)
        })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shown = prefix.as_ref().map_or("", |prefix| prefix.as_ref());
        match self.fault(Verb::List, shown) {
            Err(before) => stream::once(async { Err(before) }).boxed(),
            Ok(_) if self.stale => stream::empty().boxed(),
            // Breaks off after what was found: a listing must not be taken for whole.
            Ok(Some(after)) => {
                self.inner.list(prefix.as_ref()).chain(stream::once(async { Err(after) })).boxed()
            }
            Ok(None) => self.inner.list(prefix.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Class, Store};
    use bytes::Bytes;

    fn faulty(faults: impl FnOnce(Faulty) -> Faulty) -> Store {
        Store::memory().decorated(|inner| faults(Faulty::over(inner)).wrap())
    }

    #[tokio::test]
    async fn only_the_chosen_calls_fail_and_the_effect_follows_the_moment() {
        for (moment, there) in [(Moment::Before, false), (Moment::After, true)] {
            let store = faulty(|f| f.fail(EFFECTS, 1..2, moment, Failure::Transient));
            store.put("a", Bytes::new()).await.unwrap();
            let failed = store.put("b", Bytes::new()).await.unwrap_err();
            assert_eq!(failed.class(), Class::Transient);
            store.put("c", Bytes::new()).await.unwrap();
            assert_eq!(store.size("b").await.is_ok(), there);
        }
    }

    #[tokio::test]
    async fn after_the_stop_nothing_works_and_nothing_has_changed() {
        let beneath: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let store = Store::over(Faulty::over(Arc::clone(&beneath)).stop_after(1, Failure::Denied).wrap());
        store.put("a", Bytes::new()).await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), Bytes::new());
        assert_eq!(store.put("b", Bytes::new()).await.unwrap_err().class(), Class::Denied);
        // Who may not delete is told that it is kept.
        assert_eq!(store.delete("a").await.unwrap_err().class(), Class::Retained);
        assert_eq!(store.get("a").await.unwrap_err().class(), Class::Denied);
        assert_eq!(store.list("").await.unwrap_err().class(), Class::Denied);
        assert_eq!(Store::over(beneath).list("").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_store_fills_up() {
        let store = faulty(|f| f.capacity(10));
        store.put("a", Bytes::from_static(&[0; 6])).await.unwrap();
        let full = store.put("b", Bytes::from_static(&[0; 6])).await.unwrap_err();
        assert_eq!(full.class(), Class::Full);
        store.put("c", Bytes::from_static(&[0; 4])).await.unwrap();
    }

    #[tokio::test]
    async fn a_listing_that_breaks_off_is_an_error() {
        let store = faulty(|f| f.fail(&[Verb::List], 0..1, Moment::After, Failure::Timeout));
        store.put("a", Bytes::new()).await.unwrap();
        assert_eq!(store.list("").await.unwrap_err().class(), Class::Transient);
        assert_eq!(store.list("").await.unwrap().len(), 1);
    }
}
