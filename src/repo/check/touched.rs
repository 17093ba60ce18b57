//! What is lost, of which snapshots: the trees are walked once more, if there is damage, and along the damaged ways
//! only. Each shared node is looked at once; what is remembered is two bits a record.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::format::commit::{Root, RootKind};
use crate::format::entry::{Content, Entry, Extent, Kind, TreePath};
use crate::format::id::{NodeId, RecordId};
use crate::format::node::{Child, ExtentChild};
use crate::progress::Progress;
use crate::repo::bits::Bits;
use crate::repo::check::damage::Damage;
use crate::repo::check::finding::{Lost, Told, Touched};
use crate::repo::{Error, ExtentNode, PathNode, Reader, Result, Snapshot, TreeReader, summary};

/// Looks for what the damage costs each snapshot.
pub struct Ways<'a> {
    reader: &'a Arc<Reader>,
    damage: &'a mut Damage,
    seen: Bits,
    /// Below these lies something that is lost.
    hit: Bits,
    tell: &'a (dyn Fn(Told) + Sync),
    told: u64,
}

/// What is being looked at, of one snapshot.
struct At<'s> {
    snapshot: &'s Snapshot,
    root: Root,
    tree: TreeReader,
    volume: Option<String>,
}

/// A node whose children are being looked at.
struct Open {
    ordinal: usize,
    rest: Vec<NodeId>,
    hit: bool,
}

/// The bytes of a file that are lost, while its extents are walked.
#[derive(Default)]
struct Holes {
    at: u64,
    ranges: Vec<Range<u64>>,
    because: Option<String>,
}

impl<'a> Ways<'a> {
    pub fn new(reader: &'a Arc<Reader>, damage: &'a mut Damage, tell: &'a (dyn Fn(Told) + Sync)) -> Self {
        let none = || Bits::new(reader.index().len());
        Self { reader, damage, seen: none(), hit: none(), tell, told: 0 }
    }

    /// Tells what is lost of each snapshot. Gives how much that is.
    pub async fn walk(mut self, snapshots: &[Snapshot], progress: &dyn Progress) -> Result<u64> {
        for snapshot in snapshots {
            for root in &snapshot.commit.roots {
                if progress.is_cancelled() {
                    return Ok(self.told);
                }
                if !self.leads_to_damage(root.node).await? {
                    continue;
                }
                let keys = &self.reader.repo().keys;
                let is_named = keys.meta_key(&snapshot.commit.meta_key_name(root.source)).is_some();
                let tree = TreeReader::new(self.reader.clone(), snapshot, root);
                let at = At { snapshot, root: *root, tree, volume: self.volume(snapshot, root) };
                match is_named {
                    true => self.names(&at).await?,
                    false => self.count(&at).await?,
                }
            }
        }
        Ok(self.told)
    }

    fn volume(&self, snapshot: &Snapshot, root: &Root) -> Option<String> {
        if root.kind != RootKind::Volume {
            return None;
        }
        let repo = self.reader.repo();
        let summary = summary(repo, snapshot).ok()??;
        let ids = repo.keys.ids().ok()?;
        let mut volumes = summary.cluster.iter().flat_map(|cluster| &cluster.volumes);
        let is_it = |source| ids.source_id(&source) == root.source;
        let volume = volumes.find(|volume| summary.source_of(volume).is_some_and(is_it))?;
        Some(format!("{}/{}", volume.namespace, volume.name))
    }

    fn lost(&mut self, at: &At<'_>, lost: Lost, because: String) {
        self.told += 1;
        let volume = at.volume.clone();
        let touched = Touched { snapshot: at.snapshot.name(), root: at.root.kind, volume, lost, because };
        (self.tell)(Told::Touched(touched));
    }

    fn is_lost(&self, id: RecordId) -> bool {
        self.damage.is_lost(self.reader.index(), &id)
    }

    /// What is known of a node without reading it.
    fn known(&mut self, id: NodeId) -> Option<bool> {
        let record = RecordId::Node(id);
        if self.is_lost(record) {
            self.damage.blame(self.reader.index(), &record);
            return Some(true);
        }
        let ordinal = self.reader.index().ordinal(&record)?;
        self.seen.contains(ordinal).then(|| self.hit.contains(ordinal))
    }

    /// Whether something below the node, or the node itself, is lost.
    async fn leads_to_damage(&mut self, id: NodeId) -> Result<bool> {
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let mut open = vec![self.open(id).await?];
        loop {
            let top = open.last_mut().expect("the loop ends with the last one");
            if let Some(child) = top.rest.pop() {
                match self.known(child) {
                    Some(hit) => open.last_mut().expect("it was just there").hit |= hit,
                    None => {
                        let child = self.open(child).await?;
                        open.push(child);
                    }
                }
                continue;
            }
            let done = open.pop().expect("it was just there");
            if done.hit {
                self.hit.insert(done.ordinal);
            }
            match open.last_mut() {
                Some(parent) => parent.hit |= done.hit,
                None => return Ok(done.hit),
            }
        }
    }

