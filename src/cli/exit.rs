//! From errors to exit codes and hints.

use std::process::ExitCode;

use crate::format::task::FailureClass;
use crate::policy::retention;
use crate::repo::Class;
pub use crate::repo::chain;
use crate::{cluster, job, repo, store};

/// The exit codes, as README lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Complete = 0,
    Failed = 1,
    Usage = 2,
    Incomplete = 3,
    Damaged = 4,
    Denied = 5,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended early: its code, what to say, what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    pub fn other(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<repo::Error> for Failure {
    fn from(error: repo::Error) -> Self {
        let exit = match error.class() {
            Class::Usage => Exit::Usage,
            Class::Corrupt => Exit::Damaged,
            Class::Denied => Exit::Denied,
            _ => Exit::Failed,
        };
        let hint = repo_hint(&error);
        Self { exit, message: chain(&error), hint: hint.map(str::to_owned) }
    }
}

fn repo_hint(error: &repo::Error) -> Option<&'static str> {
    use crate::format::Error as Format;
    match error {
        repo::Error::NotARepository { .. } => Some("make one with `kist init`, or look at KIST_REPO"),
        repo::Error::Exists { .. } => Some("nothing was changed; open it as it is, or choose another place"),
        repo::Error::UnfitStore { .. } => {
            Some("with `kist init --single-writer` it can be used, as long as there is one writer only, ever")
        }
        repo::Error::ConfigChanged => Some(
            "nothing was written; bring `config` back from a copy of the bucket, and find out who changed it",
        ),
        repo::Error::Object { source: Format::Version { found: 0, .. }, .. } => Some(
            "it is from before the format was fixed, and only the kist that made it reads it: make a new one",
        ),
        repo::Error::Object { source: Format::Version { .. } | Format::Features { .. }, .. } => {
            Some("nothing was written; use a newer kist")
        }
        repo::Error::Revoked => Some("the owner has removed or rotated it: ask for the new key file"),
        repo::Error::Log { .. } => Some(
            "nothing is deleted on the word of such a log; a snapshot is restored by its id; find out who holds the store; \
             the owner goes on with what is left by `kist repair`",
        ),
        repo::Error::Unsound { .. } => Some("`kist repair` brings back what can be, with the owner's key"),
        repo::Error::Object { .. } if error.class() == Class::Corrupt => Some(
            "`kist check` tells what it costs, `kist repair` brings back what can be, with the owner's key",
        ),
        repo::Error::Role { .. } => Some("KIST_KEY_FILE, KIST_PASSPHRASE_FILE say which key is used"),
        repo::Error::OtherDomain { .. } => Some("leave out --domain and KIST_DOMAIN: the key knows its own"),
        repo::Error::Passphrase { .. } => Some(
            "`kist key add --role owner --name NEW --new-passphrase-file FILE`, then `kist key remove` the old",
        ),
        repo::Error::UnreadableKey { .. } => {
            Some("`kist key list` shows it, `kist key remove ID` removes it")
        }
        repo::Error::KeyKept { .. } => {
            Some("what it opens stays open; remove the object with credentials of the store that may")
        }
        _ if error.class() == Class::Full => {
            Some("what was uploaded counts for the next run; make room and run it again")
        }
        _ => None,
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        repo::Error::from(error).into()
    }
}

impl From<retention::Error> for Failure {
    fn from(error: retention::Error) -> Self {
        let hint = match error {
            retention::Error::Empty => "say what to keep: --keep-daily 7, or --keep-none if you mean it",
            _ => "leave out --keep-none, or all the others",
        };
        Self::usage(error.to_string()).hint(hint)
    }
}

impl From<cluster::Error> for Failure {
    fn from(error: cluster::Error) -> Self {
        job::Error::from(error).into()
    }
}

impl From<job::Error> for Failure {
    fn from(error: job::Error) -> Self {
        let (exit, hint) = match &error {
            job::Error::Repo(_) => {
                let job::Error::Repo(error) = error else { unreachable!("it was just matched") };
                return error.into();
            }
            job::Error::Interrupted => {
                (Exit::Interrupted, Some("what was uploaded counts for the next run; no unlock is needed"))
            }
            job::Error::NoFiles { .. } => (Exit::Usage, Some("--volume NAMESPACE/CLAIM, or --manifests")),
            job::Error::AmbiguousSnapshot { .. } | job::Error::AmbiguousSource { .. } => {
                (Exit::Usage, Some("give more of its id"))
            }
            job::Error::TargetNotEmpty { .. } => (
                Exit::Usage,
                Some(
                    "--overwrite=never keeps, =changed and =always replace; nothing is deleted without --delete",
                ),
            ),
            job::Error::Unreadable { .. } => (Exit::Denied, None),
            job::Error::Miscounted { .. } => (Exit::Damaged, None),
            job::Error::Cluster(error) => match error.class() {
                cluster::Class::Usage => (Exit::Usage, None),
                cluster::Class::Denied => (Exit::Denied, None),
                _ => (Exit::Failed, None),
            },
            job::Error::Wire(_) | job::Error::Link { .. } => (Exit::Failed, None),
            job::Error::Mover { class, .. } => match class {
                FailureClass::Denied => (Exit::Denied, None),
                FailureClass::Damaged => (Exit::Damaged, None),
                _ => (Exit::Failed, None),
            },
            job::Error::Obstacles { .. } => (
                Exit::Usage,
                Some("restore under another name with --map-namespace OLD=NEW, or remove what is there"),
            ),
            job::Error::TargetFull { .. } => (
                Exit::Failed,
                Some(
                    "make room and run it again with --overwrite=changed: what is there is not written twice",
                ),
            ),
            job::Error::Target { .. } | job::Error::Catalog(_) => (Exit::Failed, None),
            _ => (Exit::Usage, None),
        };
        Self { exit, message: chain(&error), hint: hint.map(str::to_owned) }
    }
}
