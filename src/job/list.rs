//! Listing what is in a snapshot.

use std::sync::Arc;

use crate::archive::cursor::Cursor;
use crate::catalog::{Catalog, EntryKind, EntryRow};
use crate::format::commit::RootKind;
use crate::format::entry::{Entry, Kind, TreePath};
use crate::job::find::{self, Described, Part, root_of};
use crate::job::{Error, Result};
use crate::repo::{Index, Reader, Repository, TreeReader};

/// The path of a tree, as typed behind the colon.
pub fn tree_path(text: &str) -> Result<TreePath> {
    let path = TreePath::from_slashes(&unescape(text));
    path.ok_or_else(|| Error::BadTreePath { path: text.to_owned() })
}

/// `\xNN` stands for a byte, as `ls` shows it.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at..at + 4).and_then(|part| part.strip_prefix("\\x"));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// What is in a folder of a snapshot, in path order, as `ls` shows it.
pub enum Listing {
    /// From the catalog.
    Known(std::vec::IntoIter<EntryRow>),
    /// From the repository.
    Walked(Box<Walked>),
}

/// A walk along the tree in the repository.
pub struct Walked {
    cursor: Cursor,
    folder: TreePath,
    recursive: bool,
    first: Option<Entry>,
}

/// Lists a folder of a snapshot, or shows a single entry. What the catalog knows is taken from there.
pub async fn list(
    repo: &Repository,
    catalog: Option<&Catalog>,
    found: &Described,
    part: &Part,
    folder: TreePath,
    recursive: bool,
) -> Result<Listing> {
    let catalog = catalog.filter(|_| *part == Part::Files);
    if let Some(known) = catalog.and_then(|catalog| from_catalog(catalog, found, &folder, recursive)) {
        return Ok(Listing::Known(known.into_iter()));
    }
    let snapshot = find::load(repo, found).await?;
    let root = root_of(repo, &snapshot, part)?;
    if repo.keys.meta_key(&snapshot.commit.meta_key_name(root.source)).is_none() {
        return Err(Error::Unreadable { snapshot: found.name() });
    }
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?)));
    let mut cursor = Cursor::new(TreeReader::new(reader, &snapshot, &root));
    cursor.seek(&folder).await?;
    if *part == Part::Manifests {
        // They lie in no folders: their paths are all there is.
        let walked = Walked { cursor, folder, recursive: true, first: None };
        return Ok(Listing::Walked(Box::new(walked)));
    }
    let first = cursor.next().await?.filter(|entry| entry.path == folder);
    let first =
        first.ok_or_else(|| Error::NotInSnapshot { path: folder.to_string(), snapshot: found.name() })?;
    let is_folder = matches!(first.kind, Kind::Folder);
    let walked = Walked { cursor, folder, recursive, first: (!is_folder).then_some(first) };
    Ok(Listing::Walked(Box::new(walked)))
}

/// None if the catalog does not know the snapshot or has no such path: then the repository is asked.
fn from_catalog(
    catalog: &Catalog,
    found: &Described,
    folder: &TreePath,
    recursive: bool,
) -> Option<Vec<EntryRow>> {
    let row = catalog.snapshot(found.id).ok()??;
    let root = row.roots.iter().position(|root| root.kind == RootKind::Files)?;
    let itself = catalog.entry(found.id, root, folder).ok()??;
    if itself.kind != EntryKind::Folder {
        return Some(vec![itself]);
    }
    let mut rows = Vec::new();
    let visit = |row| {
        rows.push(row);
        std::ops::ControlFlow::Continue(())
    };
    catalog.list(found.id, root, folder, recursive, visit).ok()?;
    Some(rows)
}

impl Listing {
    pub async fn next(&mut self) -> Result<Option<EntryRow>> {
        match self {
            Listing::Known(rows) => Ok(rows.next()),
            Listing::Walked(walked) => Ok(walked.next().await?.as_ref().map(EntryRow::from)),
        }
    }
}

impl Walked {
    async fn next(&mut self) -> Result<Option<Entry>> {
        if let Some(only) = self.first.take() {
            return Ok(Some(only));
        }
        let Some(entry) = self.cursor.next().await? else { return Ok(None) };
        if !entry.path.is_within(&self.folder) {
            return Ok(None);
        }
        if !self.recursive && matches!(entry.kind, Kind::Folder) {
            self.cursor.skip_below(&entry.path).await?;
        }
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ls_shows_can_be_typed() {
        let odd = TreePath::from_slashes(b"a/\xff\n\\b").unwrap();
        assert_eq!(tree_path(&odd.to_string()).unwrap(), odd);
        assert!(tree_path("/a/../b").is_err());
        assert_eq!(unescape("gr\u{fc}n"), "gr\u{fc}n".as_bytes());
    }
}
