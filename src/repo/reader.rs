//! Reading a repository: records by id, checked against it; every copy is tried.
//!
//! Nodes are read by whole packs (they are small and lie in the order in which they are
//! read); data is read by the range that the caller plans. Opening is CPU work and sync.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::crypto::hash;
use crate::crypto::secret::Key;
use crate::format::id::{ChunkId, KeyId, NodeId, PackId, RecordId, SessionId};
use crate::format::keys::KeyName;
use crate::format::node::{Node, NodeParts, decode_refs};
use crate::format::object;
use crate::format::pack::Toc;
use crate::format::refs::{ChunkRef, Refs};
use crate::repo::index::Place;
use crate::repo::keys::READERS;
use crate::repo::pack_builder::open_record;
use crate::repo::session::{Session, load_session};
use crate::repo::{Error, Index, Log, Repository, Result, on_cpu};
use crate::store::Class;

/// Whole node packs that are kept; of 4 MiB each by default.
const KEPT_PACKS: usize = 6;

/// What a node refers to; its entries and the name of their key, for who may know them.
type Parts = (Vec<u8>, Option<(KeyName, Vec<u8>)>);

/// A repository's records, as of the index that was loaded.
pub struct Reader {
    repo: Repository,
    index: Arc<Index>,
    /// What the run itself has written since.
    written: Option<Index>,
    /// Loaded since, because something was missing.
    newer: tokio::sync::Mutex<Option<Arc<Index>>>,
    kept: Mutex<VecDeque<(PackId, Arc<OnceCell<Bytes>>)>>,
    lane_keys: Mutex<HashMap<KeyName, Option<Key>>>,
    origins: Mutex<HashMap<SessionId, Option<KeyId>>>,
    runtime: tokio::runtime::Handle,
}

