//! What a restore would do with one entry, decided from what the target holds. Pure.
//!
//! Nothing that is there is lost by a mistake: without a word from the user it is kept, and a
//! whole folder gives way only to [`Options::delete`].

use crate::format::entry::{Entry, FileTime, Kind};

/// What becomes of files that are in the target already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    /// Replace those whose type, size or mtime differs.
    Changed,
    Always,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub overwrite: Overwrite,
    /// Delete what is in the target's folders and not in the snapshot.
    pub delete: bool,
    pub dry_run: bool,
}

/// What is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    Folder,
    File { size: u64, mtime: FileTime },
    Other,
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is there: make it.
    Create,
    /// Something is there: put the entry in its place.
    Replace,
    /// A folder is there: only its attributes are set.
    Reuse,
    /// What is there stays as it is.
    Keep,
    /// What is there must not go, and the entry can't be restored beside it.
    InTheWay,
}

impl Action {
    pub fn writes(self) -> bool {
        matches!(self, Action::Create | Action::Replace)
    }
}

/// Decides about one entry.
pub fn decide(entry: &Entry, there: Option<There>, options: &Options) -> Action {
    let Some(there) = there else { return Action::Create };
    let is_folder = matches!(entry.kind, Kind::Folder);
    match (there, options.overwrite) {
        (There::Folder, _) if is_folder => Action::Reuse,
        (There::Folder, Overwrite::Never) => Action::Keep,
        (There::Folder, _) if options.delete => Action::Replace,
        (There::Folder, _) => Action::InTheWay,
        (_, Overwrite::Never) if is_folder => Action::InTheWay,
        (_, Overwrite::Never) => Action::Keep,
        (There::File { size, mtime }, Overwrite::Changed) => {
            let is_file = matches!(entry.kind, Kind::File { .. });
            match is_file && size == entry.size() && mtime == entry.attributes.mtime {
                true => Action::Keep,
                false => Action::Replace,
            }
        }
        (_, Overwrite::Changed | Overwrite::Always) => Action::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Attributes, Content, TreePath};

    fn check(kind: Kind, there: There, overwrite: Overwrite, delete: bool) -> Action {
        let mtime = FileTime { secs: 1, nanos: 0 };
        let attributes = Attributes { mtime, ..Default::default() };
        let entry = Entry { path: TreePath::root(), attributes, kind };
        decide(&entry, Some(there), &Options { overwrite, delete, dry_run: false })
    }

    #[test]
    fn what_is_there_is_kept_unless_it_may_be_replaced() {
        use Action::{InTheWay, Keep, Replace, Reuse};
        use Overwrite::{Always, Changed, Never};
        let file = || Kind::File { size: 5, content: Content::Extents(vec![]), hash: None };
        let same = There::File { size: 5, mtime: FileTime { secs: 1, nanos: 0 } };
        let touched = There::File { size: 5, mtime: FileTime { secs: 1, nanos: 1 } };
        for (kind, there, overwrite, delete, expected) in [
            (file(), same, Never, false, Keep),
            (file(), same, Changed, false, Keep),
            (file(), touched, Changed, false, Replace),
            (file(), same, Always, false, Replace),
            (file(), There::Other, Changed, false, Replace),
            (file(), There::Folder, Always, false, InTheWay),
            (file(), There::Folder, Always, true, Replace),
            (file(), There::Folder, Never, true, Keep),
            (Kind::Folder, There::Folder, Never, false, Reuse),
            (Kind::Folder, same, Never, false, InTheWay),
            (Kind::Folder, same, Changed, false, Replace),
            (Kind::Fifo, same, Changed, false, Replace),
        ] {
            assert_eq!(
                check(kind.clone(), there, overwrite, delete),
                expected,
                "{kind:?} {there:?} {overwrite:?}"
            );
        }
    }
}
