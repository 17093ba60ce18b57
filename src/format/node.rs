//! Nodes: the pieces of a tree. Two sealed parts: *refs* (which ids, for maintenance) and
//! *entries* (names, attributes, places; for who may know them).
//!
//! Spec: chapter 6. Two kinds of trees: path to entry, and the extents of one large file.
//! Which entries share a node depends on their keys and sizes alone, so the same entries
//! give the same nodes whatever the history.

use crate::crypto::hash;
use crate::crypto::secret::Key;
use crate::format::codec::{Reader, Writer};
use crate::format::entry::{Entry, Extent, TreePath, read_extent, read_path, write_extent, write_path};
use crate::format::id::{ChunkId, NodeId};
use crate::format::keys::KeyName;
use crate::format::refs::{Refs, RefsReader, RefsWriter};
use crate::format::{Error, limits};

/// A child of an inner node of a path tree; `last` is the last path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub last: TreePath,
    pub node: NodeId,
}

/// A child of an inner node of a tree of extents; `len` is how many bytes of the file lie below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentChild {
    pub len: u64,
    pub node: NodeId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Leaf(Vec<Entry>),
    Inner { level: u8, children: Vec<Child> },
    ExtentLeaf(Vec<Extent>),
    ExtentInner { level: u8, children: Vec<ExtentChild> },
}

/// A node's plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeParts {
    pub refs: Vec<u8>,
    pub entries: Vec<u8>,
}

const REFS: &str = "node references";
const ENTRIES: &str = "node entries";
const PATHS: u8 = 1;
const EXTENTS: u8 = 2;

impl Node {
    pub fn encode(&self) -> NodeParts {
        let mut out = Writer::new();
        let mut refs = RefsWriter::default();
        let (tree, level) = match self {
            Node::Leaf(entries) => {
                out.varint(entries.len() as u64);
                let mut last = &TreePath::root();
                for entry in entries {
                    write_path(&mut out, last, &entry.path);
                    entry.write(&mut out, &mut refs);
                    last = &entry.path;
                }
                (PATHS, 0)
            }
            Node::Inner { level, children } => {
                out.varint(children.len() as u64);
                let mut last = &TreePath::root();
                for child in children {
                    write_path(&mut out, last, &child.last);
                    refs.node(child.node);
                    last = &child.last;
                }
                (PATHS, *level)
            }
            Node::ExtentLeaf(extents) => {
                out.varint(extents.len() as u64);
                extents.iter().for_each(|extent| write_extent(&mut out, &mut refs, extent));
                (EXTENTS, 0)
            }
            Node::ExtentInner { level, children } => {
                out.varint(children.len() as u64);
                for child in children {
                    out.varint(child.len);
                    refs.node(child.node);
                }
                (EXTENTS, *level)
            }
        };
        NodeParts { refs: encode_refs(tree, level, &refs.refs), entries: out.into_bytes() }
    }

    pub fn decode(parts: &NodeParts) -> Result<Self, Error> {
        let (tree, level, refs) = decode_refs(&parts.refs)?;
        let mut input = Reader::new(ENTRIES, &parts.entries);
        let mut refs = RefsReader::new(&refs);
        let count = input.count("entries", limits::NODE_PART_LEN, 1)?;
        let node = match (tree, level) {
            (PATHS, 0) => Node::Leaf(read_leaf(&mut input, &mut refs, count)?),
            (PATHS, _) => Node::Inner { level, children: read_inner(&mut input, &mut refs, count)? },
            (_, 0) => {
                let extents = (0..count).map(|_| read_extent(&mut input, &mut refs));
                Node::ExtentLeaf(extents.collect::<Result<_, _>>()?)
            }
            _ => {
                let children = (0..count).map(|_| match input.varint()? {
                    0 => Err(input.invalid("extent length", 0)),
                    len => Ok(ExtentChild { len, node: refs.node(&input)? }),
                });
                Node::ExtentInner { level, children: children.collect::<Result<_, Error>>()? }
            }
        };
        if level > 0 && count == 0 {
            return Err(input.invalid("children", 0));
        }
        refs.end(&input)?;
        input.end()?;
        Ok(node)
    }
}

fn read_leaf(input: &mut Reader<'_>, refs: &mut RefsReader<'_>, count: usize) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut room = limits::NODE_PART_LEN;
    for _ in 0..count {
        let root = TreePath::root();
        let last = entries.last().map_or(&root, |entry| &entry.path);
        let path = read_path(input, last, entries.is_empty())?;
        take_room(input, &mut room, &path)?;
        entries.push(Entry::read(input, refs, path)?);
    }
    Ok(entries)
}

fn read_inner(input: &mut Reader<'_>, refs: &mut RefsReader<'_>, count: usize) -> Result<Vec<Child>, Error> {
    let mut children: Vec<Child> = Vec::new();
    let mut room = limits::NODE_PART_LEN;
    for _ in 0..count {
        let root = TreePath::root();
        let last = children.last().map_or(&root, |child| &child.last);
        let last = read_path(input, last, children.is_empty())?;
        take_room(input, &mut room, &last)?;
        children.push(Child { last, node: refs.node(input)? });
    }
    Ok(children)
}

