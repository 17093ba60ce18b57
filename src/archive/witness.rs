//! Whether a tree held still: what a walk saw, as one hash, to be compared with a second walk's.
//!
//! For volumes that are read while they are in use. Memory does not grow with the tree. A change between
//! the two walks shows by size, times or the set of paths; a file that changed while it was being read is
//! told by the backup itself.

use crate::archive::walk::{Found, FoundKind, Step, Walk};
use crate::crypto::hash::Running;
use crate::format::entry::{FileTime, TreePath};

/// What was seen so far.
#[derive(Default)]
pub struct Witness {
    seen: Running,
    newest: Option<(FileTime, TreePath)>,
}

/// What a whole walk saw.
#[derive(Clone, Debug)]
pub struct Seen {
    hash: [u8; 32],
    /// The path that was changed last, by its ctime.
    newest: TreePath,
}

impl Witness {
    pub fn see(&mut self, step: &Step) {
        match step {
            Step::Found(found) => self.found(found),
            Step::Problem(problem) => {
                self.bytes(problem.path.sort_key());
                self.bytes(problem.kind.as_str().as_bytes());
            }
        }
    }

    fn found(&mut self, found: &Found) {
        let attributes = &found.attributes;
        self.bytes(found.path.sort_key());
        let (kind, size) = match found.kind {
            FoundKind::Folder => (0, 0),
            FoundKind::File { size } => (1, size),
            FoundKind::Symlink { .. } => (2, 0),
            FoundKind::Fifo | FoundKind::Socket => (3, 0),
            FoundKind::CharDevice { .. } | FoundKind::BlockDevice { .. } => (4, 0),
        };
        self.seen.update(&[kind]);
        self.seen.update(&size.to_le_bytes());
        for time in [attributes.mtime, attributes.ctime] {
            self.seen.update(&time.secs.to_le_bytes());
            self.seen.update(&time.nanos.to_le_bytes());
        }
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < attributes.ctime) {
            self.newest = Some((attributes.ctime, found.path.clone()));
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.seen.update(&(bytes.len() as u64).to_le_bytes());
        self.seen.update(bytes);
    }

    pub fn finish(self) -> Seen {
        let newest = self.newest.map(|(_, path)| path).unwrap_or_default();
        Seen { hash: self.seen.finish(), newest }
    }

    /// Walks to the end, or until `is_cancelled`.
    pub fn of(walk: Walk<'_>, is_cancelled: &dyn Fn() -> bool) -> Seen {
        let mut witness = Self::default();
        walk.take_while(|_| !is_cancelled()).for_each(|step| witness.see(&step));
        witness.finish()
    }
}

impl Seen {
    /// None if both saw the same; otherwise the path that was changed last.
    pub fn change_to(&self, later: &Seen) -> Option<TreePath> {
        (self.hash != later.hash).then(|| later.newest.clone())
    }
}
