//! Nodes: entries of every type, and what a node must not be.

use kist::format::codec::Writer;
use kist::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind, TreePath};
use kist::format::id::{ChunkId, LinkGroup, NodeId};
use kist::format::limits;
use kist::format::node::{Child, ExtentChild, Node, NodeParts};
use kist::format::refs::ChunkRef;
use serde_json::Value;

use crate::check::join_node;
use crate::make::{Group, bytes};
use crate::vector::{Encoded, Vector};

pub fn all() -> Vec<Vector> {
    let mut g = Group::new("node", "node");
    sound(&mut g);
    wrong_references(&mut g);
    wrong_paths(&mut g);
    wrong_attributes(&mut g);
    wrong_files(&mut g);
    wrong_extent_trees(&mut g);
    g.out
}

fn path(text: &str) -> TreePath {
    TreePath::from_slashes(text.as_bytes()).expect("a path")
}

fn data(chunk: u8, offset: u32, len: u32) -> Extent {
    let whole = if chunk == 2 { 16 << 20 } else { 18 };
    Extent::Data { chunk: ChunkRef { id: ChunkId([chunk; 32]), len: whole }, offset, len }
}

fn entry(text: &str, kind: Kind) -> Entry {
    Entry { path: path(text), attributes: Attributes::default(), kind }
}

fn file(extents: Vec<Extent>) -> Kind {
    let size = extents.iter().map(Extent::len).sum();
    Kind::File { size, content: Content::Extents(extents), hash: None }
}

/// One entry of each type, and every attribute.
fn every_type() -> Node {
    let full = Attributes {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX,
        mtime: FileTime { secs: -5, nanos: 999_999_999 },
        ctime: FileTime { secs: 1_700_000_000, nanos: 1 },
        xattrs: vec![(b"security.capability".to_vec(), vec![1, 0, 255]), (b"user.b".to_vec(), vec![])],
        link: Some(LinkGroup([3; 16])),
    };
    let odd = TreePath::root().join(b"caf\xe9\n").expect("a name");
    let bundled = Kind::File { size: 9, content: Content::Extents(vec![data(1, 9, 9)]), hash: Some([2; 32]) };
    let large = Kind::File { size: 1 << 50, content: Content::Tree(NodeId([9; 32])), hash: None };
    let holes = vec![data(1, 0, 9), Extent::Hole { len: 1 << 40 }, data(2, 0, 16 << 20), data(1, 0, 9)];
    Node::Leaf(vec![
        entry("", Kind::Folder),
        Entry { path: path("bin"), attributes: full.clone(), kind: file(vec![]) },
        entry("bin/holes", file(holes)),
        Entry { path: path("bin/small"), attributes: full, kind: bundled },
        entry("binary", large),
        Entry {
            path: odd,
            attributes: Attributes::default(),
            kind: Kind::Symlink { target: b"../\xff".to_vec() },
        },
        entry("dev/console", Kind::CharDevice { major: 5, minor: 1 }),
        entry("dev/sda", Kind::BlockDevice { major: 8, minor: 1 << 20 }),
        entry("run/fifo", Kind::Fifo),
        entry("run/socket", Kind::Socket),
    ])
}

fn sound(g: &mut Group) {
    let mut ok = |name, what, node: Node| g.ok(name, what, Value::Null, bytes(join_node(&node.encode())));
    ok("leaf", "an entry of each type, and every attribute", every_type());
    ok("empty", "the tree of nothing", Node::Leaf(vec![]));
    let long = path(&vec!["x".repeat(255); 3].join("/"));
    let kind = Kind::Symlink { target: vec![b'y'; 4096] };
    let longest = Entry { path: long, attributes: Attributes::default(), kind };
    ok("longest-names", "three names of 255 bytes, a link target of 4,096", Node::Leaf(vec![longest]));
    let child = |text, byte: u8| Child { last: path(text), node: NodeId([byte; 32]) };
    let children = vec![child("etc/passwd", 1), child("srv/a", 2), child("srv/a/b", 2)];
    ok("inner", "three children, two of them the same node", Node::Inner { level: 1, children });
    let children = vec![child("", 1)];
    ok("inner-highest", "the highest level", Node::Inner { level: 15, children });
    let extents = vec![data(1, 0, 7), Extent::Hole { len: u64::from(u32::MAX) + 1 }, data(2, 1, 1)];
    ok("extents", "a leaf of a tree of extents", Node::ExtentLeaf(extents));
    let child = |len, byte: u8| ExtentChild { len, node: NodeId([byte; 32]) };
    let children = vec![child(1 << 33, 1), child(1, 2)];
    ok("extents-inner", "an inner node of a tree of extents", Node::ExtentInner { level: 1, children });
}

