//! A folder as a store: what `object_store`'s `LocalFileSystem` leaves open.
//!
//! With its fsync on, a file and the folder that it lies in are on disk before a put
//! returns. What is not: a folder that another process has just made is used without its
//! own entry being on disk, the loser of a create may read an entry that a power cut
//! takes back, and a root that was unmounted is silently made anew. This layer closes
//! the three, and makes folders 0700, files 0600. Deletes are not synced: an object
//! that comes back after a power cut does no harm (format-spec/08).

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Error as Backend, Extensions, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, PutResult, Result as BackendResult,
};

use crate::store::direct;
use crate::store::error::{Error, Result, RootGone};
use crate::store::layer::{Layer, Layered};

/// Objects from this size on (packs) are written past the page cache.
const LARGE_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct Local {
    inner: Arc<dyn ObjectStore>,
    root: Arc<Root>,
}

/// The folder, as it was when it was opened.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Folders whose entries are known to be on disk; as many as this process writes to.
    settled: Mutex<HashSet<PathBuf>>,
}

/// Opens a folder; `create` makes it first, but not its parents. Also gives its full path.
pub(super) fn open(path: &Path, create: bool) -> Result<(Arc<dyn ObjectStore>, PathBuf)> {
    let failed = |what: &'static str| {
        let url = path.display().to_string();
        move |source: io::Error| Error::Folder { url, what, source }
    };
    if create {
        match make_folder(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(failed("the folder's parent does not exist")(e));
            }
            made => made.map_err(failed("can't make the folder"))?,
        }
    }
    let path = path.canonicalize().map_err(failed("can't find the folder"))?;
    let meta = fs::metadata(&path).map_err(failed("can't look at the folder"))?;
    if !meta.is_dir() {
        return Err(failed("not a folder")(ErrorKind::NotADirectory.into()));
    }
    let inner = LocalFileSystem::new_with_prefix(&path)
        .map_err(|e| failed("can't open the folder")(io::Error::other(e.to_string())))?
        .with_fsync(true);
    let root = Root { path: path.clone(), device: meta.dev(), inode: meta.ino(), settled: Mutex::default() };
    Ok((Layered::wrap(Local { inner: Arc::new(inner), root: Arc::new(root) }), path))
}

/// Makes one folder if it is missing, and puts its entry on disk.
fn make_folder(path: &Path) -> io::Result<()> {
    let made = match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) => return Err(e),
    };
    // Also if another process has made it: that one may not have come to the sync yet.
    let synced = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        Some(parent) => sync(parent),
        None => Ok(()),
    };
    match synced {
        // A folder that was given may lie in one that can't be opened; then it is not new.
        Err(e) if !made && e.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Root {
    /// Fails if the folder was unmounted or replaced since it was opened.
    fn check(&self) -> BackendResult<()> {
        let gone = |why: String| Err(generic(RootGone(why)));
        match fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => gone("the folder is not the one that was opened: unmounted?".into()),
            Err(e) => gone(format!("the folder can't be reached: {e}")),
        }
    }

    /// Makes the folders that lead to `file`, and puts their entries on disk.
    fn settle(&self, file: &Path) -> BackendResult<()> {
        let below = file.parent().and_then(|p| p.strip_prefix(&self.path).ok());
        let mut folder = self.path.clone();
        for part in below.into_iter().flat_map(Path::components) {
            folder.push(part);
            let known = self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder);
            if !known {
                make_folder(&folder).map_err(generic)?;
                let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
                settled.insert(folder.clone());
            }
        }
        Ok(())
    }
}

/// Writes a large object under a name of its own, and gives it its name when all is on disk.
fn put_large(file: &Path, payload: &PutPayload) -> io::Result<()> {
    let parts: Vec<_> = payload.iter().collect();
    let mut number = 1_u64;
    // Listings leave such names out, as those of `object_store`'s own drafts.
    let draft = |number| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!("#{number}"));
        PathBuf::from(name)
    };
    let draft = loop {
        let draft = draft(number);
        match direct::write_new(&draft, &parts) {
            // Left by a run that was killed, or of another that is writing.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
            Ok(()) => break draft,
        }
    };
    fs::rename(&draft, file).inspect_err(|_| _ = fs::remove_file(&draft))?;
    sync(file.parent().expect("a key's file lies below the root"))
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Backend {
    Backend::Generic { store: "folder", source: Box::new(source) }
}

/// Runs system calls where they may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> BackendResult<T> + Send + 'static,
) -> BackendResult<T> {
    tokio::task::spawn_blocking(work).await?
}

impl Local {
    async fn check(&self) -> BackendResult<()> {
        let root = Arc::clone(&self.root);
        blocking(move || root.check()).await
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root.path.display())
    }
}

impl Layer for Local {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn put(
        &self,
        path: Key,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'_, BackendResult<PutResult>> {
        Box::pin(async move {
            // Keys hold no character that is written otherwise in a file's name.
            let file = self.root.path.join(path.as_ref());
            let (root, target) = (Arc::clone(&self.root), file.clone());
            blocking(move || root.check().and_then(|()| root.settle(&target))).await?;
            if payload.content_length() >= LARGE_BYTES && opts.mode == PutMode::Overwrite {
                blocking(move || put_large(&file, &payload).map_err(generic)).await?;
                return Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() });
            }
            let put = self.inner.put_opts(&path, payload, opts).await;
            blocking(move || match put {
                Ok(done) => {
                    // Not all file systems have modes; the folder's mode guards the moment before.
                    let _ = fs::set_permissions(&file, Permissions::from_mode(0o600));
                    Ok(done)
                }
                Err(Backend::AlreadyExists { path, source }) => {
                    // The loser builds on what it reads: that must not vanish again.
                    let folder = file.parent().expect("a key's file lies below the root");
                    sync(folder).map_err(generic)?;
                    Err(Backend::AlreadyExists { path, source })
                }
                Err(e) => Err(e),
            })
            .await
        })
    }

    fn get(&self, path: Key, options: GetOptions) -> BoxFuture<'_, BackendResult<GetResult>> {
        Box::pin(async move {
            match self.inner.get_opts(&path, options).await {
                // An unmounted root must not look like an empty store.
                Err(e @ Backend::NotFound { .. }) => self.check().await.and(Err(e)),
                got => got,
            }
        })
    }

    fn delete(&self, path: Key) -> BoxFuture<'_, BackendResult<()>> {
        Box::pin(async move {
            self.check().await?;
            self.inner.delete(&path).await
        })
    }

    fn list(&self, prefix: Option<Key>) -> BoxStream<'static, BackendResult<ObjectMeta>> {
        let (root, inner) = (Arc::clone(&self.root), Arc::clone(&self.inner));
        stream::once(blocking(move || root.check()))
            .map_ok(move |()| inner.list(prefix.as_ref()))
            .try_flatten()
            .boxed()
    }
}
