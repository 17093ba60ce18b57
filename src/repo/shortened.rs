//! What shows that the gc log was cut off: whoever begins a session in an epoch has read the entry that opened it.
//!
//! Only what is signed shows that. Whoever can write to the store, with no key at all, can lay an object under any name;
//! and whoever has some key of the domain a fence.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{KeyId, SessionId};
use crate::format::keys::Certificate;
use crate::format::object;
use crate::repo::session::load_session;
use crate::repo::snapshots::committed_by;
use crate::repo::{Error, Log, Repository, Result};

/// Sessions that are looked at at the same time.
const PARALLEL_GETS: usize = 32;
/// Epochs behind the log's that are believed. Each is listed by who begins the history anew, and that has to come to an
/// end whatever a stolen key has signed.
const MOST_EPOCHS: u32 = 1 << 16;

/// The alarm if one of these sessions, of an epoch that the log has not opened, shows that entries are missing.
pub async fn alarm(repo: &Repository, log: &Log, beyond: Vec<SessionId>) -> Result<Option<Error>> {
    let Some(first) = beyond.first().copied() else { return Ok(None) };
    let Some((id, key)) = witness(repo, log, beyond).await? else {
        let (epoch, name) = (first.epoch(), first.snapshot_name());
        tracing::warn!(epoch, name, "what lies in the folder of commits of an epoch to come is passed over");
        return Ok(None);
    };
    let what = format!(
        "there is a commit of epoch {}, {}, signed by key {key}, and the log ends with entry {}, in epoch {}: it was \
         shortened",
        id.epoch(),
        id.snapshot_name(),
        log.head,
        log.epoch
    );
    Ok(Some(Error::Log { what }))
}

/// The highest epoch that is known: the log's, or of a session that holds, or its commit.
pub async fn highest_epoch(repo: &Repository, log: &Log) -> Result<u32> {
    let believed = log.epoch.saturating_add(1)..=log.epoch.saturating_add(MOST_EPOCHS);
    let mut beyond = BTreeSet::new();
    for folder in [object::SESSIONS, object::COMMITS] {
        let listed = repo.store.list(folder).await?;
        let ids = listed.iter().filter_map(|found| object::parse_session(folder, &found.key));
        beyond.extend(ids.filter(|id| believed.contains(&id.epoch())));
    }
    // An id begins with the epoch.
    let highest = witness(repo, log, beyond.into_iter().rev()).await?;
    Ok(highest.map_or(log.epoch, |(id, _)| id.epoch()))
}

/// The first of some sessions that somebody has signed, or the commit of which, and whose key is not revoked.
async fn witness(
    repo: &Repository,
    log: &Log,
    ids: impl IntoIterator<Item = SessionId>,
) -> Result<Option<(SessionId, KeyId)>> {
    let asked = ids.into_iter().map(|id| async move { Ok::<_, Error>((id, signed_by(repo, id).await?)) });
    let mut asked = pin!(futures::stream::iter(asked).buffered(PARALLEL_GETS));
    while let Some((id, certificate)) = asked.try_next().await? {
        if let Some(by) = certificate.filter(|by| !log.is_revoked(by.key, by.serial)) {
            return Ok(Some((id, by.key)));
        }
    }
    Ok(None)
}

/// Who has signed a commit, or where there is none that holds, the session.
async fn signed_by(repo: &Repository, id: SessionId) -> Result<Option<Certificate>> {
    match committed_by(repo, id).await {
        Ok(Some(certificate)) => return Ok(Some(certificate)),
        Err(error) if error.is_outage() => return Err(error),
        Ok(None) | Err(_) => {}
    }
    match load_session(repo, id).await {
        Ok(session) => Ok(Some(session.body.certificate)),
        Err(error) if error.is_outage() => Err(error),
        Err(_) => Ok(None),
    }
}
