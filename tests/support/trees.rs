//! Makes real folders that are hard to back up, at random or one fixed, and changes them.
//!
//! Needs root: owners, devices and `trusted.*` are part of it. What a file system does not take (a value of
//! 60 KB on ext4) is left out, so the tree on disk is the truth, not the value here.
#![allow(dead_code, unused_imports, reason = "not every test that includes this file uses all of it")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};

mod mutate;
pub use mutate::mutate;

/// A tree to be built: each node is put into a folder made before it.
#[derive(Clone, Debug)]
pub struct Tree(pub Vec<Node>);

#[derive(Clone, Debug)]
pub struct Node {
    pub folder: Index,
    pub name: Vec<u8>,
    pub what: What,
    pub meta: Meta,
}

#[derive(Clone, Debug)]
pub enum What {
    Folder,
    File(Vec<Piece>),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
    /// Another name of a file (not a folder) made before; a new file if there is none.
    Link(Index),
}

#[derive(Clone, Copy, Debug)]
pub enum Piece {
    Data { len: u64, seed: u64 },
    Hole { len: u64 },
}

#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Trees of up to `nodes` things.
pub fn tree(nodes: usize) -> impl Strategy<Value = Tree> {
    vec(node(), 0..nodes).prop_map(Tree)
}

fn node() -> impl Strategy<Value = Node> {
    (any::<Index>(), name(), what(), meta()).prop_map(|(folder, name, what, meta)| Node {
        folder,
        name,
        what,
        meta,
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(select(b"abc-.0".as_slice()), 1..4),
        2 => vec(any::<u8>(), 1..20),
        1 => (any::<u8>(), 250..=255usize).prop_map(|(byte, len)| vec![byte; len]),
        1 => select(odd_names()),
    ]
    .prop_map(|mut name| {
        name.iter_mut().filter(|b| matches!(**b, 0 | b'/')).for_each(|b| *b = 1);
        if name == b"." || name == b".." { b"dots".to_vec() } else { name }
    })
}

fn odd_names() -> Vec<Vec<u8>> {
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b"back\\slash",
        b" ",
        b"*",
        b"...",
        b"\x01",
        b"a\"'b",
        b"~",
        "grün".as_bytes(),
        b"\x7f\x1b[31m",
    ];
    names.iter().map(|name| name.to_vec()).collect()
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => Just(What::Folder),
        10 => vec(piece(), 0..5).prop_map(What::File),
        2 => vec(any::<u8>(), 1..40).prop_map(|mut target| {
            target.iter_mut().filter(|b| **b == 0).for_each(|b| *b = b'/');
            What::Symlink(target)
        }),
        1 => Just(What::Fifo),
        1 => Just(What::Socket),
        1 => (0..4096u32, 0..1u32 << 20).prop_map(|(a, b)| What::Char(a, b)),
        1 => (0..4096u32, 0..1u32 << 20).prop_map(|(a, b)| What::Block(a, b)),
        3 => any::<Index>().prop_map(What::Link),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    let len = || prop_oneof![1..200u64, Just(4096u64), 1..100_000u64];
    prop_oneof![
        3 => (len(), any::<u64>()).prop_map(|(len, seed)| Piece::Data { len, seed }),
        1 => len().prop_map(|len| Piece::Hole { len }),
        1 => (1..40u64).prop_map(|blocks| Piece::Hole { len: blocks * 4096 }),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let id = || prop_oneof![3 => Just(0u32), 1 => 1..70_000u32, 1 => Just(u32::MAX - 1)];
    let secs = prop_oneof![
        3 => 1_500_000_000..1_800_000_000i64,
        1 => select(vec![-(1i64 << 31), -1, 0, 1, 7_258_118_400, 15_032_385_535]),
    ];
    let xattrs = vec(select(all_xattrs()), 0..4);
    (0..0o10000u32, id(), id(), (secs, 0..1_000_000_000u32), xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Meta { mode, uid, gid, mtime, xattrs })
}

fn all_xattrs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let named = |name: &str, value: Vec<u8>| (name.as_bytes().to_vec(), value);
    vec![
        named("user.a", b"value".to_vec()),
        named("user.empty", Vec::new()),
        named("user.zeros", vec![0; 300]),
        (b"user.\xff odd".to_vec(), b"\xff\0\n".to_vec()),
        named("trusted.t", b"secret".to_vec()),
        named("user.large", pseudo_random(60_000, 7)),
        named("system.posix_acl_access", acl(0o6, 1234)),
        named("system.posix_acl_default", acl(0o5, 4_000_000_000)),
        named("security.capability", capability()),
    ]
}

