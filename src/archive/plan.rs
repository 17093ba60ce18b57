//! What a restore would do with one entry, decided from what the target holds. Pure.
//!
//! Nothing that is there is lost by a mistake: without a word from the user it is kept, and a
//! whole folder gives way only to [`Options::delete`].

use crate::format::entry::{Entry, Kind};

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
    /// Something that looks like the entry: the same type, size and mtime.
    Alike,
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
        (There::Alike, Overwrite::Changed) => Action::Keep,
        (_, Overwrite::Changed | Overwrite::Always) => Action::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Attributes, Content, TreePath};

    #[test]
    fn what_is_there_is_kept_unless_it_may_be_replaced() {
        use Action::{InTheWay, Keep, Replace, Reuse};
        use Overwrite::{Always, Changed, Never};
        use There::{Alike, Other};
        let file = || Kind::File { size: 5, content: Content::Extents(vec![]), hash: None };
        for (kind, there, overwrite, delete, expected) in [
            (file(), Alike, Never, false, Keep),
            (file(), Alike, Changed, false, Keep),
            (file(), Other, Changed, false, Replace),
            (file(), Alike, Always, false, Replace),
            (file(), There::Folder, Always, false, InTheWay),
            (file(), There::Folder, Always, true, Replace),
            (file(), There::Folder, Never, true, Keep),
            (Kind::Folder, There::Folder, Never, false, Reuse),
            (Kind::Folder, Other, Never, false, InTheWay),
            (Kind::Folder, Other, Changed, false, Replace),
            (Kind::Fifo, Other, Changed, false, Replace),
        ] {
            let shown = format!("{kind:?} {there:?} {overwrite:?}");
            let entry = Entry { path: TreePath::root(), attributes: Attributes::default(), kind };
            let options = Options { overwrite, delete, dry_run: false };
            assert_eq!(decide(&entry, Some(there), &options), expected, "{shown}");
        }
    }
}
