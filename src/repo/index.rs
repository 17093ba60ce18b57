//! The index in memory: where each record lies, and onto which one may deduplicate.
//!
//! Spec: chapter 5. Loaded from the deltas of all sessions. A delta counts if its lane's
//! signature holds; a writer deduplicates only onto packs of its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};

use crate::format::id::{NodeId, PackId, RecordId, SessionId};
use crate::format::index::{IndexDelta, IndexPack};
use crate::format::pack::PackKind;
use crate::format::{limits, object};
use crate::repo::session::{Session, load_sessions};
use crate::repo::{Error, Repository, Result};

/// Deltas that are fetched at the same time.
const PARALLEL_GETS: usize = 16;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub pack: PackId,
    pub offset: u32,
    pub len: u32,
}

/// A pack as the index knows it.
#[derive(Clone, Copy, Debug)]
pub struct PackInfo {
    pub id: PackId,
    pub kind: PackKind,
    pub len: u32,
    pub hash: [u8; 32],
    pub session: SessionId,
    /// Written by the holder of the key that the repository was opened with.
    pub own: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    pack: u32,
    offset: u32,
    len: u32,
}

/// All that the deltas say.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackInfo>,
    records: HashMap<RecordId, Slot>,
    /// Further copies of records, where one was not enough (another writer's, a race).
    copies: HashMap<RecordId, Vec<Slot>>,
    /// Numbers of packs that the store does not have, or not in their length.
    lost: HashSet<u32>,
    /// Nodes that were read since, and are what their ids say.
    sound: Mutex<HashSet<NodeId>>,
    pub sessions: HashMap<SessionId, Session>,
    /// Objects that could not be used, and why.
    pub problems: Vec<Error>,
}

impl Index {
    /// Loads the deltas of every session. What can't be read becomes a problem, not an error:
    /// its records only count as missing.
    pub async fn load(repo: &Repository) -> Result<Self> {
        let listed = repo.store.list(object::INDEX).await?;
        // Nothing writes these yet; what this kist can't read it must not ignore.
        let generations = listed.iter().any(|found| found.key.starts_with("index/gen-"));
        if generations || !repo.store.list(object::GC_LOG).await?.is_empty() {
            return Err(Error::NewerLog);
        }
        let mut index = Index::default();
        let (sessions, problems) = load_sessions(repo).await?;
        index.sessions = sessions;
        index.problems = problems;
        let sessions = &index.sessions;
        let loading = listed.iter().map(|found| async move {
            let loaded = load_delta(repo, sessions, &found.key).await;
            Ok::<_, Error>((found.key.as_str(), loaded))
        });
        let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).try_collect().await?;
        for (_, delta) in loaded {
            match delta {
                Ok((session, own, delta)) => {
                    delta.packs.iter().for_each(|pack| index.add(pack, session, own));
                }
                Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
                Err(error) => index.problems.push(error),
            }
        }
        Ok(index)
    }

    /// Loads the index for someone who will refer to what is there. Packs that the store does not list, or
    /// in another length, count as lost: their records are uploaded again. What has changed inside of a
    /// pack no listing shows; that is for a check.
    pub async fn load_to_add(repo: &Repository) -> Result<Self> {
        let mut index = Self::load(repo).await?;
        // Listed after the deltas: a pack was there before the delta that names it.
        let mut listed = repo.store.list_stream(object::PACKS);
        let mut lengths = HashMap::new();
        while let Some(found) = listed.try_next().await? {
            let name = found.key.rsplit('/').next().and_then(PackId::parse);
            lengths.extend(name.map(|id| (id, found.size)));
        }
        let is_there = |pack: &PackInfo| lengths.get(&pack.id) == Some(&u64::from(pack.len));
        index.lost = (0..).zip(&index.packs).filter(|(_, pack)| !is_there(pack)).map(|(n, _)| n).collect();
        if !index.lost.is_empty() {
            let packs = index.lost.len();
            tracing::warn!(
                packs,
                "packs are missing or cut: run `kist check`; what can be is uploaded again"
            );
        }
        Ok(index)
    }

    /// Whether the node was read since the index was loaded, and is what its id says.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn found_sound(&self, id: NodeId) {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Takes in a pack.
    pub fn add(&mut self, pack: &IndexPack, session: SessionId, own: bool) {
        let number = u32::try_from(self.packs.len()).expect("fewer packs than 2^32");
        let info = PackInfo { id: pack.id, kind: pack.kind, len: pack.len, hash: pack.hash, session, own };
        self.packs.push(info);
        for record in &pack.records {
            let slot = Slot { pack: number, offset: record.offset, len: record.len };
            match self.records.entry(record.id) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(slot);
                }
                std::collections::hash_map::Entry::Occupied(mut first) => {
                    // One's own copy stands first: that one is trusted.
                    let second = match own && !self.packs[first.get().pack as usize].own {
                        true => first.insert(slot),
                        false => slot,
                    };
                    self.copies.entry(record.id).or_default().push(second);
                }
            }
        }
    }

    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    pub fn contains(&self, id: &RecordId) -> bool {
        self.records.contains_key(id)
    }

    /// Whether a writer may refer to this record instead of uploading it again.
    pub fn may_refer_to(&self, id: &RecordId) -> bool {
        self.slots(id).any(|slot| self.packs[slot.pack as usize].own && !self.lost.contains(&slot.pack))
    }

    fn slots<'a>(&'a self, id: &RecordId) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let further = self.copies.get(id).into_iter().flatten();
        self.records.get(id).into_iter().chain(further)
    }

    /// Every place of a record, the best first.
    pub fn places(&self, id: &RecordId) -> impl Iterator<Item = Place> + '_ {
        self.slots(id).map(|slot| Place {
            pack: self.packs[slot.pack as usize].id,
            offset: slot.offset,
            len: slot.len,
        })
    }

    /// Every record with its places, in no order.
    pub fn records(&self) -> impl Iterator<Item = &RecordId> {
        self.records.keys()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

async fn load_delta(
    repo: &Repository,
    sessions: &HashMap<SessionId, Session>,
    key: &str,
) -> Result<(SessionId, bool, IndexDelta)> {
    let (session, lane) = parse_key(key).ok_or_else(|| not_a_delta(key, "its name"))?;
    let known = sessions.get(&session).ok_or_else(|| not_a_delta(key, "its session, which is missing"))?;
    let lane = known.body.lanes.get(lane as usize).ok_or_else(|| not_a_delta(key, "its lane"))?;
    let sealed = repo.store.get_at_most(key, limits::INDEX_LEN as u64).await?;
    let plain = object::open_object("index", &repo.keys.structure, repo.config.repo, key, &sealed)
        .map_err(Error::object(key))?;
    let delta =
        IndexDelta::decode(&plain, &lane.signing, repo.config.repo, key).map_err(Error::object(key))?;
    Ok((session, known.body.certificate.key == repo.keys.certificate.key, delta))
}

fn not_a_delta(key: &str, field: &'static str) -> Error {
    let source = crate::format::Error::Invalid { what: "index", field, found: key.to_owned() };
    Error::Object { key: key.to_owned(), source }
}

fn parse_key(key: &str) -> Option<(SessionId, u32)> {
    let mut parts = key.strip_prefix("index/")?.split('/');
    let session = SessionId::parse(parts.next()?)?;
    let (lane, number) = parts.next()?.split_once('-')?;
    number.parse::<u32>().ok()?;
    parts.next().is_none().then_some((session, lane.parse().ok()?))
}