/// References of a path tree, by hand.
fn refs(tree: u8, level: u8, chunks: &[u8], nodes: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(tree);
    out.u8(level);
    out.varint(chunks.len() as u64);
    chunks.iter().for_each(|chunk| out.raw(&[*chunk; 32]));
    out.varint(nodes.len() as u64);
    nodes.iter().for_each(|node| out.raw(&[*node; 32]));
    out.into_bytes()
}

fn joined(refs: Vec<u8>, entries: Vec<u8>) -> Encoded {
    bytes(join_node(&NodeParts { refs, entries }))
}

/// A path as it is written: what it shares with the last, and the rest.
fn raw_path(shared: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(shared);
    out.bytes(rest);
    out.into_bytes()
}

/// Type and attributes, all zero: mode, uid, gid, two times, no xattrs, no link.
fn plain(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A leaf of entries by hand, without references.
fn leaf(entries: &[Vec<u8>]) -> Encoded {
    joined(refs(1, 0, &[], &[]), [&[entries.len() as u8][..], &entries.concat()].concat())
}

fn folder(shared: u8, rest: &[u8]) -> Vec<u8> {
    [raw_path(shared, rest), plain(1)].concat()
}

/// A leaf of one file `a`, by hand: what stands behind its attributes, and the chunks it refers to.
fn one_file(chunks: &[u8], nodes: &[u8], rest: &[u8]) -> Encoded {
    joined(refs(1, 0, chunks, nodes), [&[1][..], &raw_path(0, b"a"), &plain(2), rest].concat())
}

fn wrong_references(g: &mut Group) {
    let mut bad = |name, class, what, encoded| g.bad(name, class, what, Value::Null, encoded);
    let none = || vec![0];
    bad("tree-unknown", "invalid", "tree 3", joined(refs(3, 0, &[], &[]), none()));
    bad("level-too-high", "invalid", "level 16", joined(refs(1, 16, &[], &[1]), none()));
    bad("inner-with-chunks", "invalid", "level 1 refers to a chunk", joined(refs(1, 1, &[1], &[1]), none()));
    bad("inner-empty", "invalid", "level 1 without children", joined(refs(1, 1, &[], &[]), none()));
    bad("chunk-not-used", "invalid", "a chunk that no entry uses", joined(refs(1, 0, &[1], &[]), none()));
    bad("node-not-used", "invalid", "a node that no entry uses", joined(refs(1, 0, &[], &[1]), none()));
    let two = [&[4, 0, 2][..], &[0, 0, 2, 0, 2], &[0, 1, 2, 0, 2], &[0]].concat();
    bad("chunk-twice", "invalid", "a chunk listed twice", one_file(&[1, 1], &[], &two));
    let swapped = [&[4, 0, 2][..], &[0, 1, 2, 0, 2], &[0, 0, 2, 0, 2], &[0]].concat();
    bad("chunks-not-in-order", "invalid", "the second chunk is used first", one_file(&[1, 2], &[], &swapped));
    bad("chunk-missing", "invalid", "refers to a chunk that is not listed", {
        one_file(&[], &[], &[2, 0, 1, 0, 0, 2, 0, 2, 0])
    });
    bad("node-missing", "invalid", "refers to a node that is not listed", one_file(&[], &[], &[2, 1, 0]));
    let mut many = Writer::new();
    many.raw(&[1, 0]);
    many.varint(4 * 1024 * 1024 / 32 + 1);
    bad("chunks-too-many", "too-much", "131,073 chunks", joined(many.into_bytes(), none()));
    let short = [&refs(1, 0, &[1], &[])[..30]].concat();
    bad("references-cut", "short", "a chunk id is cut", joined(short, none()));
    let over = [refs(1, 0, &[], &[]), vec![0]].concat();
    bad("references-left-over", "left-over", "a byte behind the references", joined(over, none()));
    bad(
        "entries-left-over",
        "left-over",
        "a byte behind the entries",
        joined(refs(1, 0, &[], &[]), vec![0, 0]),
    );
    bad("entries-cut", "short", "two entries, one there", {
        joined(refs(1, 0, &[], &[]), [&[2][..], &folder(0, b"")].concat())
    });
    let mut many = Writer::new();
    many.varint(4 * 1024 * 1024 + 1);
    bad("entries-too-many", "too-much", "4,194,305 entries", joined(refs(1, 0, &[], &[]), many.into_bytes()));
}

fn wrong_paths(g: &mut Group) {
    let mut bad = |name, what, entries: &[Vec<u8>]| g.bad(name, "invalid", what, Value::Null, leaf(entries));
    bad("path-not-ascending", "b, then a", &[folder(0, b"b"), folder(0, b"a")]);
    bad("path-twice", "a, then a", &[folder(0, b"a"), folder(1, b"")]);
    bad("root-not-first", "a, then the root", &[folder(0, b"a"), folder(0, b"")]);
    bad("path-not-in-component-order", "a-b, then a/b", &[folder(0, b"a-b"), folder(1, b"\0b")]);
    bad("shared-prefix-too-short", "shares a byte more than it says", &[folder(0, b"ab"), folder(1, b"bc")]);
    bad("shared-prefix-too-long", "shares more than there is", &[folder(0, b"a"), folder(2, b"b")]);
    bad("name-dot", "the name .", &[folder(0, b".")]);
    bad("name-dot-dot", "the name ..", &[folder(0, b"..")]);
    bad("name-dot-dot-inside", "a/../b", &[folder(0, b"a\0..\0b")]);
    bad("name-with-slash", "a slash in a name", &[folder(0, b"a/b")]);
    bad("name-empty", "an empty name in the middle", &[folder(0, b"a\0\0b")]);
    bad("name-empty-first", "an empty name at the start", &[folder(0, b"\0a")]);
    bad("name-empty-last", "an empty name at the end", &[folder(0, b"a\0")]);
    bad("name-too-long", "a name of 256 bytes", &[folder(0, &[b'x'; 256])]);
    let long = joined(refs(1, 0, &[], &[]), vec![1, 0, 0x81, 0x80, 0x04]);
    g.bad("path-too-long", "too-much", "a path of 65,537 bytes", Value::Null, long);
    wrong_long_paths(g);
}

/// Paths that are too long only with what they share with the one before.
fn wrong_long_paths(g: &mut Group) {
    let mut bad = |name, what, entries: &[Vec<u8>]| g.bad(name, "too-much", what, Value::Null, leaf(entries));
    let longest = vec!["x"; limits::PATH_LEN / 2].join("\0").into_bytes();
    let shared = |last: &[u8], rest: &[u8]| {
        let mut out = Writer::new();
        out.varint(last.len() as u64);
        out.bytes(rest);
        [out.into_bytes(), plain(1)].concat()
    };
    let long = [folder(0, &longest), shared(&longest, b"xx")];
    bad("path-too-long-with-what-it-shares", "a path of 65,535 bytes, then one of 65,537", &long);
    // Each is the one before and a byte or a name more; all together 4 MiB and some.
    let mut last = longest[..longest.len() - 256].to_vec();
    let mut entries = vec![folder(0, &last)];
    for _ in 0..64 {
        entries.push(shared(&last, b"x"));
        last.push(b'x');
    }
    bad("paths-too-long-together", "65 paths that share all but a byte, of 4 MiB and more in full", &entries);
}

fn wrong_attributes(g: &mut Group) {
    let mut bad = |name, class, what, rest: &[u8]| {
        g.bad(name, class, what, Value::Null, leaf(&[[&raw_path(0, b"a")[..], rest].concat()]));
    };
    bad("entry-type-unknown", "invalid", "type 8", &plain(8));
    bad("entry-type-0", "invalid", "type 0", &plain(0));
    bad("mode-13-bits", "invalid", "mode 10000 octal", &[&[1, 0x80, 0x20][..], &[0; 8]].concat());
    bad("uid-33-bits", "invalid", "uid 2^32", &[&[1, 0, 0x80, 0x80, 0x80, 0x80, 0x10][..], &[0; 7]].concat());
    bad(
        "gid-33-bits",
        "invalid",
        "gid 2^32",
        &[&[1, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10][..], &[0; 6]].concat(),
    );
    let second = [&[1, 0, 0, 0, 0, 0x80, 0x94, 0xeb, 0xdc, 0x03][..], &[0; 4]].concat();
    bad("nanoseconds", "invalid", "a second of nanoseconds", &second);
    let xattrs = |all: &[u8]| [&[1, 0, 0, 0, 0, 0, 0, 0][..], all, &[0]].concat();
    bad("xattrs-not-ascending", "invalid", "b, then a", &xattrs(&[2, 1, b'b', 0, 1, b'a', 0]));
    bad("xattr-twice", "invalid", "a, then a", &xattrs(&[2, 1, b'a', 0, 1, b'a', 0]));
    bad("xattrs-too-many", "too-much", "1,025 of them", &xattrs(&[0x81, 0x08]));
    bad("xattr-name-too-long", "too-much", "a name of 256 bytes", &xattrs(&[1, 0x80, 0x02, 0]));
    bad(
        "xattr-value-too-long",
        "too-much",
        "a value of 65,537 bytes",
        &xattrs(&[1, 1, b'a', 0x81, 0x80, 0x04]),
    );
    let largest = |name: u8| [&[1, name, 0x80, 0x80, 0x04][..], &[0; limits::XATTR_VALUE_LEN]].concat();
    let together = [vec![8], (b'a'..=b'h').flat_map(largest).collect()].concat();
    bad("xattrs-too-long-together", "too-much", "eight of 65,537 bytes each", &xattrs(&together));
    bad("link-flag-2", "invalid", "a flag of 2", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    bad("link-target-too-long", "too-much", "4,097 bytes", &[&plain(3)[..], &[0x81, 0x20]].concat());
    bad("device-cut", "short", "a device without its minor number", &[&plain(6)[..], &[1, 0, 0, 0]].concat());
}

fn wrong_files(g: &mut Group) {
    let mut bad = |name, class, what, chunks: &[u8], rest: &[u8]| {
        g.bad(name, class, what, Value::Null, one_file(chunks, &[], rest));
    };
    bad("size-not-the-sum", "invalid", "3 bytes, an extent of 2", &[1], &[3, 0, 1, 0, 0, 2, 0, 2, 0]);
    bad("size-without-extents", "invalid", "3 bytes, no extents", &[], &[3, 0, 0, 0]);
    bad("content-unknown", "invalid", "neither extents nor a tree", &[], &[0, 2, 0, 0]);
    bad("extent-unknown", "invalid", "neither data nor a hole", &[], &[2, 0, 1, 2, 2, 0]);
    bad("extent-empty", "invalid", "0 bytes of a chunk", &[1], &[0, 0, 1, 0, 0, 2, 0, 0, 0]);
    bad("hole-empty", "invalid", "a hole of 0 bytes", &[], &[0, 0, 1, 1, 0, 0]);
    bad(
        "extent-beyond-the-chunk",
        "invalid",
        "2 bytes from the 9th of 9",
        &[1],
        &[2, 0, 1, 0, 0, 9, 8, 2, 0],
    );
    let again = [&[3, 0, 2][..], &[0, 0, 9, 0, 1], &[0, 0, 8, 2], &[0]].concat();
    bad("extent-beyond-the-chunk-again", "invalid", "the second use of a chunk of 9", &[1], &again);
    bad("chunk-length-0", "invalid", "a chunk of 0 bytes", &[1], &[2, 0, 1, 0, 0, 0, 0, 2, 0]);
    let long = [&[2, 0, 1, 0, 0][..], &[0x81, 0x80, 0x80, 0x08], &[0, 2, 0]].concat();
    bad("chunk-length-too-long", "invalid", "a chunk of 16 MiB and a byte", &[1], &long);
    bad("hash-flag-2", "invalid", "a flag of 2", &[], &[0, 0, 0, 2]);
    bad("extents-too-many", "too-much", "129 of them", &[], &[0, 0, 0x81, 0x01]);
    let huge = [&[0xff; 9][..], &[1]].concat();
    let holes = [&[1][..], &[0, 2][..], &[1], &huge, &[1, 2], &[0]].concat();
    bad("size-overflow", "invalid", "holes of 2^64 + 1 bytes, a size of 1", &[], &holes);
}

fn wrong_extent_trees(g: &mut Group) {
    let mut bad = |name, class, what, refs, entries: &[u8]| {
        g.bad(name, class, what, Value::Null, joined(refs, entries.to_vec()));
    };
    let inner = || refs(2, 1, &[], &[1]);
    bad("extent-child-empty", "invalid", "a child of 0 bytes", inner(), &[1, 0]);
    bad("extent-child-missing", "invalid", "two children, one listed", inner(), &[2, 5, 5]);
    bad("extents-inner-empty", "invalid", "no children", refs(2, 1, &[], &[]), &[0]);
    bad("extents-leaf-with-node", "invalid", "a leaf that lists a node", refs(2, 0, &[], &[1]), &[0]);
    bad("extents-inner-with-chunk", "invalid", "an inner node with a chunk", refs(2, 1, &[1], &[1]), &[1, 5]);
}
