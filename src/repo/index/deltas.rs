//! The deltas and parts that an index is made of, read one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::future::{join_all, try_join_all};
use futures::{Stream, StreamExt};

use crate::format::id::{PackId, RecordId, SessionId};
use crate::format::index::{IndexDelta, IndexPack};
use crate::format::keys::Role;
use crate::format::{limits, object};
use crate::repo::index::Place;
use crate::repo::log::part;
use crate::repo::session::{Session, load_session, load_sessions};
use crate::repo::{Error, Lane, Log, Repository, Result};

/// Deltas that are fetched at the same time, …
const PARALLEL_GETS: usize = 16;
/// … and parts of a checkpoint's index, which are larger.
const PARALLEL_PARTS: usize = 2;
/// Epochs that are listed at the same time.
const PARALLEL_LISTS: usize = 16;
/// Records that are held of packs that are looked into: 60 bytes each.
const HELD_RECORDS: usize = 1 << 19;
/// Readings that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

/// Hands on each part of the checkpoint's index, then each delta of the epochs after it, with its session. Gives the
/// sessions of these epochs, and what could not be used.
pub async fn each(
    repo: &Repository,
    log: &Log,
    mut take: impl FnMut(IndexDelta, Option<SessionId>) -> Result<()> + Send,
) -> Result<(HashMap<SessionId, Session>, Vec<Error>)> {
    let (mut all, mut problems) = (HashMap::new(), Vec::new());
    let mut use_or_tell = |problems: &mut Vec<Error>, read: Result<_>| match read {
        Ok((session, delta)) => take(delta, session),
        Err(error) if error.is_inconclusive() => Err(error),
        Err(error) => {
            problems.push(error);
            Ok(())
        }
    };
    let mut parts = parts(repo, log, PARALLEL_PARTS);
    while let Some(part) = parts.next().await {
        use_or_tell(&mut problems, part.map(|part| (None, part)))?;
    }
    let epochs: Vec<u32> = log.open_epochs().collect();
    for some in epochs.chunks(PARALLEL_LISTS) {
        for mut listed in try_join_all(some.iter().map(|epoch| Listed::of(repo, log, *epoch))).await? {
            problems.append(&mut listed.problems);
            let mut deltas = listed.deltas(repo, PARALLEL_GETS);
            while let Some(delta) = deltas.next().await {
                use_or_tell(&mut problems, delta.map(|(session, delta)| (Some(session), delta)))?;
            }
            drop(deltas);
            all.extend(listed.sessions);
        }
    }
    Ok((all, problems))
}

/// The parts of the checkpoint's index in their order, so many at the same time.
pub fn parts<'a>(
    repo: &'a Repository,
    log: &'a Log,
    parallel: usize,
) -> impl Stream<Item = Result<IndexDelta>> + Send + 'a {
    let of_base = log.base.iter().flat_map(|(slot, checkpoint)| {
        let first = checkpoint.state.len();
        let numbered = (first..).zip(checkpoint.index.iter().copied());
        numbered.map(move |(number, digest)| (*slot, checkpoint, number, digest))
    });
    let reading = of_base.map(move |(slot, checkpoint, number, digest)| async move {
        let plain = part(repo, slot, checkpoint, number, &digest).await?;
        let key = object::generation_key(slot, checkpoint.name, number);
        IndexDelta::decode_part(&plain).map_err(Error::object(&key))
    });
    futures::stream::iter(reading).buffered(parallel)
}

/// The deltas of an epoch that count, with what they are read by.
pub struct Listed {
    keys: Vec<String>,
    pub sessions: HashMap<SessionId, Session>,
    /// Sessions that can't be used, and why.
    pub problems: Vec<Error>,
}

