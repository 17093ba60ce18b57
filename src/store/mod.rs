//! The store: objects in a bucket or a folder, and the few things kist does with them.
//!
//! [`Store`] is narrow on purpose: get, put, create, list, delete. Everything that kist
//! keeps goes through it, whatever lies beneath (memory, a folder, a bucket, a decorator).
//! What the store has to promise is in format-spec/08: a create that only one wins, and
//! reads and lists that see what was written before. [`Store::probe`] tries it out, and
//! [`conformance`] has it as laws. Invariant: only [`Store::create_exclusive`] creates.

mod conditional;
pub mod conformance;
mod direct;
mod error;
mod exclusive;
mod layer;
mod limit;
mod local;
mod open;
mod probe;
mod relay;
mod settings;
pub mod testing;
mod url;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::format::limits;
use crate::store::error::classify;

pub use error::{At, Cause, Class, Error, Result, Verb};
pub use exclusive::Created;
pub use layer::{Layer, Layered};
pub use probe::{Finding, Probe};
pub use relay::{May, Relayed, Remote, RemoteGone};
pub use settings::{
    AzureKeys, AzureSettings, GcsKeys, GcsSettings, NetworkSettings, S3Keys, S3Settings, StoreSettings,
};
pub use url::{BucketUrl, StoreUrl};

/// The size that [`Store::get`] reads at most: well above the packs that kist makes.
pub const GET_LIMIT_BYTES: u64 = 64 << 20;

/// The length that a key has at most; S3 allows 1024 with the prefix.
const KEY_LIMIT_BYTES: usize = limits::STORE_KEY_LEN;