impl Reader {
    /// Must be called within a tokio runtime.
    pub fn new(repo: &Repository, index: Arc<Index>) -> Self {
        Self {
            repo: repo.clone(),
            index,
            written: None,
            newer: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
            lane_keys: Mutex::default(),
            origins: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Finds nodes in `written` too, which the index is not to be loaded anew for.
    pub(super) fn with_written(self, written: Index) -> Self {
        Self { written: Some(written), ..self }
    }

    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// A node's content; needs the meta key of its entries.
    pub async fn node(&self, id: NodeId) -> Result<Node> {
        Ok(self.named_node(id).await?.1)
    }

    /// The same, and the name of that key.
    pub(super) async fn named_node(&self, id: NodeId) -> Result<(KeyName, Node)> {
        let (refs, entries) = self.node_parts(id).await?;
        let Some((name, entries)) = entries else { return Err(self.repo.keys.lacks(READERS)) };
        let node = Node::decode(&NodeParts { refs, entries })
            .map_err(|source| Error::Object { key: RecordId::Node(id).to_string(), source })?;
        Ok((name, node))
    }

    /// What a node refers to: its kind of tree, its level and its references; any role may know. Who can't tell a node
    /// from another with its id gets the references of all that can be read: one is the true one.
    pub async fn node_refs(&self, id: NodeId) -> Result<(u8, u8, Refs)> {
        self.refs_of(id, false).await
    }

    /// The same; an error if one can't be read that may be the true one, in a pack that is not known to be damaged.
    pub async fn all_node_refs(&self, id: NodeId) -> Result<(u8, u8, Refs)> {
        self.refs_of(id, true).await
    }

    async fn refs_of(&self, id: NodeId, is_each_needed: bool) -> Result<(u8, u8, Refs)> {
        let (refs, entries) = self.node_parts(id).await?;
        let decoded = decode(id, &refs);
        match entries {
            Some(_) => decoded,
            None => self.with_others(id, decoded, is_each_needed).await,
        }
    }

    /// With what the node refers to at its other places. Of a pack that somebody has read, the references alone.
    async fn with_others(
        &self,
        id: NodeId,
        first: Result<(u8, u8, Refs)>,
        is_each_needed: bool,
    ) -> Result<(u8, u8, Refs)> {
        let index = &self.index;
        let mut slots: Vec<_> = index.slots_of(&RecordId::Node(id)).collect();
        if slots.len() < 2 {
            return first;
        }
        slots.dedup_by_key(|slot| slot.place());
        slots.retain(|slot| !index.is_damaged(slot.pack()));
        for slot in &slots {
            let pack = index.packs().get(slot.pack());
            if pack.verified
                && let Ok(bytes) = self.whole_pack(pack.id).await
                && hash::plain(&bytes) == pack.hash
                && let Ok((refs, _)) = self.node_at(id, &slot.place()).await
            {
                return decode(id, &refs);
            }
        }
        let mut all: Option<(u8, u8, Refs)> = None;
        for slot in slots {
            let read = self.node_at(id, &slot.place()).await.and_then(|(refs, _)| decode(id, &refs));
            let (tree, level, more) = match read {
                Err(error)
                    if error.is_damage()
                        && (!is_each_needed || self.is_named_falsely(id, &slot.place()).await) =>
                {
                    continue;
                }
                read => read?,
            };
            let (_, _, refs) = all.get_or_insert((tree, level, Refs::default()));
            refs.chunks.extend(more.chunks);
            refs.nodes.extend(more.nodes);
        }
        all.map_or(first, Ok)
    }

    /// Whether the pack's own table does not have a node where the index has it.
    async fn is_named_falsely(&self, id: NodeId, place: &Place) -> bool {
        let keys = &self.repo.keys;
        let Ok(bytes) = self.whole_pack(place.pack).await else { return false };
        let Ok(toc) = Toc::open(&keys.structure, keys.repo, place.pack, &bytes) else { return false };
        let here = (RecordId::Node(id), place.offset, place.len);
        !toc.records.iter().any(|record| (record.id, record.offset, record.len) == here)
    }

    async fn node_parts(&self, id: NodeId) -> Result<Parts> {
        let mut index = self.index.clone();
        loop {
            match self.node_parts_by(&index, id).await {
                Err(error) if is_missing(&error) => {
                    index = self.newer_than(&index).await?.ok_or(error)?;
                }
                read => return read,
            }
        }
    }

    /// What has come since, if anything has: what is missing by an index may have been moved by a prune. Reading goes on
    /// as long as the log or the checkpoint has moved (spec chapter 11).
    async fn newer_than(&self, had: &Arc<Index>) -> Result<Option<Arc<Index>>> {
        let mut newer = self.newer.lock().await;
        if let Some(newer) = newer.as_ref().filter(|newer| !Arc::ptr_eq(newer, had)) {
            return Ok(Some(newer.clone()));
        }
        let loaded = match Log::load(&self.repo).await {
            Ok(log) if had.is_loaded_by(&log) => return Ok(None),
            Ok(log) => Index::load_by_log(&self.repo, log).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok((index, _)) => {
                tracing::info!("something was moved while it was being read: the index is loaded anew");
                Ok(newer.insert(Arc::new(index)).clone().into())
            }
            Err(error) if error.is_inconclusive() => Err(error),
            // What was missing is what is told.
            Err(_) => Ok(None),
        }
    }

    async fn node_parts_by(&self, index: &Index, id: NodeId) -> Result<Parts> {
        let record_id = RecordId::Node(id);
        let mut last = Error::Unknown { id: record_id };
        let written = self.written.iter().flat_map(|written| written.places(&record_id));
        for place in index.places(&record_id).chain(written) {
            match self.node_at(id, &place).await {
                Ok(parts) => return Ok(parts),
                Err(error) => last = rather(last, error),
            }
        }
        Err(last)
    }

    async fn node_at(&self, id: NodeId, place: &Place) -> Result<Parts> {
        let record_id = RecordId::Node(id);
        let pack = self.whole_pack(place.pack).await.map_err(|error| missing_or(error, record_id, place))?;
        match place.of(&pack).map(|record| self.open_node(id, record)) {
            Some(Ok(parts)) => Ok(parts),
            Some(Err(_)) => Err(damaged(record_id, place, "it does not open")),
            None => Err(damaged(record_id, place, "the pack ends before it")),
        }
    }

    /// Opens a node from the bytes of its record and compares its id: its references, and its entries for who may know
    /// them.
    pub(super) fn open_node(&self, id: NodeId, record: &[u8]) -> Result<Parts> {
        let keys = &self.repo.keys;
        let mut name = None;
        let mut parts = open_record(keys, &RecordId::Node(id), record, |found| {
            name = Some(*found);
            Ok(keys.meta_key(found))
        })?;
        let entries = (parts.len() == 2).then(|| parts.pop()).flatten();
        let refs = parts.pop().unwrap_or_default();
        let Some(entries) = entries else { return Ok((refs, None)) };
        let parts = NodeParts { refs, entries };
        match name {
            Some(name) if keys.ids()?.node_id(&name, &parts) == id => {
                self.index.found_sound(id);
                Ok((parts.refs, Some((name, parts.entries))))
            }
            _ => Err(Error::Unknown { id: RecordId::Node(id) }),
        }
    }

    async fn whole_pack(&self, id: PackId) -> Result<Bytes> {
        // Whoever wants a pack that is being fetched waits for it instead of fetching it too.
        let pack = self.kept_pack(id);
        let key = object::pack_key(id);
        let bytes = pack.get_or_try_init(|| self.repo.store.get(&key)).await?;
        Ok(bytes.clone())
    }

    /// Where a pack is kept, or will be; the least used one gives way.
    fn kept_pack(&self, id: PackId) -> Arc<OnceCell<Bytes>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(kept, _)| *kept == id).and_then(|at| kept.remove(at));
        let pack = known.map(|(_, pack)| pack).unwrap_or_default();
        kept.push_back((id, pack.clone()));
        if kept.len() > KEPT_PACKS {
            kept.pop_front();
        }
        pack
    }

