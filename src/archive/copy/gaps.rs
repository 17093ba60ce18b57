//! Folders whose own entries are lost in a gap of a tree: which have to be made up, so that what lies in them lies
//! somewhere. Pure.

use crate::format::entry::{Entry, Kind, TreePath};

/// What is known of the folders above the entries that come, in path order.
#[derive(Default)]
pub struct Gaps {
    /// Parts of the tree were lost.
    any: bool,
    /// From the first gap on: the folders that the last entry lies in, or is, outermost first.
    folders: Vec<TreePath>,
}

impl Gaps {
    /// From here on entries of folders may be missing. `last` is the entry before, and whether that is a folder.
    pub fn begin(&mut self, last: Option<(&TreePath, bool)>) {
        if self.any {
            return;
        }
        self.any = true;
        if let Some((last, is_folder)) = last {
            let first = if is_folder { Some(last.clone()) } else { last.parent() };
            self.folders = std::iter::successors(first, TreePath::parent).collect();
            self.folders.reverse();
        }
    }

    /// Takes in the next entry, and gives the folders above it whose entries are lost, outermost first.
    pub fn missing_above(&mut self, entry: &Entry) -> Vec<TreePath> {
        if !self.any {
            return Vec::new();
        }
        self.folders.retain(|folder| entry.path.is_within(folder));
        let above = std::iter::successors(entry.path.parent(), TreePath::parent);
        let mut missing: Vec<_> = above.take_while(|folder| !self.folders.contains(folder)).collect();
        missing.reverse();
        self.folders.extend(missing.iter().cloned());
        if matches!(entry.kind, Kind::Folder) {
            self.folders.push(entry.path.clone());
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Attributes, Content};

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    /// A path that ends with a slash is a folder's.
    fn entry(text: &str) -> Entry {
        let kind = match text.ends_with('/') {
            true => Kind::Folder,
            false => Kind::File { size: 0, content: Content::Extents(vec![]), hash: None },
        };
        Entry { path: path(text.trim_end_matches('/')), attributes: Attributes::default(), kind }
    }

    #[test]
    fn a_folder_is_made_up_once_and_only_if_its_own_entry_is_lost() {
        for (before, after) in [
            // The story: a leaf ended with a folder's entry and the next was lost; the folder came twice.
            (
                &["a/", "a/b/"][..],
                &[("a/b/x", &[][..]), ("a/c/d/y", &["a/c", "a/c/d"]), ("a/c/d/z", &[])][..],
            ),
            (&["a/", "a/w"], &[("a/x", &[]), ("a/y/", &[]), ("a/y/z", &[]), ("b/c", &["b"])]),
            (&["a/", "a/b/", "a/b/c"], &[("d/", &[]), ("d/e", &[])]),
        ] {
            let mut gaps = Gaps::default();
            for text in before {
                assert_eq!(gaps.missing_above(&entry(text)), [], "{text}");
            }
            let last = before.last().map(|text| (path(text.trim_end_matches('/')), text.ends_with('/')));
            gaps.begin(last.as_ref().map(|(path, is_folder)| (path, *is_folder)));
            gaps.begin(None);
            for (text, missing) in after {
                let missing: Vec<_> = missing.iter().map(|folder| path(folder)).collect();
                assert_eq!(gaps.missing_above(&entry(text)), missing, "{before:?} {text}");
            }
        }
    }
}