/// A POSIX ACL with one more user, as the kernel stores it.
pub fn acl(perm: u16, user: u32) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let entries =
        [(1u16, 7u16, u32::MAX), (2, perm, user), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 4, u32::MAX)];
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes().iter().chain(&perm.to_le_bytes()).chain(&id.to_le_bytes()));
    }
    bytes
}

/// `cap_net_bind_service=ep`, as the kernel stores it.
pub fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Bytes that don't compress, the same for the same seed.
pub fn pseudo_random(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    std::iter::repeat_with(|| dice.next().to_le_bytes()).flatten().take(len).collect()
}

impl Tree {
    /// Builds it in an empty folder.
    pub fn build(&self, root: &Path) {
        let mut folders = vec![root.to_owned()];
        let mut files: Vec<PathBuf> = Vec::new();
        let mut done: Vec<(PathBuf, &Meta)> = Vec::new();
        for node in &self.0 {
            let path = node.folder.get(&folders).join(OsStr::from_bytes(&node.name));
            if path.as_os_str().len() > 4000 || fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            match &node.what {
                What::Link(index) if !files.is_empty() => {
                    fs::hard_link(index.get(&files), &path).unwrap();
                    continue;
                }
                what => make(&path, what),
            }
            match node.what {
                What::Folder => folders.push(path.clone()),
                _ => files.push(path.clone()),
            }
            done.push((path, &node.meta));
        }
        done.iter().rev().for_each(|(path, meta)| dress(path, meta));
    }
}

fn make(path: &Path, what: &What) {
    let node = |kind, device| rustix::fs::mknodat(CWD, path, kind, Mode::RWXU, device).unwrap();
    match what {
        What::Folder => fs::create_dir(path).unwrap(),
        What::File(pieces) => write_pieces(path, pieces),
        What::Symlink(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        What::Fifo => node(FileType::Fifo, 0),
        What::Socket => node(FileType::Socket, 0),
        What::Char(major, minor) => node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
        What::Block(major, minor) => node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor)),
        What::Link(_) => write_pieces(path, &[Piece::Data { len: 10, seed: 1 }]),
    }
}

fn write_pieces(path: &Path, pieces: &[Piece]) {
    let file = File::create_new(path).unwrap();
    let mut at = 0;
    for piece in pieces {
        at += match *piece {
            Piece::Hole { len } => len,
            Piece::Data { len, seed } => {
                file.write_all_at(&pseudo_random(len as usize, seed), at).unwrap();
                len
            }
        };
    }
    file.set_len(at).unwrap();
}

/// Sets attributes as far as the file system takes them; in an order of its own.
pub fn dress(path: &Path, meta: &Meta) {
    let is_link = fs::symlink_metadata(path).unwrap().is_symlink();
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !is_link {
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(meta.mode), AtFlags::empty()).unwrap();
    }
    for (name, value) in &meta.xattrs {
        // Not every kind of file, nor every file system, takes every attribute.
        _ = rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty());
    }
    set_mtime(path, meta.mtime);
}

