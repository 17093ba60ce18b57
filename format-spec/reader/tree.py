"""Chapter 6: nodes and entries. A node is decoded alone here; `walk.py` walks trees.

Items take references in the order of the node's lists: `_References` hands them out.
"""

from dataclasses import dataclass

import codec
from codec import Decoder, Refused

PATHS, EXTENTS = 1, 2
MOST_REFERENCES = 131072
MOST_ITEMS = 4194304
FOLDER, FILE, SYMLINK, FIFO, SOCKET, CHARACTER, BLOCK = range(1, 8)


@dataclass(frozen=True)
class Extent:
    """A run of a file. A hole has no chunk."""

    length: int
    chunk: bytes | None = None
    chunk_length: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Time:
    seconds: int
    nanoseconds: int

    def in_nanoseconds(self) -> int:
        return self.seconds * 10**9 + self.nanoseconds


@dataclass(frozen=True)
class Entry:
    path: bytes
    type: int
    mode: int
    uid: int
    gid: int
    mtime: Time
    ctime: Time
    xattrs: tuple[tuple[bytes, bytes], ...]
    link_group: bytes | None
    size: int = 0
    extents: tuple[Extent, ...] = ()
    extent_tree: bytes | None = None
    hash: bytes | None = None
    target: bytes = b""
    device: tuple[int, int] = (0, 0)

    def names(self) -> list[bytes]:
        return self.path.split(b"\x00") if self.path else []


@dataclass(frozen=True)
class Child:
    """A node below. `last` is of a path tree, `length` of an extent tree."""

    node: bytes
    last: bytes = b""
    length: int = 0


@dataclass(frozen=True)
class Node:
    tree: int
    level: int
    entries: tuple[Entry, ...] = ()
    extents: tuple[Extent, ...] = ()
    children: tuple[Child, ...] = ()


class _References:
    def __init__(self, chunks: list[bytes], nodes: list[bytes]) -> None:
        self.chunks = chunks
        self.nodes = nodes
        self.lengths: list[int] = []
        self.nodes_used = 0

    def chunk(self, source: Decoder) -> tuple[bytes, int]:
        """A chunk, and how long it is: its first use says that."""
        number = source.varint()
        if number > len(self.lengths) or number >= len(self.chunks):
            raise Refused("invalid", f"chunk {number} is not listed, or is used before others")
        if number == len(self.lengths):
            length = source.varint()
            if not 1 <= length <= codec.CHUNK_LEN:
                raise Refused("invalid", f"a chunk of {length} bytes")
            self.lengths.append(length)
        return self.chunks[number], self.lengths[number]

    def node(self) -> bytes:
        if self.nodes_used == len(self.nodes):
            raise Refused("invalid", "refers to a node that is not listed")
        self.nodes_used += 1
        return self.nodes[self.nodes_used - 1]

    def end(self) -> None:
        if len(self.lengths) < len(self.chunks) or self.nodes_used < len(self.nodes):
            raise Refused("invalid", "a reference that nothing uses")


def decode_node(references: bytes, entries: bytes) -> Node:
    tree, level, refs = _references(Decoder(references))
    source = Decoder(entries)
    match tree, level:
        case 1, 0:
            node = Node(tree, level, entries=_leaf(source, refs))
        case 1, _:
            node = Node(tree, level, children=_path_children(source, refs))
        case _, 0:
            count = source.count(MOST_ITEMS, 1)
            node = Node(tree, level, extents=tuple(_extent(source, refs) for _ in range(count)))
        case _:
            node = Node(tree, level, children=_extent_children(source, refs))
    source.end()
    refs.end()
    return node


def _references(source: Decoder) -> tuple[int, int, _References]:
    tree, level = source.u8(), source.u8()
    if tree not in (PATHS, EXTENTS):
        raise Refused("invalid", f"tree {tree}")
    if level >= codec.TREE_LEVELS:
        raise Refused("invalid", f"level {level}")
    chunks = [source.take(32) for _ in range(source.count(MOST_REFERENCES, 32))]
    nodes = [source.take(32) for _ in range(source.count(MOST_REFERENCES, 32))]
    source.end()
    if len(set(chunks)) < len(chunks):
        raise Refused("invalid", "a chunk id listed twice")
    if level > 0 and (chunks or not nodes):
        raise Refused("invalid", "an inner node with chunks or without children")
    return tree, level, _References(chunks, nodes)


class _Paths:
    """Reads the paths of a node, each against the one before it."""

    def __init__(self, source: Decoder) -> None:
        self.source = source
        self.last: bytes | None = None
        self.sum = 0

    def next(self) -> bytes:
        before = self.last or b""
        shared = self.source.varint()
        if shared > len(before):
            raise Refused("invalid", "a shared start that is longer than the path before")
        rest = self.source.bytes(codec.PATH_LEN - shared)
        if before[shared : shared + 1] == rest[:1] != b"":
            raise Refused("invalid", "a shared start that is shorter than it could be")
        path = before[:shared] + rest
        if self.last is not None and path <= self.last:
            raise Refused("invalid", "paths that do not ascend")
        for name in path.split(b"\x00") if path else ():
            check_name(name)
        self.sum += len(path)
        if self.sum > codec.NODE_PART_LEN:
            raise Refused("too-much", "the paths of a node have too many bytes together")
        self.last = path
        return path


