//! Writing trees: entries in, nodes out, the root's id at the end.
//!
//! Spec: chapter 6. Entries come in path order; a node is saved as soon as it ends, so memory
//! is a node for each level, whatever the size of the tree. The same entries give the same
//! root, whatever the history.

use crate::crypto::secret::Key;
use crate::format::entry::{Content, Entry, Extent, TreePath};
use crate::format::id::NodeId;
use crate::format::keys::KeyName;
use crate::format::limits;
use crate::format::node::{Child, ExtentChild, Node, NodeCut, entry_bytes};
use crate::repo::{Error, Result, Writer};

/// Where a tree's nodes go and what they are sealed with.
pub struct NodeSink<'a> {
    pub writer: &'a Writer,
    pub meta: &'a (KeyName, Key),
    pub cut: &'a NodeCut,
}

impl NodeSink<'_> {
    fn save(&self, node: &Node) -> Result<NodeId> {
        Ok(self.writer.save_node(node, self.meta)?.id)
    }
}

/// Builds a tree of entries.
pub struct TreeBuilder {
    leaf: Vec<Entry>,
    leaf_bytes: usize,
    /// Inner nodes that are being filled, from level 1 up.
    inner: Vec<InnerNode>,
    last: Option<TreePath>,
}

#[derive(Default)]
struct InnerNode {
    children: Vec<Child>,
    bytes: usize,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    pub fn new() -> Self {
        Self { leaf: Vec::new(), leaf_bytes: 0, inner: Vec::new(), last: None }
    }

    /// Takes the next entry; its path comes after all before it.
    pub fn push(&mut self, sink: &NodeSink<'_>, entry: Entry) -> Result<()> {
        assert!(
            self.last.as_ref().is_none_or(|last| *last < entry.path),
            "entries come in path order: {:?} after {:?}",
            entry.path,
            self.last
        );
        let bytes = entry_bytes(&entry);
        self.leaf_bytes += bytes;
        let path = entry.path.clone();
        self.leaf.push(entry);
        let ends = sink.cut.ends_path_node(0, &path, bytes, self.leaf_bytes);
        self.last = Some(path);
        if ends { self.end_leaf(sink) } else { Ok(()) }
    }

    fn end_leaf(&mut self, sink: &NodeSink<'_>) -> Result<()> {
        let entries = std::mem::take(&mut self.leaf);
        self.leaf_bytes = 0;
        let last = entries.last().map(|entry| entry.path.clone()).unwrap_or_default();
        let node = sink.save(&Node::Leaf(entries))?;
        self.add_child(sink, 1, Child { last, node })
    }

    fn add_child(&mut self, sink: &NodeSink<'_>, level: u8, child: Child) -> Result<()> {
        if level >= limits::TREE_LEVELS {
            let (found, most) = (u64::from(level) + 1, u64::from(limits::TREE_LEVELS));
            return Err(Error::TooLarge { what: "a tree's height", found, most });
        }
        if self.inner.len() < usize::from(level) {
            self.inner.push(InnerNode::default());
        }
        let filling = &mut self.inner[usize::from(level) - 1];
        let bytes = child.last.sort_key().len() + NodeId::LEN;
        filling.bytes += bytes;
        let ends = sink.cut.ends_path_node(level, &child.last, bytes, filling.bytes);
        filling.children.push(child);
        if ends { self.end_inner(sink, level) } else { Ok(()) }
    }

    fn end_inner(&mut self, sink: &NodeSink<'_>, level: u8) -> Result<()> {
        let full = std::mem::take(&mut self.inner[usize::from(level) - 1]);
        let last = full.children.last().map(|child| child.last.clone()).unwrap_or_default();
        let node = sink.save(&Node::Inner { level, children: full.children })?;
        self.add_child(sink, level + 1, Child { last, node })
    }

