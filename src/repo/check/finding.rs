//! What a check finds, and what that touches. Each is told when it is found, and none is left out.

use std::ops::Range;

use crate::format::commit::RootKind;
use crate::format::entry::TreePath;
use crate::format::id::RecordId;
use crate::repo::{Class, Error};

/// What a check tells.
#[derive(Debug)]
pub enum Told {
    Found(Finding),
    /// A pack that the store does not give, which may be sound.
    Refused {
        key: String,
        why: String,
    },
    /// After all that was found.
    Touched(Touched),
}

/// Something that is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    #[error("{key}: can't be used")]
    Object {
        key: String,
        #[source]
        source: Error,
    },
    #[error("{key}: the object is missing")]
    ObjectMissing { key: String },
    #[error("{key}: the pack is missing")]
    PackMissing { key: String },
    #[error("{key}: has {found} bytes, the index says {expected}")]
    PackLength { key: String, expected: u64, found: u64 },
    #[error("{key}: its bytes are not those that were written")]
    PackHash { key: String },
    #[error("{key}: its table of contents does not fit the index")]
    PackTable { key: String },
    /// Another delta says rightly what the pack is.
    #[error("{key}: a delta of the key {origin} says falsely what is in the pack, and another one truly")]
    PackNamed { key: String, origin: String },
    #[error("{key}: {id} can't be opened")]
    Record { key: String, id: RecordId },
    /// Something of the gc log was held back, changed or put back.
    #[error("{what}")]
    Log { what: String },
    #[error("snapshot {snapshot}: the commit that its writer made before it is missing or changed")]
    Gap { snapshot: String },
    #[error("a snapshot needs {id}, which is in no pack")]
    Missing { id: RecordId },
    #[error("{id} can't be read")]
    Node {
        id: RecordId,
        #[source]
        source: Error,
    },
}

impl Finding {
    /// An object that can't be used, by what stood in the way.
    pub(super) fn of_object(source: Error) -> Self {
        let key = match &source {
            Error::Object { key, .. } => Some(key.as_str()),
            Error::Store(error) => error.key(),
            _ => None,
        };
        let key = key.unwrap_or("an object").to_owned();
        match source.class() {
            Class::Missing => Finding::ObjectMissing { key },
            _ => Finding::Object { key, source },
        }
    }

    /// The word for programs; it stays.
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::Object { .. } => "object",
            Finding::ObjectMissing { .. } => "object-missing",
            Finding::PackMissing { .. } => "pack-missing",
            Finding::PackLength { .. } => "pack-length",
            Finding::PackHash { .. } => "pack-hash",
            Finding::PackTable { .. } => "pack-table",
            Finding::PackNamed { .. } => "pack-named",
            Finding::Record { .. } => "record",
            Finding::Log { .. } => "log",
            Finding::Gap { .. } => "gap",
            Finding::Missing { .. } => "missing",
            Finding::Node { .. } => "node",
        }
    }

    /// The object in the store, if it is of one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Finding::Object { key, .. }
            | Finding::ObjectMissing { key }
            | Finding::PackMissing { key }
            | Finding::PackLength { key, .. }
            | Finding::PackHash { key }
            | Finding::PackTable { key }
            | Finding::PackNamed { key, .. }
            | Finding::Record { key, .. } => Some(key),
            Finding::Log { .. } | Finding::Gap { .. } | Finding::Missing { .. } | Finding::Node { .. } => {
                None
            }
        }
    }

    /// The record, if it is of one.
    pub fn record(&self) -> Option<RecordId> {
        match self {
            Finding::Record { id, .. } | Finding::Missing { id } | Finding::Node { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// Something of a snapshot that can't be had any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The snapshot's name.
    pub snapshot: String,
    pub root: RootKind,
    /// The claim's namespace and name, of a volume whose summary can be read.
    pub volume: Option<String>,
    pub lost: Lost,
    /// The pack that the first of what is lost lay in, or the record that is in no pack.
    pub because: String,
}

/// What is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Bytes of a file, of so many.
    File { path: TreePath, size: u64, ranges: Vec<Range<u64>> },
    /// All entries behind one path, up to another one with it; without an end: to the end of the tree.
    Entries { after: Option<TreePath>, upto: Option<TreePath> },
    /// So many records, for who can't read names.
    Records { count: u64 },
}
