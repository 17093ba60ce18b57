//! Deleting what a target's folders hold beside a snapshot: only when asked for, and after everything else.

use std::collections::HashSet;

use crate::archive::cursor::Cursor;
use crate::archive::problem::Problem;
use crate::archive::target::Target;
use crate::format::entry::{Kind, TreePath};
use crate::repo::{Result, TreeReader};

/// What was deleted, or would be, and what could not be.
#[derive(Default)]
pub struct Deleted {
    pub paths: Vec<String>,
    pub problems: Vec<Problem>,
}

/// Walks the tree below `from` and removes what the folders of the target hold beside it; `base` is the
/// folder of the tree that stands for the target.
pub async fn delete_beside(
    tree: &TreeReader,
    (from, base): (&TreePath, &TreePath),
    target: &Target,
    dry_run: bool,
) -> Result<Deleted> {
    let mut deleted = Deleted::default();
    let mut cursor = Cursor::new(tree.clone());
    cursor.seek(from).await?;
    let mut open: Vec<(TreePath, HashSet<Vec<u8>>)> = Vec::new();
    while let Some(entry) = cursor.next().await? {
        let Some(path) = entry.path.below(base).filter(|_| entry.path.is_within(from)) else { break };
        while open.last().is_some_and(|(folder, _)| !path.is_within(folder)) {
            let ended = open.pop();
            ended.into_iter().for_each(|(folder, names)| deleted.beside(target, &folder, &names, dry_run));
        }
        if let Some((_, names)) = open.last_mut() {
            names.insert(path.name().to_vec());
        }
        if matches!(entry.kind, Kind::Folder) {
            open.push((path, HashSet::new()));
        }
    }
    while let Some((folder, names)) = open.pop() {
        deleted.beside(target, &folder, &names, dry_run);
    }
    Ok(deleted)
}

impl Deleted {
    fn beside(&mut self, target: &Target, folder: &TreePath, names: &HashSet<Vec<u8>>, dry_run: bool) {
        // A folder that is not there in a dry run, or that something else stands in for.
        if !target.existing(folder).is_ok_and(|there| there.is_some_and(|there| there.is_folder())) {
            return;
        }
        let listed = match target.list(folder) {
            Ok(listed) => listed,
            Err(problem) => return self.problems.push(problem),
        };
        for name in listed.into_iter().filter(|name| !names.contains(name)) {
            let Some(path) = folder.join(&name) else { continue };
            let removed = if dry_run { Ok(()) } else { target.remove(&path) };
            match removed {
                Ok(()) => self.paths.push(path.to_string()),
                Err(problem) => self.problems.push(problem),
            }
        }
    }
}
