//! Answers about snapshots and about what a snapshot has in it.
//!
//! Serves `snapshots`, `--at` and `ls`. Invariants: entries come in path order, one by one, never
//! collected; one answer is of one state of the catalog, whatever other processes write meanwhile.

use std::ops::ControlFlow;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Catalog, EntryKind, EntryRow, Error, RootRow, SnapshotRow, ingest};
use crate::format::commit::RootKind;
use crate::format::entry::{FileTime, TreePath};
use crate::format::id::{SessionId, SourceId};
use crate::world::Time;

/// What [`entry`] reads, from column 0 on.
pub(super) const ENTRY_COLUMNS: &str = "kind, size, mtime_secs, mtime_nanos, mode, uid, gid, target, stamp";

const SNAPSHOT_COLUMNS: &str =
    "SELECT snapshot.id, session, source.source, source.text, host, time, complete, tags,
    files, bytes, parent FROM snapshot JOIN source ON source.id = snapshot.source";

impl Catalog {
    /// All snapshots, the oldest first.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>, Error> {
        let sql = format!("{SNAPSHOT_COLUMNS} ORDER BY time, session");
        self.select_snapshots(&sql, &[]).map_err(self.failed("list the snapshots"))
    }

    pub fn contains(&self, snapshot: SessionId) -> Result<bool, Error> {
        let number = snapshot_number(&self.conn, snapshot).map_err(self.failed("look up a snapshot"))?;
        Ok(number.is_some())
    }

    pub fn snapshot(&self, id: SessionId) -> Result<Option<SnapshotRow>, Error> {
        let sql = format!("{SNAPSHOT_COLUMNS} WHERE session = ?1");
        self.select_snapshot(&sql, &[&id.0])
    }

    /// The newest snapshot of a snapshot's source, complete or not.
    pub fn newest(&self, source: SourceId) -> Result<Option<SnapshotRow>, Error> {
        let sql = format!(
            "{SNAPSHOT_COLUMNS} WHERE snapshot.source = (SELECT id FROM source WHERE source = ?1)
             ORDER BY time DESC, session DESC LIMIT 1"
        );
        self.select_snapshot(&sql, &[&source.0])
    }

    /// The newest complete snapshot of a snapshot's source at or before `time`.
    pub fn at(&self, source: SourceId, time: Time) -> Result<Option<SnapshotRow>, Error> {
        let sql = format!(
            "{SNAPSHOT_COLUMNS} WHERE snapshot.source = (SELECT id FROM source WHERE source = ?1)
             AND time <= ?2 AND complete ORDER BY time DESC, session DESC LIMIT 1"
        );
        self.select_snapshot(&sql, &[&source.0, &time.0])
    }

    /// The snapshot whose tree the next difference of a root's source must be relative to: the one that
    /// came in last, not always the newest. None: there is none, everything counts as added.
    pub fn head(&self, source: SourceId) -> Result<Option<SessionId>, Error> {
        let head = ingest::head(&self.conn, source).map_err(self.failed("look up a snapshot"))?;
        Ok(head.map(|(id, _)| id))
    }

    /// Shows `visit` what lies below `folder` in one of a snapshot's trees, in path order, until it breaks:
    /// everything, or only what lies in the folder itself. The folder's own entry is not shown.
    pub fn list(
        &self,
        snapshot: SessionId,
        root: usize,
        folder: &TreePath,
        recursive: bool,
        visit: impl FnMut(EntryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let failed = self.failed("list a snapshot");
        let _state = self.read().map_err(&failed)?;
        let version = self.version(snapshot, root)?;
        list(&self.conn, version, folder, recursive, visit).map_err(failed)
    }

    /// What is at `path` itself in one of a snapshot's trees.
    pub fn entry(
        &self,
        snapshot: SessionId,
        root: usize,
        path: &TreePath,
    ) -> Result<Option<EntryRow>, Error> {
        let failed = self.failed("look up a path");
        let _state = self.read().map_err(&failed)?;
        let (source, number) = self.version(snapshot, root)?;
        let Some(id) = path_number(&self.conn, source, path).map_err(&failed)? else { return Ok(None) };
        let mut select = self.conn.prepare(&entry_at()).map_err(&failed)?;
        let found = select.query_row([id, number], |row| at_version(row, number, path.clone())).optional();
        Ok(found.map_err(failed)?.flatten())
    }

    /// The number of the root's source, and the version of its tree that the snapshot has.
    fn version(&self, snapshot: SessionId, root: usize) -> Result<(i64, i64), Error> {
        let failed = self.failed("look up a snapshot");
        let number = snapshot_number(&self.conn, snapshot).map_err(&failed)?;
        let number = number.ok_or(Error::NoSnapshot { snapshot })?;
        let sql = "SELECT source, version FROM root WHERE snapshot = ?1 AND place = ?2";
        let found = self.conn.query_row(sql, [number, root as i64], |row| Ok((row.get(0)?, row.get(1)?)));
        found.optional().map_err(failed)?.ok_or(Error::NoRoot { snapshot, root })
    }

    fn select_snapshot(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<SnapshotRow>, Error> {
        let found = self.select_snapshots(sql, values).map_err(self.failed("look up a snapshot"))?;
        Ok(found.into_iter().next())
    }

    fn select_snapshots(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> rusqlite::Result<Vec<SnapshotRow>> {
        let _state = self.read()?;
        let mut roots = self.conn.prepare(
            "SELECT kind, source.source, text FROM root JOIN source ON source.id = root.source
             WHERE snapshot = ?1 ORDER BY place",
        )?;
        let mut snapshots = self.conn.prepare(sql)?;
        let rows = snapshots.query_map(values, |row| {
            let number: i64 = row.get(0)?;
            let roots = roots.query_map([number], read_root)?.collect::<Result<_, _>>()?;
            read_snapshot(row, roots)
        })?;
        rows.collect()
    }
}

pub(super) fn snapshot_number(conn: &Connection, id: SessionId) -> rusqlite::Result<Option<i64>> {
    conn.query_row("SELECT id FROM snapshot WHERE session = ?1", [id.0], |row| row.get(0)).optional()
}

pub(super) fn path_number(conn: &Connection, source: i64, path: &TreePath) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM path WHERE source = ?1 AND key = ?2";
    conn.query_row(sql, params![source, path.sort_key()], |row| row.get(0)).optional()
}

/// The last row of a path that began at or before a version; it may have ended before it too.
///
/// One step in the table's order: a join over the version would walk all rows of a path that changes often.
fn entry_at() -> String {
    format!(
        "SELECT {ENTRY_COLUMNS}, until FROM entry WHERE path = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1"
    )
}

fn at_version(row: &Row<'_>, version: i64, path: TreePath) -> rusqlite::Result<Option<EntryRow>> {
    let until: Option<i64> = row.get(9)?;
    match until.is_none_or(|until| until > version) {
        true => entry(row, path).map(Some),
        false => Ok(None),
    }
}

fn list(
    conn: &Connection,
    (source, version): (i64, i64),
    folder: &TreePath,
    recursive: bool,
    mut visit: impl FnMut(EntryRow) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut from_on =
        conn.prepare("SELECT key, id FROM path WHERE source = ?1 AND key >= ?2 ORDER BY key")?;
    let mut entry_at = conn.prepare(&entry_at())?;
    let mut from = folder.sort_key().to_vec();
    // Each round walks on until there is something to leap over.
    'rounds: loop {
        let mut rows = from_on.query(params![source, from])?;
        while let Some(row) = rows.next()? {
            let path = read_path(row, 0)?;
            if path == *folder {
                continue;
            }
            let Some(below) = path.below(folder) else { return Ok(()) };
            if !recursive && below.components().nth(1).is_some() {
                from = behind(folder, &below);
                continue 'rounds;
            }
            let id: i64 = row.get(1)?;
            let found =
                entry_at.query_row([id, version], |row| at_version(row, version, path)).optional()?.flatten();
            if found.is_some_and(|found| visit(found).is_break()) {
                return Ok(());
            }
        }
        return Ok(());
    }
}

