//! The catalog's answers and its size.
//!
//! `model`: whatever happens to trees, the catalog says what a list of maps says. `size`: it grows with
//! change. What its file must stand is beside the code, in `src/catalog/tests.rs`.

mod model;
mod size;

use std::ops::ControlFlow;
use std::path::Path;

use kist::catalog::{Catalog, EntryRow};
use kist::format::entry::TreePath;
use kist::format::id::{RepoId, SessionId};

fn open(folder: &Path) -> Catalog {
    Catalog::open(&folder.join("catalog.sqlite"), RepoId([7; 16])).unwrap()
}

fn list(
    catalog: &Catalog,
    snapshot: SessionId,
    root: usize,
    folder: &TreePath,
    recursive: bool,
) -> Vec<EntryRow> {
    let mut rows = Vec::new();
    let visit = |row| {
        rows.push(row);
        ControlFlow::Continue(())
    };
    catalog.list(snapshot, root, folder, recursive, visit).unwrap();
    rows
}
