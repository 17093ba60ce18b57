//! Files that are hard to back up, put straight into the folder that a volume is, and compared after a restore.

use std::path::Path;

#[path = "../support/compare.rs"]
mod compare;
#[path = "../support/trees.rs"]
mod trees;

pub use compare::{differences, paths};

/// Odd names, holes, hard links, attributes, modes, owners, devices: everything that anyone has trouble with.
/// But for `trusted.*` attributes: only root outside of any pod sees them, no pod short of a privileged one.
pub fn awkward(folder: &Path) {
    trees::awkward(folder);
    for path in compare::paths(folder) {
        for name in [b"trusted.t".as_slice(), b"trusted.on.link"] {
            // Most have none.
            let _ = rustix::fs::lremovexattr(folder.join(&path), name);
        }
    }
}
