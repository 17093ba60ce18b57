//! A decorator's shape: the few verbs that kist uses, each passed on unless a layer says
//! otherwise.
//!
//! `object_store`'s trait has a dozen methods; kist needs put, get, delete and list. A
//! [`Layer`] overrides some of the four, and [`Layered`] makes an `ObjectStore` of it.
//! Invariant: the verbs that kist does not use (multipart, copy, delimiter lists) are
//! refused, so that no effect can slip past a layer.

use std::fmt::{self, Debug, Display};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Stands between the callers and an inner store.
pub trait Layer: Debug + Display + Send + Sync + 'static {
    /// The store behind this layer.
    fn inner(&self) -> &Arc<dyn ObjectStore>;

    /// Writes an object; `opts.mode` tells overwriting from creating.
    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(async move { self.inner().put_opts(&path, payload, opts).await })
    }

    /// Reads an object, a part of it, or only its size (`options.head`).
    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(async move { self.inner().get_opts(&path, options).await })
    }

    /// Removes an object.
    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.inner().delete(&path).await })
    }

    /// Lists the objects in a folder and below, in no order.
    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner().list(prefix.as_ref())
    }
}

/// The same four without anything behind: what a layer is at last, and what a store is that
/// reaches its objects in a way of its own.
pub trait Verbs: Debug + Display + Send + Sync + 'static {
    /// See [`Layer::put`].
    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>>;
    /// See [`Layer::get`].
    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>>;
    /// See [`Layer::delete`].
    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>>;
    /// See [`Layer::list`].
    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>>;
}

impl<L: Layer> Verbs for L {
    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Layer::put(self, path, payload, opts)
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Layer::get(self, path, options)
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Layer::delete(self, path)
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Layer::list(self, prefix)
    }
}

/// Makes an `ObjectStore` of a [`Layer`], or of anything with the four verbs.
#[derive(Debug)]
pub struct Layered<L>(Arc<L>);

impl<L: Verbs> Layered<L> {
    /// Wraps it, ready for [`Store::over`](crate::store::Store::over).
    pub fn wrap(layer: L) -> Arc<dyn ObjectStore> {
        Arc::new(Self(Arc::new(layer)))
    }
}

impl<L: Verbs> Display for Layered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

pub(super) fn refused<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.into(), implementer: "kist".into() })
}

// The trait is declared with `async_trait`; these are the signatures that it expands to.
impl<L: Verbs> ObjectStore for Layered<L> {
    fn put_opts<'a, 'b, 'r>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'r, Result<PutResult>>
    where
        'a: 'r,
        'b: 'r,
        Self: 'r,
    {
        self.0.put(location.clone(), payload, opts)
    }

    fn put_multipart_opts<'a, 'b, 'r>(
        &'a self,
        _: &'b Path,
        _: PutMultipartOptions,
    ) -> BoxFuture<'r, Result<Box<dyn MultipartUpload>>>
    where
        'a: 'r,
        'b: 'r,
        Self: 'r,
    {
        Box::pin(async { refused("multipart upload") })
    }

    fn get_opts<'a, 'b, 'r>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> BoxFuture<'r, Result<GetResult>>
    where
        'a: 'r,
        'b: 'r,
        Self: 'r,
    {
        self.0.get(location.clone(), options)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let layer = Arc::clone(&self.0);
        locations
            .then(move |location| {
                let layer = Arc::clone(&layer);
                async move {
                    let location = location?;
                    layer.delete(location.clone()).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix.cloned())
    }

    fn list_with_delimiter<'a, 'b, 'r>(&'a self, _: Option<&'b Path>) -> BoxFuture<'r, Result<ListResult>>
    where
        'a: 'r,
        'b: 'r,
        Self: 'r,
    {
        Box::pin(async { refused("list with delimiter") })
    }

    fn copy_opts<'a, 'b, 'c, 'r>(
        &'a self,
        _: &'b Path,
        _: &'c Path,
        _: CopyOptions,
    ) -> BoxFuture<'r, Result<()>>
    where
        'a: 'r,
        'b: 'r,
        'c: 'r,
        Self: 'r,
    {
        Box::pin(async { refused("copy") })
    }
}
