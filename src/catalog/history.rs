//! Answers about a path over time: its history, and where it is at all.
//!
//! Serves `history` and `find`. Rows hold for version numbers, which follow the order of coming in;
//! people think in time. Invariant: an answer is of the snapshots in the order of their times, and
//! the same whatever the order in which they came in and whatever has been forgotten between them.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use rusqlite::{Connection, Statement};

use super::query::{self, ENTRY_COLUMNS};
use super::{Catalog, EntryRow, Error, Found, Interval, Seen};
use crate::format::entry::TreePath;
use crate::format::id::{SessionId, SourceId};
use crate::world::Time;

/// What to find.
#[derive(Clone, Debug)]
pub enum Pattern {
    Path(TreePath),
    Glob(Glob),
}

/// Matches names, or whole paths if the pattern has a slash.
#[derive(Clone, Debug)]
pub struct Glob {
    matcher: GlobMatcher,
    whole: bool,
}

impl Pattern {
    /// `*`, `?`, `[…]`, `{…,…}`; a backslash before one of them takes it as it is. With a slash in it the
    /// pattern is held against the whole path, otherwise against the name. `*` doesn't go beyond a slash, `**` does.
    pub fn glob(pattern: &str) -> Result<Self, Error> {
        let whole = pattern.contains('/');
        let glob = GlobBuilder::new(pattern.trim_start_matches('/'))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source })?;
        Ok(Pattern::Glob(Glob { matcher: glob.compile_matcher(), whole }))
    }
}

impl Glob {
    fn matches(&self, path: &TreePath) -> bool {
        let matches = |bytes: &[u8]| self.matcher.is_match(Path::new(OsStr::from_bytes(bytes)));
        match self.whole {
            true => matches(&path.to_slashes()),
            false => matches(path.name()),
        }
    }
}

impl Catalog {
    /// The versions of what was at a path in the trees of a root's source, the oldest first.
    pub fn history(&self, source: SourceId, path: &TreePath) -> Result<Vec<Interval>, Error> {
        let mut versions = Vec::new();
        self.find(Some(source), &Pattern::Path(path.clone()), |found| {
            versions = found.versions;
            ControlFlow::Break(())
        })?;
        Ok(versions)
    }