/// A bucket, a part of one, or a folder. Cloning is cheap.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    name: Arc<str>,
    /// Goes before each key; empty, or ends with a slash.
    prefix: Arc<str>,
    degraded: bool,
    upload_limit: Option<NonZeroU64>,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// The key; a stranger's object may have one that kist would not give.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock, in seconds since 1970.
    pub modified_unix_secs: i64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let degraded = if self.degraded { ", degraded" } else { "" };
        write!(f, "Store({}{degraded})", self.name)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Store {
    /// Makes an empty store in memory.
    pub fn memory() -> Store {
        Self::named(Arc::new(InMemory::new()), "memory", "")
    }

    /// Takes any object store; for tests and decorators.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Store {
        let name = inner.to_string();
        Self::named(inner, &name, "")
    }

    /// Puts a decorator between this store and what lies beneath.
    pub fn decorated(mut self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Store {
        self.inner = decorate(self.inner);
        self
    }

    fn named(inner: Arc<dyn ObjectStore>, name: &str, prefix: &str) -> Store {
        let slash = if prefix.is_empty() { "" } else { "/" };
        let prefix = format!("{prefix}{slash}");
        Store { inner, name: name.into(), prefix: prefix.into(), degraded: false, upload_limit: None }
    }

    /// The part of this store below a folder, which keys are relative to.
    pub fn within(&self, folder: &str) -> Store {
        let (name, prefix) = (format!("{}/{folder}", self.name), format!("{}{folder}/", self.prefix));
        Store { name: name.into(), prefix: prefix.into(), ..self.clone() }
    }

    /// Gives up the exclusive create, for a store that lacks it: then there may be one
    /// writer only, ever, and nothing but the user's word that it is so.
    pub fn degraded(mut self) -> Store {
        self.degraded = true;
        self
    }

    /// How many bytes a second it takes, if that is limited.
    pub fn upload_limit(&self) -> Option<NonZeroU64> {
        self.upload_limit
    }

    /// Tells whether this store does without the exclusive create.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Reads an object of at most [`GET_LIMIT_BYTES`].
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.get_at_most(key, GET_LIMIT_BYTES).await
    }

    /// Reads an object of at most `limit` bytes; a larger one is refused unread.
    pub async fn get_at_most(&self, key: &str, limit: u64) -> Result<Bytes> {
        let path = self.path(Verb::Get, key)?;
        let failed = |e| classify(self.at(Verb::Get, key), e);
        let got = self.inner.get_opts(&path, GetOptions::default()).await.map_err(failed)?;
        let size = got.meta.size;
        if size > limit {
            return Err(Error::TooLarge { at: self.at(Verb::Get, key), limit, found: size });
        }
        let body = got.bytes().await.map_err(failed)?;
        self.exact(key, size, body)
    }

    /// Reads the bytes of `range`, all of them; an empty range is not asked for at all.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(Verb::Get, key)?;
        let expected = range.end.saturating_sub(range.start);
        if expected == 0 {
            return Ok(Bytes::new());
        }
        match self.range(&path, range.clone()).await {
            Ok(body) => self.exact(key, expected, body),
            Err(failed) => {
                let failed = classify(self.at(Verb::Get, key), failed);
                // Backends have many ways to say that a range lies outside; the size has one.
                match (failed.class(), self.size(key).await) {
                    (Class::Other | Class::Usage | Class::Corrupt, Ok(size)) if size < range.end => {
                        let found = size.saturating_sub(range.start);
                        Err(Error::Truncated { at: self.at(Verb::Get, key), expected, found })
                    }
                    _ => Err(failed),
                }
            }
        }
    }

    async fn range(&self, path: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() };
        self.inner.get_opts(path, options).await?.bytes().await
    }

    fn exact(&self, key: &str, expected: u64, body: Bytes) -> Result<Bytes> {
        let found = body.len() as u64;
        if found == expected {
            return Ok(body);
        }
        Err(Error::Truncated { at: self.at(Verb::Get, key), expected, found })
    }

    /// Asks for an object's size.
    pub async fn size(&self, key: &str) -> Result<u64> {
        let path = self.path(Verb::Size, key)?;
        match self.inner.head(&path).await {
            Ok(meta) => Ok(meta.size),
            Err(e) => Err(classify(self.at(Verb::Size, key), e)),
        }
    }

    /// Writes an object whose name is random and never used twice (a pack, an index delta), or a slot that
    /// the owner replaces.
    ///
    /// It may be sent again after a failure, so under a name that others use it could undo
    /// what they wrote. On return the object is durable.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let path = self.path(Verb::Put, key)?;
        match self.inner.put(&path, body.into()).await {
            Ok(_) => Ok(()),
            Err(e) => Err(classify(self.at(Verb::Put, key), e)),
        }
    }

    /// The one call that creates; [`Store::create_exclusive`] makes sense of its answers.
    async fn create_once(&self, path: &Path, body: Bytes) -> object_store::Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        self.inner.put_opts(path, body.into(), options).await.map(drop)
    }

    /// Lists a folder and all below it, sorted by key. The empty prefix lists everything.
    ///
    /// Prefixes end at slashes: `packs/a` does not list `packs/ab/…`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let mut objects: Vec<Object> = self.list_stream(prefix).try_collect().await?;
        objects.sort();
        Ok(objects)
    }

    /// Lists like [`Store::list`], in no order and without holding it all in memory.
    pub fn list_stream(&self, prefix: &str) -> BoxStream<'static, Result<Object>> {
        let at = self.at(Verb::List, prefix);
        let folder = prefix.trim_end_matches('/');
        let folder = match folder {
            "" => Ok(Path::from(&*self.prefix)),
            folder => self.path(Verb::List, folder),
        };
        let folder = match folder {
            Ok(folder) => folder,
            Err(e) => return futures::stream::once(async { Err(e) }).boxed(),
        };
        let prefix = Arc::clone(&self.prefix);
        let listed = self.inner.list(Some(&folder).filter(|f| !f.as_ref().is_empty()));
        listed
            .map_err(move |e| classify(at.clone(), e))
            .try_filter_map(move |meta| {
                // Consoles put a marker object at the folder itself; it has no key here.
                let key = meta.location.as_ref().strip_prefix(&*prefix).map(str::to_owned);
                let object = key.filter(|key| !key.is_empty()).map(|key| Object {
                    key,
                    size: meta.size,
                    modified_unix_secs: meta.last_modified.timestamp(),
                });
                async move { Ok(object) }
            })
            .boxed()
    }

    /// Removes an object; that there is none is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(Verb::Delete, key)?;
        match self.inner.delete(&path).await {
            Ok(()) => Ok(()),
            Err(e) => match classify(self.at(Verb::Delete, key), e) {
                Error::Missing { .. } => Ok(()),
                e => Err(e),
            },
        }
    }

    fn at(&self, verb: Verb, key: &str) -> At {
        At { verb, key: key.into(), store: Arc::clone(&self.name) }
    }

    fn path(&self, verb: Verb, key: &str) -> Result<Path> {
        let sound = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let segment = |part: &str| !part.is_empty() && part.bytes().all(sound);
        if key.len() > KEY_LIMIT_BYTES || !key.split('/').all(segment) {
            return Err(Error::BadKey { at: self.at(verb, key) });
        }
        let path = Path::parse(format!("{}{key}", self.prefix));
        Ok(path.expect("prefix and key hold only characters that a path may hold"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_of_a_store_has_keys_of_its_own_and_shows_nothing_beside_it() {
        let top = Store::memory();
        let (shop, bank) = (top.within("domains/5a"), top.within("domains/5b"));
        conformance::all(&top.within("domains/laws")).await;
        shop.put("packs/aa/1", Bytes::from_static(b"of shop")).await.unwrap();
        shop.create_exclusive("config", Bytes::from_static(b"of shop too")).await.unwrap();
        bank.put("packs/aa/1", Bytes::from_static(b"of bank")).await.unwrap();
        let keys = |listed: Vec<Object>| listed.into_iter().map(|found| found.key).collect::<Vec<_>>();
        assert_eq!(keys(shop.list("").await.unwrap()), ["config", "packs/aa/1"]);
        assert_eq!(keys(shop.list("packs").await.unwrap()), ["packs/aa/1"]);
        assert_eq!(bank.get("packs/aa/1").await.unwrap(), "of bank");
        assert_eq!(top.get("domains/5a/packs/aa/1").await.unwrap(), "of shop");
        bank.delete("packs/aa/1").await.unwrap();
        assert_eq!(keys(top.list("domains/5b").await.unwrap()), [""; 0]);
        assert!(top.degraded().within("x").is_degraded() && shop.to_string().ends_with("/domains/5a"));
    }
}
