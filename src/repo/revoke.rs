//! Revoking a key: what it makes from now on does not count, whoever has kept what was in its slot.
//!
//! Spec: chapter 11. What was made before goes on counting: its sessions are brought to an end and observed, in the slot
//! right before the revocation, so that nothing of them is lost and nothing of them comes later.

use std::collections::BTreeSet;

use crate::format::id::{KeyId, SessionId};
use crate::format::limits;
use crate::format::log::Action;
use crate::repo::session::load_sessions;
use crate::repo::snapshots::{fence, resolved_after};
use crate::repo::{Appended, Error, Log, Repository, Result, Snapshots};

/// How often it is begun anew because somebody else has written to the log.
const ATTEMPTS: usize = 32;

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

/// All sessions of a key in the epochs that no checkpoint stands for, each brought to an end; and its snapshots.
async fn ended_sessions(
    repo: &Repository,
    log: &mut Log,
    key: KeyId,
    serial: u32,
) -> Result<BTreeSet<SessionId>> {
    // Commits first: whatever a commit refers to was begun before it, and is among the sessions.
    let resolved: BTreeSet<SessionId> = resolved_after(repo, log).await?.into_iter().collect();
    let ids: Vec<SessionId> = resolved.iter().copied().collect();
    let snapshots = Snapshots::load_ids(repo, log, &ids).await?;
    let of_key = |found: &KeyId, with: u32| *found == key && with <= serial;
    let mut made: BTreeSet<SessionId> = snapshots
        .every()
        .filter(|found| of_key(&found.commit.certificate.key, found.commit.certificate.serial))
        .map(|found| found.id)
        .collect();
    for epoch in log.open_epochs() {
        let (sessions, _) = load_sessions(repo, epoch).await?;
        for session in sessions.values() {
            let certificate = &session.body.certificate;
            if of_key(&certificate.key, certificate.serial) {
                if !resolved.contains(&session.id) {
                    fence(repo, session.id).await?;
                }
                made.insert(session.id);
            }
        }
    }
    Ok(made)
}
