//! What can go wrong with a cluster, and what it means to the caller.

use std::path::PathBuf;

use crate::cluster::plain::plain;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the kubeconfig {} can't be used", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("no cluster is given: neither a kubeconfig nor a service account was found")]
    NoCluster,
    // The clients' own texts repeat each other and show whole answers: `cause` is no `source` for that.
    #[error("the cluster can't be spoken to: {}", reason(cause))]
    Connect { cause: Box<kube::Error> },
    /// `doing` is such as "list pods in shop".
    #[error("{doing}: {}", reason(cause))]
    Api { doing: String, cause: Box<kube::Error> },
    #[error("there is no namespace {name} in the cluster")]
    NoNamespace { name: String },
    /// What is to be put into the cluster can't be as it is wished: `what` is such as "the name \"x y\"".
    #[error("{what} can't be used")]
    Unfit { what: String },
    /// Found before anything was started.
    #[error("this account may not: {}", .missing.join(", "))]
    MayNot { missing: Vec<String> },
    #[error("{what} was waited for in vain for {seconds} s: {last}")]
    Timeout { what: String, seconds: u64, last: String },
    /// `what` is such as "does not start" or "is gone".
    #[error("the mover {pod} {what}: {why}")]
    Mover { pod: String, what: &'static str, why: String },
    /// Each rung of the ladder was refused; the reasons in its order.
    #[error("no mover is admitted as {pod}: {}", .reasons.join("; "))]
    Refused { pod: String, reasons: Vec<String> },
    #[error("the name of the pod {pod} is taken: it belongs to {owner}")]
    Taken { pod: String, owner: String },
    /// Every slot of the namespace has its run.
    #[error("{} runs are at work in {namespace} already: {}", .runs.len(), .runs.join(", "))]
    Busy { namespace: String, runs: Vec<String> },
    /// The run may no longer act: another may sweep what it made.
    #[error("the lease {lease} is lost: {why}")]
    LeaseLost { lease: String, why: String },
    #[error("{0}")]
    Other(String),
}

/// What stands in the way, in the server's own words where it answered.
pub(crate) fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => plain(&status.message),
        kube::Error::Api(status) => format!("the server answered {} {}", status.code, plain(&status.reason)),
        other => plain(&innermost(other).to_string()),
    }
}

/// The first cause: what is above it only says that something below has failed.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

/// What a failure means: exit codes go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    Usage,
    Denied,
    Other,
}

impl Error {
    /// Names the request that failed: `map_err(Error::api(|| format!("list pods in {namespace}")))`.
    pub(crate) fn api(doing: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> Self {
        move |cause| Error::Api { doing: doing(), cause: Box::new(cause) }
    }

    /// The HTTP status that the API server answered with, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Api { cause, .. } | Error::Connect { cause } => match &**cause {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Error::Kubeconfig { .. } | Error::NoCluster | Error::NoNamespace { .. } | Error::Unfit { .. } => {
                Class::Usage
            }
            Error::MayNot { .. } => Class::Denied,
            _ if matches!(self.status(), Some(401 | 403)) => Class::Denied,
            _ => Class::Other,
        }
    }
}
