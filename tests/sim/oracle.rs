//! Whoever opens the repository now finds every snapshot that was told as committed and that nobody has forgotten,
//! and each that is found gives back, bit for bit, what its writer had.
//!
//! Each look takes the store as it is at that moment and opens it anew. What is remembered from look to look is only
//! what a record of a pack has opened to: packs are never written twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kist::format::entry::{Content, Extent, Kind};
use kist::format::id::{ChunkId, NodeId, PackId, RecordId, SessionId};
use kist::format::node::Node;
use kist::format::object;
use kist::repo::{self, Index, Place, Reader, Repository, Snapshots, Unlock, chain};
use kist::store::Store;
use object_store::memory::InMemory;

use crate::run::off_runtime;
use crate::sea::Sea;
use crate::time::world;
use crate::trees::Tree;

/// What was done, as those who did it were told.
#[derive(Default)]
pub struct Ledger {
    /// What each run wanted to save, by the number that its commit has in it.
    pub runs: BTreeMap<u32, Tree>,
    /// Sessions of which a writer was told that they are committed, and their runs.
    pub told: BTreeMap<SessionId, u32>,
    /// Sessions that somebody has tried to forget and nobody has brought back since.
    pub forgetting: BTreeSet<SessionId>,
    /// Writers that were told that they were fenced, and those that went on in another session.
    pub fenced: u64,
    pub resumed: u64,
    /// Prunes that came to their end, and packs that they swept.
    pub prunes: u64,
    pub swept: u64,
    pub repacked: u64,
    pub deaths: u64,
}

impl Ledger {
    /// A run begins: what it wants to save, and its number.
    pub fn begin(&mut self, tree: &Tree) -> u32 {
        let number = self.runs.len() as u32 + 1;
        self.runs.insert(number, tree.clone());
        number
    }
}

#[derive(Default)]
pub struct Oracle {
    nodes: HashMap<(NodeId, PackId, u32), Arc<Node>>,
    chunks: HashMap<(ChunkId, PackId, u32), Arc<Vec<u8>>>,
    looks: u64,
}

/// The repository as it is now, by itself.
pub struct View {
    pub repo: Repository,
    reader: Arc<Reader>,
    packs: HashSet<PackId>,
}

impl Oracle {
    pub async fn look(&mut self, sea: &Sea, owner: &Unlock, ledger: &Ledger) -> Result<(), String> {
        self.looks += 1;
        let repo = open_fork(sea, owner, self.looks).await?;
        let snapshots = Snapshots::load(&repo).await.map_err(|e| format!("snapshots: {}", chain(&e)))?;
        let index = Index::load(&repo).await.map_err(|e| format!("index: {}", chain(&e)))?;
        if let Some(problem) = snapshots.problems.first().or(index.problems.first()) {
            return Err(format!("a reader meets a problem: {}", chain(problem)));
        }
        let there: HashSet<SessionId> = snapshots.all.iter().map(|snapshot| snapshot.id).collect();
        for (id, run) in &ledger.told {
            if !there.contains(id) && !ledger.forgetting.contains(id) {
                return Err(format!(
                    "snapshot {} of run {run} was told and is not there",
                    id.snapshot_name()
                ));
            }
        }
        let view = View::of(repo, index).await?;
        // What is forgotten can be recalled until a sweep, so it has to be whole as well.
        for snapshot in snapshots.all.iter().chain(&snapshots.forgotten) {
            let name = snapshot.name();
            let run = u32::from_le_bytes(snapshot.commit.class[..].try_into().map_err(|_| "a class")?);
            let wanted = ledger.runs.get(&run).ok_or(format!("snapshot {name} is of no run"))?;
            let root = snapshot.commit.roots[0].node;
            let found = self
                .restore(&view, root)
                .await
                .map_err(|why| format!("snapshot {name}, run {run}: {why}"))?;
            if found != *wanted {
                return Err(format!("snapshot {name}, run {run}: other files than its writer had"));
            }
        }
        Ok(())
    }

