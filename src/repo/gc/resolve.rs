//! Bringing the sessions of a closed epoch to an end: each commits, or is fenced when it has gone silent.
//!
//! How long to wait is all that a clock decides here. A writer that is fenced too early loses no data: it begins a new
//! session and refers to what it has uploaded.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::format::id::SessionId;
use crate::format::object;
use crate::repo::gc::PruneSettings;
use crate::repo::snapshots::fence;
use crate::repo::{Log, Repository, Result};

/// Between two looks at sessions that are at work.
const RETRY: Duration = Duration::from_secs(2);

pub enum Resolved {
    All {
        fenced: u64,
    },
    /// Some are still at work.
    Waiting {
        sessions: u64,
        fenced: u64,
    },
}

/// Waits for the sessions of an epoch, and fences those that are silent.
pub async fn resolve(repo: &Repository, epoch: u32, settings: &PruneSettings) -> Result<Resolved> {
    let mut fenced = 0;
    let mut waited = Duration::ZERO;
    loop {
        let mut at_work = 0;
        for (session, seen) in unresolved(repo, epoch).await? {
            let age = repo.world.now().secs().saturating_sub(seen);
            if age >= settings.silence.as_secs() as i64 {
                fence(repo, session).await?;
                fenced += 1;
                tracing::info!(
                    session = session.snapshot_name(),
                    age,
                    "the session was silent and is fenced"
                );
            } else {
                at_work += 1;
            }
        }
        match at_work {
            0 => return Ok(Resolved::All { fenced }),
            sessions if waited >= settings.patience => return Ok(Resolved::Waiting { sessions, fenced }),
            _ => {}
        }
        let pause = RETRY.min(settings.patience.saturating_sub(waited));
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

/// The sessions of an epoch that have no commit and no fence, and when the store saw a sign of life of each.
async fn unresolved(repo: &Repository, epoch: u32) -> Result<BTreeMap<SessionId, i64>> {
    let sessions = repo.store.list(&object::epoch_folder(object::SESSIONS, epoch)).await?;
    let resolved = repo.store.list(&object::epoch_folder(object::COMMITS, epoch)).await?;
    let resolved: HashSet<SessionId> =
        resolved.iter().filter_map(|found| object::parse_session(object::COMMITS, &found.key)).collect();
    let id = |key: &str| object::parse_session(object::SESSIONS, key).filter(|id| !resolved.contains(id));
    let mut open: BTreeMap<SessionId, i64> =
        sessions.iter().filter_map(|found| Some((id(&found.key)?, found.modified_unix_secs))).collect();
    if !open.is_empty() {
        for delta in repo.store.list(&object::epoch_folder(object::INDEX, epoch)).await? {
            let session = object::parse_index(&delta.key).map(|(session, _)| session);
            if let Some(seen) = session.and_then(|session| open.get_mut(&session)) {
                *seen = delta.modified_unix_secs.max(*seen);
            }
        }
    }
    Ok(open)
}

/// Sessions of the epochs after the checkpoint that are not resolved, and when the first of them began, by the store.
pub async fn running(
    repo: &Repository,
    log: &Log,
    resolved: &HashSet<SessionId>,
) -> Result<(HashSet<SessionId>, Option<i64>)> {
    let mut running = HashSet::new();
    let mut since = None;
    for epoch in log.open_epochs() {
        for found in repo.store.list(&object::epoch_folder(object::SESSIONS, epoch)).await? {
            let id = object::parse_session(object::SESSIONS, &found.key);
            if let Some(id) = id.filter(|id| !resolved.contains(id)) {
                running.insert(id);
                since = Some(since.unwrap_or(i64::MAX).min(found.modified_unix_secs));
            }
        }
    }
    Ok((running, since))
}
