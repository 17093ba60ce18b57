//! Reading trees: entries in path order, a subtree, one entry, the difference of two trees.
//!
//! A cursor holds one node for each level. Nodes that two trees share are never opened by
//! [`Difference`], so it costs what changed.

use std::sync::Arc;

use crate::format::entry::{Content, Entry, Extent, TreePath};
use crate::format::id::NodeId;
use crate::format::node::{Child, ExtentChild, Node};
use crate::repo::{Error, Reader, Result};

/// Walks a tree in path order.
///
/// After an error it stands behind the node that could not be read, and may go on.
pub struct Cursor {
    reader: Arc<Reader>,
    /// What is still to come, nearest last.
    ahead: Vec<Ahead>,
    /// The last path below the node that could not be read.
    failed_at: TreePath,
}

enum Ahead {
    /// Children of an inner node, the next one last.
    Children { level: u8, rest: Vec<Child> },
    /// Entries of a leaf, the next one last.
    Entries(Vec<Entry>),
}

/// What a cursor stands before.
enum Head {
    Node(u8, NodeId),
    Entry,
    End,
}

impl Cursor {
    /// Stands before the first entry of the tree.
    pub fn new(reader: Arc<Reader>, root: NodeId) -> Self {
        // The level of the root shows when it is opened; until then it counts as the highest.
        let root = Child { last: TreePath::root(), node: root };
        let ahead = vec![Ahead::Children { level: u8::MAX, rest: vec![root] }];
        Self { reader, ahead, failed_at: TreePath::root() }
    }

    /// A cursor that has nothing before it.
    pub fn empty(reader: Arc<Reader>) -> Self {
        Self { reader, ahead: Vec::new(), failed_at: TreePath::root() }
    }

    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// After an error: where the entries end that it cost. The root's path if that is not known, because the
    /// whole tree is lost.
    pub fn failed_at(&self) -> &TreePath {
        &self.failed_at
    }

    fn head(&mut self) -> Head {
        while let Some(next) = self.ahead.last() {
            match next {
                Ahead::Children { level, rest } => match rest.last() {
                    Some(child) => return Head::Node(*level, child.node),
                    None => drop(self.ahead.pop()),
                },
                Ahead::Entries(rest) => match rest.is_empty() {
                    false => return Head::Entry,
                    true => drop(self.ahead.pop()),
                },
            }
        }
        Head::End
    }

    fn take_child(&mut self) -> Option<Child> {
        match self.ahead.last_mut() {
            Some(Ahead::Children { rest, .. }) => rest.pop(),
            _ => None,
        }
    }

    fn peek_entry(&self) -> Option<&Entry> {
        match self.ahead.last() {
            Some(Ahead::Entries(rest)) => rest.last(),
            _ => None,
        }
    }

    fn take_entry(&mut self) -> Option<Entry> {
        match self.ahead.last_mut() {
            Some(Ahead::Entries(rest)) => rest.pop(),
            _ => None,
        }
    }

    /// Replaces the node before the cursor by what is in it.
    async fn expand(&mut self) -> Result<()> {
        let Some(child) = self.take_child() else { return Ok(()) };
        let node = self.reader.node(child.node).await;
        if node.is_err() {
            self.failed_at = child.last;
        }
        match node? {
            Node::Leaf(mut entries) => {
                entries.reverse();
                self.ahead.push(Ahead::Entries(entries));
            }
            Node::Inner { level, mut children } => {
                children.reverse();
                self.ahead.push(Ahead::Children { level: level - 1, rest: children });
            }
            Node::ExtentLeaf(_) | Node::ExtentInner { .. } => return Err(wrong_tree(child.node)),
        }
        Ok(())
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.head() {
                Head::Entry => return Ok(self.take_entry()),
                Head::Node(..) => self.expand().await?,
                Head::End => return Ok(None),
            }
        }
    }

    /// The next entries, as many as a leaf has left; empty at the end. Spares the caller an await for each.
    pub async fn next_many(&mut self) -> Result<Vec<Entry>> {
        loop {
            match self.head() {
                Head::Node(..) => self.expand().await?,
                Head::End => return Ok(Vec::new()),
                Head::Entry => {
                    let Some(Ahead::Entries(mut rest)) = self.ahead.pop() else { continue };
                    rest.reverse();
                    return Ok(rest);
                }
            }
        }
    }

    /// Goes on behind everything that lies below `folder`, which was just given.
    pub async fn skip_below(&mut self, folder: &TreePath) -> Result<()> {
        self.skip_while(|path| path <= folder || path.is_within(folder)).await
    }

    /// Goes on to the first entry that is not before `path`, without opening the nodes between.
    pub async fn seek(&mut self, path: &TreePath) -> Result<()> {
        self.skip_while(|found| found < path).await
    }

    /// `skip` is true for a beginning of the paths and false for the rest.
    async fn skip_while(&mut self, skip: impl Fn(&TreePath) -> bool) -> Result<()> {
        loop {
            match self.ahead.last_mut() {
                None => return Ok(()),
                Some(Ahead::Entries(rest)) => match rest.last() {
                    Some(entry) if skip(&entry.path) => drop(rest.pop()),
                    Some(_) => return Ok(()),
                    None => drop(self.ahead.pop()),
                },
                Some(Ahead::Children { level, rest }) => match rest.last() {
                    None => drop(self.ahead.pop()),
                    Some(child) if *level != u8::MAX && skip(&child.last) => drop(rest.pop()),
                    Some(_) => self.expand().await?,
                },
            }
        }
    }
}

