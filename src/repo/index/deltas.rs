//! The deltas and parts that an index is made of, read one by one.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;

use crate::format::id::{PackId, RecordId, SessionId};
use crate::format::index::IndexDelta;
use crate::format::keys::Role;
use crate::format::{limits, object};
use crate::repo::index::Place;
use crate::repo::log::part;
use crate::repo::session::{Session, load_sessions};
use crate::repo::{Error, Log, Repository, Result};

/// Deltas that are fetched at the same time, …
const PARALLEL_GETS: usize = 16;
/// … and parts of a checkpoint's index, which are larger.
const PARALLEL_PARTS: usize = 2;

/// Hands on each part of the checkpoint's index, then each delta of the epochs after it, with its session. Gives the
/// sessions of these epochs, and what could not be used.
pub async fn each(
    repo: &Repository,
    log: &Log,
    mut take: impl FnMut(IndexDelta, Option<SessionId>) -> Result<()> + Send,
) -> Result<(HashMap<SessionId, Session>, Vec<Error>)> {
    let (mut all, mut problems) = (HashMap::new(), Vec::new());
    if let Some((slot, checkpoint)) = &log.base {
        let first = checkpoint.state.len();
        let parts = checkpoint.index.iter().copied().enumerate().map(|(number, digest)| async move {
            let plain = part(repo, *slot, checkpoint, first + number, &digest).await?;
            let key = object::generation_key(*slot, checkpoint.name, first + number);
            IndexDelta::decode_part(&plain).map_err(Error::object(&key))
        });
        let mut parts = futures::stream::iter(parts).buffered(PARALLEL_PARTS);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => take(part, None)?,
                Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
                Err(error) => problems.push(error),
            }
        }
    }
    for epoch in log.open_epochs() {
        // A delta's session was there before the delta.
        let listed = repo.store.list(&object::epoch_folder(object::INDEX, epoch)).await?;
        let (sessions, unreadable) = load_sessions(repo, epoch).await?;
        problems.extend(unreadable);
        let known = &sessions;
        // Owned, because a stream of futures that borrow from a list is one for that list alone.
        let counting: Vec<String> =
            listed.into_iter().map(|found| found.key).filter(|key| log.counts(key, known)).collect();
        let loading = counting.into_iter().map(|key| async move { load_delta(repo, known, &key).await });
        let mut loading = futures::stream::iter(loading).buffered(PARALLEL_GETS);
        while let Some(delta) = loading.next().await {
            match delta {
                Ok((session, delta)) => take(delta, Some(session))?,
                Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
                Err(error) => problems.push(error),
            }
        }
        drop(loading);
        all.extend(sessions);
    }
    Ok((all, problems))
}

/// All records of some packs, with their whole ids, of which an index has the beginnings only.
pub async fn records_of(
    repo: &Repository,
    packs: &HashSet<PackId>,
) -> Result<HashMap<PackId, Vec<(RecordId, Place)>>> {
    let log = Log::load(repo).await?;
    let mut records: HashMap<PackId, Vec<(RecordId, Place)>> = HashMap::new();
    let take = |delta: IndexDelta, _| {
        for named in delta.packs.iter().filter(|named| packs.contains(&named.id)) {
            let place = |(id, offset, len)| (id, Place { pack: named.id, offset, len });
            records.entry(named.id).or_default().extend(named.places().map(place));
        }
        Ok(())
    };
    each(repo, &log, take).await?;
    Ok(records)
}

pub async fn load_delta(
    repo: &Repository,
    sessions: &HashMap<SessionId, Session>,
    key: &str,
) -> Result<(SessionId, IndexDelta)> {
    let (session, lane) = object::parse_index(key).ok_or_else(|| not_a_delta(key, "its name"))?;
    let known = sessions.get(&session).ok_or_else(|| not_a_delta(key, "its session, which is missing"))?;
    let lane = known.body.lanes.get(lane as usize).ok_or_else(|| not_a_delta(key, "its lane"))?;
    let sealed = repo.store.get_at_most(key, limits::INDEX_LEN as u64).await?;
    let plain = repo.unseal("index", key, &sealed)?;
    let delta =
        IndexDelta::decode(&plain, &lane.signing, repo.config.repo, key).map_err(Error::object(key))?;
    let certificate = &known.body.certificate;
    let copies = matches!(certificate.role, Role::Maintainer | Role::Owner);
    match copies || delta.packs.iter().all(|pack| pack.origin == certificate.key) {
        true => Ok((session, delta)),
        false => Err(not_a_delta(key, "a pack of another writer's")),
    }
}

fn not_a_delta(key: &str, field: &'static str) -> Error {
    let source = crate::format::Error::Invalid { what: "index", field, found: key.to_owned() };
    Error::Object { key: key.to_owned(), source }
}