/// Holds all paths of a node, in full, to a limit: each costs a few bytes if it shares its start with the
/// one before it, so that a small node could take all memory.
fn take_room(input: &Reader<'_>, room: &mut usize, path: &TreePath) -> Result<(), Error> {
    let (len, most) = (path.sort_key().len(), limits::NODE_PART_LEN);
    let beyond = || input.too_much("paths", (most - *room + len) as u64, most);
    *room = room.checked_sub(len).ok_or_else(beyond)?;
    Ok(())
}

fn encode_refs(tree: u8, level: u8, refs: &Refs) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(tree);
    out.u8(level);
    out.varint(refs.chunks.len() as u64);
    refs.chunks.iter().for_each(|id| out.raw(&id.0));
    out.varint(refs.nodes.len() as u64);
    refs.nodes.iter().for_each(|id| out.raw(&id.0));
    out.into_bytes()
}

/// What a node refers to, and its level; all that maintenance can and need know.
pub fn decode_refs(bytes: &[u8]) -> Result<(u8, u8, Refs), Error> {
    let mut input = Reader::new(REFS, bytes);
    let tree = input.u8()?;
    if tree != PATHS && tree != EXTENTS {
        return Err(input.invalid("tree", tree));
    }
    let level = input.u8()?;
    if level >= limits::TREE_LEVELS {
        return Err(input.invalid("level", level));
    }
    let most = limits::NODE_PART_LEN / 32;
    let count = input.count("chunks", most, 32)?;
    let chunks = (0..count).map(|_| Ok(ChunkId(input.array()?))).collect::<Result<Vec<_>, Error>>()?;
    let count = input.count("nodes", most, 32)?;
    let nodes = (0..count).map(|_| NodeId::read(&mut input)).collect::<Result<Vec<_>, Error>>()?;
    input.end()?;
    if level > 0 && !chunks.is_empty() {
        return Err(input.invalid("chunks", "in an inner node"));
    }
    let mut seen = std::collections::HashSet::new();
    if !chunks.iter().all(|id| seen.insert(id)) {
        return Err(input.invalid("chunks", "one twice"));
    }
    Ok((tree, level, Refs { chunks, nodes }))
}

/// The id of a node: binds both parts and the key of its entries, so that equal nodes under
/// different keys are different nodes.
pub fn node_id(node_id_key: &Key, key: &KeyName, parts: &NodeParts) -> NodeId {
    let refs_len = (parts.refs.len() as u32).to_le_bytes();
    NodeId(hash::keyed(node_id_key, &[&key.to_bytes(), &refs_len, &parts.refs, &parts.entries]))
}

/// Where nodes end. `cut_key` is drawn from the domain's chunker key.
pub struct NodeCut {
    cut_key: Key,
}

/// No node ends before it has this many bytes of entries.
pub const NODE_MIN_BYTES: usize = 16 * 1024;
/// What nodes have on average beyond the minimum.
pub const NODE_AVG_BYTES: usize = 48 * 1024;
/// A node ends when it has reached this.
pub const NODE_MAX_BYTES: usize = 256 * 1024;
/// An extent leaf or inner node ends between these numbers of items, on average at 512.
pub const EXTENTS_MIN: usize = 64;
pub const EXTENTS_MAX: usize = 4096;
const EXTENTS_AVG: u64 = 512;

impl NodeCut {
    pub fn new(cut_key: Key) -> Self {
        Self { cut_key }
    }

    /// Whether a node of a path tree ends behind the item with this path, which takes
    /// `item_bytes` and with which the node has `node_bytes`. The chance grows with the item's size.
    pub fn ends_path_node(&self, level: u8, path: &TreePath, item_bytes: usize, node_bytes: usize) -> bool {
        if node_bytes < NODE_MIN_BYTES {
            return false;
        }
        if node_bytes >= NODE_MAX_BYTES {
            return true;
        }
        let threshold = (item_bytes as u64) << 32;
        self.draw(&[&[level], path.sort_key()]) * (NODE_AVG_BYTES as u64) < threshold
    }

    /// Whether a node of a tree of extents ends behind the item with this id, its `items`th.
    pub fn ends_extent_node(&self, level: u8, id: &[u8; 32], items: usize) -> bool {
        if items < EXTENTS_MIN {
            return false;
        }
        items >= EXTENTS_MAX || self.draw(&[&[level], id]) * EXTENTS_AVG < 1 << 32
    }

    /// 32 bits that depend on the parts and the key alone.
    fn draw(&self, parts: &[&[u8]]) -> u64 {
        let drawn = hash::keyed(&self.cut_key, parts);
        u64::from(u32::from_le_bytes(*drawn.first_chunk().expect("a hash has 32 bytes")))
    }
}

