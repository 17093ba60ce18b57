//! What can end a job.

use crate::repo;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Repo(#[from] repo::Error),
    #[error("interrupted")]
    Interrupted,
    #[error("{path} does not exist")]
    NoSuchPath { path: String },
    #[error("the paths can't be backed up")]
    BadPath {
        #[source]
        source: crate::archive::problem::Problem,
    },
    #[error("there is no snapshot yet")]
    NoSnapshots,
    #[error("no snapshot fits {wanted}")]
    NoSuchSnapshot { wanted: String },
    #[error("{wanted} fits several snapshots: {}", .fits.join(", "))]
    AmbiguousSnapshot { wanted: String, fits: Vec<String> },
    #[error("there are snapshots of several sources; say which one is meant:\n{}", .sources.join("\n"))]
    SeveralSources { sources: Vec<String> },
    #[error("no source fits {wanted}")]
    NoSuchSource { wanted: String },
    #[error("{wanted} fits several sources: {}", .fits.join(", "))]
    AmbiguousSource { wanted: String, fits: Vec<String> },
    #[error("{path} is not in snapshot {snapshot}")]
    NotInSnapshot { path: String, snapshot: String },
    #[error("snapshot {snapshot} is of a cluster: say which volume is meant{}", list(.volumes))]
    NoFiles { snapshot: String, volumes: Vec<String> },
    #[error("snapshot {snapshot} has no volume {volume}")]
    NoVolume { volume: String, snapshot: String },
    #[error("the names in snapshot {snapshot} can't be read with this key")]
    Unreadable { snapshot: String },
    #[error("{path} is not empty: choose what becomes of what is there with --overwrite")]
    TargetNotEmpty { path: String },
    #[error("{path:?} is not a path of a snapshot")]
    BadTreePath { path: String },
    #[error("{path} can't be restored into")]
    Target {
        path: String,
        #[source]
        source: crate::archive::problem::Problem,
    },
    #[error("{path} is full; {files} files were restored before")]
    TargetFull {
        path: String,
        files: u64,
        #[source]
        source: crate::archive::problem::Problem,
    },
    #[error(transparent)]
    Catalog(#[from] crate::catalog::Error),
    #[error(transparent)]
    Cluster(#[from] crate::cluster::Error),
    #[error(transparent)]
    Wire(#[from] crate::wire::Error),
    #[error("{namespace} can't be worked in: {why}")]
    NotHeld { namespace: String, why: String },
    #[error("job and mover don't understand each other: {what}")]
    Link { what: String },
    /// As the mover told it.
    #[error("the mover failed: {message}")]
    Mover { class: crate::format::task::FailureClass, message: String },
    #[error("snapshot {snapshot} is not one of a cluster")]
    NotOfCluster { snapshot: String },
    #[error(transparent)]
    Retention(#[from] crate::policy::retention::Error),
    #[error("what to keep goes by labels, and this key can't read those of every snapshot")]
    TagsNotReadable,
    #[error("the repositories are one and the same: {repository}")]
    SameRepository { repository: String },
    #[error("the copy of {what} does not come out as its summary says: {copied} instead of {said}")]
    Miscounted { what: String, copied: String, said: String },
    #[error("nothing was changed in the target: {}", .obstacles.join("; "))]
    Obstacles { obstacles: Vec<String> },
}

/// Behind a sentence: `: a, b`, or nothing.
fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}
