//! Revoking a key: what it makes from now on does not count, whoever has kept what was in its slot.
//!
//! Spec: chapter 11. What was made before goes on counting: its sessions are brought to an end and observed, in the slot
//! right before the revocation, so that nothing of them is lost and nothing of them comes later.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{KeyId, SessionId};
use crate::format::keys::Certificate;
use crate::format::log::Action;
use crate::format::{limits, object};
use crate::repo::session::load_session;
use crate::repo::snapshots::{committed_by, fence, resolved_after};
use crate::repo::{Appended, Class, Error, Log, Repository, Result};

/// How often it is begun anew because somebody else has written to the log.
const ATTEMPTS: usize = 32;
/// Sessions that are fetched at the same time.
const PARALLEL_GETS: usize = 32;

/// Revokes the certificates of a key of this domain, up to a serial. Runs of that key that are at work are fenced.
pub(super) async fn revoke(repo: &Repository, key: KeyId, serial: u32) -> Result<()> {
    repo.keys.owner_keys()?;
    let mut log = Log::load(repo).await?;
    log.hold_author(repo).await?;
    for _ in 0..ATTEMPTS {
        if log.is_revoked(key, serial) {
            return Ok(());
        }
        let made = ended_sessions(repo, &mut log, key, serial).await?;
        let new: Vec<SessionId> = made.into_iter().filter(|id| log.fact(*id).observed.is_none()).collect();
        let mut is_alone = true;
        for sessions in new.chunks(limits::LOG_IDS) {
            let observe = Action::Observe { sessions: sessions.to_vec() };
            is_alone &= matches!(log.append(repo, observe).await?, Appended::Mine(_));
        }
        // Had anybody else observed in between, it might be of a session that is not among these.
        if is_alone && matches!(log.append(repo, Action::Revoke { key, serial }).await?, Appended::Mine(_)) {
            return Ok(());
        }
    }
    Err(Error::Moving)
}

/// All sessions of a key in the epochs that no checkpoint stands for, each brought to an end; and its snapshots. What it
/// made after an earlier revocation is not among them, and goes on not to count.
async fn ended_sessions(
    repo: &Repository,
    log: &mut Log,
    key: KeyId,
    serial: u32,
) -> Result<BTreeSet<SessionId>> {
    // Commits first: whatever a commit refers to was begun before it, and is among the sessions.
    let resolved: BTreeSet<SessionId> = resolved_after(repo, log).await?.into_iter().collect();
    let mut begun = BTreeSet::new();
    for epoch in log.open_epochs() {
        let listed = repo.store.list(&object::epoch_folder(object::SESSIONS, epoch)).await?;
        begun.extend(listed.iter().filter_map(|found| object::parse_session(object::SESSIONS, &found.key)));
    }
    let rows = &log.state.rows;
    let is_of_key = |made_by: MadeBy| {
        let (by, with) = made_by;
        by == key && with <= serial && !log.is_revoked(by, with)
    };
    let of_rows = rows.iter().filter(|(_, row)| is_of_key((row.key, row.serial))).map(|(id, _)| *id);
    let mut made: BTreeSet<SessionId> = of_rows.collect();
    let (resolved, is_of_key) = (&resolved, &is_of_key);
    let asked = begun.union(resolved).copied().filter(|id| !rows.contains_key(id)).map(|id| async move {
        let makers = makers(repo, id, resolved.contains(&id)).await?;
        let may_be = makers.is_some_and(|all| all.is_empty() || all.into_iter().any(is_of_key));
        Ok::<_, Error>(may_be.then_some(id))
    });
    let asked = futures::stream::iter(asked).buffered(PARALLEL_GETS);
    made.extend(asked.try_filter_map(async |id| Ok(id)).try_collect::<Vec<_>>().await?);
    // Only now, when the store has given all that there is: what it withheld would be lost by a revocation.
    for id in made.intersection(&begun).filter(|id| !resolved.contains(id)) {
        fence(repo, *id).await?;
    }
    Ok(made)
}

/// Who has made a session, or its commit, by what of them can be read: nobody, if it is damaged or a fence without a
/// session. That may be anybody's, and is taken for the key's: if it is put back one day, it counts as before. None if it
/// is let go of.
async fn makers(repo: &Repository, id: SessionId, is_resolved: bool) -> Result<Option<Vec<MadeBy>>> {
    let mut makers = Vec::new();
    match load_session(repo, id).await {
        Ok(session) => makers.push(made_by(&session.body.certificate)),
        Err(error) if error.is_uncertain() => return Err(error),
        Err(error) if error.class() == Class::Missing && !is_resolved => return Ok(None),
        Err(_) => {}
    }
    if is_resolved {
        match committed_by(repo, id).await {
            Ok(certificate) => makers.extend(certificate.as_ref().map(made_by)),
            Err(error) if error.is_uncertain() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Some(makers))
}

/// A key and its serial.
type MadeBy = (KeyId, u32);

fn made_by(certificate: &Certificate) -> MadeBy {
    (certificate.key, certificate.serial)
}
