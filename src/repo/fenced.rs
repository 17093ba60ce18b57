//! A session that was fenced while it ran: what it has uploaded goes on in a new one.
//!
//! Spec: chapter 11, step 6 of the writer. First a new session, then log and index anew, then every record that the trees
//! refer to is looked up again. Only if something is missing has the caller to read its source again.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::commit::Root;
use crate::format::id::{NodeId, RecordId, SessionId};
use crate::format::object;
use crate::repo::index::{load_delta, put_delta};
use crate::repo::session::load_session;
use crate::repo::{
    Begun, Error, Lane, Log, Reader, Repository, Result, Snapshot, Snapshots, ToCommit, begin, commit,
};

/// How often a session is begun anew before its writer is told that it was fenced.
const ATTEMPTS: usize = 4;

/// Commits; if the session was fenced, in a new session that refers to the same records. [`Error::Fenced`] if some of
/// them are gone: then the source has to be read again.
pub async fn commit_again(
    repo: &Repository,
    session: SessionId,
    before: &Snapshots,
    what: ToCommit,
) -> Result<Snapshot> {
    let mut fenced = match commit(repo, session, before, what.clone()).await {
        Err(Error::Fenced) => vec![session],
        committed => return committed,
    };
    for _ in 0..ATTEMPTS {
        tracing::info!("the session was fenced while it ran: its records go on in a new one");
        let begun = begin(repo, 1).await?;
        name_again(repo, &fenced, &begun.lanes[0]).await?;
        let (before, index) = begun.load_before(repo).await?;
        let Begun { session, view, .. } = begun;
        let reader = Arc::new(Reader::new(repo, Arc::new(index)));
        if !is_whole(&reader, &what.roots).await? {
            return Err(Error::Fenced);
        }
        match commit(repo, session, &before, ToCommit { view, ..what.clone() }).await {
            Err(Error::Fenced) => fenced.push(session),
            committed => return committed,
        }
    }
    Err(Error::Fenced)
}

/// Names the packs of fenced sessions in a delta of the new one, but for those that were condemned or swept.
async fn name_again(repo: &Repository, fenced: &[SessionId], lane: &Lane) -> Result<()> {
    let log = Log::load(repo).await?;
    let mut named = HashSet::new();
    let mut number = 0;
    for old in fenced {
        let session = match load_session(repo, *old).await {
            Ok(session) => session,
            // Its epoch has ended, and nothing of it was left that anyone needs.
            Err(error) if error.class() == crate::repo::Class::Missing => continue,
            Err(error) => return Err(error),
        };
        let sessions = [(*old, session)].into();
        let folder = object::session_key(*old).replacen(object::SESSIONS, object::INDEX, 1);
        for found in repo.store.list(&folder).await? {
            let mut delta = match load_delta(repo, &sessions, &found.key).await {
                Ok((_, delta)) => delta,
                Err(error) if error.class() == crate::repo::Class::Missing => continue,
                Err(error) => return Err(error),
            };
            delta.packs.retain(|pack| !log.is_barred(pack.id) && named.insert(pack.id));
            put_delta(repo, lane, number, &delta).await?;
            number += 1;
        }
    }
    Ok(())
}

/// Whether everything that the trees refer to may be referred to.
async fn is_whole(reader: &Arc<Reader>, roots: &[Root]) -> Result<bool> {
    let index = reader.index().clone();
    let mut seen: HashSet<NodeId> = HashSet::new();
    let mut next: Vec<NodeId> = roots.iter().map(|root| root.node).collect();
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        if !index.may_refer_to(&RecordId::Node(id)) {
            return Ok(false);
        }
        let refs = match reader.node_refs(id).await {
            Ok((_, _, refs)) => refs,
            Err(error) if error.is_inconclusive() => return Err(error),
            Err(_) => return Ok(false),
        };
        if !refs.chunks.iter().all(|chunk| index.may_refer_to(&RecordId::Chunk(*chunk))) {
            return Ok(false);
        }
        next.extend(refs.nodes);
    }
    Ok(true)
}
