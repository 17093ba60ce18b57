//! Repairing a repository: check → plan → mend → see what is still lost → take it from another repository → cut it out.
//!
//! What is still lost after that comes back with the next backup, if it still exists there: packs that are damaged are
//! in nobody's way, so what was in them is uploaded again.

use std::sync::Arc;

use crate::format::summary::Missing;
use crate::job::copy::{Copying, is_lost};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{
    self, Losses, PruneSettings, Reading, RepairPlan, Repaired, Repository, Snapshot, Told, losses,
    plan_repair, repair,
};

/// How often what shows only after a step is repaired too: behind a history that began anew, for one.
const ROUNDS: usize = 4;

/// What to do, and how.
pub struct Request<'a> {
    /// Which packs are read whole to find damage; none: no damage inside of data packs is found.
    pub reading: Option<Reading>,
    /// How sessions that are at work are waited for.
    pub waiting: PruneSettings,
    /// Where there may be a copy of what is lost.
    pub other: Option<&'a Repository>,
    /// Give up what can't be read of the history, make snapshots anew without what is lost, and forget the old ones.
    pub cut: bool,
    pub dry_run: bool,
    /// The kist that runs, for the summaries.
    pub kist: String,
}

/// What is told while it goes on.
pub enum Step<'a> {
    Told(Told),
    Planned(&'a RepairPlan),
    Repaired(&'a Repaired),
    /// What the other repository had of a snapshot was taken from it.
    Healed {
        snapshot: &'a Snapshot,
        from: String,
    },
    /// The other repository has nothing of it, or nothing that is of use.
    NoHelp {
        snapshot: &'a Snapshot,
        why: String,
    },
    Cut(Cut<'a>),
}

/// A snapshot without what was lost of it.
pub struct Cut<'a> {
    pub snapshot: &'a Snapshot,
    /// Its name; none: nothing was left of it.
    pub made: Option<String>,
    pub lost: Vec<Missing>,
    pub more_lost: u64,
    /// Why the old one is not forgotten.
    pub kept: Option<String>,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Nothing was found, and nothing is lost.
    pub was_sound: bool,
    /// Snapshots that are still not whole; none if it was not looked for.
    pub lost: Vec<Snapshot>,
    /// So many backups are still at work: it has to be done again.
    pub waiting: Option<u64>,
    /// Commits that can't be read, and were not given up.
    pub refused: Vec<String>,
}

/// Repairs what can be repaired. Ends at any point without harm: the next one goes on with it.
pub async fn run(
    repo: &Repository,
    request: Request<'_>,
    tell: &(dyn Fn(Step<'_>) + Sync),
    progress: Arc<dyn Progress>,
) -> Result<Outcome> {
    let mut outcome = Outcome { was_sound: true, lost: Vec::new(), waiting: None, refused: Vec::new() };
    let told = |found: Told| tell(Step::Told(found));
    for _ in 0..ROUNDS {
        let planned = plan_repair(repo, request.reading, &told, progress.as_ref()).await?;
        if progress.is_cancelled() {
            return Err(Error::Interrupted);
        }
        tell(Step::Planned(&planned.plan));
        outcome.was_sound &= planned.plan.is_clean && planned.plan.is_empty();
        if request.dry_run {
            return Ok(outcome);
        }
        if planned.plan.is_empty() {
            break;
        }
        let is_closed = planned.plan.closed.is_some();
        let how = (&request.waiting, request.cut);
        let repaired = repair(repo, planned, how, progress.as_ref()).await?;
        tell(Step::Repaired(&repaired));
        outcome.waiting = repaired.waiting;
        outcome.refused = repaired.refused;
        if outcome.waiting.is_some() || (is_closed && !outcome.refused.is_empty()) {
            return Ok(outcome);
        }
        if !is_closed {
            break;
        }
    }
    let mut left = still_lost(repo, tell, &progress).await?;
    if let Some(other) = request.other.filter(|_| !left.snapshots.is_empty()) {
        heal(repo, other, &request.kist, left.snapshots, (tell, &progress)).await?;
        left = still_lost(repo, tell, &progress).await?;
    }
    if request.cut && !left.snapshots.is_empty() {
        cut(repo, &request.kist, &left.snapshots, (tell, &progress)).await?;
        left = still_lost(repo, tell, &progress).await?;
    }
    outcome.was_sound &= left.snapshots.is_empty();
    outcome.lost = left.snapshots;
    Ok(outcome)
}

async fn still_lost(
    repo: &Repository,
    tell: &(dyn Fn(Step<'_>) + Sync),
    progress: &Arc<dyn Progress>,
) -> Result<Losses> {
    let told = |touched| tell(Step::Told(Told::Touched(touched)));
    let left = losses(repo, &told, progress.as_ref()).await?;
    match progress.is_cancelled() {
        true => Err(Error::Interrupted),
        false => Ok(left),
    }
}

type Telling<'a> = (&'a (dyn Fn(Step<'_>) + Sync), &'a Arc<dyn Progress>);

/// Takes what snapshots have lost from their copies; each that is healed may heal others of the same chunks.
async fn heal(
    repo: &Repository,
    other: &Repository,
    kist: &str,
    mut hurt: Vec<Snapshot>,
    (tell, progress): Telling<'_>,
) -> Result<()> {
    let mut copying = Copying::from_other(other, repo, kist.to_owned()).await?;
    while let Some(ours) = hurt.pop() {
        let no_help = |why: &str| tell(Step::NoHelp { snapshot: &ours, why: why.to_owned() });
        let twins = copying.twins_of(&ours);
        if twins.is_empty() {
            no_help("it has no whole copy of this snapshot");
            continue;
        }
        for theirs in twins {
            match copying.heal(&theirs, &ours, progress.clone()).await {
                Ok(true) => {
                    tell(Step::Healed { snapshot: &ours, from: theirs.name() });
                    break;
                }
                Ok(false) => no_help(&format!("what {} has is not the same", theirs.name())),
                Err(error) if is_lost(&error) => no_help(&repo::chain(&error)),
                Err(error) => return Err(error),
            }
        }
        let still = losses(repo, &|_| {}, progress.as_ref()).await?;
        hurt.retain(|snapshot| still.snapshots.iter().any(|lost| lost.id == snapshot.id));
    }
    Ok(())
}

/// Makes each snapshot anew without what is lost, and forgets the old one, which a prune would stop at.
async fn cut(repo: &Repository, kist: &str, hurt: &[Snapshot], (tell, progress): Telling<'_>) -> Result<()> {
    let mut copying = Copying::within(repo, kist.to_owned()).await?;
    for snapshot in hurt {
        let mut cut = Cut { snapshot, made: None, lost: Vec::new(), more_lost: 0, kept: None };
        // One that was killed before it forgot, or that may not, has made it already.
        cut.made = copying.made_of(snapshot).filter(|made| hurt.iter().all(|hurt| hurt.name() != *made));
        if cut.made.is_none() {
            match copying.copy(snapshot, progress.clone()).await {
                Ok(copied) => {
                    cut.made = Some(copied.snapshot.name());
                    (cut.lost, cut.more_lost) = (copied.lost, copied.more_lost);
                }
                // Not damage: what can be read of it is not to go for that.
                Err(error @ (Error::Miscounted { .. } | Error::NoVolume { .. })) => {
                    cut.kept = Some(repo::chain(&error));
                    tell(Step::Cut(cut));
                    continue;
                }
                Err(error) if is_lost(&error) => {
                    cut.lost.push(Missing { what: "all of it".into(), why: repo::chain(&error) });
                }
                Err(error) => return Err(error),
            }
        }
        match repo::forget(repo, &[snapshot.id]).await {
            Err(error @ repo::Error::Held { .. }) => cut.kept = Some(repo::chain(&error)),
            forgotten => forgotten?,
        }
        tell(Step::Cut(cut));
    }
    Ok(())
}
