//! Forgetting snapshots, bringing them back, holding them: entries of the gc log, each decided anew if the log moves.
//!
//! Nothing is deleted here. What is forgotten can be recalled until a prune sweeps.

use std::collections::{BTreeSet, HashMap};

use crate::format::id::SessionId;
use crate::format::limits;
use crate::format::log::{Action, Hold, Scope};
use crate::repo::gc::may_maintain;
use crate::repo::snapshots::resolved_after;
use crate::repo::{Appended, Error, Log, Repository, Result, Snapshot, Snapshots};

/// How often a decision is made anew because somebody else has written to the log.
const ATTEMPTS: usize = 32;
/// An observation is repeated after this many seconds, even if there is nothing new: it bounds the times of what comes.
const OBSERVE_SECS: i64 = 3600;

/// Reads, decides, and says it in the slot behind what was read. Who may not is told, though there be nothing to say.
async fn say<T>(
    repo: &Repository,
    decide: impl Fn(&Log, &Snapshots) -> Result<(Option<Action>, T)>,
) -> Result<T> {
    may_maintain(repo)?;
    let mut log = Log::load(repo).await?;
    for _ in 0..ATTEMPTS {
        let ids = resolved_after(repo, &mut log).await?;
        let snapshots = Snapshots::load_ids(repo, &log, &ids).await?;
        let (action, told) = decide(&log, &snapshots)?;
        let Some(action) = action else { return Ok(told) };
        if let Appended::Mine(_) = log.append(repo, action).await? {
            return Ok(told);
        }
    }
    Err(Error::Moving)
}

/// Writes down which commits are there that nobody has written down before. Gives them.
pub async fn observe(repo: &Repository) -> Result<Vec<SessionId>> {
    say(repo, |log, snapshots| {
        let new = due(repo, log, snapshots);
        Ok((new.clone().map(|sessions| Action::Observe { sessions }), new.unwrap_or_default()))
    })
    .await
}

/// Makes of a log what an observation now would make of it. Nothing is written down.
pub fn as_if_observed(repo: &Repository, log: &mut Log, snapshots: &Snapshots) {
    if let Some(new) = due(repo, log, snapshots) {
        log.observe(&new, repo.world.now());
    }
}

/// What an observation now would name; none if there is nothing to say.
fn due(repo: &Repository, log: &Log, snapshots: &Snapshots) -> Option<Vec<SessionId>> {
    let there = snapshots.all.iter().map(|snapshot| snapshot.id);
    let new: BTreeSet<SessionId> = there.filter(|id| log.fact(*id).observed.is_none()).collect();
    let age = |last: crate::world::Time| repo.world.now().secs().saturating_sub(last.secs());
    let is_due = log.state.last_observed.is_none_or(|last| age(last) >= OBSERVE_SECS);
    (is_due || !new.is_empty()).then(|| new.into_iter().take(limits::LOG_IDS).collect())
}

/// Forgets snapshots. Refuses if one of them is held; one that is forgotten already is fine.
pub async fn forget(repo: &Repository, ids: &[SessionId]) -> Result<()> {
    forget_by(repo, ids, limits::LOG_IDS).await
}

/// The same with at most so many in an entry.
async fn forget_by(repo: &Repository, ids: &[SessionId], most: usize) -> Result<()> {
    for part in parts(ids, most) {
        say(repo, |log, snapshots| {
            let there = by_id(&snapshots.all);
            let mut sessions = Vec::new();
            for id in part.iter().filter(|id| !log.fact(**id).forgotten) {
                let snapshot = *there.get(id).ok_or_else(|| no_such(*id))?;
                if let Some(hold) = held(log, snapshot) {
                    return Err(Error::Held { snapshot: snapshot.name(), hold });
                }
                sessions.push(*id);
            }
            Ok(((!sessions.is_empty()).then_some(Action::Forget { sessions }), ()))
        })
        .await?;
    }
    Ok(())
}

/// Brings forgotten snapshots back.
pub async fn recall(repo: &Repository, ids: &[SessionId]) -> Result<()> {
    recall_by(repo, ids, limits::LOG_IDS).await
}

async fn recall_by(repo: &Repository, ids: &[SessionId], most: usize) -> Result<()> {
    for part in parts(ids, most) {
        say(repo, |_, snapshots| {
            let (there, forgotten) = (by_id(&snapshots.all), by_id(&snapshots.forgotten));
            let mut sessions = Vec::new();
            for id in part.iter().filter(|id| !there.contains_key(id)) {
                sessions.push(forgotten.get(id).ok_or_else(|| no_such(*id))?.id);
            }
            Ok(((!sessions.is_empty()).then_some(Action::Recall { sessions }), ()))
        })
        .await?;
    }
    Ok(())
}

/// Holds what is in the scope: it is not forgotten until the hold is lifted. Gives the hold's id.
pub async fn hold(repo: &Repository, scope: Scope, note: &str) -> Result<[u8; 16]> {
    if note.len() > limits::NOTE_LEN {
        let (found, most) = (note.len() as u64, limits::NOTE_LEN as u64);
        return Err(Error::TooLarge { what: "the note of a hold", found, most });
    }
    let id: [u8; 16] = repo.world.bytes();
    say(repo, |_, snapshots| {
        if let Scope::Snapshot(id) = scope {
            let mut there = snapshots.all.iter().chain(&snapshots.forgotten);
            there.find(|snapshot| snapshot.id == id).ok_or_else(|| no_such(id))?;
        }
        Ok((Some(Action::Hold(Hold { id, scope, note: note.to_owned() })), id))
    })
    .await
}

/// Lifts holds, by their ids; of a snapshot that was held when it was made, its session's id.
pub async fn lift(repo: &Repository, ids: &[[u8; 16]]) -> Result<()> {
    lift_by(repo, ids, limits::LOG_IDS).await
}

async fn lift_by(repo: &Repository, ids: &[[u8; 16]], most: usize) -> Result<()> {
    for part in parts(ids, most) {
        say(repo, |log, snapshots| {
            let there = by_id(&snapshots.all);
            let by_commit = |id| there.get(&SessionId(id)).is_some_and(|snapshot| snapshot.commit.held);
            if let Some(id) = part.iter().find(|id| !log.state.holds.contains_key(*id) && !by_commit(**id)) {
                return Err(Error::NoSuchHold { id: crate::format::id::hex(id) });
            }
            Ok((Some(Action::Lift { holds: part.clone() }), ()))
        })
        .await?;
    }
    Ok(())
}

/// Ids as entries of the log name them: ascending, none twice, in each so many at most.
fn parts<T: Ord + Copy>(ids: &[T], most: usize) -> Vec<Vec<T>> {
    let ids: Vec<T> = ids.iter().copied().collect::<BTreeSet<T>>().into_iter().collect();
    ids.chunks(most).map(<[T]>::to_vec).collect()
}

/// Why a snapshot must not be forgotten, if it must not.
pub fn held(log: &Log, snapshot: &Snapshot) -> Option<String> {
    let commit = &snapshot.commit;
    if let Some(note) = log.holds(snapshot.id, commit.source.0).next() {
        return Some(note.to_owned());
    }
    (commit.held && !log.fact(snapshot.id).lifted).then(|| "held since it was made".to_owned())
}

fn by_id(snapshots: &[Snapshot]) -> HashMap<SessionId, &Snapshot> {
    snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect()
}

fn no_such(id: SessionId) -> Error {
    Error::NoSuchSnapshot { snapshot: id.snapshot_name() }
}

#[cfg(test)]
mod tests;