    /// Opens a chunk from the bytes of its record and compares its id. Needs who can read data.
    pub fn open_chunk(&self, id: ChunkId, place: &Place, record: &[u8]) -> Result<Vec<u8>> {
        let record_id = RecordId::Chunk(id);
        let keys = &self.repo.keys;
        keys.check_reads_data()?;
        let mut parts = open_record(keys, &record_id, record, |name| self.lane_key(name)).map_err(
            |error| match error {
                Error::Store(_) => error,
                _ => damaged(record_id, place, "it does not open"),
            },
        )?;
        let plain = parts.pop().ok_or_else(|| damaged(record_id, place, "its key is missing"))?;
        match keys.ids()?.chunk_id(&plain) == id {
            true => Ok(plain),
            false => Err(damaged(record_id, place, "its content is not what its id says")),
        }
    }

    /// Reads a chunk wherever a sound copy of it lies; opened on a CPU thread. It is as long as `chunk` says.
    pub async fn chunk(self: &Arc<Self>, chunk: ChunkRef) -> Result<Vec<u8>> {
        let mut index = self.index.clone();
        loop {
            match self.chunk_by(&index, chunk).await {
                Err(error) if is_missing(&error) => {
                    index = self.newer_than(&index).await?.ok_or(error)?;
                }
                read => return read,
            }
        }
    }

    async fn chunk_by(self: &Arc<Self>, index: &Index, chunk: ChunkRef) -> Result<Vec<u8>> {
        let record_id = RecordId::Chunk(chunk.id);
        let mut last = Error::Unknown { id: record_id };
        for place in index.places(&record_id) {
            let range = u64::from(place.offset)..u64::from(place.offset) + u64::from(place.len);
            let read = self.repo.store.get_range(&object::pack_key(place.pack), range).await;
            let opened = match read {
                Ok(record) => {
                    let reader = self.clone();
                    on_cpu(move || reader.open_as(chunk, &place, &record)).await.flatten()
                }
                Err(error) => Err(error.into()),
            };
            match opened {
                Ok(plain) => return Ok(plain),
                Err(error @ Error::Role { .. }) => return Err(error),
                Err(error) => last = rather(last, missing_or(error, record_id, &place)),
            }
        }
        Err(last)
    }

