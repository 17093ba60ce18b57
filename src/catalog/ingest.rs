//! Takes snapshots into the catalog and out of it again.
//!
//! After a backup's commit, and for each commit when the catalog is built anew. Invariants: a
//! snapshot is in with all of its roots or not at all (one transaction); a root's versions
//! form a line, each given as the difference to the one before it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Statement, Transaction, TransactionBehavior, params};

use super::query::{self, ENTRY_COLUMNS};
use super::{Catalog, Change, EntryKind, EntryRow, Error, RootRow, SnapshotRow};
use crate::format::entry::TreePath;
use crate::format::id::{SessionId, SourceId};

/// A snapshot on its way in. Dropped without [`Ingest::finish`] it leaves nothing.
///
/// No other process can write to the catalog meanwhile: have the differences ready, or at hand.
pub struct Ingest<'c> {
    path: &'c Path,
    /// Those that have not been begun.
    roots: Vec<Option<RootRow>>,
    snapshot: i64,
    version: Option<Version>,
    /// SQLite may have rolled back: what came after would be kept on its own.
    failed: bool,
    /// The next free `path.id`.
    next_path: i64,
    statements: Statements<'c>,
    // Behind the statements: they have to go before it does.
    transaction: Transaction<'c>,
}

#[derive(Clone, Copy)]
struct Version {
    source: i64,
    number: i64,
}

struct Statements<'c> {
    add_path: Statement<'c>,
    find_newest: Statement<'c>,
    close: Statement<'c>,
    add_entry: Statement<'c>,
}

/// The newest row of a path.
struct Newest {
    path: i64,
    first: i64,
    open: bool,
    row: EntryRow,
}

impl Catalog {
    /// Begins to take in a snapshot. None if it is there already: nothing to do.
    ///
    /// Then, for each of its roots, [`Ingest::root`] and the root's difference by
    /// [`Ingest::change`]; then [`Ingest::finish`].
    pub fn begin(&mut self, snapshot: &SnapshotRow) -> Result<Option<Ingest<'_>>, Error> {
        for (place, root) in snapshot.roots.iter().enumerate() {
            if snapshot.roots[..place].iter().any(|other| other.source == root.source) {
                return Err(Error::SameSource { snapshot: snapshot.id, source_id: root.source });
            }
        }
        let catalog = &*self;
        Ingest::begin(catalog, snapshot).map_err(catalog.failed("take in a snapshot"))
    }

    /// Takes out snapshots that are no longer in the repository, and entries that only they had.
    /// Fine if they are not there.
    pub fn forget(&mut self, snapshots: &[SessionId]) -> Result<(), Error> {
        forget(&self.conn, snapshots).map_err(self.failed("forget a snapshot"))
    }
}

impl<'c> Ingest<'c> {
    fn begin(catalog: &'c Catalog, snapshot: &SnapshotRow) -> rusqlite::Result<Option<Self>> {
        let conn = &catalog.conn;
        let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        if query::snapshot_number(conn, snapshot.id)?.is_some() {
            return Ok(None);
        }
        let number = add_snapshot(conn, snapshot)?;
        let last_path: Option<i64> = conn.query_row("SELECT max(path) FROM entry", [], |row| row.get(0))?;
        Ok(Some(Self {
            path: &catalog.path,
            roots: snapshot.roots.iter().cloned().map(Some).collect(),
            snapshot: number,
            version: None,
            failed: false,
            next_path: last_path.unwrap_or(0) + 1,
            statements: Statements::new(conn)?,
            transaction,
        }))
    }

    /// Begins root `place` of the snapshot, given as its difference to the tree that the snapshot
    /// `base` has of the same source (None: to nothing).
    ///
    /// [`Error::NotHead`] unless `base` is what [`Catalog::head`] says.
    pub fn root(&mut self, place: usize, base: Option<SessionId>) -> Result<(), Error> {
        assert!(!self.failed, "nothing is handed in after an error");
        let root = self.roots[place].take().expect("each root is handed in once");
        let begun = self.begin_root(place, &root, base);
        self.failed = begun.is_err();
        self.version = Some(begun?);
        Ok(())
    }

    fn begin_root(&self, place: usize, root: &RootRow, base: Option<SessionId>) -> Result<Version, Error> {
        let failed = |source| Error::sqlite(self.path, "take in a snapshot", source);
        let (head, last) = head(&self.transaction, root.source).map_err(failed)?.unzip();
        if head != base {
            return Err(Error::NotHead { source_id: root.source, head });
        }
        self.add_root(place, root, last.unwrap_or(0) + 1).map_err(failed)
    }

