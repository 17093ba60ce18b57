//! Adding to a repository: deduplicate, seal, fill packs, hand them to the uploads.
//!
//! [`Writer::save_chunk`] and [`Writer::save_node`] are called from many CPU threads at once.
//! Several data packs are open at a time and each record goes to a random one, so that
//! lengths of packs tell little of lengths of chunks. A dropped writer leaves garbage, never a lie.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::crypto::secret::Key;
use crate::format::id::{ChunkId, NodeId, RecordId};
use crate::format::keys::KeyName;
use crate::format::limits;
use crate::format::node::Node;
use crate::format::pack::PackKind;
use crate::repo::pack_builder::{OpenPack, chunk_record, node_record};
use crate::repo::session::Lane;
use crate::repo::upload::{Share, Uploaded, Uploads};
use crate::repo::{Error, Index, IndexBuilder, Reader, Repository, Result};

/// Even a slow line gets no smaller packs: each costs a request, and a table.
const SMALLEST_PACK_BYTES: usize = 1024 * 1024;

/// What is not format.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    pub data_pack_bytes: usize,
    pub node_pack_bytes: usize,
    /// Data packs open at a time.
    pub open_data_packs: usize,
    /// zstd's level, where the source or the store is what is waited for.
    pub compression_level: i32,
    /// The same where CPUs are: a third faster than level 3 and two hundredths larger.
    pub hurried_level: i32,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            data_pack_bytes: 16 * 1024 * 1024,
            node_pack_bytes: 4 * 1024 * 1024,
            open_data_packs: 2,
            compression_level: 3,
            hurried_level: 2,
        }
    }
}

impl WriterSettings {
    /// For a store that takes no more than so many bytes a second: with packs of two seconds, uploads are spread.
    pub fn limited(upload: Option<NonZeroU64>) -> Self {
        let all = Self::default();
        let seconds = upload
            .map_or(usize::MAX, |limit| usize::try_from(limit.get().saturating_mul(2)).unwrap_or(usize::MAX));
        let most = |bytes: usize| seconds.clamp(SMALLEST_PACK_BYTES, bytes);
        Self { data_pack_bytes: most(all.data_pack_bytes), node_pack_bytes: most(all.node_pack_bytes), ..all }
    }
}

/// What saving did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved<Id> {
    pub id: Id,
    /// Not in the repository before.
    pub new: bool,
}

/// What a writer did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Plaintext of new records, in bytes.
    pub new_bytes: u64,
    pub new_chunks: u64,
    pub new_nodes: u64,
    pub uploaded: Uploaded,
}

type Filling = Mutex<Option<(OpenPack, Share)>>;

/// One lane's way into the repository.
pub struct Writer {
    repo: Repository,
    index: Arc<Index>,
    /// Reads nodes before they are referred to.
    reader: Reader,
    runtime: tokio::runtime::Handle,
    lane: Lane,
    settings: WriterSettings,
    uploads: Uploads,
    /// Records that this writer has taken on; so that two threads don't seal the same one.
    claimed: Mutex<HashSet<RecordId>>,
    /// Threads that are saving chunks.
    saving: AtomicUsize,
    data: Vec<Filling>,
    nodes: Filling,
    /// The nodes that are sealed, for who reads them when all is written. None if there was no room for that.
    sealed: Mutex<Option<IndexBuilder>>,
    new_bytes: AtomicU64,
    new_chunks: AtomicU64,
    new_nodes: AtomicU64,
}

impl Writer {
    /// Must be called within a tokio runtime; used from threads that are not the runtime's.
    pub fn new(repo: &Repository, index: Arc<Index>, lane: Lane, settings: WriterSettings) -> Self {
        Self {
            uploads: Uploads::start(repo.clone(), lane.clone()),
            repo: repo.clone(),
            reader: Reader::new(repo, index.clone()),
            runtime: tokio::runtime::Handle::current(),
            index,
            lane,
            data: (0..settings.open_data_packs.max(1)).map(|_| Mutex::new(None)).collect(),
            nodes: Mutex::new(None),
            sealed: Mutex::new(Some(IndexBuilder::new(repo.scratch.clone(), true))),
            settings,
            claimed: Mutex::default(),
            saving: AtomicUsize::new(0),
            new_bytes: AtomicU64::new(0),
            new_chunks: AtomicU64::new(0),
            new_nodes: AtomicU64::new(0),
        }
    }

    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// The index that records are compared with: as it was when the session began.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Saves a piece of plaintext, at most [`limits::CHUNK_LEN`] long.
    pub fn save_chunk(&self, plain: &[u8]) -> Result<Saved<ChunkId>> {
        assert!(plain.len() <= limits::CHUNK_LEN, "chunkers keep to the limit");
        let id = self.repo.keys.ids()?.chunk_id(plain);
        if self.index.may_refer_to(&RecordId::Chunk(id)) || !self.claim(RecordId::Chunk(id)) {
            self.uploads.check()?;
            return Ok(Saved { id, new: false });
        }
        let name = KeyName::Data { session: self.lane.session, lane: self.lane.number };
        let key = (name, &self.lane.data);
        let all_are_busy = self.saving.fetch_add(1, Ordering::Relaxed) + 1 >= rayon::current_num_threads();
        let level = match all_are_busy && !self.uploads.is_behind() {
            true => self.settings.hurried_level,
            false => self.settings.compression_level,
        };
        let record = chunk_record(&self.repo.keys, &self.repo.world, id, key, plain, level);
        self.saving.fetch_sub(1, Ordering::Relaxed);
        let [random] = self.repo.world.bytes();
        let pack = &self.data[usize::from(random) % self.data.len()];
        self.append(pack, PackKind::Data, RecordId::Chunk(id), &record?)?;
        self.new_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        self.new_chunks.fetch_add(1, Ordering::Relaxed);
        Ok(Saved { id, new: true })
    }