    /// Opens a chunk for who was told of it by a node, and holds it against what that says.
    pub(super) fn open_as(&self, chunk: ChunkRef, place: &Place, record: &[u8]) -> Result<Vec<u8>> {
        let plain = self.open_chunk(chunk.id, place, record)?;
        match plain.len() == chunk.len as usize {
            true => Ok(plain),
            false => Err(damaged(RecordId::Chunk(chunk.id), place, "a node says that it has another length")),
        }
    }

    /// The key that has begun a session: nobody else has its lane keys to seal with. None if its object is lost. Blocks:
    /// for threads that are not the runtime's.
    pub(super) fn origin_of(&self, session: SessionId) -> Result<Option<KeyId>> {
        let origins = || self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins().get(&session) {
            return Ok(*known);
        }
        let origin_of = |session: &Session| session.body.certificate.key;
        let origin = match self.index.sessions.get(&session) {
            Some(known) => Some(origin_of(known)),
            None => self.runtime.block_on(self.load_session(session))?.as_ref().map(origin_of),
        };
        origins().insert(session, origin);
        Ok(origin)
    }

    /// The data key of a lane, unwrapped once. None if this role can't have it, or its session is lost.
    /// Blocks: for threads that are not the runtime's.
    pub fn lane_key(&self, name: &KeyName) -> Result<Option<Key>> {
        let KeyName::Data { session, .. } = *name else { return Ok(None) };
        if let Some(known) = self.known_lane_key(name) {
            return Ok(known);
        }
        let loaded = match self.index.sessions.get(&session) {
            Some(_) => None,
            None => self.runtime.block_on(self.load_session(session))?,
        };
        Ok(self.unwrap_lane_key(name, loaded.as_ref()))
    }

    /// The same, for who waits on the runtime.
    pub async fn wait_for_lane_key(&self, name: &KeyName) -> Result<Option<Key>> {
        let KeyName::Data { session, .. } = *name else { return Ok(None) };
        if let Some(known) = self.known_lane_key(name) {
            return Ok(known);
        }
        let loaded = match self.index.sessions.get(&session) {
            Some(_) => None,
            None => self.load_session(session).await?,
        };
        Ok(self.unwrap_lane_key(name, loaded.as_ref()))
    }

    /// None if it is lost: missing, or not as it was written. That the store gives no answer says nothing of it.
    async fn load_session(&self, id: SessionId) -> Result<Option<Session>> {
        match load_session(&self.repo, id).await {
            Err(error) if !error.is_inconclusive() => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    fn known_lane_key(&self, name: &KeyName) -> Option<Option<Key>> {
        self.lane_keys.lock().expect("no holder of this lock panics").get(name).cloned()
    }

    fn unwrap_lane_key(&self, name: &KeyName, loaded: Option<&Session>) -> Option<Key> {
        let KeyName::Data { session, lane } = *name else { return None };
        let session_of = || self.index.sessions.get(&session).or(loaded);
        let wrapped = || Some(&*session_of()?.body.lanes.get(lane as usize)?.keys);
        let key = self.repo.keys.lane_key(session, lane, wrapped);
        self.lane_keys.lock().expect("no holder of this lock panics").insert(*name, key.clone());
        key
    }
}

/// The index says that the pack is there: that it is missing is damage.
fn decode(id: NodeId, refs: &[u8]) -> Result<(u8, u8, Refs)> {
    decode_refs(refs).map_err(|source| Error::Object { key: RecordId::Node(id).to_string(), source })
}

fn missing_or(error: Error, id: RecordId, place: &Place) -> Error {
    match error {
        Error::Store(error) if error.class() == Class::Missing => damaged(id, place, PACK_MISSING),
        error => error,
    }
}

/// Of what two copies of a record say: where the store gave no answer, a sound one may lie.
fn rather(last: Error, error: Error) -> Error {
    if last.is_inconclusive() { last } else { error }
}

const PACK_MISSING: &str = "the pack is missing";

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. } | Error::Damaged { what: PACK_MISSING, .. })
}

fn damaged(id: RecordId, place: &Place, what: &'static str) -> Error {
    Error::Damaged { id, pack: place.pack, what }
}