    /// Ends the open nodes and gives the root. A level with a single child gets no node of its own.
    pub fn finish(mut self, sink: &NodeSink<'_>) -> Result<NodeId> {
        if self.inner.is_empty() {
            return sink.save(&Node::Leaf(self.leaf));
        }
        if !self.leaf.is_empty() {
            self.end_leaf(sink)?;
        }
        let mut level = 1;
        loop {
            let children = &self.inner[usize::from(level) - 1].children;
            let top = usize::from(level) == self.inner.len();
            match children.as_slice() {
                [only] if top => return Ok(only.node),
                [] => {}
                _ => self.end_inner(sink, level)?,
            }
            level += 1;
        }
    }
}

/// Builds the content of one large file from its extents.
#[derive(Default)]
pub struct ContentBuilder {
    leaf: Vec<Extent>,
    /// Inner nodes that are being filled, from level 1 up.
    inner: Vec<Vec<ExtentChild>>,
    /// Whether a node was saved: then the content is a tree.
    is_tree: bool,
    /// The leaf's cut was found while the extents might still fit into the entry.
    cuts: Vec<usize>,
}

impl ContentBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next extent. Holes that follow each other must be joined by the caller.
    pub fn push(&mut self, sink: &NodeSink<'_>, extent: Extent) -> Result<()> {
        self.leaf.push(extent);
        let start = self.cuts.last().copied().unwrap_or(0);
        if sink.cut.ends_extent_node(0, &extent_key(&extent), self.leaf.len() - start) {
            self.cuts.push(self.leaf.len());
        }
        if self.is_tree || self.leaf.len() > limits::INLINE_EXTENTS {
            self.is_tree = true;
            self.save_leaves(sink)?;
        }
        Ok(())
    }

    fn save_leaves(&mut self, sink: &NodeSink<'_>) -> Result<()> {
        let cuts = std::mem::take(&mut self.cuts);
        let mut taken = 0;
        for cut in cuts {
            let rest = self.leaf.split_off(cut - taken);
            let full = std::mem::replace(&mut self.leaf, rest);
            taken = cut;
            self.save_leaf(sink, full)?;
        }
        Ok(())
    }

    fn save_leaf(&mut self, sink: &NodeSink<'_>, extents: Vec<Extent>) -> Result<()> {
        let len = extents.iter().map(Extent::len).sum();
        let node = sink.save(&Node::ExtentLeaf(extents))?;
        self.add_child(sink, 1, ExtentChild { len, node })
    }

    fn add_child(&mut self, sink: &NodeSink<'_>, level: u8, child: ExtentChild) -> Result<()> {
        if self.inner.len() < usize::from(level) {
            self.inner.push(Vec::new());
        }
        let filling = &mut self.inner[usize::from(level) - 1];
        filling.push(child);
        if sink.cut.ends_extent_node(level, &child.node.0, filling.len()) {
            self.end_inner(sink, level)?;
        }
        Ok(())
    }

    fn end_inner(&mut self, sink: &NodeSink<'_>, level: u8) -> Result<()> {
        let children = std::mem::take(&mut self.inner[usize::from(level) - 1]);
        let len = children.iter().map(|child| child.len).sum();
        let node = sink.save(&Node::ExtentInner { level, children })?;
        self.add_child(sink, level + 1, ExtentChild { len, node })
    }

    /// The file's content: its extents, or the root of a tree of them.
    pub fn finish(mut self, sink: &NodeSink<'_>) -> Result<Content> {
        if !self.is_tree {
            return Ok(Content::Extents(self.leaf));
        }
        if !self.leaf.is_empty() {
            let rest = std::mem::take(&mut self.leaf);
            self.save_leaf(sink, rest)?;
        }
        let mut level = 1u8;
        loop {
            let children = &self.inner[usize::from(level) - 1];
            let top = usize::from(level) == self.inner.len();
            match children.as_slice() {
                [only] if top => return Ok(Content::Tree(only.node)),
                [] => {}
                _ => self.end_inner(sink, level)?,
            }
            level += 1;
        }
    }
}

/// What the cut behind an extent depends on: its chunk; a hole's length.
fn extent_key(extent: &Extent) -> [u8; 32] {
    match extent {
        Extent::Data { chunk, .. } => chunk.id.0,
        Extent::Hole { len } => {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&len.to_le_bytes());
            key
        }
    }
}