impl Listed {
    pub async fn of(repo: &Repository, log: &Log, epoch: u32) -> Result<Self> {
        let folder = object::epoch_folder(object::INDEX, epoch);
        let list = async { Ok::<_, Error>(repo.store.list(&folder).await?) };
        let (listed, (mut sessions, problems)) = tokio::try_join!(list, load_sessions(repo, epoch))?;
        // A delta's session was there before the delta, but may have come after the sessions were listed.
        let of_deltas: HashSet<_> =
            listed.iter().filter_map(|found| object::parse_index(&found.key)).collect();
        let late = of_deltas.into_iter().map(|(session, _)| session).filter(|id| !sessions.contains_key(id));
        for loaded in join_all(late.map(|session| load_session(repo, session))).await {
            match loaded {
                Ok(session) => drop(sessions.insert(session.id, session)),
                Err(error) if error.is_outage() => return Err(error),
                // Among the problems already, if it was listed; and who opens the delta tells it.
                Err(_) => {}
            }
        }
        let keys = listed.into_iter().map(|found| found.key).filter(|key| log.counts(key, &sessions));
        Ok(Self { keys: keys.collect(), sessions, problems })
    }

    /// In the order of their keys, so many at the same time.
    pub fn deltas<'a>(
        &'a self,
        repo: &'a Repository,
        parallel: usize,
    ) -> impl Stream<Item = Result<(SessionId, IndexDelta)>> + Send + 'a {
        let load = move |key: &'a String| load_delta(repo, &self.sessions, key);
        let loading = self.keys.iter().map(load);
        futures::stream::iter(loading).buffered(parallel)
    }
}

/// Takes packs out of `packs`, as many as memory is to hold the records of, one at least; gives all that the index says of
/// them, with whole ids, of which an index has the beginnings only.
pub async fn records_of(repo: &Repository, packs: &mut BTreeSet<PackId>) -> Result<Records> {
    let mut last = Error::Moving;
    for _ in 0..ATTEMPTS {
        let log = Log::load(repo).await?;
        let mut held = Held::default();
        let (_, problems) = each(repo, &log, |delta, _| {
            held.take(packs, &delta);
            Ok(())
        })
        .await?;
        // What a newer checkpoint stands for may have been deleted while this one's was being read.
        if problems.is_empty() || log.is_of_newest(repo).await? {
            packs.retain(|pack| held.end.is_some_and(|end| *pack >= end));
            return Ok(held.records);
        }
        last = problems.into_iter().next().expect("there are some");
    }
    Err(last)
}

pub type Records = BTreeMap<PackId, Vec<(RecordId, Place)>>;

/// The records of the first packs.
#[derive(Default)]
struct Held {
    records: Records,
    count: usize,
    /// From this pack on there was no room.
    end: Option<PackId>,
}

impl Held {
    fn take(&mut self, packs: &BTreeSet<PackId>, delta: &IndexDelta) {
        let wanted = |pack: &&IndexPack| packs.contains(&pack.id) && self.end.is_none_or(|end| pack.id < end);
        for named in delta.packs.iter().filter(wanted).collect::<Vec<_>>() {
            let place = |(id, offset, len)| (id, Place { pack: named.id, offset, len });
            self.records.entry(named.id).or_default().extend(named.places().map(place));
            self.count += named.records.len();
            while self.count > HELD_RECORDS && self.records.len() > 1 {
                let (pack, records) = self.records.pop_last().expect("more than one");
                self.count -= records.len();
                self.end = Some(pack);
            }
        }
    }
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

/// Puts a delta of a lane's into the store. Gives its length there.
pub async fn put_delta(repo: &Repository, lane: &Lane, number: u32, delta: &IndexDelta) -> Result<u64> {
    let key = object::index_key(lane.session, lane.number, number);
    let plain = delta.encode(&lane.signing, repo.keys.repo, &key);
    let sealed = repo.seal(&key, plain);
    let len = sealed.len() as u64;
    repo.store.put(&key, sealed).await?;
    Ok(len)
}

fn not_a_delta(key: &str, field: &'static str) -> Error {
    let source = crate::format::Error::Invalid { what: "index", field, found: key.to_owned() };
    Error::Object { key: key.to_owned(), source }
}
