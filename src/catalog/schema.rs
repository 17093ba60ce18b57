//! The catalog's file: how it is made, opened and told from other files; its tables.
//!
//! First step of every use of the catalog. Invariants: the file has mode 0600 before anything is
//! in it (SQLite gives `-wal` and `-shm` the same); a file is either empty or has all tables, its
//! version and its repository, for they come in one transaction.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::Error;
use crate::format::id::RepoId;

/// "kist": tells our files from other SQLite files.
const APPLICATION_ID: i32 = 0x6b69_7374;
/// Raised by one whenever the tables change. There is no migration: the catalog is built anew.
const VERSION: i32 = 1;

/// A root's trees, one for each snapshot, are its versions 1, 2, 3 … (`root.version`) in the order in
/// which they came in. An entry row holds from version `first` up to, not including, `until`; while
/// `until` is null it holds still. So a version in which nothing changed adds no entry rows.
///
/// A path is stored once for each source, as its sort key, so a folder with all below it is one
/// range. Not one table of paths for all sources: listing a small volume would have to walk over the
/// paths of the big ones. Measured with 200,000 files (keys of 47 bytes), then 80,000 changes:
/// this layout 22.8 MB, then +48 bytes a change; the key in every entry row instead of a path table
/// 20.1 MB, then +103; a path table with rowids and an index over the keys 34.3 MB, then +48.
///
/// There is no way from `path.id` back to the key, and none is needed: every question starts at a path.
/// Each path has at least one entry row; so the highest `entry.path` is the highest `path.id`.
const TABLES: &str = "
    CREATE TABLE repository (id BLOB NOT NULL) STRICT;
    CREATE TABLE source (
        id INTEGER PRIMARY KEY,
        source BLOB NOT NULL UNIQUE,
        text TEXT NOT NULL
    ) STRICT;
    CREATE TABLE snapshot (
        id INTEGER PRIMARY KEY,
        session BLOB NOT NULL UNIQUE,
        source INTEGER NOT NULL,
        host TEXT NOT NULL,
        time INTEGER NOT NULL,
        complete INTEGER NOT NULL,
        tags TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        parent BLOB
    ) STRICT;
    CREATE INDEX snapshot_by_time ON snapshot (source, time, session);
    CREATE TABLE root (
        snapshot INTEGER NOT NULL,
        place INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        source INTEGER NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (snapshot, place)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX root_by_version ON root (source, version);
    CREATE TABLE path (
        source INTEGER NOT NULL,
        key BLOB NOT NULL,
        id INTEGER NOT NULL,
        PRIMARY KEY (source, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE entry (
        path INTEGER NOT NULL,
        first INTEGER NOT NULL,
        until INTEGER,
        kind INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_secs INTEGER NOT NULL,
        mtime_nanos INTEGER NOT NULL,
        mode INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        target BLOB,
        stamp INTEGER NOT NULL,
        PRIMARY KEY (path, first)
    ) STRICT, WITHOUT ROWID;
";

/// `cache_size`: 8 MiB, for the memory budget. `journal_size_limit`: what a big ingest leaves of `-wal`.
/// NORMAL may lose the last transactions with the power, never the file; they are had again from the repository.
const SETTINGS: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -8192;
    PRAGMA journal_size_limit = 16777216;
    PRAGMA cell_size_check = ON;
    PRAGMA trusted_schema = OFF;
";

pub(super) fn open(path: &Path, repo: RepoId, busy_wait: Duration) -> Result<Connection, Error> {
    create_file(path)?;
    let failed = |source| Error::sqlite(path, "open it", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(busy_wait).map_err(failed)?;
    conn.execute_batch(SETTINGS).map_err(failed)?;
    if is_empty(&conn).map_err(failed)? {
        create_tables(&conn, repo, busy_wait).map_err(|source| Error::sqlite(path, "create it", source))?;
    }
    check(&conn, path, repo)?;
    Ok(conn)
}

/// The path with `suffix` behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn create_file(path: &Path) -> Result<(), Error> {
    let failed = |doing| move |source| Error::File { path: path.to_owned(), doing, source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(failed("create its folder"))?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        // Not opened here: closing it again would drop the locks that this process has on it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => narrow(path),
        Err(error) => Err(failed("create it")(error)),
    }
}

/// Takes the permissions of group and others away, should the files have any.
fn narrow(path: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        let file = beside(path, suffix);
        let narrowed = match fs::metadata(&file) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
            }
            _ => Ok(()),
        };
        match narrowed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { path: file, doing: "make it readable by its owner only", source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn identity(conn: &Connection) -> rusqlite::Result<(i32, i32)> {
    let pragma = |sql| conn.query_row(sql, [], |row| row.get(0));
    Ok((pragma("PRAGMA application_id")?, pragma("PRAGMA user_version")?))
}

fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0 && identity(conn)? == (0, 0))
}

fn create_tables(conn: &Connection, repo: RepoId, busy_wait: Duration) -> rusqlite::Result<()> {
    use_wal(conn, busy_wait)?;
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    // Another process may have been first.
    if is_empty(conn)? {
        conn.execute_batch(TABLES)?;
        conn.execute("INSERT INTO repository (id) VALUES (?1)", [repo.0])?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        conn.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Readers go on while one process writes, and a killed writer leaves nothing to repair.
///
/// SQLite does not wait for its busy timeout here, so two processes that create the file at once
/// would fail each other.
fn use_wal(conn: &Connection, busy_wait: Duration) -> rusqlite::Result<()> {
    let pause = Duration::from_millis(10);
    let mut tries = busy_wait.as_millis() / pause.as_millis();
    loop {
        match conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries > 0 => {
                tries -= 1;
                #[allow(clippy::disallowed_methods, reason = "SQLite gives nothing to wait for here")]
                std::thread::sleep(pause);
            }
            other => return other,
        }
    }
}

fn check(conn: &Connection, path: &Path, repo: RepoId) -> Result<(), Error> {
    let failed = |source| Error::sqlite(path, "open it", source);
    let unusable = |reason| Err(Error::Unusable { path: path.to_owned(), reason, source: None });
    let (application, version) = identity(conn).map_err(failed)?;
    if application != APPLICATION_ID {
        return unusable("an SQLite file, but not a catalog of kist".into());
    }
    if version != VERSION {
        return unusable(format!("its version is {version}, this kist has {VERSION}"));
    }
    let found: Option<[u8; 16]> =
        conn.query_row("SELECT id FROM repository", [], |row| row.get(0)).optional().map_err(failed)?;
    match found {
        Some(found) if found == repo.0 => Ok(()),
        Some(found) => unusable(format!("it is of repository {}, not of {repo}", RepoId(found))),
        None => unusable("it names no repository".into()),
    }
}
