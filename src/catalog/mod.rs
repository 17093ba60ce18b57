//! The catalog: a local SQLite file that says what is in which snapshot.
//!
//! Filled by `job` from commits and tree differences; answers `snapshots`, `ls`, `--at`, `find`
//! and `history` without touching the store. It is derived and disposable: never asked for truth,
//! and when it is not usable the caller deletes it ([`Catalog::delete`]) and builds it anew.
//! Invariants: it grows with change, not with files × snapshots; its answers do not depend on the
//! order in which the snapshots came in; its files are readable by their owner only.

mod history;
mod ingest;
mod query;
mod row;
mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

pub use self::history::Pattern;
pub use self::ingest::Ingest;
pub use self::row::{Change, EntryKind, EntryRow, Found, Interval, RootRow, Seen, SnapshotRow};
use crate::format::entry::TreePath;
use crate::format::id::{RepoId, SessionId, SourceId};

/// How long to wait for another process that is writing. A million entries go in within 20 s.
const BUSY_WAIT: Duration = Duration::from_secs(60);

/// An open catalog. One for each thread; any number of processes may have the same file open.
pub struct Catalog {
    conn: Connection,
    path: PathBuf,
}

impl Catalog {
    /// Opens the catalog of `repo`, or creates it: the file with mode 0600, missing folders 0700.
    ///
    /// [`Error::needs_rebuild`] if the file is something else, of another repository or version, or broken.
    pub fn open(path: &Path, repo: RepoId) -> Result<Self, Error> {
        Self::open_with(path, repo, BUSY_WAIT)
    }

    fn open_with(path: &Path, repo: RepoId, busy_wait: Duration) -> Result<Self, Error> {
        let conn = schema::open(path, repo, busy_wait)?;
        Ok(Self { conn, path: path.to_owned() })
    }

    /// Removes the catalog's files; fine if there are none.
    pub fn delete(path: &Path) -> Result<(), Error> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let file = schema::beside(path, suffix);
            match std::fs::remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::File { path: file, doing: "delete it", source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Holds what is read until it is dropped to one state of the catalog. None within another one:
    /// a visitor may ask the catalog that is visiting it.
    fn read(&self) -> rusqlite::Result<Option<Transaction<'_>>> {
        match self.conn.is_autocommit() {
            true => Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred).map(Some),
            false => Ok(None),
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> Error + '_ {
        move |source| Error::sqlite(&self.path, doing, source)
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("catalog {}: not usable: {reason}", path.display())]
    Unusable {
        path: PathBuf,
        reason: String,
        #[source]
        source: Option<rusqlite::Error>,
    },
    #[error("catalog {}: can't {doing}: another process is writing to it", path.display())]
    Busy { path: PathBuf, doing: &'static str },
    #[error("catalog {}: can't {doing}: the disk is full", path.display())]
    Full { path: PathBuf, doing: &'static str },
    #[error("catalog {}: can't {doing}", path.display())]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("catalog {}: can't {doing}", path.display())]
    Sqlite {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// Another process took in a snapshot meanwhile, or the difference was made against a snapshot that
    /// the catalog lacks: make it against `head` (None: hand in everything as added) and begin again.
    #[error("catalog: the difference of source {source_id} has to be to {}", head_name(*head))]
    NotHead { source_id: SourceId, head: Option<SessionId> },
    #[error("catalog {}: the difference says that {change_path} was {change}, but {found}", path.display())]
    Disagrees { path: PathBuf, change_path: TreePath, change: &'static str, found: &'static str },
    #[error("catalog: snapshot {} has two roots of source {source_id}", snapshot.snapshot_name())]
    SameSource { snapshot: SessionId, source_id: SourceId },
    #[error("catalog: snapshot {} is not in it", snapshot.snapshot_name())]
    NoSnapshot { snapshot: SessionId },
    #[error("catalog: snapshot {} has no root {root}", snapshot.snapshot_name())]
    NoRoot { snapshot: SessionId, root: usize },
    #[error("search pattern {pattern:?} is not a glob")]
    Pattern {
        pattern: String,
        #[source]
        source: globset::Error,
    },
}

fn head_name(head: Option<SessionId>) -> String {
    head.map_or("nothing, there is no snapshot of it".into(), |id| format!("snapshot {}", id.snapshot_name()))
}

impl Error {
    /// Whether to delete the catalog and build it anew from the repository.
    pub fn needs_rebuild(&self) -> bool {
        matches!(self, Error::Unusable { .. } | Error::Disagrees { .. })
    }

    fn sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let unusable = |reason: &str| reason.to_owned();
        let reason = match &source {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => return Error::Busy { path, doing },
                ErrorCode::DiskFull => return Error::Full { path, doing },
                _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
                    return Error::Full { path, doing };
                }
                ErrorCode::NotADatabase => unusable("not an SQLite file"),
                ErrorCode::DatabaseCorrupt => unusable("the file is damaged"),
                // The statements are fixed: if one does not fit, the tables are not ours.
                ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => {
                    unusable("its tables are not as they should be")
                }
                _ => return Error::Sqlite { path, doing, source },
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows => unusable("a row in it can't be read"),
            _ => return Error::Sqlite { path, doing, source },
        };
        Error::Unusable { path, reason, source: Some(source) }
    }
}

#[cfg(test)]
mod tests;