    /// Shows `visit` the paths that fit, in the trees of one root's source or of all, until it breaks:
    /// by source, then in path order.
    pub fn find(
        &self,
        source: Option<SourceId>,
        pattern: &Pattern,
        mut visit: impl FnMut(Found) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let failed = self.failed("search it");
        let _state = self.read().map_err(&failed)?;
        for (number, source) in sources(&self.conn, source).map_err(&failed)? {
            let flow = find_in(&self.conn, number, pattern, |path, versions| {
                visit(Found { source, path, versions })
            });
            if flow.map_err(&failed)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn sources(conn: &Connection, only: Option<SourceId>) -> rusqlite::Result<Vec<(i64, SourceId)>> {
    let sql = "SELECT id, source FROM source WHERE ?1 IS NULL OR source = ?1 ORDER BY source";
    let mut select = conn.prepare(sql)?;
    let rows = select.query_map([only.map(|only| only.0)], |row| Ok((row.get(0)?, SourceId(row.get(1)?))))?;
    rows.collect()
}

fn find_in(
    conn: &Connection,
    source: i64,
    pattern: &Pattern,
    mut visit: impl FnMut(TreePath, Vec<Interval>) -> ControlFlow<()>,
) -> rusqlite::Result<ControlFlow<()>> {
    let timeline = Timeline::load(conn, source)?;
    let mut stored = conn.prepare(&format!(
        "SELECT {ENTRY_COLUMNS}, first, until FROM entry WHERE path = ?1 ORDER BY first"
    ))?;
    let glob = match pattern {
        Pattern::Path(path) => {
            let Some(id) = query::path_number(conn, source, path)? else {
                return Ok(ControlFlow::Continue(()));
            };
            return Ok(visit(path.clone(), timeline.runs(&rows_of(&mut stored, id, path)?)));
        }
        Pattern::Glob(glob) => glob,
    };
    let mut paths = conn.prepare("SELECT key, id FROM path WHERE source = ?1 ORDER BY key")?;
    let mut rows = paths.query([source])?;
    while let Some(row) = rows.next()? {
        let path = query::read_path(row, 0)?;
        if glob.matches(&path) {
            let versions = timeline.runs(&rows_of(&mut stored, row.get(1)?, &path)?);
            if visit(path, versions).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A row as it is stored: for the versions from `first` up to `until`.
struct Stored {
    first: i64,
    until: Option<i64>,
    row: EntryRow,
}

fn rows_of(select: &mut Statement<'_>, id: i64, path: &TreePath) -> rusqlite::Result<Vec<Stored>> {
    let rows = select.query_map([id], |row| {
        Ok(Stored { first: row.get(9)?, until: row.get(10)?, row: query::entry(row, path.clone())? })
    })?;
    rows.collect()
}

/// The versions of a source's tree, by number and by time.
struct Timeline {
    /// Number and place in time, by number.
    versions: Vec<(i64, usize)>,
    /// By place in time.
    seen: Vec<Seen>,
    /// Whether the numbers follow the times: always, unless runs overlapped.
    in_order: bool,
}

impl Timeline {
    fn load(conn: &Connection, source: i64) -> rusqlite::Result<Self> {
        let mut select = conn.prepare(
            "SELECT version, time, session FROM root JOIN snapshot ON snapshot.id = root.snapshot
             WHERE root.source = ?1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok((Seen { time: Time(row.get(1)?), id: SessionId(row.get(2)?) }, row.get(0)?))
        };
        let mut by_time: Vec<(Seen, i64)> = select.query_map([source], read)?.collect::<Result<_, _>>()?;
        by_time.sort_unstable();
        let mut versions: Vec<_> =
            by_time.iter().enumerate().map(|(place, &(_, number))| (number, place)).collect();
        let in_order = versions.is_sorted();
        versions.sort_unstable();
        Ok(Self { versions, seen: by_time.into_iter().map(|(seen, _)| seen).collect(), in_order })
    }

    /// The stored rows of one path as intervals of time.
    fn runs(&self, stored: &[Stored]) -> Vec<Interval> {
        let mut spans = Vec::new();
        for Stored { first, until, row } in stored {
            let from = self.versions.partition_point(|(number, _)| number < first);
            let to = until.map_or(self.versions.len(), |until| {
                self.versions.partition_point(|&(number, _)| number < until)
            });
            match self.in_order {
                true => spans.extend((from < to).then(|| (from, to - 1, row))),
                false => spans.extend(self.versions[from..to].iter().map(|&(_, place)| (place, place, row))),
            }
        }
        spans.sort_unstable_by_key(|&(from, ..)| from);
        spans.dedup_by(|next, run| {
            let goes_on = run.1 + 1 == next.0 && run.2 == next.2;
            if goes_on {
                run.1 = next.1;
            }
            goes_on
        });
        let interval = |(from, to, row): (usize, usize, &EntryRow)| Interval {
            row: row.clone(),
            first: self.seen[from],
            last: self.seen[to],
            current: to + 1 == self.seen.len(),
        };
        spans.into_iter().map(interval).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        let Ok(Pattern::Glob(glob)) = Pattern::glob(pattern) else { panic!("{pattern:?} is no glob") };
        glob.matches(&TreePath::from_slashes(path.as_bytes()).unwrap())
    }

    #[test]
    fn a_pattern_without_a_slash_is_held_against_the_name() {
        assert!(fits("*.conf", "etc/app/main.conf"));
        assert!(!fits("etc*", "etc/app/main.conf"));
        assert!(fits("main.{conf,cfg}", "etc/app/main.cfg"));
    }

    #[test]
    fn a_pattern_with_a_slash_is_held_against_the_whole_path() {
        assert!(fits("/etc/*.conf", "etc/main.conf"));
        assert!(!fits("etc/*.conf", "etc/app/main.conf"));
        assert!(fits("etc/**/*.conf", "etc/app/main.conf"));
    }

    #[test]
    fn a_broken_pattern_is_refused() {
        assert!(matches!(Pattern::glob("a[b"), Err(Error::Pattern { .. })));
    }
}