    async fn open(&mut self, id: NodeId) -> Result<Open> {
        let ordinal = self.reader.index().ordinal(&RecordId::Node(id));
        let ordinal = ordinal.ok_or(Error::Unknown { id: RecordId::Node(id) })?;
        self.seen.insert(ordinal);
        match self.reader.node_refs(id).await {
            Ok((_, _, refs)) => {
                let chunks = refs.chunks.into_iter().map(RecordId::Chunk);
                let lost: Vec<RecordId> = chunks.filter(|chunk| self.is_lost(*chunk)).collect();
                lost.iter().for_each(|chunk| self.damage.blame(self.reader.index(), chunk));
                Ok(Open { ordinal, rest: refs.nodes, hit: !lost.is_empty() })
            }
            Err(error) if !error.is_damage() => Err(error),
            Err(_) => {
                self.damage.nodes.insert(id);
                Ok(Open { ordinal, rest: Vec::new(), hit: true })
            }
        }
    }

    /// How many records are lost below a root, for who can't tell of what.
    async fn count(&mut self, at: &At<'_>) -> Result<()> {
        let mut lost = HashSet::new();
        let mut been = HashSet::new();
        let mut because = None;
        let mut next = vec![at.root.node];
        while let Some(id) = next.pop() {
            if !been.insert(id) || !self.leads_to_damage(id).await? {
                continue;
            }
            let record = RecordId::Node(id);
            if self.is_lost(record) {
                because.get_or_insert_with(|| Damage::cause(self.reader.index(), &record));
                lost.insert(record);
                continue;
            }
            let (_, _, refs) = self.reader.node_refs(id).await?;
            for chunk in refs.chunks.into_iter().map(RecordId::Chunk).filter(|chunk| self.is_lost(*chunk)) {
                because.get_or_insert_with(|| Damage::cause(self.reader.index(), &chunk));
                lost.insert(chunk);
            }
            next.extend(refs.nodes);
        }
        self.lost(at, Lost::Records { count: lost.len() as u64 }, because.unwrap_or_default());
        Ok(())
    }

    /// The paths below a root that are lost, in their order.
    async fn names(&mut self, at: &At<'_>) -> Result<()> {
        let mut ahead: Vec<(NodeId, Option<(u8, TreePath)>)> = vec![(at.root.node, None)];
        let mut after = None;
        while let Some((id, said)) = ahead.pop() {
            let last = said.as_ref().map(|(_, last)| last.clone());
            if self.leads_to_damage(id).await? {
                let said = said.as_ref().map(|(level, last)| (*level, last));
                let node = at.tree.path_node(id, said, after.as_ref()).await;
                match self.lost_or(id, node)? {
                    Ok(PathNode::Inner { level, children }) => {
                        let said = |child: Child| (child.node, Some((level - 1, child.last)));
                        ahead.extend(children.into_iter().rev().map(said));
                        continue;
                    }
                    Ok(PathNode::Leaf(entries)) => {
                        for entry in entries {
                            self.entry(at, entry).await?;
                        }
                    }
                    Err(because) => {
                        self.lost(at, Lost::Entries { after: after.clone(), upto: last.clone() }, because);
                    }
                }
            }
            after = last;
        }
        Ok(())
    }

    /// What was read of a node, or what cost it.
    fn lost_or<T>(&mut self, id: NodeId, read: Result<T>) -> Result<Result<T, String>> {
        match read {
            Ok(read) => Ok(Ok(read)),
            // It is not lost where another tree has it.
            Err(Error::Misplaced { id, .. }) => Ok(Err(id.to_string())),
            Err(error) if error.is_damage() => {
                self.damage.nodes.insert(id);
                Ok(Err(Damage::cause(self.reader.index(), &RecordId::Node(id))))
            }
            Err(error) => Err(error),
        }
    }

    async fn entry(&mut self, at: &At<'_>, entry: Entry) -> Result<()> {
        let Kind::File { size, content, .. } = entry.kind else { return Ok(()) };
        let mut holes = Holes::default();
        match content {
            Content::Extents(extents) => self.extents(&extents, &mut holes),
            Content::Tree(root) => self.extent_tree(at, root, size, &mut holes).await?,
        }
        if let Some(because) = holes.because {
            self.lost(at, Lost::File { path: entry.path, size, ranges: holes.ranges }, because);
        }
        Ok(())
    }

    fn extents(&self, extents: &[Extent], holes: &mut Holes) {
        for extent in extents {
            match extent {
                Extent::Data { chunk, .. } if self.is_lost(RecordId::Chunk(chunk.id)) => {
                    holes
                        .add(extent.len(), || Damage::cause(self.reader.index(), &RecordId::Chunk(chunk.id)));
                }
                extent => holes.at += extent.len(),
            }
        }
    }

    async fn extent_tree(&mut self, at: &At<'_>, root: NodeId, size: u64, holes: &mut Holes) -> Result<()> {
        let mut ahead = vec![(root, None, size)];
        while let Some((id, level, len)) = ahead.pop() {
            if !self.leads_to_damage(id).await? {
                holes.at += len;
                continue;
            }
            let node = at.tree.extent_node(id, level, len).await;
            match self.lost_or(id, node)? {
                Ok(ExtentNode::Inner { level, children }) => {
                    let said = |child: ExtentChild| (child.node, Some(level - 1), child.len);
                    ahead.extend(children.into_iter().rev().map(said));
                }
                Ok(ExtentNode::Leaf(extents)) => self.extents(&extents, holes),
                Err(because) => holes.add(len, || because),
            }
        }
        Ok(())
    }
}

impl Holes {
    /// The next `len` bytes are lost.
    fn add(&mut self, len: u64, because: impl FnOnce() -> String) {
        let end = self.at.saturating_add(len);
        match self.ranges.last_mut() {
            Some(last) if last.end == self.at => last.end = end,
            _ => self.ranges.push(self.at..end),
        }
        self.at = end;
        self.because.get_or_insert_with(because);
    }
}
