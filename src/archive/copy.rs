//! A copy of a tree in another repository: plan → read, open, save with the other's keys → describe anew.
//!
//! The volumes that it was made of are not read. Where an older tree of the same source and its copy are
//! there (a [`Base`]), only what differs from it is read. What can't be read is listed and left out.
//!
//! ```text
//! planner ── windows of steps ──> carriers ── in order ──> builder ──> tree
//! ```

mod build;
mod carry;
mod follow;
mod gaps;
mod known;
mod plan;

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::archive::backup::MissingList;
use crate::archive::copy::build::build;
use crate::archive::copy::carry::carry;
pub use crate::archive::copy::known::Known;
use crate::archive::copy::plan::{Planned, Planner, Windows};
use crate::crypto::secret::Key;
use crate::format::id::NodeId;
use crate::format::keys::KeyName;
use crate::format::summary::Counts;
use crate::progress::Progress;
use crate::repo::{Error, Result, TreeReader, Writer};

/// Windows that are planned and wait.
const WINDOWS_WAITING: usize = 2;
/// Windows whose chunks are read and saved at the same time: while one waits for the store the next is sealed.
const WINDOWS_CARRIED: usize = 2;

/// From where to where.
#[derive(Clone)]
pub struct Setting {
    /// What is copied; needs who can read data.
    pub tree: TreeReader,
    pub writer: Arc<Writer>,
    /// What the copy's entries are sealed with.
    pub meta: (KeyName, Key),
    /// Whether the tree has entries for folders; one of manifests has none.
    pub has_folders: bool,
    /// Chunks that were copied in this session, to be shared by the trees of one snapshot.
    pub known: Arc<Known>,
    pub progress: Arc<dyn Progress>,
}

/// A tree of the same source that was copied before, whole.
pub struct Base {
    /// The tree, in the source.
    pub source: TreeReader,
    pub copy: TreeReader,
}

/// How copying a tree ended.
pub enum Copied {
    Whole(Tree),
    /// The base can't be read, or is not what it should be: to be done again without it.
    BadBase,
    /// The run was told to stop.
    Cancelled,
}

/// A tree's copy.
pub struct Tree {
    pub root: NodeId,
    /// What is in it.
    pub counts: Counts,
    /// What is not in it and is in the source.
    pub lost: MissingList,
}

/// Copies a tree.
pub async fn copy(base: Option<Base>, setting: &Setting) -> Result<Copied> {
    let (to_carry, windows) = mpsc::channel(WINDOWS_WAITING);
    let (to_build, batches) = mpsc::channel(WINDOWS_WAITING);
    let (for_plan, for_build) = (setting.clone(), setting.clone());
    let building = tokio::task::spawn_blocking(move || build(&for_build, batches));
    let planning = async move {
        let mut planner = Planner::new(for_plan, Windows::new(to_carry));
        let planned = match base {
            Some(base) => planner.follow(base).await?,
            None => planner.walk().await?,
        };
        planner.finish(planned).await
    };
    let carrying = async move {
        let windows = stream::unfold(windows, |mut windows| async move {
            windows.recv().await.map(|window| (window, windows))
        });
        let carried = windows.map(|window| carry(setting, window)).buffered(WINDOWS_CARRIED);
        let mut carried = std::pin::pin!(carried);
        while let Some(batch) = carried.next().await {
            // The builder is gone only if it has failed, and its own error says why.
            to_build.send(batch?).await.map_err(|_| Error::Abandoned)?;
        }
        Ok(())
    };
    let ran = tokio::try_join!(planning, carrying);
    let built = building.await.expect("building a tree does not panic")?;
    let ((planned, lost), ()) = ran?;
    Ok(match planned {
        Planned::Cancelled => Copied::Cancelled,
        Planned::BadBase => Copied::BadBase,
        Planned::Whole => Copied::Whole(built.with(lost)),
    })
}
