//! What went wrong with one path, while the rest goes on.
//!
//! Walking, reading and restoring meet files that vanish, refuse or don't fit. Each such case is a
//! [`Problem`] that is listed in the end; a run that has one is not complete. [`Tally`] counts them in
//! memory that does not grow with their number.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use crate::format::entry::TreePath;

/// Why something could not be done, as far as it decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It is not there any more.
    Vanished,
    /// We may not.
    Denied,
    /// It became something else, or shrank, while it was looked at.
    Changed,
    /// Something that is not to be removed lies where it should go.
    InTheWay,
    /// The disk or the quota is full.
    Full,
    /// It is beyond what the format or the file system holds.
    Limit,
    /// The file system can't do this.
    Unsupported,
    Other,
}

impl ProblemKind {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::STALE => Self::Vanished,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Denied,
            Errno::NOTDIR | Errno::LOOP => Self::Changed,
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            Errno::NAMETOOLONG | Errno::FBIG | Errno::OVERFLOW | Errno::TOOBIG | Errno::RANGE => Self::Limit,
            Errno::OPNOTSUPP | Errno::NOSYS => Self::Unsupported,
            Errno::NOTEMPTY | Errno::EXIST => Self::InTheWay,
            _ => Self::Other,
        }
    }

    /// A word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::Denied => "denied",
            Self::Changed => "changed",
            Self::InTheWay => "in the way",
            Self::Full => "full",
            Self::Limit => "limit",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }
}

/// What was being done to which path, and what stood against it.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct Problem {
    pub path: TreePath,
    pub kind: ProblemKind,
    /// Such as "opening"; the path goes behind it.
    pub doing: &'static str,
    #[source]
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    System(io::Error),
    #[error("{0}")]
    Found(String),
}

impl Problem {
    /// Whether the thing is there and only an attribute of it is not as it should be: what sets attributes says
    /// `setting …`.
    pub fn is_of_attribute(&self) -> bool {
        self.doing.starts_with("setting ") || self.doing == "removing an attribute of"
    }

    /// Of an error that the system gave.
    pub(super) fn system(doing: &'static str, path: &TreePath, errno: Errno) -> Self {
        let cause = Cause::System(io::Error::from(errno));
        Self { path: path.clone(), kind: ProblemKind::of(errno), doing, cause }
    }

    /// Of something that was found to be other than it has to be.
    pub(super) fn found(
        doing: &'static str,
        path: &TreePath,
        kind: ProblemKind,
        what: impl Into<String>,
    ) -> Self {
        Self { path: path.clone(), kind, doing, cause: Cause::Found(what.into()) }
    }
}

/// Problems counted by what was being done and why it failed, each with the first path that met it.
#[derive(Debug, Default)]
pub struct Tally {
    classes: BTreeMap<(&'static str, ProblemKind), Class>,
}

#[derive(Debug)]
struct Class {
    count: u64,
    first: TreePath,
    why: String,
}

impl Tally {
    pub fn add(&mut self, problem: &Problem) {
        self.classes
            .entry((problem.doing, problem.kind))
            .and_modify(|class| class.count += 1)
            .or_insert_with(|| Class {
                count: 1,
                first: problem.path.clone(),
                why: problem.cause.to_string(),
            });
    }

    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    pub fn count(&self) -> u64 {
        self.classes.values().map(|class| class.count).sum()
    }

    /// One line for each class, such as `setting the owner of 812 paths: … (first: /a)`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.classes.iter().map(|((doing, _), Class { count, first, why })| match count {
            1 => format!("{doing} {first}: {why}"),
            _ => format!("{doing} {count} paths: {why} (first: {first})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_problems_of_one_class_are_one_line() {
        let mut tally = Tally::default();
        for name in ["a", "b", "c"] {
            let path = TreePath::from_slashes(name.as_bytes()).unwrap();
            tally.add(&Problem::system("setting the owner of", &path, Errno::PERM));
        }
        tally.add(&Problem::system("writing", &TreePath::root(), Errno::NOSPC));
        let lines: Vec<_> = tally.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("setting the owner of 3 paths: "), "{lines:?}");
        assert!(lines[0].ends_with("(first: /a)"), "{lines:?}");
        assert!(lines[1].starts_with("writing /: "), "{lines:?}");
        assert_eq!(tally.count(), 4);
    }

    #[test]
    fn a_full_disk_and_a_full_quota_are_told_apart_from_other_errors() {
        let kind = |errno| Problem::system("writing", &TreePath::root(), errno).kind;
        assert_eq!(kind(Errno::NOSPC), ProblemKind::Full);
        assert_eq!(kind(Errno::DQUOT), ProblemKind::Full);
        assert_eq!(kind(Errno::IO), ProblemKind::Other);
    }
}