/// The first key behind everything in that folder of `folder` in which `below` lies.
fn behind(folder: &TreePath, below: &TreePath) -> Vec<u8> {
    let child = below.components().next().and_then(|name| folder.join(name));
    let mut key = child.expect("a part of a path is a path").sort_key().to_vec();
    key.push(1);
    key
}

pub(super) fn read_path(row: &Row<'_>, column: usize) -> rusqlite::Result<TreePath> {
    let key = row.get_ref(column)?.as_blob()?;
    let slashes: Vec<u8> = key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect();
    TreePath::from_slashes(&slashes).ok_or_else(|| broken(column, "not a path"))
}

/// Reads [`ENTRY_COLUMNS`].
pub(super) fn entry(row: &Row<'_>, path: TreePath) -> rusqlite::Result<EntryRow> {
    let size = row.get::<_, i64>(1)? as u64;
    let (major, minor) = ((size >> 32) as u32, size as u32);
    let kind = match row.get::<_, u8>(0)? {
        FOLDER => EntryKind::Folder,
        FILE => EntryKind::File { size },
        SYMLINK => EntryKind::Symlink { target: row.get(7)? },
        FIFO => EntryKind::Fifo,
        SOCKET => EntryKind::Socket,
        CHAR_DEVICE => EntryKind::CharDevice { major, minor },
        BLOCK_DEVICE => EntryKind::BlockDevice { major, minor },
        _ => return Err(broken(0, "not a kind of entry")),
    };
    Ok(EntryRow {
        path,
        kind,
        mtime: FileTime { secs: row.get(2)?, nanos: row.get(3)? },
        mode: row.get(4)?,
        uid: row.get(5)?,
        gid: row.get(6)?,
        stamp: row.get::<_, i64>(8)? as u64,
    })
}

