//! Entries: what a tree says about one path.
//!
//! Spec: chapter 6. Paths, names and link targets are bytes, not text. A manifest is an
//! entry too: a file without attributes.

use crate::format::codec::{Reader, Writer};
use crate::format::id::{LinkGroup, NodeId};
use crate::format::refs::{ChunkRef, RefsReader, RefsWriter};
use crate::format::{Error, limits};

/// A path within a tree, as its components joined by NUL, so that comparing bytes compares
/// components: a folder comes right before what is in it. Empty for the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    pub fn root() -> Self {
        Self::default()
    }

    /// From a path with slashes; leading, doubled and trailing ones don't count. None for `.`, `..`, NUL
    /// and what is too long.
    pub fn from_slashes(path: &[u8]) -> Option<Self> {
        let mut parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty());
        parts.try_fold(Self::root(), |parent, name| parent.join(name))
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let fine =
            bytes.is_empty() || (bytes.len() <= limits::PATH_LEN && bytes.split(|&b| b == 0).all(is_name));
        fine.then_some(Self(bytes))
    }

    /// This path and one more name. None if `name` can't be one.
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        if !is_name(name) || self.0.len() + 1 + name.len() > limits::PATH_LEN {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(0);
        }
        bytes.extend_from_slice(name);
        Some(Self(bytes))
    }

    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == 0).unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == 0).next().unwrap_or(&[])
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == 0).filter(|part| !part.is_empty())
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &TreePath) -> bool {
        let (all, prefix) = (&self.0, &ancestor.0);
        prefix.is_empty()
            || (all.starts_with(prefix) && (all.len() == prefix.len() || all[prefix.len()] == 0))
    }

    /// What is left of the path below `ancestor`, which it must lie within.
    pub fn below(&self, ancestor: &TreePath) -> Option<TreePath> {
        if !self.is_within(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(TreePath(rest.strip_prefix(&[0]).unwrap_or(rest).to_vec()))
    }

    /// The path as it sorts: components joined by NUL.
    pub fn sort_key(&self) -> &[u8] {
        &self.0
    }

    /// The path with slashes, without a leading one.
    pub fn to_slashes(&self) -> Vec<u8> {
        self.0.iter().map(|&b| if b == 0 { b'/' } else { b }).collect()
    }
}

impl std::fmt::Display for TreePath {
    /// With a leading slash; bytes that are not UTF-8, controls and backslashes as `\xNN`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", escape(&self.to_slashes()))
    }
}

