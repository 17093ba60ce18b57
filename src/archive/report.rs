//! What came of a restore, in lists that are bounded.

use crate::format::summary::Missing;

/// What is listed of each kind of trouble; more is counted.
const LISTED: usize = 10_000;

/// What came of a restore.
#[derive(Debug, Default)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    /// Created and replaced, of any type.
    pub written: u64,
    pub replaced: u64,
    pub kept: u64,
    /// Paths that were deleted, or would be.
    pub deleted: Vec<String>,
    /// Files whose content can't be had from the repository.
    pub lost: List,
    /// What could not be written, or not with all of its attributes.
    pub problems: List,
    /// How many of these are not there at all.
    pub unwritten: u64,
}

/// A list with a bound.
#[derive(Debug, Default)]
pub struct List {
    pub listed: Vec<Missing>,
    pub more: u64,
}

impl List {
    pub(super) fn add(&mut self, what: String, why: String) {
        match self.listed.len() < LISTED {
            true => self.listed.push(Missing { what, why }),
            false => self.more += 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}