def check_name(name: bytes) -> None:
    if not 1 <= len(name) <= codec.NAME_LEN or b"/" in name or name in (b".", b".."):
        raise Refused("invalid", f"the name {name!r}")


def _leaf(source: Decoder, refs: _References) -> tuple[Entry, ...]:
    count = source.count(MOST_ITEMS, 1)
    paths = _Paths(source)
    return tuple(_entry(source, refs, paths.next()) for _ in range(count))


def _path_children(source: Decoder, refs: _References) -> tuple[Child, ...]:
    count = source.count(MOST_ITEMS, 1)
    if count == 0:
        raise Refused("invalid", "an inner node without children")
    paths = _Paths(source)
    return tuple(Child(last=paths.next(), node=refs.node()) for _ in range(count))


def _extent_children(source: Decoder, refs: _References) -> tuple[Child, ...]:
    count = source.count(MOST_ITEMS, 1)
    if count == 0:
        raise Refused("invalid", "an inner node without children")
    children = tuple(Child(length=source.varint(), node=refs.node()) for _ in range(count))
    if any(child.length == 0 for child in children):
        raise Refused("invalid", "a child of 0 bytes")
    return children


def _extent(source: Decoder, refs: _References) -> Extent:
    match source.u8():
        case 0:
            chunk, chunk_length = refs.chunk(source)
            offset, length = source.varint(), source.varint()
            if offset + length > chunk_length:
                raise Refused("invalid", "an extent that ends beyond its chunk")
            extent = Extent(length, chunk, chunk_length, offset)
        case 1:
            extent = Extent(source.varint())
        case kind:
            raise Refused("invalid", f"an extent of kind {kind}")
    if extent.length == 0:
        raise Refused("invalid", "an extent of length 0")
    return extent


def _time(source: Decoder) -> Time:
    time = Time(source.signed(), source.varint())
    if time.nanoseconds >= 10**9:
        raise Refused("invalid", f"{time.nanoseconds} nanoseconds")
    return time


def _below(source: Decoder, most: int, what: str) -> int:
    if (value := source.varint()) > most:
        raise Refused("invalid", f"{what} {value}")
    return value


def _entry(source: Decoder, refs: _References, path: bytes) -> Entry:
    type_ = source.u8()
    if not FOLDER <= type_ <= BLOCK:
        raise Refused("invalid", f"an entry of type {type_}")
    mode = _below(source, 0o7777, "mode")
    uid = _below(source, 2**32 - 1, "uid")
    gid = _below(source, 2**32 - 1, "gid")
    mtime, ctime = _time(source), _time(source)
    xattrs = _xattrs(source)
    link_group = source.take(16) if source.flag() else None
    common = (path, type_, mode, uid, gid, mtime, ctime, xattrs, link_group)
    match type_:
        case 2:
            size = source.varint()
            extents, tree = _content(source, refs, size)
            hash_ = source.take(32) if source.flag() else None
            return Entry(*common, size=size, extents=extents, extent_tree=tree, hash=hash_)
        case 3:
            return Entry(*common, target=source.bytes(codec.LINK_TARGET_LEN))
        case 6 | 7:
            return Entry(*common, device=(source.u32(), source.u32()))
    return Entry(*common)


def _xattrs(source: Decoder) -> tuple[tuple[bytes, bytes], ...]:
    xattrs: list[tuple[bytes, bytes]] = []
    length = 0
    for _ in range(source.count(codec.XATTRS, 2)):
        name = source.bytes(codec.XATTR_NAME_LEN)
        value = source.bytes(codec.XATTR_VALUE_LEN)
        if xattrs and name <= xattrs[-1][0]:
            raise Refused("invalid", "names of extended attributes that do not ascend")
        length += len(name) + len(value)
        if length > codec.XATTRS_LEN:
            raise Refused("too-much", "extended attributes of too many bytes")
        xattrs.append((name, value))
    return tuple(xattrs)


def _content(
    source: Decoder, refs: _References, size: int
) -> tuple[tuple[Extent, ...], bytes | None]:
    match source.u8():
        case 0:
            count = source.count(codec.INLINE_EXTENTS, 2)
            extents = tuple(_extent(source, refs) for _ in range(count))
            if sum(extent.length for extent in extents) != size:
                raise Refused("invalid", "extents that do not add up to the size")
            return extents, None
        case 1:
            return (), refs.node()
        case kind:
            raise Refused("invalid", f"content of kind {kind}")