    pub async fn restore(&mut self, view: &View, root: NodeId) -> Result<Tree, String> {
        let mut tree = Tree::new();
        let mut next = vec![root];
        while let Some(id) = next.pop() {
            match &*self.node(view, id).await? {
                Node::Inner { children, .. } => next.extend(children.iter().map(|child| child.node)),
                Node::Leaf(entries) => {
                    for entry in entries {
                        let Kind::File { content, .. } = &entry.kind else { return Err("no file".into()) };
                        let name = entry.path.name();
                        let name = String::from_utf8_lossy(name).into_owned();
                        tree.insert(name, self.content(view, content).await?);
                    }
                }
                _ => return Err(format!("{id}: extents in the place of entries")),
            }
        }
        Ok(tree)
    }

    async fn content(&mut self, view: &View, content: &Content) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut next = match content {
            Content::Tree(root) => vec![*root],
            Content::Extents(extents) => {
                self.extents(view, extents, &mut bytes).await?;
                vec![]
            }
        };
        while let Some(id) = next.pop() {
            match &*self.node(view, id).await? {
                Node::ExtentInner { children, .. } => {
                    next.extend(children.iter().rev().map(|child| child.node));
                }
                Node::ExtentLeaf(extents) => self.extents(view, extents, &mut bytes).await?,
                _ => return Err(format!("{id}: entries in the place of extents")),
            }
        }
        Ok(bytes)
    }

    async fn extents(&mut self, view: &View, extents: &[Extent], bytes: &mut Vec<u8>) -> Result<(), String> {
        for extent in extents {
            let Extent::Data { chunk, offset, len } = extent else { return Err("a hole".into()) };
            let (start, end) = (*offset as usize, (*offset + *len) as usize);
            bytes.extend_from_slice(&self.chunk(view, chunk.id).await?[start..end]);
        }
        Ok(())
    }

    async fn node(&mut self, view: &View, id: NodeId) -> Result<Arc<Node>, String> {
        let places = view.places(RecordId::Node(id))?;
        let key = (id, places[0].pack, places[0].offset);
        if let Some(known) = self.nodes.get(&key) {
            return Ok(known.clone());
        }
        let node = Arc::new(view.reader.node(id).await.map_err(|error| chain(&error))?);
        self.nodes.insert(key, node.clone());
        Ok(node)
    }

    async fn chunk(&mut self, view: &View, id: ChunkId) -> Result<Arc<Vec<u8>>, String> {
        let mut last = String::new();
        for place in view.places(RecordId::Chunk(id))? {
            let key = (id, place.pack, place.offset);
            if let Some(known) = self.chunks.get(&key) {
                return Ok(known.clone());
            }
            match view.open(id, place).await {
                Ok(plain) => {
                    let plain = Arc::new(plain);
                    self.chunks.insert(key, plain.clone());
                    return Ok(plain);
                }
                Err(error) => last = chain(&error),
            }
        }
        Err(last)
    }
}

impl View {
    pub async fn of(repo: Repository, index: Index) -> Result<Self, String> {
        let listed = repo.store.list(object::PACKS).await.map_err(|error| chain(&error))?;
        let packs = listed.iter().filter_map(|found| PackId::parse(found.key.rsplit('/').next()?)).collect();
        Ok(Self { reader: Arc::new(Reader::new(&repo, Arc::new(index))), repo, packs })
    }

    /// The places of a record whose packs are there; at least one.
    fn places(&self, id: RecordId) -> Result<Vec<Place>, String> {
        let known: Vec<Place> = self.reader.index().places(&id).collect();
        let there: Vec<Place> =
            known.iter().filter(|place| self.packs.contains(&place.pack)).copied().collect();
        match there.is_empty() {
            true => Err(format!("{id} is in no pack that is there; the index says {known:?}")),
            false => Ok(there),
        }
    }

    async fn open(&self, id: ChunkId, place: Place) -> repo::Result<Vec<u8>> {
        let range = u64::from(place.offset)..u64::from(place.offset) + u64::from(place.len);
        let record = self.repo.store.get_range(&object::pack_key(place.pack), range).await?;
        // On a thread of its own: it may ask the runtime for the session's key.
        off_runtime(|| self.reader.open_chunk(id, &place, &record))
    }
}

/// The repository as it is at this moment, whatever happens to it afterwards.
pub async fn open_fork(sea: &Sea, owner: &Unlock, seed: u64) -> Result<Repository, String> {
    let fork: InMemory = sea.beneath.fork();
    let world = world(&sea.since, seed);
    let opened = repo::open(Store::over(Arc::new(fork)), &world, owner, None).await;
    opened.map_err(|error| format!("opening: {}", chain(&error)))
}
