//! What can go wrong with a repository, and what it means to the caller.

use crate::format::id::{PackId, RecordId};
use crate::store;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error("there is no repository at {store}: it has no `config`")]
    NotARepository { store: String },
    #[error("there is a repository at {store} already")]
    Exists { store: String },
    #[error("{store} does not keep what kist needs of a store: {broken}")]
    UnfitStore { store: String, broken: String },
    #[error("{key} can't be read")]
    Object {
        key: String,
        #[source]
        source: crate::format::Error,
    },
    /// An index that memory is not to hold.
    #[error(
        "the index can't be written to the scratch folder {folder:?}: give another with TMPDIR, on a disk with room for 80 bytes a chunk"
    )]
    Scratch {
        folder: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the passphrase opens no key of this repository")]
    WrongPassphrase,
    #[error("the key file opens nothing here: its slot {slot} is gone, or it is of another repository")]
    WrongKeyFile { slot: String },
    #[error("this key was revoked: what it adds does not count any more")]
    Revoked,
    #[error("`config` is not the one that this key was made for: it was changed or replaced")]
    ConfigChanged,
    /// Whose keys can: `owner's`.
    #[error("this needs the {needed} key; the {have}'s can't do it")]
    Role { needed: &'static str, have: String },
    #[error("the name of a key must be 1 to 64 characters of a-z, A-Z, 0-9, dot, dash, underscore: {name:?}")]
    KeyName { name: String },
    /// The log does not hold together: something was put back, held back or changed.
    #[error("alarm: {what}")]
    Log { what: String },
    #[error("snapshot {snapshot} is held and can't be forgotten: {hold}")]
    Held { snapshot: String, hold: String },
    #[error("there is no hold {id}")]
    NoSuchHold { id: String },
    #[error("snapshot {snapshot} is not there, or was swept since it was forgotten")]
    NoSuchSnapshot { snapshot: String },
    #[error("the repository is damaged, and nothing is deleted on a guess: {what}; run `kist check`")]
    Unsound { what: String },
    #[error("the repository changes faster than it can be read: try again")]
    Moving,
    #[error(
        "the name of a domain must be 1 to 64 characters of a-z, A-Z, 0-9, dot, dash, underscore: {name:?}"
    )]
    DomainName { name: String },
    #[error("the {role}'s key is of the domain {have}, not of {asked:?}")]
    OtherDomain { asked: String, have: String, role: String },
    #[error("there is a key with the name {name:?} already")]
    KeyNameTaken { name: String },
    #[error("there is no key with the name or id {which:?}")]
    NoKey { which: String },
    #[error("{which:?} may be any of these keys: {keys}")]
    AmbiguousKey { which: String, keys: String },
    #[error("{key} is the only slot that opens for the owner: without it the repository is lost")]
    LastOwner { key: String },
    #[error("{name:?} is a passphrase of the owner's, which can't be drawn anew")]
    Passphrase { name: String },
    #[error("{key} is still there: the store did not remove it")]
    KeyKept {
        key: String,
        #[source]
        source: store::Error,
    },
    #[error("nothing was changed: {key} can't be read, and must be removed first")]
    UnreadableKey {
        key: String,
        #[source]
        source: Box<Error>,
    },
    #[error("the session was fenced while it ran: nothing was committed, run it again")]
    Fenced,
    #[error("{id} is not in the index")]
    Unknown { id: RecordId },
    #[error("{id} in pack {pack} is damaged: {what}")]
    Damaged { id: RecordId, pack: PackId, what: &'static str },
    /// A sound node, which a tree may not refer to as it does.
    #[error(
        "{id} is not what the tree says that refers to it: {what}; kist writes no such tree, so look to the key that has committed it"
    )]
    Misplaced { id: RecordId, what: String },
    #[error("{id} does not come back from its own seal: the machine's memory may be faulty")]
    Reopen { id: RecordId },
    #[error("an earlier upload failed: {first}")]
    Failed { first: String, class: Class },
    #[error("the work was given up by another thread")]
    Abandoned,
    #[error("{what} has {found}, the limit is {most}")]
    TooLarge { what: &'static str, found: u64, most: u64 },
}

/// An error and all of its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// What a failure means: retry and exit codes go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    Usage,
    Missing,
    Corrupt,
    Denied,
    Full,
    Transient,
    Conflict,
    Bug,
    Other,
}

impl Error {
    pub(crate) fn object(key: &str) -> impl FnOnce(crate::format::Error) -> Self {
        let key = key.to_owned();
        move |source| Error::Object { key, source }
    }

    /// Whether it is the repository that is not as it was written.
    pub fn is_damage(&self) -> bool {
        matches!(self.class(), Class::Missing | Class::Corrupt)
    }

    /// Whether nothing can be said of what was asked for: the store gave no answer, or refused, or this machine has no room.
    pub fn is_inconclusive(&self) -> bool {
        matches!(self, Error::Store(_) | Error::Scratch { .. } | Error::Moving) && !self.is_damage()
    }

    /// The same, and it is no matter of the one object that was asked for. Whoever can write may leave objects that nobody
    /// else can read, and these are not to stop who needs others.
    pub(super) fn is_outage(&self) -> bool {
        use store::Class::{Denied, Other};
        let is_of_one = matches!(self, Error::Store(error) if matches!(error.class(), Denied | Other));
        self.is_inconclusive() && !is_of_one
    }

    /// Whether it may be otherwise tomorrow, as with a disk that could not be read: nothing is let go of for that.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_inconclusive() || matches!(self, Error::Store(store::Error::Unreadable { .. }))
    }

    pub fn class(&self) -> Class {
        use crate::format::Error as Format;
        match self {
            Error::Store(source) | Error::KeyKept { source, .. } => match source.class() {
                store::Class::Missing => Class::Missing,
                store::Class::Denied | store::Class::Retained => Class::Denied,
                store::Class::Full => Class::Full,
                store::Class::Transient => Class::Transient,
                store::Class::Corrupt => Class::Corrupt,
                store::Class::Usage => Class::Usage,
                _ => Class::Other,
            },
            Error::NotARepository { .. }
            | Error::Exists { .. }
            | Error::UnfitStore { .. }
            | Error::KeyName { .. }
            | Error::NoSuchHold { .. }
            | Error::NoSuchSnapshot { .. }
            | Error::DomainName { .. }
            | Error::KeyNameTaken { .. }
            | Error::NoKey { .. }
            | Error::AmbiguousKey { .. }
            | Error::LastOwner { .. }
            | Error::Passphrase { .. } => Class::Usage,
            Error::Object { source: Format::Version { .. } | Format::Features { .. }, .. } => Class::Usage,
            Error::Object { .. }
            | Error::Damaged { .. }
            | Error::Unknown { .. }
            | Error::Misplaced { .. }
            | Error::Log { .. }
            | Error::Unsound { .. }
            | Error::UnreadableKey { .. } => Class::Corrupt,
            Error::WrongPassphrase
            | Error::Revoked
            | Error::WrongKeyFile { .. }
            | Error::ConfigChanged
            | Error::OtherDomain { .. }
            | Error::Role { .. } => Class::Denied,
            Error::Fenced | Error::Moving | Error::Held { .. } => Class::Conflict,
            Error::Reopen { .. } | Error::Abandoned => Class::Bug,
            Error::Failed { class, .. } => *class,
            Error::TooLarge { .. } | Error::Scratch { .. } => Class::Other,
        }
    }
}
