//! Beginning the history anew behind what can't be read of it: all epochs are brought to an end, and a checkpoint of the
//! owner's stands for what is left.
//!
//! Spec: chapter 11. Nothing is deleted here: objects that can't be read lie in epochs that have ended, where nobody
//! looks for them.

use std::collections::HashSet;

use crate::format::checkpoint::State;
use crate::format::id::{KeyId, SessionId};
use crate::format::log::Action;
use crate::repo::gc::{ATTEMPTS, PruneSettings, publish, resolve};
use crate::repo::log::{Salvaged, verify};
use crate::repo::snapshots::resolved_after;
use crate::repo::{Appended, Error, Log, Repository, Result, Snapshots, chain};

/// What became of it.
#[derive(Debug, Default)]
pub struct Renewed {
    /// What could not be read, and is left behind: checkpoints, entries, parts of the index.
    pub lost: Vec<String>,
    /// Snapshots whose commits were there, and are missing or damaged.
    pub given_up: Vec<SessionId>,
    /// What would have to be given up: nothing was done.
    pub refused: Vec<String>,
    pub fenced: u64,
    /// So many sessions are still at work: to be done again when they have ended.
    pub waiting: Option<u64>,
}

/// Begins anew. Commits that can't be read any more are given up only if that was asked for. If it ends early, whoever
/// does it again goes on with it.
pub async fn renew(repo: &Repository, settings: &PruneSettings, gives_up: bool) -> Result<Renewed> {
    repo.keys.owner_keys()?;
    let mut renewed = Renewed::default();
    if !gives_up {
        let Salvaged { log, .. } = Log::salvage(repo).await?;
        renewed.refused = lost(&commits(repo, &log).await?, &log);
        if !renewed.refused.is_empty() {
            return Ok(renewed);
        }
    }
    for _ in 0..ATTEMPTS {
        let Some(plan) = close(repo).await? else { continue };
        renewed.waiting = end_sessions(repo, settings, &mut renewed.fenced).await?;
        if renewed.waiting.is_some() {
            return Ok(renewed);
        }
        let Salvaged { log, lost, newest } = Log::salvage(repo).await?;
        if log.plan.as_ref().map(|open| open.slot) != Some(plan) {
            continue;
        }
        renewed.lost = lost;
        if sweep(repo, log, newest, &mut renewed).await? {
            return Ok(renewed);
        }
    }
    Err(Error::Moving)
}

/// Closes the epoch, if no plan has. Gives the slot of the plan that is open then; none if another was quicker.
async fn close(repo: &Repository) -> Result<Option<u64>> {
    let Salvaged { mut log, lost, .. } = Log::salvage(repo).await?;
    if lost.is_empty() {
        // What can be published as ever is: a checkpoint is built on the one before it.
        match publish::catch_up(repo, &mut log).await {
            // Whether the log holds is seen below.
            Err(Error::Unsound { .. } | Error::Log { .. }) => {}
            published => published?,
        }
    }
    let is_broken = !lost.is_empty() || verify(repo).await?.is_some();
    let epoch = log.epoch;
    if is_broken && log.append(repo, Action::Renew { epoch }).await? == Appended::Taken {
        return Ok(None);
    }
    if log.plan.is_none() && log.append(repo, Action::Condemn { packs: Vec::new() }).await? == Appended::Taken
    {
        return Ok(None);
    }
    Ok(log.plan.map(|open| open.slot))
}

/// Sees every session of the closed epochs committed or fenced. Gives how many are still at work, if some are.
async fn end_sessions(
    repo: &Repository,
    settings: &PruneSettings,
    fenced_in_all: &mut u64,
) -> Result<Option<u64>> {
    let Salvaged { log, .. } = Log::salvage(repo).await?;
    for epoch in log.open_epochs().filter(|epoch| *epoch < log.epoch) {
        // Of an older epoch there may be sessions whose commits were let go of.
        match resolve::resolve(repo, epoch, settings, |id| log.fact(id).gone).await? {
            resolve::Resolved::All { fenced } => *fenced_in_all += fenced,
            resolve::Resolved::Waiting { sessions, fenced } => {
                *fenced_in_all += fenced;
                return Ok(Some(sessions));
            }
        }
    }
    Ok(None)
}