    fn add_root(&self, place: usize, root: &RootRow, number: i64) -> rusqlite::Result<Version> {
        let source = add_source(&self.transaction, root.source, &root.source_text)?;
        let kind = query::root_kind_number(root.kind);
        self.transaction.execute(
            "INSERT INTO root (snapshot, place, kind, source, version) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.snapshot, place as i64, kind, source, number],
        )?;
        Ok(Version { source, number })
    }

    /// Takes in one line of the difference of the root that was begun last. In any order, but the order
    /// of paths is the fastest; each path at most once.
    pub fn change(&mut self, change: Change) -> Result<(), Error> {
        assert!(!self.failed, "nothing is handed in after an error");
        let version = self.version.expect("a root is begun before its changes are handed in");
        let applied = match &change {
            Change::Added(row) => self.add(version, row),
            Change::Changed(row) => self.replace(version, row),
            Change::Removed(path) => self.remove(version, path),
        };
        let applied = applied.map_err(|source| Error::sqlite(self.path, "take in a snapshot", source));
        self.failed = !matches!(applied, Ok(None));
        let Some(found) = applied? else { return Ok(()) };
        let (change_path, change) = match change {
            Change::Added(row) => (row.path, "added"),
            Change::Changed(row) => (row.path, "changed"),
            Change::Removed(path) => (path, "removed"),
        };
        Err(Error::Disagrees { path: self.path.to_owned(), change_path, change, found })
    }

    /// Commits. All roots must have been handed in.
    pub fn finish(self) -> Result<(), Error> {
        assert!(!self.failed, "nothing is kept after an error");
        assert!(self.roots.iter().all(Option::is_none), "all roots are handed in before the end");
        let Self { path, statements, transaction, .. } = self;
        drop(statements);
        transaction.commit().map_err(|source| Error::sqlite(path, "take in a snapshot", source))
    }

    /// Some: what stands against it.
    fn add(&mut self, version: Version, row: &EntryRow) -> rusqlite::Result<Option<&'static str>> {
        let key = row.path.sort_key();
        let is_new = self.statements.add_path.execute(params![version.source, key, self.next_path])? == 1;
        let path = match is_new {
            true => {
                self.next_path += 1;
                self.next_path - 1
            }
            false => match self.statements.newest(version, &row.path)? {
                Some(newest) if newest.open => return Ok(Some("it is there already")),
                Some(newest) => newest.path,
                None => return Ok(Some("its path has no entries")),
            },
        };
        self.statements.add_entry(path, version, row)?;
        Ok(None)
    }

    fn replace(&mut self, version: Version, row: &EntryRow) -> rusqlite::Result<Option<&'static str>> {
        let Some(newest) = self.statements.newest(version, &row.path)?.filter(|newest| newest.open) else {
            return Ok(Some("it is not there"));
        };
        if newest.row == *row {
            return Ok(None);
        }
        if newest.first == version.number {
            return Ok(Some("it came in this difference already"));
        }
        self.statements.close.execute(params![version.number, newest.path, newest.first])?;
        self.statements.add_entry(newest.path, version, row)?;
        Ok(None)
    }

    fn remove(&mut self, version: Version, path: &TreePath) -> rusqlite::Result<Option<&'static str>> {
        let Some(newest) = self.statements.newest(version, path)?.filter(|newest| newest.open) else {
            return Ok(Some("it is not there"));
        };
        if newest.first == version.number {
            return Ok(Some("it came in this difference already"));
        }
        self.statements.close.execute(params![version.number, newest.path, newest.first])?;
        Ok(None)
    }
}

impl<'c> Statements<'c> {
    fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            add_path: conn
                .prepare("INSERT INTO path (source, key, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?,
            find_newest: conn.prepare(&format!(
                "SELECT {ENTRY_COLUMNS}, path.id, first, until IS NULL
                 FROM path CROSS JOIN entry ON entry.path = path.id
                 WHERE path.source = ?1 AND key = ?2 ORDER BY first DESC LIMIT 1"
            ))?,
            close: conn.prepare("UPDATE entry SET until = ?1 WHERE path = ?2 AND first = ?3")?,
            add_entry: conn.prepare(&format!(
                "INSERT INTO entry ({ENTRY_COLUMNS}, path, first)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ))?,
        })
    }

