//! A store whose chosen objects have rotted: a byte flipped, the end cut off.
//!
//! The objects beneath stay as they are; only what is read and listed is damaged.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, Result};

use crate::store::layer::{Layer, Layered};

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { offset: u64 },
    Cut { len: u64 },
}

/// A store whose chosen objects have rotted; keys are those of the layer beneath.
#[derive(Debug)]
pub struct Flip {
    inner: Arc<dyn ObjectStore>,
    damages: BTreeMap<String, Damage>,
}

impl Flip {
    /// Makes a store without any damage yet.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, damages: BTreeMap::new() }
    }

    /// Flips the lowest bit of the byte at `offset`.
    pub fn byte(mut self, key: &str, offset: u64) -> Self {
        self.damages.insert(key.into(), Damage::Flip { offset });
        self
    }

    /// Leaves only the first `len` bytes.
    pub fn cut(mut self, key: &str, len: u64) -> Self {
        self.damages.insert(key.into(), Damage::Cut { len });
        self
    }

    /// Ends the list of damages.
    pub fn wrap(self) -> Arc<dyn ObjectStore> {
        Layered::wrap(self)
    }
}

impl Damage {
    fn apply(self, body: &mut Vec<u8>) {
        match self {
            Damage::Flip { offset } => {
                let at = usize::try_from(offset).expect("an offset in memory");
                *body.get_mut(at).expect("the flipped byte lies in the object") ^= 1;
            }
            Damage::Cut { len } => body.truncate(usize::try_from(len).expect("a length in memory")),
        }
    }
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged {}", self.inner)
    }
}

impl Layer for Flip {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(async move {
            let Some(damage) = self.damages.get(path.as_ref()) else {
                return self.inner.get_opts(&path, options).await;
            };
            let whole = self.inner.get(&path).await?;
            let written = whole.meta.last_modified;
            let mut body = whole.bytes().await?.to_vec();
            damage.apply(&mut body);
            // A store of its own answers ranges and sizes as of the damaged object.
            let rotten = InMemory::new();
            rotten.put(&path, body.into()).await?;
            let mut got = rotten.get_opts(&path, options).await?;
            got.meta.last_modified = written;
            Ok(got)
        })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let damages = self.damages.clone();
        let listed = self.inner.list(prefix.as_ref());
        listed
            .map_ok(move |mut meta| {
                if let Some(Damage::Cut { len }) = damages.get(meta.location.as_ref()) {
                    meta.size = meta.size.min(*len);
                }
                meta
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Class, Store};
    use bytes::Bytes;

    #[tokio::test]
    async fn only_the_chosen_objects_are_damaged_in_reads_ranges_and_lists() {
        let store = Store::memory();
        for key in ["a", "b", "c"] {
            store.put(key, Bytes::from_static(b"0123")).await.unwrap();
        }
        let rotten = store.clone().decorated(|inner| Flip::over(inner).byte("a", 2).cut("b", 1).wrap());
        assert_eq!(rotten.get("a").await.unwrap(), "0133");
        assert_eq!(rotten.get_range("a", 2..3).await.unwrap(), "3");
        assert_eq!(rotten.get("b").await.unwrap(), "0");
        assert_eq!(rotten.get_range("b", 0..2).await.unwrap_err().class(), Class::Corrupt);
        assert_eq!(rotten.get("c").await.unwrap(), "0123");
        let sizes: Vec<_> = rotten.list("").await.unwrap().iter().map(|o| o.size).collect();
        assert_eq!(sizes, [4, 1, 4]);
        assert_eq!(store.get("a").await.unwrap(), "0123");
    }
}
