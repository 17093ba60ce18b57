//! The mover's side of a relay: a store whose operations are requests to its job.

use std::fmt::{self, Debug};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, PutMode,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::format::limits::PACK_LEN;
use crate::format::relay::{Answer, Class, Listed, Operation, Request};
use crate::store::Store;
use crate::store::error::Unreadable;
use crate::store::layer::{Layered, Verbs, refused};

/// The name that errors have for it.
const NAME: &str = "the job's store";

/// The way to the job: carries the body of a request there, and that of its answer back.
pub trait Remote: Send + Sync + Debug {
    /// Any number of calls may be under way at once.
    fn call(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, RemoteGone>>;
}

/// The way to the job is gone, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoteGone(pub String);

impl Store {
    /// Reaches a store through the process at the other end of `remote`.
    pub fn remote(remote: Arc<dyn Remote>) -> Store {
        Store::over(Layered::wrap(Relay { remote }))
    }
}

#[derive(Clone, Debug)]
struct Relay {
    remote: Arc<dyn Remote>,
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

impl Relay {
    async fn ask(&self, key: &str, operation: Operation) -> Result<Answer> {
        let request = Request { key: key.to_owned(), operation }.encode();
        let gone = |gone: RemoteGone| generic(io::Error::new(ErrorKind::ConnectionAborted, gone.0));
        let answer = self.remote.call(request).await.map_err(gone)?;
        match Answer::decode(&answer) {
            Ok(Answer::Failed { class, text }) => Err(failure(key, class, text)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(generic(error.to_string())),
        }
    }

    async fn read(&self, path: Path, options: GetOptions) -> Result<GetResult> {
        let key = path.as_ref();
        let operation = match &options.range {
            _ if options.head => Operation::Size,
            None => Operation::Get { limit: PACK_LEN as u64 },
            Some(GetRange::Bounded(range)) => {
                let len = range.end.saturating_sub(range.start);
                if len > PACK_LEN as u64 {
                    return refused("a range longer than any object of kist's");
                }
                Operation::Range { start: range.start, len }
            }
            Some(_) => return refused("a range without an end"),
        };
        let start = options.range.as_ref().map_or(0, |range| match range {
            GetRange::Bounded(range) => range.start,
            GetRange::Offset(_) | GetRange::Suffix(_) => 0,
        });
        match self.ask(key, operation).await? {
            Answer::Found(body) if !options.head => Ok(found(path, start, body)),
            // Beyond the limit, or only the size was wanted. Nobody reads on from here.
            Answer::Size(size) if options.range.is_none() => {
                let mut only_size = found(path, 0, Bytes::new());
                only_size.meta.size = size;
                Ok(only_size)
            }
            _ => Err(unfit()),
        }
    }

    async fn write(&self, path: Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let body = Bytes::from(payload);
        if body.len() > PACK_LEN {
            return refused("an object larger than any of kist's");
        }
        let operation = match options.mode {
            PutMode::Overwrite => Operation::Put(body),
            PutMode::Create => Operation::Create(body),
            PutMode::Update(_) => return refused("update"),
        };
        match self.ask(path.as_ref(), operation).await? {
            Answer::Done => Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() }),
            _ => Err(unfit()),
        }
    }

    /// One page; and where the next one begins.
    async fn page(&self, folder: &str, from: u32) -> Result<(Vec<Listed>, Option<u32>)> {
        match self.ask(folder, Operation::List { from }).await? {
            Answer::Listing { next, objects } => Ok((objects, (next != 0).then_some(next))),
            _ => Err(unfit()),
        }
    }
}

impl Verbs for Relay {
    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(self.write(path, payload, opts))
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(self.read(path, options))
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.ask(path.as_ref(), Operation::Delete).await? {
                Answer::Done => Ok(()),
                _ => Err(unfit()),
            }
        })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (relay, folder) = (self.clone(), prefix.map(String::from).unwrap_or_default());
        let pages = stream::try_unfold(Some(0), move |from| {
            let (relay, folder) = (relay.clone(), folder.clone());
            async move {
                let Some(from) = from else { return Ok::<_, Error>(None) };
                let (objects, next) = relay.page(&folder, from).await?;
                Ok(Some((stream::iter(objects.into_iter().map(meta)), next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// The bytes from `start` on. The size of the whole object is known only if these are all of it.
fn found(path: Path, start: u64, body: Bytes) -> GetResult {
    let range = start..start + body.len() as u64;
    let meta = ObjectMeta {
        location: path,
        last_modified: SystemTime::UNIX_EPOCH.into(),
        size: range.end,
        e_tag: None,
        version: None,
    };
    let payload = GetResultPayload::Stream(stream::once(async { Ok(body) }).boxed());
    GetResult { payload, meta, range, attributes: Attributes::default(), extensions: Extensions::default() }
}

fn meta(listed: Listed) -> Result<ObjectMeta> {
    let location = Path::parse(&listed.key).map_err(|error| generic(error.to_string()))?;
    // The decoder holds it to a range that every clock can show.
    let distance = Duration::from_secs(listed.modified_unix_secs.unsigned_abs());
    let modified = match listed.modified_unix_secs < 0 {
        true => SystemTime::UNIX_EPOCH - distance,
        false => SystemTime::UNIX_EPOCH + distance,
    };
    let last_modified = modified.into();
    Ok(ObjectMeta { location, last_modified, size: listed.size, e_tag: None, version: None })
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: NAME, source: source.into() }
}

fn unfit() -> Error {
    generic("the answer does not fit what was asked")
}

/// As the backends say it, so that `classify` finds the same meaning again.
fn failure(key: &str, class: Class, text: String) -> Error {
    let path = key.to_owned();
    match class {
        Class::Missing => Error::NotFound { path, source: text.into() },
        Class::Denied => Error::PermissionDenied { path, source: text.into() },
        Class::Exists => Error::AlreadyExists { path, source: text.into() },
        Class::Unsupported => Error::NotSupported { source: text.into() },
        Class::Full => generic(io::Error::new(ErrorKind::StorageFull, text)),
        Class::Transient => generic(io::Error::new(ErrorKind::TimedOut, text)),
        Class::Other => generic(Unreadable(text)),
    }
}
