//! What can go wrong while a cluster comes up, said so that a reader of a CI log knows
//! what to do next. A daemon that died brings the tail of its own log along: the log
//! file itself is gone when the message is read.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the test cluster can't run here, missing: {}; run tests/tools/install.sh as root", .0.join(", "))]
    Missing(Vec<String>),
    #[error("{what}: {path}", path = path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{program} failed with {status}: {stderr}")]
    Command { program: String, status: ExitStatus, stderr: String },
    #[error("{name} ended with {status} while the cluster needed it; its last lines:\n{log}")]
    Died { name: String, status: ExitStatus, log: String },
    #[error("waited {} s for {what}", .limit.as_secs())]
    Timeout { what: String, limit: Duration },
    #[error("all {0} slots for clusters are taken, by living runs or by this machine's own routes")]
    NoSlot(u8),
    #[error("slot {0} is being taken down")]
    Closed(u8),
    #[error("{what}")]
    Kube { what: String, source: Box<kube::Error> },
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// The message with those of its sources, for a terminal.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        text
    }

    /// Names the file operation that failed.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { what, path, source }
    }

    /// Names the request to the cluster that failed.
    pub fn kube<E: Into<kube::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Kube { what, source: Box::new(source.into()) }
    }
}