/// Bytes that an entry takes in a leaf, path not shortened: what node cuts count with, so that
/// they depend on the entry alone. References count with four bytes.
pub fn entry_bytes(entry: &Entry) -> usize {
    let mut out = Writer::new();
    entry.write(&mut out, &mut RefsWriter::default());
    out.len() + entry.path.sort_key().len() + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Attributes, Content, FileTime, Kind};
    use crate::format::id::LinkGroup;
    use crate::format::refs::ChunkRef;

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    fn sample() -> Node {
        let attributes = Attributes {
            mode: 0o4755,
            uid: 1000,
            gid: u32::MAX,
            mtime: FileTime { secs: -5, nanos: 999_999_999 },
            ctime: FileTime { secs: 7, nanos: 0 },
            xattrs: vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![0, 255])],
            link: Some(LinkGroup([3; 16])),
        };
        let data = |chunk, offset, len| {
            let chunk = ChunkRef { id: ChunkId([chunk; 32]), len: 18 };
            Extent::Data { chunk, offset, len }
        };
        let file = |extents: Vec<Extent>, hash| Kind::File {
            size: extents.iter().map(Extent::len).sum(),
            content: Content::Extents(extents),
            hash,
        };
        let entry = |text, kind| Entry { path: path(text), attributes: attributes.clone(), kind };
        Node::Leaf(vec![
            entry("", Kind::Folder),
            entry("a", file(vec![], Some([1; 32]))),
            entry("ab", file(vec![data(1, 0, 9), Extent::Hole { len: 1 << 40 }, data(2, 3, 4)], None)),
            entry("ac", file(vec![data(1, 9, 9)], Some([2; 32]))),
            entry("b", Kind::File { size: 1 << 50, content: Content::Tree(NodeId([9; 32])), hash: None }),
            entry("c", Kind::Symlink { target: b"../\xff".to_vec() }),
            entry("d", Kind::CharDevice { major: 1, minor: 3 }),
            entry("e", Kind::Fifo),
        ])
    }

    #[test]
    fn nodes_come_back() {
        let inner = Node::Inner {
            level: 1,
            children: vec![
                Child { last: path("a"), node: NodeId([1; 32]) },
                Child { last: path("b/c"), node: NodeId([1; 32]) },
            ],
        };
        let extents = Node::ExtentLeaf(vec![Extent::Hole { len: 7 }]);
        let extent_inner =
            Node::ExtentInner { level: 2, children: vec![ExtentChild { len: 9, node: NodeId([1; 32]) }] };
        for node in [sample(), Node::Leaf(vec![]), inner, extents, extent_inner] {
            assert_eq!(Node::decode(&node.encode()).unwrap(), node);
        }
    }

    #[test]
    fn no_shortened_or_lengthened_node_is_accepted() {
        let parts = sample().encode();
        for len in 0..parts.entries.len() {
            let cut = NodeParts { refs: parts.refs.clone(), entries: parts.entries[..len].to_vec() };
            assert!(Node::decode(&cut).is_err(), "entries cut at {len}");
        }
        for len in 0..parts.refs.len() {
            let cut = NodeParts { refs: parts.refs[..len].to_vec(), entries: parts.entries.clone() };
            assert!(Node::decode(&cut).is_err(), "refs cut at {len}");
        }
        let mut more = parts.clone();
        more.entries.push(0);
        assert!(Node::decode(&more).is_err());
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes() {
        let parts = sample().encode();
        for i in 0..parts.entries.len() {
            for flip in [1, 0x80] {
                let mut changed = parts.clone();
                changed.entries[i] ^= flip;
                if let Ok(node) = Node::decode(&changed) {
                    assert_eq!(node.encode(), changed, "byte {i}");
                }
            }
        }
    }

    /// A node of 1 MiB, each of whose paths takes 14 bytes and has 60,000, once decoded to 4 GiB.
    #[test]
    fn a_small_node_of_long_paths_that_share_their_start_is_refused() {
        let names = vec!["x".repeat(250); 240].join("/");
        let entry = |n: u32| Entry {
            path: path(&format!("{names}/{n:06}")),
            attributes: Attributes::default(),
            kind: Kind::Fifo,
        };
        let decode = |entries: u32| Node::decode(&Node::Leaf((0..entries).map(entry).collect()).encode());
        assert!(decode(69).is_ok());
        assert!(matches!(decode(70), Err(Error::TooMuch { field: "paths", .. })));
        let child = |n: u32| Child { last: entry(n).path, node: NodeId([1; 32]) };
        let children = (0..70).map(child).collect();
        let inner = Node::decode(&Node::Inner { level: 1, children }.encode());
        assert!(matches!(inner, Err(Error::TooMuch { field: "paths", .. })));
    }

    #[test]
    fn the_key_of_the_entries_is_part_of_the_id() {
        use crate::format::id::{KeyId, SourceId};
        let parts = sample().encode();
        let id = |scope| {
            let key = KeyName::Meta { scope: KeyId([scope; 16]), source: SourceId([0; 16]) };
            node_id(&Key::new([1; 32]), &key, &parts)
        };
        assert_ne!(id(1), id(2));
    }
}
