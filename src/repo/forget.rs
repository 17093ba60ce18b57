//! Forgetting snapshots, bringing them back, holding them: entries of the gc log, each decided anew if the log moves.
//!
//! Nothing is deleted here. What is forgotten can be recalled until a prune sweeps.

use std::collections::BTreeSet;

use crate::format::id::SessionId;
use crate::format::limits;
use crate::format::log::{Action, Hold, Scope};
use crate::repo::snapshots::resolved_after;
use crate::repo::{Appended, Error, Log, Repository, Result, Snapshot, Snapshots};

/// How often a decision is made anew because somebody else has written to the log.
const ATTEMPTS: usize = 32;
/// An observation is repeated after this many seconds, even if there is nothing new: it bounds the times of what comes.
const OBSERVE_SECS: i64 = 3600;

/// Reads, decides, and says it in the slot behind what was read.
async fn say<T>(
    repo: &Repository,
    decide: impl Fn(&Log, &Snapshots) -> Result<(Option<Action>, T)>,
) -> Result<T> {
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
        let there = snapshots.all.iter().map(|snapshot| snapshot.id);
        let new: BTreeSet<SessionId> = there.filter(|id| log.fact(*id).observed.is_none()).collect();
        let new: Vec<SessionId> = new.into_iter().take(limits::LOG_IDS).collect();
        let age = |last: crate::world::Time| repo.world.now().secs().saturating_sub(last.secs());
        let is_due = log.state.last_observed.is_none_or(|last| age(last) >= OBSERVE_SECS);
        let action = (is_due || !new.is_empty()).then(|| Action::Observe { sessions: new.clone() });
        Ok((action, new))
    })
    .await
}

/// Forgets snapshots. Refuses if one of them is held; one that is forgotten already is fine.
pub async fn forget(repo: &Repository, ids: &[SessionId]) -> Result<()> {
    say(repo, |log, snapshots| {
        let mut going = BTreeSet::new();
        for id in ids {
            if log.fact(*id).forgotten {
                continue;
            }
            let snapshot = find(&snapshots.all, *id)?;
            if let Some(hold) = held(log, snapshot) {
                return Err(Error::Held { snapshot: snapshot.name(), hold });
            }
            going.insert(*id);
        }
        let sessions: Vec<SessionId> = going.into_iter().collect();
        Ok(((!sessions.is_empty()).then_some(Action::Forget { sessions }), ()))
    })
    .await
}

/// Brings forgotten snapshots back.
pub async fn recall(repo: &Repository, ids: &[SessionId]) -> Result<()> {
    say(repo, |_, snapshots| {
        let mut back = BTreeSet::new();
        for id in ids {
            if snapshots.all.iter().all(|snapshot| snapshot.id != *id) {
                back.insert(find(&snapshots.forgotten, *id)?.id);
            }
        }
        let sessions: Vec<SessionId> = back.into_iter().collect();
        Ok(((!sessions.is_empty()).then_some(Action::Recall { sessions }), ()))
    })
    .await
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
            find(&snapshots.all, id).or_else(|_| find(&snapshots.forgotten, id))?;
        }
        Ok((Some(Action::Hold(Hold { id, scope, note: note.to_owned() })), id))
    })
    .await
}

/// Lifts holds, by their ids; of a snapshot that was held when it was made, its session's id.
pub async fn lift(repo: &Repository, ids: &[[u8; 16]]) -> Result<()> {
    say(repo, |log, snapshots| {
        let mut holds = BTreeSet::new();
        for id in ids {
            let by_commit = |snapshot: &&Snapshot| snapshot.id.0 == *id && snapshot.commit.held;
            if !log.state.holds.contains_key(id) && !snapshots.all.iter().any(|s| by_commit(&s)) {
                return Err(Error::NoSuchHold { id: crate::format::id::hex(id) });
            }
            holds.insert(*id);
        }
        Ok((Some(Action::Lift { holds: holds.into_iter().collect() }), ()))
    })
    .await
}

/// Why a snapshot must not be forgotten, if it must not.
pub fn held(log: &Log, snapshot: &Snapshot) -> Option<String> {
    let commit = &snapshot.commit;
    if let Some(note) = log.holds(snapshot.id, commit.source.0).next() {
        return Some(note.to_owned());
    }
    (commit.held && !log.fact(snapshot.id).lifted).then(|| "held since it was made".to_owned())
}

fn find(snapshots: &[Snapshot], id: SessionId) -> Result<&Snapshot> {
    let found = snapshots.iter().find(|snapshot| snapshot.id == id);
    found.ok_or_else(|| Error::NoSuchSnapshot { snapshot: id.snapshot_name() })
}
