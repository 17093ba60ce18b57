//! Reading trees: entries in path order, a subtree, one entry, the difference of two trees.
//!
//! A cursor holds one node for each level. Nodes that two trees share are never opened by
//! [`Difference`], so it costs what changed.

use crate::format::entry::{Content, Entry, Extent, TreePath};
use crate::format::node::{Child, ExtentChild};
use crate::repo::{ExtentNode, PathNode, Result, TreeReader};

/// Walks a tree in path order.
///
/// After an error it stands behind the node that could not be read, and may go on.
pub struct Cursor {
    tree: TreeReader,
    /// What is still to come, nearest last.
    ahead: Vec<Ahead>,
    /// The last path of the last node that was opened, passed over or could not be read. Of a root that is not known,
    /// and nothing comes after it.
    passed: Option<TreePath>,
}

/// The level of a root shows when it is opened; until then it counts as the highest.
const OF_ROOT: u8 = u8::MAX;

enum Ahead {
    /// Children of an inner node, the next one last.
    Children { level: u8, rest: Vec<Child> },
    /// Entries of a leaf, the next one last.
    Entries(Vec<Entry>),
}

/// What a cursor stands before.
enum Head {
    Node(u8),
    Entry,
    End,
}

impl Cursor {
    /// Stands before the first entry of the tree.
    pub fn new(tree: TreeReader) -> Self {
        let root = Child { last: TreePath::root(), node: tree.root };
        let ahead = vec![Ahead::Children { level: OF_ROOT, rest: vec![root] }];
        Self { tree, ahead, passed: None }
    }

    pub fn tree(&self) -> &TreeReader {
        &self.tree
    }

    /// After an error: where the entries end that it cost. The root's path if that is not known, because the
    /// whole tree is lost.
    pub fn failed_at(&self) -> TreePath {
        self.passed.clone().unwrap_or_default()
    }

    fn head(&mut self) -> Head {
        while let Some(next) = self.ahead.last() {
            match next {
                Ahead::Children { level, rest } => match rest.last() {
                    Some(_) => return Head::Node(*level),
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

    fn peek_child(&self) -> Option<&Child> {
        match self.ahead.last() {
            Some(Ahead::Children { rest, .. }) => rest.last(),
            _ => None,
        }
    }

    /// Passes over the node before the cursor.
    fn pass_child(&mut self) {
        if let Some(Ahead::Children { rest, .. }) = self.ahead.last_mut() {
            self.passed = rest.pop().map(|child| child.last);
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
        let Some(Ahead::Children { level, rest }) = self.ahead.last_mut() else { return Ok(()) };
        let (level, Some(child)) = (*level, rest.pop()) else { return Ok(()) };
        let said = (level != OF_ROOT).then_some((level, &child.last));
        match self.tree.path_node(child.node, said, self.passed.as_ref()).await {
            Ok(PathNode::Leaf(mut entries)) => {
                entries.reverse();
                self.ahead.push(Ahead::Entries(entries));
                self.passed = Some(child.last);
            }
            Ok(PathNode::Inner { level, mut children }) => {
                children.reverse();
                self.ahead.push(Ahead::Children { level: level - 1, rest: children });
            }
            Err(error) => {
                self.passed = Some(child.last);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.head() {
                Head::Entry => return Ok(self.take_entry()),
                Head::Node(_) => self.expand().await?,
                Head::End => return Ok(None),
            }
        }
    }

    /// The next entries, as many as a leaf has left; empty at the end. Spares the caller an await for each.
    pub async fn next_many(&mut self) -> Result<Vec<Entry>> {
        loop {
            match self.head() {
                Head::Node(_) => self.expand().await?,
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
                    Some(child) if *level != OF_ROOT && skip(&child.last) => self.pass_child(),
                    Some(_) => self.expand().await?,
                },
            }
        }
    }
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
    pub fn new(before: Option<TreeReader>, after: TreeReader) -> Self {
        let before = match before {
            Some(before) => Cursor::new(before),
            None => Cursor { ahead: Vec::new(), ..Cursor::new(after.clone()) },
        };
        Self { before, after: Cursor::new(after) }
    }

    /// Whether both stand before one node, which each of them says the same of.
    fn is_shared(&self) -> bool {
        let is_of_one_key = self.before.tree.meta == self.after.tree.meta;
        is_of_one_key && self.before.peek_child() == self.after.peek_child()
    }

    pub async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            match (self.before.head(), self.after.head()) {
                (Head::Node(_), Head::Node(_)) if self.is_shared() => {
                    self.before.pass_child();
                    self.after.pass_child();
                }
                (Head::Node(a), Head::Node(b)) => {
                    if a >= b {
                        self.before.expand().await?;
                    }
                    if b >= a {
                        self.after.expand().await?;
                    }
                }
                (Head::Node(_), _) => self.before.expand().await?,
                (_, Head::Node(_)) => self.after.expand().await?,
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

/// Walks the extents of a file in order. Unless there is an error, they have as many bytes as the file.
pub struct Extents {
    tree: TreeReader,
    ahead: Vec<ExtentsAhead>,
}

enum ExtentsAhead {
    /// Children of an inner node, the next one last. A root's level is not known.
    Children { level: Option<u8>, rest: Vec<ExtentChild> },
    /// Extents of a leaf, the next one last.
    Extents(Vec<Extent>),
}

impl Extents {
    pub fn of(tree: TreeReader, size: u64, content: &Content) -> Self {
        let ahead = match content {
            Content::Extents(extents) => ExtentsAhead::Extents(extents.iter().rev().copied().collect()),
            Content::Tree(root) => {
                ExtentsAhead::Children { level: None, rest: vec![ExtentChild { len: size, node: *root }] }
            }
        };
        Self { tree, ahead: vec![ahead] }
    }

    pub async fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            let (level, child) = match self.ahead.last_mut() {
                None => return Ok(None),
                Some(ExtentsAhead::Extents(rest)) => match rest.pop() {
                    Some(extent) => return Ok(Some(extent)),
                    None => {
                        self.ahead.pop();
                        continue;
                    }
                },
                Some(ExtentsAhead::Children { level, rest }) => match rest.pop() {
                    Some(child) => (*level, child),
                    None => {
                        self.ahead.pop();
                        continue;
                    }
                },
            };
            self.ahead.push(match self.tree.extent_node(child.node, level, child.len).await? {
                ExtentNode::Leaf(mut extents) => {
                    extents.reverse();
                    ExtentsAhead::Extents(extents)
                }
                ExtentNode::Inner { level, mut children } => {
                    children.reverse();
                    ExtentsAhead::Children { level: Some(level - 1), rest: children }
                }
            });
        }
    }
}