/// Ends the epochs, and publishes what is left. False if it has to be done anew.
async fn sweep(repo: &Repository, mut log: Log, newest: Option<u64>, renewed: &mut Renewed) -> Result<bool> {
    let Some(open) = log.plan.clone() else { return Ok(false) };
    let snapshots = commits(repo, &log).await?;
    renewed.lost.extend(snapshots.problems.iter().map(|problem| chain(problem)));
    let sweep = Action::Sweep { condemned: open.slot, packs: Vec::new() };
    if log.append(repo, sweep).await? == Appended::Taken {
        return Ok(false);
    }
    // Condemns and sweeps that are lost have ended epochs all the same.
    log.ended = log.epoch;
    let mut state = log.state.as_ref().clone();
    give_up(&mut state, &snapshots, renewed);
    let state = publish::state_with(repo, &log, state, &snapshots).await?;
    publish::publish_state(repo, log, state, newest, Some(&mut renewed.lost)).await
}

/// The commits of all epochs that are to end.
async fn commits(repo: &Repository, log: &Log) -> Result<Snapshots> {
    let mut reading = log.clone();
    let mut ids = resolved_after(repo, &mut reading).await?;
    // Without a plan, the epoch that is open is to be closed.
    let end = if log.plan.is_some() { log.epoch } else { log.epoch + 1 };
    // By an older checkpoint there may be rows of what is gone, and deleted, since.
    let is_gone = |id: &SessionId| log.state.rows.contains_key(id) && log.fact(*id).gone;
    ids.retain(|id| id.epoch() < end && !is_gone(id));
    let mut snapshots = Snapshots::load_ids(repo, &reading, &ids).await?;
    if !snapshots.problems.is_empty() || !snapshots.gaps().is_empty() {
        // Nothing is given up on one reading, nor because it may not be read.
        snapshots = Snapshots::load_ids(repo, &reading, &ids).await?;
        if let Some(at) =
            snapshots.problems.iter().position(|error| !error.is_damage() || error.is_uncertain())
        {
            return Err(snapshots.problems.swap_remove(at));
        }
    }
    Ok(snapshots)
}

/// Commits that were there, and are not any more.
fn lost(snapshots: &Snapshots, log: &Log) -> Vec<String> {
    let problems = snapshots.problems.iter().map(|problem| chain(problem));
    let there: HashSet<SessionId> = snapshots.every().map(|snapshot| snapshot.id).collect();
    // What was let go of since an older checkpoint is deleted, and nothing remembers its hash.
    let gone = log.state.facts.iter().filter(|(id, fact)| fact.gone && !there.contains(id)).count();
    let gaps = snapshots.gaps();
    let gaps = if gaps.len() <= gone { Vec::new() } else { gaps };
    let gaps = gaps.into_iter().map(|name| format!("the commit that its writer made before snapshot {name}"));
    let mut lost: Vec<String> = problems.chain(gaps).collect();
    if lost.is_empty() {
        let rows = log.state.rows.keys().filter(|id| !there.contains(id) && !log.fact(**id).gone);
        lost.extend(rows.map(|id| format!("the commit of snapshot {}", id.snapshot_name())));
    }
    lost
}

/// Lets go of commits that are not there any more, and remembers what others name of them: what was given up once is no
/// alarm any more.
fn give_up(state: &mut State, snapshots: &Snapshots, renewed: &mut Renewed) {
    let there: HashSet<SessionId> = snapshots.every().map(|snapshot| snapshot.id).collect();
    let is_gone = |id: &SessionId| state.facts.get(id).is_some_and(|fact| fact.gone);
    let rows = state.rows.keys().copied();
    renewed.given_up = rows.filter(|id| !there.contains(id) && !is_gone(id)).collect();
    for id in &renewed.given_up {
        state.rows.remove(id);
        state.facts.remove(id);
    }
    let mut known: HashSet<(KeyId, [u8; 32])> =
        snapshots.every().map(|snapshot| (snapshot.commit.certificate.key, snapshot.digest)).collect();
    known
        .extend(state.remembered.iter().flat_map(|(key, all)| all.iter().map(|(_, digest)| (*key, *digest))));
    for commit in snapshots.every().map(|snapshot| &snapshot.commit) {
        let key = commit.certificate.key;
        if commit.previous != [0; 32] && known.insert((key, commit.previous)) {
            publish::remember(state, key, (commit.sequence.saturating_sub(1), commit.previous));
        }
    }
}