    fn newest(&mut self, version: Version, path: &TreePath) -> rusqlite::Result<Option<Newest>> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Newest {
                path: row.get(9)?,
                first: row.get(10)?,
                open: row.get(11)?,
                row: query::entry(row, path.clone())?,
            })
        };
        self.find_newest.query_row(params![version.source, path.sort_key()], read).optional()
    }

    fn add_entry(&mut self, path: i64, version: Version, row: &EntryRow) -> rusqlite::Result<()> {
        let device = |major: u32, minor: u32| u64::from(major) << 32 | u64::from(minor);
        let (size, target) = match &row.kind {
            EntryKind::File { size } => (*size, None),
            EntryKind::Symlink { target } => (0, Some(target.as_slice())),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                (device(*major, *minor), None)
            }
            EntryKind::Folder | EntryKind::Fifo | EntryKind::Socket => (0, None),
        };
        self.add_entry.execute(params![
            query::kind_number(&row.kind),
            size as i64,
            row.mtime.secs,
            row.mtime.nanos,
            row.mode,
            row.uid,
            row.gid,
            target,
            row.stamp as i64,
            path,
            version.number,
        ])?;
        Ok(())
    }
}

/// The snapshot that has the newest version of a source's tree, and that version's number.
pub(super) fn head(conn: &Connection, source: SourceId) -> rusqlite::Result<Option<(SessionId, i64)>> {
    conn.query_row(
        "SELECT session, version FROM source
         JOIN root ON root.source = source.id JOIN snapshot ON snapshot.id = root.snapshot
         WHERE source.source = ?1 ORDER BY version DESC LIMIT 1",
        [source.0],
        |row| Ok((SessionId(row.get(0)?), row.get(1)?)),
    )
    .optional()
}

fn add_source(conn: &Connection, source: SourceId, text: &str) -> rusqlite::Result<i64> {
    conn.execute(
        "INSERT INTO source (source, text) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![source.0, text],
    )?;
    conn.query_row("SELECT id FROM source WHERE source = ?1", [source.0], |row| row.get(0))
}

fn add_snapshot(conn: &Connection, snapshot: &SnapshotRow) -> rusqlite::Result<i64> {
    let source = add_source(conn, snapshot.source, &snapshot.source_text)?;
    conn.execute(
        "INSERT INTO snapshot (session, source, host, time, complete, tags, files, bytes, parent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            snapshot.id.0,
            source,
            snapshot.host,
            snapshot.time.0,
            snapshot.complete,
            serde_json::Value::from(snapshot.tags.clone()).to_string(),
            snapshot.files as i64,
            snapshot.bytes as i64,
            snapshot.parent.map(|parent| parent.0),
        ],
    )?;
    Ok(conn.last_insert_rowid())
}

fn forget(conn: &Connection, snapshots: &[SessionId]) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    let mut sources = std::collections::BTreeSet::new();
    for &session in snapshots {
        let Some(snapshot) = query::snapshot_number(conn, session)? else { continue };
        let mut select = conn.prepare("SELECT source, version FROM root WHERE snapshot = ?1")?;
        let roots: Vec<(i64, i64)> =
            select.query_map([snapshot], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        conn.execute("DELETE FROM root WHERE snapshot = ?1", [snapshot])?;
        conn.execute("DELETE FROM snapshot WHERE id = ?1", [snapshot])?;
        for (source, version) in roots {
            forget_version(conn, source, version)?;
            sources.insert(source);
        }
    }
    for source in sources {
        conn.execute(
            "DELETE FROM path WHERE source = ?1 AND NOT EXISTS (SELECT 1 FROM entry WHERE path = path.id)",
            [source],
        )?;
    }
    conn.execute(
        "DELETE FROM source WHERE id NOT IN (SELECT source FROM root) AND id NOT IN (SELECT source FROM snapshot)",
        [],
    )?;
    transaction.commit()
}

/// Deletes the rows that hold for no version but the gone one. Was it the newest one, then the one before it
/// becomes the head again, and what had ended after it holds still.
fn forget_version(conn: &Connection, source: i64, version: i64) -> rusqlite::Result<()> {
    let (before, after): (i64, Option<i64>) = conn.query_row(
        "SELECT (SELECT coalesce(max(version), 0) FROM root WHERE source = ?1 AND version < ?2),
                (SELECT min(version) FROM root WHERE source = ?1 AND version > ?2)",
        [source, version],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    const OF_SOURCE: &str = "path IN (SELECT id FROM path WHERE source = ?1)";
    if let Some(after) = after {
        let sql = format!("DELETE FROM entry WHERE {OF_SOURCE} AND first > ?2 AND until <= ?3");
        conn.execute(&sql, [source, before, after])?;
    } else {
        conn.execute(&format!("DELETE FROM entry WHERE {OF_SOURCE} AND first > ?2"), [source, before])?;
        let sql = format!("UPDATE entry SET until = NULL WHERE {OF_SOURCE} AND until > ?2");
        conn.execute(&sql, [source, before])?;
    }
    Ok(())
}
