//! A store that remembers what was asked of it, so that tests can speak of work done.
//!
//! Calls are noted when they come in, whether or not they succeed. Keys are those that
//! the layer beneath sees: with the store's prefix.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions, PutPayload,
    PutResult, Result,
};

use crate::store::error::Verb;
use crate::store::layer::{Layer, Layered};
use crate::store::testing::{EFFECTS, verb_of_get, verb_of_put};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was asked.
    pub verb: Verb,
    /// Of which key, or which folder for a listing.
    pub key: String,
    /// The bytes written, or those of the range asked for; 0 for all other calls.
    pub bytes: u64,
}

/// The calls so far; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    fn push(&self, verb: Verb, key: &str, bytes: u64) {
        let event = Event { verb, key: key.into(), bytes };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// All calls, in the order in which they came in.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls that could change something.
    pub fn effects(&self) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| EFFECTS.contains(&event.verb));
        events
    }

    /// How many calls there were of one verb.
    pub fn count(&self, verb: Verb) -> usize {
        self.events().iter().filter(|event| event.verb == verb).count()
    }

    /// How many bytes one verb has moved or asked for.
    pub fn bytes(&self, verb: Verb) -> u64 {
        self.events().iter().filter(|event| event.verb == verb).map(|event| event.bytes).sum()
    }

    /// Forgets all calls.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A store that remembers what was asked of it.
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn ObjectStore>,
    log: Log,
}

impl Recording {
    /// Wraps `inner`; what is asked of it goes to `log`.
    pub fn over(inner: Arc<dyn ObjectStore>, log: &Log) -> Arc<dyn ObjectStore> {
        Layered::wrap(Self { inner, log: log.clone() })
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recording {}", self.inner)
    }
}

impl Layer for Recording {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        self.log.push(verb_of_put(&opts), path.as_ref(), payload.content_length() as u64);
        Box::pin(async move { self.inner.put_opts(&path, payload, opts).await })
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        let bytes = match &options.range {
            Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
            _ => 0,
        };
        self.log.push(verb_of_get(&options), path.as_ref(), bytes);
        Box::pin(async move { self.inner.get_opts(&path, options).await })
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        self.log.push(Verb::Delete, path.as_ref(), 0);
        Box::pin(async move { self.inner.delete(&path).await })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.log.push(Verb::List, prefix.as_ref().map_or("", |prefix| prefix.as_ref()), 0);
        self.inner.list(prefix.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use bytes::Bytes;

    #[tokio::test]
    async fn each_call_is_noted_with_verb_key_and_bytes() {
        let log = Log::default();
        let store = Store::memory().decorated(|inner| Recording::over(inner, &log));
        store.put("a/b", Bytes::from_static(b"1234")).await.unwrap();
        store.create_exclusive("c", Bytes::from_static(b"12")).await.unwrap();
        store.get_range("a/b", 1..3).await.unwrap();
        store.size("a/b").await.unwrap();
        store.list("a").await.unwrap();
        store.delete("c").await.unwrap();
        let events: Vec<_> = log.events().into_iter().map(|e| (e.verb, e.key, e.bytes)).collect();
        let expected = [
            (Verb::Put, "a/b", 4),
            (Verb::Create, "c", 2),
            (Verb::Get, "a/b", 2),
            (Verb::Size, "a/b", 0),
            (Verb::List, "a", 0),
            (Verb::Delete, "c", 0),
        ];
        assert_eq!(events, expected.map(|(verb, key, bytes)| (verb, key.to_owned(), bytes)));
        assert_eq!((log.effects().len(), log.count(Verb::Get), log.bytes(Verb::Put)), (3, 1, 4));
        log.clear();
        assert_eq!(log.events(), []);
    }
}