const FOLDER: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const FIFO: u8 = 4;
const SOCKET: u8 = 5;
const CHAR_DEVICE: u8 = 6;
const BLOCK_DEVICE: u8 = 7;

pub(super) fn kind_number(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::Folder => FOLDER,
        EntryKind::File { .. } => FILE,
        EntryKind::Symlink { .. } => SYMLINK,
        EntryKind::Fifo => FIFO,
        EntryKind::Socket => SOCKET,
        EntryKind::CharDevice { .. } => CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
    }
}

pub(super) fn root_kind_number(kind: RootKind) -> u8 {
    match kind {
        RootKind::Files => 1,
        RootKind::Manifests => 2,
        RootKind::Volume => 3,
    }
}

fn read_root(row: &Row<'_>) -> rusqlite::Result<RootRow> {
    let kind = match row.get::<_, u8>(0)? {
        1 => RootKind::Files,
        2 => RootKind::Manifests,
        3 => RootKind::Volume,
        _ => return Err(broken(0, "not a kind of root")),
    };
    Ok(RootRow { kind, source: SourceId(row.get(1)?), source_text: row.get(2)? })
}

fn read_snapshot(row: &Row<'_>, roots: Vec<RootRow>) -> rusqlite::Result<SnapshotRow> {
    let tags: String = row.get(7)?;
    Ok(SnapshotRow {
        id: SessionId(row.get(1)?),
        source: SourceId(row.get(2)?),
        source_text: row.get(3)?,
        host: row.get(4)?,
        time: Time(row.get(5)?),
        complete: row.get(6)?,
        tags: serde_json::from_str(&tags).map_err(|_| broken(7, "not a list of tags"))?,
        files: row.get::<_, i64>(8)? as u64,
        bytes: row.get::<_, i64>(9)? as u64,
        parent: row.get::<_, Option<[u8; 16]>>(10)?.map(SessionId),
        roots,
    })
}

fn broken(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, what.into())
}