impl std::fmt::Debug for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Bytes as text from which they can be had back: what is not printable UTF-8, and the backslash, becomes `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c.is_control() || c == '\\' {
                true => c.to_string().bytes().for_each(|b| write!(out, "\\x{b:02x}").unwrap_or_default()),
                false => out.push(c),
            }
        }
        piece.invalid().iter().for_each(|b| write!(out, "\\x{b:02x}").unwrap_or_default());
    }
    out
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= limits::NAME_LEN
        && name != b"."
        && name != b".."
        && !name.iter().any(|&b| b == 0 || b == b'/')
}

/// A point in time of a file system; seconds may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    pub secs: i64,
    pub nanos: u32,
}

/// What a file system says about a file beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: FileTime,
    /// Not restored (it can't be): tells at the next backup whether the file was touched.
    pub ctime: FileTime,
    /// Sorted by name; ACLs and capabilities are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files that share this are one file.
    pub link: Option<LinkGroup>,
}

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Lies within its chunk.
    Data {
        chunk: ChunkRef,
        offset: u32,
        len: u32,
    },
    Hole {
        len: u64,
    },
}

impl Extent {
    pub fn len(&self) -> u64 {
        match self {
            Extent::Data { len, .. } => u64::from(*len),
            Extent::Hole { len } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a file's bytes are. The lengths add up to the file's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// At most [`limits::INLINE_EXTENTS`].
    Extents(Vec<Extent>),
    /// The root of a tree of extents.
    Tree(NodeId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File {
        size: u64,
        content: Content,
        /// Keyed hash of the whole content; only of bundled files.
        hash: Option<[u8; 32]>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Fifo,
    Socket,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: TreePath,
    pub attributes: Attributes,
    pub kind: Kind,
}

impl Entry {
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// Bytes that `this` shares with `last` at its start.
pub(super) fn shared_prefix(last: &[u8], this: &[u8]) -> usize {
    last.iter().zip(this).take_while(|(a, b)| a == b).count()
}

pub(super) fn write_path(out: &mut Writer, last: &TreePath, path: &TreePath) {
    let shared = shared_prefix(&last.0, &path.0);
    out.varint(shared as u64);
    out.bytes(&path.0[shared..]);
}

pub(super) fn read_path(input: &mut Reader<'_>, last: &TreePath, first: bool) -> Result<TreePath, Error> {
    let shared = input.varint()?;
    if shared > last.0.len() as u64 {
        return Err(input.invalid("shared prefix", shared));
    }
    let rest = input.bytes("path", limits::PATH_LEN - shared as usize)?;
    let mut bytes = last.0[..shared as usize].to_vec();
    bytes.extend_from_slice(rest);
    if shared_prefix(&last.0, &bytes) as u64 != shared {
        return Err(input.invalid("shared prefix", "shorter than it is"));
    }
    let path = TreePath::from_bytes(bytes).ok_or_else(|| input.invalid("path", escape(rest)))?;
    match first || path > *last {
        true => Ok(path),
        false => Err(input.invalid("path", format!("{path} does not come after {last}"))),
    }
}

const FOLDER: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const FIFO: u8 = 4;
const SOCKET: u8 = 5;
const CHAR_DEVICE: u8 = 6;
const BLOCK_DEVICE: u8 = 7;

impl Entry {
    /// Writes all but the path.
    pub(super) fn write(&self, out: &mut Writer, refs: &mut RefsWriter) {
        out.u8(match self.kind {
            Kind::Folder => FOLDER,
            Kind::File { .. } => FILE,
            Kind::Symlink { .. } => SYMLINK,
            Kind::Fifo => FIFO,
            Kind::Socket => SOCKET,
            Kind::CharDevice { .. } => CHAR_DEVICE,
            Kind::BlockDevice { .. } => BLOCK_DEVICE,
        });
        write_attributes(out, &self.attributes);
        match &self.kind {
            Kind::File { size, content, hash } => {
                out.varint(*size);
                write_content(out, refs, content);
                out.u8(hash.is_some().into());
                hash.iter().for_each(|hash| out.raw(hash));
            }
            Kind::Symlink { target } => out.bytes(target),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                out.u32(*major);
                out.u32(*minor);
            }
            Kind::Folder | Kind::Fifo | Kind::Socket => {}
        }
    }

    pub(super) fn read(
        input: &mut Reader<'_>,
        refs: &mut RefsReader<'_>,
        path: TreePath,
    ) -> Result<Self, Error> {
        let number = input.u8()?;
        let attributes = read_attributes(input)?;
        let kind = match number {
            FOLDER => Kind::Folder,
            FILE => read_file(input, refs)?,
            SYMLINK => {
                Kind::Symlink { target: input.bytes("link target", limits::LINK_TARGET_LEN)?.to_vec() }
            }
            FIFO => Kind::Fifo,
            SOCKET => Kind::Socket,
            CHAR_DEVICE => Kind::CharDevice { major: input.u32()?, minor: input.u32()? },
            BLOCK_DEVICE => Kind::BlockDevice { major: input.u32()?, minor: input.u32()? },
            other => return Err(input.invalid("entry type", other)),
        };
        Ok(Self { path, attributes, kind })
    }
}

fn read_file(input: &mut Reader<'_>, refs: &mut RefsReader<'_>) -> Result<Kind, Error> {
    let size = input.varint()?;
    let content = read_content(input, refs)?;
    if let Content::Extents(extents) = &content {
        let sum = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len()));
        if sum != Some(size) {
            return Err(input.invalid("file size", size));
        }
    }
    let hash = input.flag("hash present")?.then(|| input.array()).transpose()?;
    Ok(Kind::File { size, content, hash })
}

fn write_attributes(out: &mut Writer, attributes: &Attributes) {
    out.varint(attributes.mode.into());
    out.varint(attributes.uid.into());
    out.varint(attributes.gid.into());
    for time in [attributes.mtime, attributes.ctime] {
        out.signed(time.secs);
        out.varint(time.nanos.into());
    }
    out.varint(attributes.xattrs.len() as u64);
    for (name, value) in &attributes.xattrs {
        out.bytes(name);
        out.bytes(value);
    }
    out.u8(attributes.link.is_some().into());
    attributes.link.iter().for_each(|link| out.raw(&link.0));
}

fn read_attributes(input: &mut Reader<'_>) -> Result<Attributes, Error> {
    let mode = input.varint()?;
    if mode > 0o7777 {
        return Err(input.invalid("mode", format!("{mode:o}")));
    }
    let mut id = |field| {
        let value = input.varint()?;
        u32::try_from(value).map_err(|_| input.invalid(field, value))
    };
    let (uid, gid) = (id("uid")?, id("gid")?);
    let (mtime, ctime) = (read_time(input)?, read_time(input)?);
    let count = input.count("xattrs", limits::XATTRS, 2)?;
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(count);
    let mut total = 0;
    for _ in 0..count {
        let name = input.bytes("xattr name", limits::XATTR_NAME_LEN)?.to_vec();
        let value = input.bytes("xattr value", limits::XATTR_VALUE_LEN)?.to_vec();
        if xattrs.last().is_some_and(|(last, _)| *last >= name) {
            return Err(input.invalid("xattr", escape(&name)));
        }
        total += name.len() + value.len();
        if total > limits::XATTRS_LEN {
            return Err(input.too_much("xattrs", total as u64, limits::XATTRS_LEN));
        }
        xattrs.push((name, value));
    }
    let link = input.flag("link present")?.then(|| LinkGroup::read(input)).transpose()?;
    Ok(Attributes { mode: mode as u16, uid, gid, mtime, ctime, xattrs, link })
}

fn read_time(input: &mut Reader<'_>) -> Result<FileTime, Error> {
    let secs = input.signed()?;
    let nanos = input.varint()?;
    match nanos < 1_000_000_000 {
        true => Ok(FileTime { secs, nanos: nanos as u32 }),
        false => Err(input.invalid("nanoseconds", nanos)),
    }
}

fn write_content(out: &mut Writer, refs: &mut RefsWriter, content: &Content) {
    match content {
        Content::Extents(extents) => {
            out.u8(0);
            out.varint(extents.len() as u64);
            extents.iter().for_each(|extent| write_extent(out, refs, extent));
        }
        Content::Tree(root) => {
            out.u8(1);
            refs.node(*root);
        }
    }
}

fn read_content(input: &mut Reader<'_>, refs: &mut RefsReader<'_>) -> Result<Content, Error> {
    match input.u8()? {
        0 => {
            let count = input.count("extents", limits::INLINE_EXTENTS, 2)?;
            let extents = (0..count).map(|_| read_extent(input, refs)).collect::<Result<_, _>>()?;
            Ok(Content::Extents(extents))
        }
        1 => Ok(Content::Tree(refs.node(input)?)),
        other => Err(input.invalid("content", other)),
    }
}

pub(super) fn write_extent(out: &mut Writer, refs: &mut RefsWriter, extent: &Extent) {
    match extent {
        Extent::Data { chunk, offset, len } => {
            out.u8(0);
            refs.chunk(out, *chunk);
            out.varint((*offset).into());
            out.varint((*len).into());
        }
        Extent::Hole { len } => {
            out.u8(1);
            out.varint(*len);
        }
    }
}

pub(super) fn read_extent(input: &mut Reader<'_>, refs: &mut RefsReader<'_>) -> Result<Extent, Error> {
    match input.u8()? {
        0 => {
            let chunk = refs.chunk(input)?;
            let (offset, len) = (input.varint()?, input.varint()?);
            let end = offset.checked_add(len);
            if len == 0 || end.is_none_or(|end| end > u64::from(chunk.len)) {
                return Err(input.invalid("extent", format!("{offset}+{len} of a chunk of {}", chunk.len)));
            }
            Ok(Extent::Data { chunk, offset: offset as u32, len: len as u32 })
        }
        1 => match input.varint()? {
            0 => Err(input.invalid("hole", 0)),
            len => Ok(Extent::Hole { len }),
        },
        other => Err(input.invalid("extent", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_right_before_what_is_in_it() {
        let path = |text: &str| TreePath::from_slashes(text.as_bytes()).unwrap();
        let mut paths = [path("a-b"), path("a/x"), path("a"), path("a\u{1}"), path("")];
        paths.sort();
        assert_eq!(paths, [path(""), path("a"), path("a/x"), path("a\u{1}"), path("a-b")]);
    }

    #[test]
    fn names_that_could_leave_the_tree_are_refused() {
        for bad in ["..", "a/../b", ".", "a\0b"] {
            assert_eq!(TreePath::from_slashes(bad.as_bytes()), None, "{bad:?}");
        }
        for bad in [b"".as_slice(), b"a/b", b"..", &[b'x'; 256]] {
            assert_eq!(TreePath::root().join(bad), None, "{bad:?}");
        }
        assert!(TreePath::root().join(&[b'x'; 255]).is_some());
    }

    #[test]
    fn paths_know_what_they_lie_in() {
        let path = |text: &str| TreePath::from_slashes(text.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(path("a/b/c").below(&path("a")), Some(path("b/c")));
        assert_eq!(path("a").below(&path("a")), Some(path("")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(path("")));
        assert_eq!(path("").parent(), None);
        assert_eq!(path("a/b").name(), b"b");
    }

    #[test]
    fn odd_names_are_shown_so_that_they_can_be_told_apart() {
        assert_eq!(escape(b"a\xff\n\\b"), "a\\xff\\x0a\\x5cb");
        assert_eq!(escape("grün".as_bytes()), "grün");
    }
}
