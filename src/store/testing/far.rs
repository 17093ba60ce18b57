//! A store that is far away: each answer takes its time, however many are asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::sleep;

use crate::store::layer::{Layer, Layered};

/// A store that waits before each call, by the clock of the runtime.
#[derive(Debug)]
pub struct Far {
    inner: Arc<dyn ObjectStore>,
    away: Duration,
}

impl Far {
    /// Puts `inner` so far away.
    pub fn over(inner: Arc<dyn ObjectStore>, away: Duration) -> Arc<dyn ObjectStore> {
        Layered::wrap(Self { inner, away })
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "far {}", self.inner)
    }
}

impl Layer for Far {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(async move {
            sleep(self.away).await;
            self.inner.put_opts(&path, payload, opts).await
        })
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(async move {
            sleep(self.away).await;
            self.inner.get_opts(&path, options).await
        })
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            sleep(self.away).await;
            self.inner.delete(&path).await
        })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, away) = (self.inner.clone(), self.away);
        let listed = async move {
            sleep(away).await;
            inner.list(prefix.as_ref())
        };
        stream::once(listed).flatten().boxed()
    }
}