/// One entry of a tree.
pub async fn find(reader: &Arc<Reader>, root: NodeId, path: &TreePath) -> Result<Option<Entry>> {
    let mut cursor = Cursor::new(reader.clone(), root);
    cursor.seek(path).await?;
    Ok(cursor.next().await?.filter(|entry| entry.path == *path))
}

/// How an entry differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(Entry),
    Changed { before: Entry, after: Entry },
    Removed(Entry),
}

/// The difference of two trees, in path order.
pub struct Difference {
    before: Cursor,
    after: Cursor,
}

impl Difference {
    /// `before` is none for a first tree: then all is added.
    pub fn new(reader: &Arc<Reader>, before: Option<NodeId>, after: NodeId) -> Self {
        let before = match before {
            Some(root) => Cursor::new(reader.clone(), root),
            None => Cursor::empty(reader.clone()),
        };
        Self { before, after: Cursor::new(reader.clone(), after) }
    }

    pub async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            match (self.before.head(), self.after.head()) {
                (Head::Node(_, a), Head::Node(_, b)) if a == b => {
                    self.before.take_child();
                    self.after.take_child();
                }
                (Head::Node(a, _), Head::Node(b, _)) => {
                    if a >= b {
                        self.before.expand().await?;
                    }
                    if b >= a {
                        self.after.expand().await?;
                    }
                }
                (Head::Node(..), _) => self.before.expand().await?,
                (_, Head::Node(..)) => self.after.expand().await?,
                (Head::End, Head::End) => return Ok(None),
                (Head::Entry | Head::End, Head::Entry | Head::End) => {
                    if let Some(change) = self.compare() {
                        return Ok(Some(change));
                    }
                }
            }
        }
    }

    /// Takes the earlier of the two entries, or both if they are of one path.
    fn compare(&mut self) -> Option<Change> {
        let order = match (self.before.peek_entry(), self.after.peek_entry()) {
            (Some(before), Some(after)) => before.path.cmp(&after.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => self.before.take_entry().map(Change::Removed),
            std::cmp::Ordering::Greater => self.after.take_entry().map(Change::Added),
            std::cmp::Ordering::Equal => {
                let (before, after) = (self.before.take_entry()?, self.after.take_entry()?);
                (before != after).then_some(Change::Changed { before, after })
            }
        }
    }
}

/// Walks the extents of a file in order.
pub struct Extents {
    reader: Arc<Reader>,
    ahead: Vec<ExtentsAhead>,
}

enum ExtentsAhead {
    Nodes(Vec<ExtentChild>),
    Extents(Vec<Extent>),
}

impl Extents {
    pub fn of(reader: Arc<Reader>, content: &Content) -> Self {
        let ahead = match content {
            Content::Extents(extents) => ExtentsAhead::Extents(extents.iter().rev().copied().collect()),
            Content::Tree(root) => ExtentsAhead::Nodes(vec![ExtentChild { len: 0, node: *root }]),
        };
        Self { reader, ahead: vec![ahead] }
    }

    pub async fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            let child = match self.ahead.last_mut() {
                None => return Ok(None),
                Some(ExtentsAhead::Extents(rest)) => match rest.pop() {
                    Some(extent) => return Ok(Some(extent)),
                    None => {
                        self.ahead.pop();
                        continue;
                    }
                },
                Some(ExtentsAhead::Nodes(rest)) => match rest.pop() {
                    Some(child) => child,
                    None => {
                        self.ahead.pop();
                        continue;
                    }
                },
            };
            match self.reader.node(child.node).await? {
                Node::ExtentLeaf(mut extents) => {
                    extents.reverse();
                    self.ahead.push(ExtentsAhead::Extents(extents));
                }
                Node::ExtentInner { mut children, .. } => {
                    children.reverse();
                    self.ahead.push(ExtentsAhead::Nodes(children));
                }
                Node::Leaf(_) | Node::Inner { .. } => return Err(wrong_tree(child.node)),
            }
        }
    }
}

fn wrong_tree(id: NodeId) -> Error {
    Error::Object {
        key: format!("node {id}"),
        source: crate::format::Error::Invalid { what: "node", field: "tree", found: "the other kind".into() },
    }
}
