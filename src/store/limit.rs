//! Holds uploads back, so that they take no more than a part of the line.
//!
//! An object goes at once when its turn has come, and the next one waits for it: over some seconds that is the rate.
//! Whoever limits makes small packs (`WriterSettings::limited`).

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions, PutPayload, PutResult, Result};

use crate::pace::Rate;
use crate::store::layer::{Layer, Layered};

/// Objects below this (sessions, index deltas, commits) count and do not wait: what was uploaded before a run ends early is
/// of use only with its delta.
const SMALL_BYTES: u64 = 256 * 1024;

#[derive(Debug)]
struct Limited {
    inner: Arc<dyn ObjectStore>,
    rate: Rate,
}

pub(super) fn over(inner: Arc<dyn ObjectStore>, bytes_per_second: NonZeroU64) -> Arc<dyn ObjectStore> {
    Layered::wrap(Limited { inner, rate: Rate::new(bytes_per_second) })
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Layer for Limited {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(async move {
            let bytes = payload.content_length() as u64;
            match bytes < SMALL_BYTES {
                true => self.rate.take(bytes),
                false => self.rate.wait(bytes).await,
            }
            self.inner.put_opts(&path, payload, opts).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use object_store::memory::InMemory;
    use tokio::time::Instant;

    use super::*;
    use crate::store::{Store, conformance};

    #[tokio::test(start_paused = true)]
    async fn a_small_object_does_not_wait_behind_packs_and_counts() {
        let store = Store::over(over(Arc::new(InMemory::new()), NonZeroU64::new(1024 * 1024).unwrap()));
        let (pack, delta) = (Bytes::from(vec![7; 1 << 20]), Bytes::from(vec![7; 128 << 10]));
        let start = Instant::now();
        store.put("packs/1", pack.clone()).await.unwrap();
        for number in 0..8 {
            store.put(&format!("index/{number}"), delta.clone()).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        store.put("packs/2", pack.clone()).await.unwrap();
        store.put("packs/3", pack).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_take_their_time_and_nothing_else_does() {
        let store = Store::over(over(Arc::new(InMemory::new()), NonZeroU64::new(1024 * 1024).unwrap()));
        let body = Bytes::from(vec![7; 4 << 20]);
        let start = Instant::now();
        for number in 0..5 {
            store.put(&format!("packs/{number}"), body.clone()).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::from_secs(16));
        assert_eq!(store.get("packs/4").await.unwrap(), body);
        assert_eq!(store.list("packs").await.unwrap().len(), 5);
        assert_eq!(start.elapsed(), Duration::from_secs(16));
    }

    #[tokio::test]
    async fn it_keeps_the_laws() {
        let limit = NonZeroU64::new(1 << 40).unwrap();
        conformance::all(&Store::over(over(Arc::new(InMemory::new()), limit))).await;
    }
}