fn set_mtime(path: &Path, (secs, nanos): (i64, u32)) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: secs, tv_nsec: nanos.into() },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// One tree with everything in it that anyone has trouble with.
pub fn awkward(root: &Path) {
    let (k, hole) = (4096, |len| Piece::Hole { len });
    let data = |len| Piece::Data { len, seed: len };
    let file = |pieces: &[Piece]| What::File(pieces.to_vec());
    let things: Vec<(&str, What)> = vec![
        ("empty file", file(&[])),
        ("empty folder", What::Folder),
        ("small", file(&[data(10)])),
        ("large", file(&[data(3_000_001)])),
        ("hole first", file(&[hole(10 * k), data(100)])),
        ("hole between", file(&[data(k), hole(3 * k), data(k + 1)])),
        ("hole last", file(&[data(5000), hole(7 * k + 5)])),
        ("short hole last", file(&[data(k), hole(100)])),
        ("all hole", file(&[hole(1 << 30)])),
        ("all hole, small", file(&[hole(1)])),
        ("zeros that are data", file(&[data(0), hole(k)])),
        ("dangling", What::Symlink(b"no/such/thing".to_vec())),
        ("up", What::Symlink(b"..".to_vec())),
        ("odd target", What::Symlink(b"\xff\n\\ ".to_vec())),
        ("long target", What::Symlink([b"\xfe/".as_slice(); 2047].concat())),
        ("fifo", What::Fifo),
        ("socket", What::Socket),
        ("null", What::Char(1, 3)),
        ("disk", What::Block(259, 1 << 19)),
    ];
    for (name, what) in &things {
        make(&root.join(name), what);
    }
    File::options()
        .write(true)
        .open(root.join("zeros that are data"))
        .unwrap()
        .write_all_at(&[0; 4096], 0)
        .unwrap();
    awkward_names(root);
    awkward_attributes(root);
    let folder = root.join("empty folder");
    set_mtime(&folder, (-5, 999_999_999));
    set_mtime(root, (1_600_000_000, 1));
}

fn awkward_names(root: &Path) {
    for name in odd_names() {
        let folder = root.join("names").join(OsStr::from_bytes(&name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(&name)), &name).unwrap();
    }
    fs::write(root.join("names").join("n".repeat(255)), "long").unwrap();
    // These sort differently by name and by path.
    for path in ["order/a/x", "order/a-b", "order/a!", "order/a\u{1}"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    let deep = root.join(vec!["d".repeat(60); 40].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "far down").unwrap();
    fs::create_dir_all(root.join("links/a")).unwrap();
    fs::hard_link(root.join("small"), root.join("links/a/other name")).unwrap();
    fs::hard_link(root.join("small"), root.join("links/z")).unwrap();
    fs::hard_link(root.join("hole first"), root.join("links/hole")).unwrap();
    for kind in ["dangling", "fifo", "null", "socket"] {
        fs::hard_link(root.join(kind), root.join("links").join(kind)).unwrap();
    }
}

fn awkward_attributes(root: &Path) {
    let base = root.join("attributes");
    fs::create_dir(&base).unwrap();
    for (index, xattr) in all_xattrs().into_iter().enumerate() {
        let meta = Meta { mode: 0o640, xattrs: vec![xattr], mtime: (index as i64, 5), ..Meta::default() };
        for (kind, what) in [("file", What::File(vec![])), ("folder", What::Folder)] {
            let path = base.join(format!("{kind} {index}"));
            make(&path, &what);
            dress(&path, &meta);
        }
    }
    let link = base.join("link with attribute");
    symlink("x", &link).unwrap();
    rustix::fs::lsetxattr(&link, "trusted.on.link", b"yes", XattrFlags::empty()).unwrap();
    rustix::fs::chownat(
        CWD,
        &link,
        Some(Uid::from_raw(77)),
        Some(Gid::from_raw(88)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    for (index, mode) in [0o4755, 0o2755, 0o1777, 0o7777, 0, 0o6111].into_iter().enumerate() {
        let owner = [0, 1000, u32::MAX - 1][index % 3];
        let secs = [-(1i64 << 31), -1, 0, 7_258_118_400, 15_032_385_535, 1_700_000_000][index];
        let mut meta = Meta { mode, uid: owner, gid: owner, mtime: (secs, 999_999_999), xattrs: vec![] };
        if index == 3 {
            meta.xattrs = all_xattrs();
        }
        for (kind, what) in [("file", What::File(vec![])), ("folder", What::Folder), ("fifo", What::Fifo)] {
            let path = base.join(format!("{kind} of mode {mode:o}"));
            make(&path, &what);
            dress(&path, &meta);
        }
    }
    // A parent whose default ACL is inherited by all that is made in it.
    let parent = base.join("inherits");
    fs::create_dir(&parent).unwrap();
    fs::write(parent.join("before"), "made before the ACL").unwrap();
    rustix::fs::lsetxattr(&parent, "system.posix_acl_default", &acl(7, 99), XattrFlags::empty()).unwrap();
    fs::create_dir(parent.join("after")).unwrap();
    fs::write(parent.join("after/file"), "made after").unwrap();
}

/// A small generator, so that a seed says all.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number (splitmix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