    /// Saves a node whose entries are sealed with `meta`. Not to be called on a thread of the runtime.
    pub fn save_node(&self, node: &Node, meta: &(KeyName, Key)) -> Result<Saved<NodeId>> {
        let parts = node.encode();
        for part in [&parts.refs, &parts.entries] {
            if part.len() > limits::NODE_PART_LEN {
                let (found, most) = (part.len() as u64, limits::NODE_PART_LEN as u64);
                return Err(Error::TooLarge { what: "a node", found, most });
            }
        }
        let id = self.repo.keys.ids()?.node_id(&meta.0, &parts);
        let record_id = RecordId::Node(id);
        if self.may_refer_to_node(id)? || !self.claim(record_id) {
            self.uploads.check()?;
            return Ok(Saved { id, new: false });
        }
        let level = self.settings.compression_level;
        let key = (meta.0, &meta.1);
        let record = node_record(&self.repo.keys, &self.repo.world, record_id, key, &parts, level)?;
        self.append(&self.nodes, PackKind::Nodes, record_id, &record)?;
        self.new_bytes.fetch_add((parts.refs.len() + parts.entries.len()) as u64, Ordering::Relaxed);
        self.new_nodes.fetch_add(1, Ordering::Relaxed);
        Ok(Saved { id, new: true })
    }

    /// Whether the record is this caller's to seal.
    fn claim(&self, id: RecordId) -> bool {
        lock(&self.claimed).insert(id)
    }

    /// A node is referred to only after it was read: the comparison with the parent has read most of those
    /// that come back, and a damaged one would cost the new snapshot all that is below it.
    fn may_refer_to_node(&self, id: NodeId) -> Result<bool> {
        if !self.index.may_refer_to(&RecordId::Node(id)) {
            return Ok(false);
        }
        if self.index.is_sound(id) {
            return Ok(true);
        }
        match self.runtime.block_on(self.reader.node(id)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_inconclusive() => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn append(&self, filling: &Filling, kind: PackKind, id: RecordId, record: &[u8]) -> Result<()> {
        let target = match kind {
            PackKind::Data => self.settings.data_pack_bytes,
            PackKind::Nodes => self.settings.node_pack_bytes,
        };
        // Waiting for room happens outside of the lock, so that the other threads can go on.
        let mut spare: Option<Share> = None;
        loop {
            let mut open = lock(filling);
            match &mut *open {
                Some((pack, _)) if !pack.is_full_for(record.len(), target) => {
                    pack.push(id, record);
                    return Ok(());
                }
                full => match spare.take() {
                    Some(mut share) => {
                        let sessions = match kind {
                            PackKind::Data => vec![self.lane.session],
                            PackKind::Nodes => Vec::new(),
                        };
                        let mut pack = OpenPack::new(kind, sessions, &self.repo.world, share.take_buffer());
                        pack.push(id, record);
                        let full = full.replace((pack, share));
                        drop(open);
                        return full.map_or(Ok(()), |full| self.send(full));
                    }
                    None => {
                        // A full pack leaves first: its share is what the next one may wait for.
                        let full = full.take();
                        drop(open);
                        full.map_or(Ok(()), |full| self.send(full))?;
                        spare = Some(self.uploads.share(target.max(record.len()))?);
                    }
                },
            }
        }
    }

    fn send(&self, (pack, share): (OpenPack, Share)) -> Result<()> {
        if pack.is_empty() {
            return Ok(());
        }
        let pack = pack.seal(&self.repo.keys, &self.repo.world);
        if pack.index.kind == PackKind::Nodes {
            let mut sealed = lock(&self.sealed);
            if sealed.as_mut().is_some_and(|sealed| sealed.add(&pack.index, None, true).is_err()) {
                *sealed = None;
            }
        }
        self.uploads.send(pack, share)
    }

    /// Uploads what is still open, and the rest of the index. Gives also what reads all trees that were written, before
    /// that index is loaded; if this machine has room for it.
    pub async fn finish(self) -> Result<(Stats, Option<Reader>)> {
        let writer = tokio::task::spawn_blocking(move || {
            for filling in self.data.iter().chain([&self.nodes]) {
                let open = lock(filling).take();
                if let Some(open) = open {
                    self.send(open)?;
                }
            }
            let written = lock(&self.sealed).take().and_then(|sealed| sealed.finish().ok());
            Ok::<_, Error>((self, written))
        });
        let (writer, written) = writer.await.expect("sealing packs does not panic")?;
        let stats = Stats {
            new_bytes: writer.new_bytes.into_inner(),
            new_chunks: writer.new_chunks.into_inner(),
            new_nodes: writer.new_nodes.into_inner(),
            uploaded: writer.uploads.finish().await?,
        };
        Ok((stats, written.map(|written| writer.reader.with_written(written))))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
