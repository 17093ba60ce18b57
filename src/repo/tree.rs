//! Reading the nodes of one tree: each is held against what is said of it where it is referred to.
//!
//! Spec: chapter 6, what a reader that walks a tree refuses. A decoder sees one node. Whoever may commit could refer to
//! a few of them again and again, so that there is no end to what lies below, or to those of another source.

use std::sync::Arc;

use crate::format::commit::Root;
use crate::format::entry::{Entry, Extent, TreePath};
use crate::format::id::{NodeId, RecordId};
use crate::format::keys::KeyName;
use crate::format::node::{Child, ExtentChild, Node};
use crate::repo::{Error, Reader, Result, Snapshot};

/// One tree, with the trees of extents of its files.
#[derive(Clone)]
pub struct TreeReader {
    pub reader: Arc<Reader>,
    pub root: NodeId,
    /// The key that all of its nodes are sealed with.
    pub meta: KeyName,
}

/// A node of a tree of paths; `level` is its own.
pub enum PathNode {
    Leaf(Vec<Entry>),
    Inner { level: u8, children: Vec<Child> },
}

/// A node of a tree of extents.
pub enum ExtentNode {
    Leaf(Vec<Extent>),
    Inner { level: u8, children: Vec<ExtentChild> },
}

impl TreeReader {
    /// The tree below a root of a snapshot.
    pub fn new(reader: Arc<Reader>, snapshot: &Snapshot, root: &Root) -> Self {
        Self { reader, root: root.node, meta: snapshot.commit.meta_key_name(root.source) }
    }

    /// A node of the tree of paths. `said` is what its parent says of its level and its last path, none of a root;
    /// `after` is the last path of the node before.
    pub async fn path_node(
        &self,
        id: NodeId,
        said: Option<(u8, &TreePath)>,
        after: Option<&TreePath>,
    ) -> Result<PathNode> {
        let node = match self.node(id).await? {
            Node::Leaf(entries) => PathNode::Leaf(entries),
            Node::Inner { level, children } => PathNode::Inner { level, children },
            Node::ExtentLeaf(_) | Node::ExtentInner { .. } => return Err(misplaced(id, OTHER_KIND)),
        };
        let (level, first, last) = match &node {
            PathNode::Leaf(entries) => (0, entries.first().map(path), entries.last().map(path)),
            PathNode::Inner { level, children } => {
                (*level, children.first().map(|child| &child.last), children.last().map(|child| &child.last))
            }
        };
        if let Some((said, end)) = said {
            check_level(id, level, Some(said))?;
            if last != Some(end) {
                return Err(misplaced(id, format!("its last path is not {end}")));
            }
        }
        if let (Some(first), Some(after)) = (first, after)
            && first <= after
        {
            return Err(misplaced(id, format!("its path {first} does not come after {after}")));
        }
        Ok(node)
    }

    /// A node of a file's tree of extents. `level` is what its parent says, none of a root; `len` is how many bytes of
    /// the file lie below it, as its parent or the file's entry says.
    pub async fn extent_node(&self, id: NodeId, level: Option<u8>, len: u64) -> Result<ExtentNode> {
        let (node, found, lens) = match self.node(id).await? {
            Node::ExtentLeaf(extents) => {
                let lens = sum(extents.iter().map(Extent::len));
                (ExtentNode::Leaf(extents), 0, lens)
            }
            Node::ExtentInner { level, children } => {
                let lens = sum(children.iter().map(|child| child.len));
                (ExtentNode::Inner { level, children }, level, lens)
            }
            Node::Leaf(_) | Node::Inner { .. } => return Err(misplaced(id, OTHER_KIND)),
        };
        check_level(id, found, level)?;
        if lens != Some(len) {
            let lens = lens.map_or("too many".into(), |lens| lens.to_string());
            return Err(misplaced(id, format!("its extents have {lens} bytes, not {len}")));
        }
        Ok(node)
    }

    async fn node(&self, id: NodeId) -> Result<Node> {
        match self.reader.named_node(id).await? {
            (meta, node) if meta == self.meta => Ok(node),
            _ => Err(misplaced(id, "it is of another writer or source")),
        }
    }
}

const OTHER_KIND: &str = "it is of the other kind of tree";

fn path(entry: &Entry) -> &TreePath {
    &entry.path
}

fn check_level(id: NodeId, found: u8, said: Option<u8>) -> Result<()> {
    match said {
        Some(said) if said != found => Err(misplaced(id, format!("its level is {found}, not {said}"))),
        _ => Ok(()),
    }
}

fn sum(mut lens: impl Iterator<Item = u64>) -> Option<u64> {
    lens.try_fold(0, u64::checked_add)
}

fn misplaced(id: NodeId, what: impl Into<String>) -> Error {
    Error::Misplaced { id: RecordId::Node(id), what: what.into() }
}
