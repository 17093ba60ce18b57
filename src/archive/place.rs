//! Putting restored files into their places: content from chunks, then attributes, then the name.
//!
//! What the repository can't give is the file's misfortune and is told as such; what the target refuses is
//! a problem. Neither stops the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::target::{NAMING, Target, TargetFile};
use crate::format::entry::{Attributes, TreePath};
use crate::format::id::LinkGroup;
use crate::format::summary::Missing;
use crate::progress::{Progress, Unit};
use crate::repo::{Error, Result};

/// Damage is the file's misfortune; where nothing can be said of what is there, the restore ends.
pub(super) fn damage_or<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(error @ Error::Role { .. }) => Err(error),
        Err(error) if error.is_inconclusive() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A part of a tree that can't be read, as it is listed: the entries behind `after`, up to `end`.
pub(super) fn gap(after: Option<TreePath>, end: Option<TreePath>, why: &str) -> Missing {
    let up_to = if end.is_some() { " up to this one" } else { "" };
    let after = after.map(|last| format!(" after {last}")).unwrap_or_default();
    Missing { what: end.unwrap_or_default().to_string(), why: format!("all entries{after}{up_to}: {why}") }
}

/// What a file takes the place of, when it is whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A file, or nothing.
    OfFile,
    /// A folder, with all that is in it.
    OfFolder,
}

/// A file on its way. Made when its first piece comes; whoever lets go of it last gives it its name, if all of it is
/// there.
pub(super) struct Placing {
    path: TreePath,
    place: Place,
    attributes: Attributes,
    size: u64,
    /// Bytes, holes among them, that are still to come.
    left: AtomicU64,
    made: Mutex<Made>,
}

enum Made {
    NotYet,
    File(Arc<TargetFile>),
    /// It has failed, and that was told.
    Failed,
}

/// Bytes of a chunk, and where they belong.
pub(super) struct Piece {
    pub(super) file: Arc<Placing>,
    /// Where in the file.
    pub(super) at: u64,
    /// Where in the chunk.
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// What came of some files.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Those of them that have other names too.
    pub(super) linked: Vec<LinkGroup>,
    pub(super) lost: Vec<LostFile>,
    pub(super) problems: Vec<Problem>,
}

impl Placed {
    pub(super) fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.linked.extend(other.linked);
        self.lost.extend(other.lost);
        self.problems.extend(other.problems);
    }

    pub(super) fn all(placed: Vec<Result<Self>>) -> Result<Self> {
        let mut all = Self::default();
        placed.into_iter().try_for_each(|placed| placed.map(|placed| all.merge(placed)))?;
        Ok(all)
    }

    /// Whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == ProblemKind::Full)
    }
}

/// A file whose content can't be had.
pub(super) struct LostFile {
    pub(super) path: TreePath,
    pub(super) link: Option<LinkGroup>,
    pub(super) why: String,
}

/// Puts files into a target, and tells how far that is.
#[derive(Clone)]
pub(super) struct Placer {
    pub(super) target: Arc<Target>,
    pub(super) progress: Arc<dyn Progress>,
}

impl Placer {
    /// Puts the bytes of one chunk where they belong, and files whose last bytes these are into their places.
    pub(super) fn pieces(&self, pieces: Vec<Piece>, read: std::result::Result<Vec<u8>, String>) -> Placed {
        let mut placed = Placed::default();
        for piece in pieces {
            match &read {
                Ok(plain) => self.write(&piece, plain, &mut placed),
                Err(why) => piece.file.lose(why, &mut placed),
            }
            self.progress.advance(Unit::Bytes, u64::from(piece.len));
            self.let_go(piece.file, &mut placed);
        }
        placed
    }

    fn write(&self, piece: &Piece, plain: &[u8], placed: &mut Placed) {
        if self.progress.is_cancelled() {
            *piece.file.made() = Made::Failed;
        }
        let bytes = &plain[piece.offset as usize..][..piece.len as usize];
        let written = piece.file.open(&self.target).and_then(|file| match file {
            Some(file) => file.write_at(piece.at, bytes),
            None => Ok(()),
        });
        match written {
            Ok(()) => piece.file.passed(u64::from(piece.len)),
            Err(problem) => piece.file.fail(problem, placed),
        }
    }

    /// Ends a file if nobody else holds it: to be called by each who has held it.
    pub(super) fn let_go(&self, file: Arc<Placing>, placed: &mut Placed) {
        let Some(file) = Arc::into_inner(file) else { return };
        if file.left.load(Ordering::Acquire) > 0 {
            // What was to come was given up, and whoever did that tells why.
            return;
        }
        // Files without data are made only here.
        if let Err(problem) = file.open(&self.target) {
            return placed.problems.push(problem);
        }
        let Placing { path, place, made, attributes, size, .. } = file;
        let Made::File(made) = made.into_inner().unwrap_or_else(PoisonError::into_inner) else { return };
        let made = Arc::into_inner(made).expect("whoever writes into it holds the file too");
        if place == Place::OfFolder
            && let Err(problem) = self.target.remove(&path)
        {
            return placed.problems.push(problem);
        }
        let problems = made.place(&attributes);
        if problems.iter().all(|problem| problem.doing != NAMING) {
            placed.files += 1;
            placed.bytes += size;
            placed.linked.extend(attributes.link);
        }
        placed.problems.extend(problems);
    }
}

impl Placing {
    pub(super) fn new(path: TreePath, place: Place, attributes: Attributes, size: u64) -> Arc<Self> {
        let (left, made) = (AtomicU64::new(size), Mutex::new(Made::NotYet));
        Arc::new(Self { path, place, attributes, size, left, made })
    }

    /// So many bytes are where they belong, or are a hole.
    pub(super) fn passed(&self, bytes: u64) {
        self.left.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file in the target; none if it has failed.
    fn open(&self, target: &Target) -> std::result::Result<Option<Arc<TargetFile>>, Problem> {
        let mut made = self.made();
        if let Made::NotYet = &*made {
            *made = Made::File(Arc::new(target.create_file(&self.path, self.size)?));
        }
        match &*made {
            Made::File(file) => Ok(Some(file.clone())),
            Made::NotYet | Made::Failed => Ok(None),
        }
    }

    /// Its content can't be had: it is not left behind, and what was there before stays.
    pub(super) fn lose(&self, why: &str, placed: &mut Placed) {
        if self.is_given_up() {
            return;
        }
        let (path, why) = (self.path.clone(), why.to_owned());
        placed.lost.push(LostFile { path, link: self.attributes.link, why });
    }

    fn fail(&self, problem: Problem, placed: &mut Placed) {
        if !self.is_given_up() {
            placed.problems.push(problem);
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(*self.made(), Made::Failed)
    }

    /// Gives it up; whether it was before.
    fn is_given_up(&self) -> bool {
        let before = std::mem::replace(&mut *self.made(), Made::Failed);
        matches!(before, Made::Failed)
    }
}
