//! Bringing the sessions of a closed epoch to an end: each commits, or is fenced when it has gone silent.
//!
//! How long to wait is all that a clock decides here. A writer that is fenced too early loses no data: it begins a new
//! session and refers to what it has uploaded.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::future::try_join_all;

use crate::format::id::SessionId;
use crate::format::object;
use crate::repo::gc::PruneSettings;
use crate::repo::snapshots::fence;
use crate::repo::{Log, Repository, Result};
use crate::store::Object;

/// Between two looks at sessions that are at work.
const RETRY: Duration = Duration::from_secs(2);

/// Epochs that are listed at the same time.
const PARALLEL_LISTS: usize = 16;

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

/// Waits for the sessions of an epoch that have not ended, as far as is known, and fences those that are silent.
pub async fn resolve(
    repo: &Repository,
    epoch: u32,
    settings: &PruneSettings,
    has_ended: impl Fn(SessionId) -> bool,
) -> Result<Resolved> {
    let mut fenced = 0;
    let mut waited = Duration::ZERO;
    loop {
        let mut at_work = 0;
        let open = unresolved(repo, epoch).await?;
        for (session, signs) in open.into_iter().filter(|(session, _)| !has_ended(*session)) {
            let age = signs.age(repo);
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

/// When the store saw a session begin, and when it last saw a sign of life of it. In seconds since 1970.
struct Signs {
    began: i64,
    last: i64,
}

impl Signs {
    /// For how many seconds there has been none.
    fn age(&self, repo: &Repository) -> i64 {
        repo.world.now().secs().saturating_sub(self.last)
    }
}

/// The sessions of an epoch that have no commit and no fence.
async fn unresolved(repo: &Repository, epoch: u32) -> Result<BTreeMap<SessionId, Signs>> {
    let folders = [object::SESSIONS, object::COMMITS].map(|folder| object::epoch_folder(folder, epoch));
    let (sessions, resolved) = tokio::try_join!(repo.store.list(&folders[0]), repo.store.list(&folders[1]))?;
    let resolved: HashSet<SessionId> =
        resolved.iter().filter_map(|found| object::parse_session(object::COMMITS, &found.key)).collect();
    signs(repo, epoch, sessions, &resolved).await
}

async fn signs(
    repo: &Repository,
    epoch: u32,
    sessions: Vec<Object>,
    resolved: &HashSet<SessionId>,
) -> Result<BTreeMap<SessionId, Signs>> {
    let id = |key: &str| object::parse_session(object::SESSIONS, key).filter(|id| !resolved.contains(id));
    let begun = |found: &Object| Signs { began: found.modified_unix_secs, last: found.modified_unix_secs };
    let mut open: BTreeMap<SessionId, Signs> =
        sessions.iter().filter_map(|found| Some((id(&found.key)?, begun(found)))).collect();
    if !open.is_empty() {
        for delta in repo.store.list(&object::epoch_folder(object::INDEX, epoch)).await? {
            let session = object::parse_index(&delta.key).map(|(session, _)| session);
            if let Some(signs) = session.and_then(|session| open.get_mut(&session)) {
                signs.last = delta.modified_unix_secs.max(signs.last);
            }
        }
    }
    Ok(open)
}

/// Sessions of the epochs after the checkpoint that are not resolved and have not gone silent, and when the first of them
/// began, by the store.
pub async fn running(
    repo: &Repository,
    log: &Log,
    resolved: &HashSet<SessionId>,
    silence: Duration,
) -> Result<(HashSet<SessionId>, Option<i64>)> {
    let mut running = HashSet::new();
    let mut since = None;
    let epochs: Vec<u32> = log.open_epochs().collect();
    for some in epochs.chunks(PARALLEL_LISTS) {
        let open = some.iter().map(|epoch| async move {
            let sessions = repo.store.list(&object::epoch_folder(object::SESSIONS, *epoch)).await?;
            signs(repo, *epoch, sessions, resolved).await
        });
        for (id, signs) in try_join_all(open).await?.into_iter().flatten() {
            if signs.age(repo) < silence.as_secs() as i64 {
                running.insert(id);
                since = Some(since.unwrap_or(i64::MAX).min(signs.began));
            }
        }
    }
    Ok((running, since))
}
