//! The sessions that packs need: their keys open what lies in them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{PackId, RecordId, SessionId};
use crate::format::keys::KeyName;
use crate::format::object;
use crate::format::pack::{Toc, TocRecord};
use crate::repo::check::finding::Finding;
use crate::repo::pack_builder::record_key_name;
use crate::repo::session::load_session;
use crate::repo::{Error, Index, Log, Repository, Result};

const PARALLEL_GETS: usize = 32;

/// What nothing opens any more.
#[derive(Default)]
pub struct Closed {
    pub findings: Vec<Finding>,
    /// Packs of which nothing opens, …
    pub packs: BTreeSet<PackId>,
    /// … and records of packs that have some of other sessions too.
    pub records: Vec<(PackId, RecordId)>,
}

/// Reads the sessions of all packs that the log does not say are damaged.
pub async fn look(repo: &Repository, index: &Index, log: &Log) -> Result<Closed> {
    let sound = index.packs().iter().filter(|pack| !log.damaged.contains(&pack.id));
    let needed: BTreeSet<SessionId> = sound.flat_map(|pack| pack.sessions).collect();
    let loading = needed.into_iter().map(|id| async move {
        match load_session(repo, id).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_inconclusive() => Err(error),
            Err(error) => Ok(Some((id, error))),
        }
    });
    let loaded = futures::stream::iter(loading).buffered(PARALLEL_GETS);
    let mut lost: BTreeMap<SessionId, Error> =
        loaded.try_filter_map(async |lost| Ok(lost)).try_collect().await?;
    let mut closed = Closed::default();
    if lost.is_empty() {
        return Ok(closed);
    }
    // A prune deletes a session when it has swept all that needs it.
    let swept = Log::load(repo).await?.swept;
    let mut missed = BTreeSet::new();
    for (id, numbers) in index.packs().by_id() {
        let namings: Vec<Vec<SessionId>> = numbers.map(|number| index.packs().get(number).sessions).collect();
        let is_lost = |id: &SessionId| lost.contains_key(id);
        let is_open = !namings.iter().flatten().any(is_lost);
        if is_open || swept.contains(&id) || log.damaged.contains(&id) {
            continue;
        }
        match namings.as_slice() {
            [sessions] if sessions.iter().all(is_lost) => drop(closed.packs.insert(id)),
            // Of two that name a pack in different ways the pack itself tells which is true.
            _ => match closed_in(repo, id, is_lost).await? {
                records if records.is_empty() => continue,
                records => closed.records.extend(records.into_iter().map(|record| (id, record))),
            },
        }
        missed.extend(namings.into_iter().flatten().filter(is_lost));
    }
    lost.retain(|id, _| missed.contains(id));
    closed.findings = lost.into_values().map(Finding::of_object).collect();
    Ok(closed)
}

/// The records of a pack that lost sessions' keys open; none if the pack can't be read, which is told elsewhere.
async fn closed_in(
    repo: &Repository,
    pack: PackId,
    is_lost: impl Fn(&SessionId) -> bool,
) -> Result<Vec<RecordId>> {
    let bytes = match repo.store.get(&object::pack_key(pack)).await {
        Err(error) if !error.is_damage() => return Err(error.into()),
        bytes => bytes.unwrap_or_default(),
    };
    let keys = &repo.keys;
    let records =
        Toc::open(&keys.structure, keys.repo, pack, &bytes).map(|toc| toc.records).unwrap_or_default();
    let is_closed = |record: &TocRecord| {
        let sealed = record.of(&bytes);
        matches!(record_key_name(keys, sealed), Some(KeyName::Data { session, .. }) if is_lost(&session))
    };
    Ok(records.iter().filter(|record| is_closed(record)).map(|record| record.id).collect())
}
