//! Restoring files: snapshot → tree → target.

use std::path::Path;
use std::sync::Arc;

use crate::archive::plan::{Options, Overwrite};
use crate::archive::restore::{Outcome, Report, restore};
use crate::archive::target::Target;
use crate::format::entry::TreePath;
use crate::job::find::{self, Described, Part, root_of};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{Index, Reader, Repository, TreeReader};

/// What is asked of a restore.
pub struct Request {
    /// Which of the snapshot's trees.
    pub part: Part,
    /// None: only into an empty or missing folder.
    pub overwrite: Option<Overwrite>,
    pub delete: bool,
    pub dry_run: bool,
}

/// Restores what lies below `from` in a snapshot. Lost and problematic files are in the report.
pub async fn files(
    repo: &Repository,
    found: &Described,
    from: &TreePath,
    target: &Path,
    request: &Request,
    progress: Arc<dyn Progress>,
) -> Result<Report> {
    let snapshot = find::load(repo, found).await?;
    let root = root_of(repo, &snapshot, &request.part)?;
    repo.keys.check_reads_data()?;
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?)));
    let tree = TreeReader::new(reader, &snapshot, &root);
    let shown = target.display().to_string();
    let failed = |problem| Error::Target { path: shown.clone(), source: problem };
    let opened = Arc::new(Target::open(target, !request.dry_run).map_err(failed)?);
    if request.overwrite.is_none() && !opened.is_empty().map_err(failed)? {
        return Err(Error::TargetNotEmpty { path: shown });
    }
    let options = Options {
        overwrite: request.overwrite.unwrap_or(Overwrite::Never),
        delete: request.delete,
        dry_run: request.dry_run,
    };
    match restore(tree, from, opened, options, progress).await? {
        Outcome::Done(report) => Ok(report),
        Outcome::NotThere => Err(Error::NotInSnapshot { path: from.to_string(), snapshot: found.name() }),
        Outcome::Full(report, problem) => {
            Err(Error::TargetFull { path: shown, files: report.files, source: problem })
        }
        Outcome::Cancelled => Err(Error::Interrupted),
    }
}
