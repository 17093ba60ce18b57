"""Chapter 6: what a reader that walks a tree refuses, beyond what the decoder of a node does."""

from collections.abc import Iterator
from dataclasses import dataclass

from codec import Refused
from keys import MetaKey
from repository import Lost, Repository
from tree import EXTENTS, FOLDER, PATHS, Entry, Extent, Node


@dataclass(frozen=True)
class Gap:
    """Entries that the repository can't give: all behind `after`, up to `last` (None: all)."""

    after: bytes | None
    last: bytes | None
    why: str


class Walk:
    """The entries of a path tree, in order. Damage in one node costs what is below it alone."""

    def __init__(self, repository: Repository, key: MetaKey) -> None:
        self.repository = repository
        self.key = key
        self.last: bytes | None = None
        self.not_a_folder: bytes | None = None

    def entries(self, root: bytes) -> Iterator[Entry | Gap]:
        yield from self._below(root, None, None)

    def _below(self, name: bytes, level: int | None, last: bytes | None) -> Iterator[Entry | Gap]:
        """`level` and `last` are what the parent says; None at the root."""
        before = self.last
        try:
            node = self._path_node(name, level, last)
        except (Refused, Lost) as error:
            yield Gap(before, last, str(error))
            self.last = last if last is not None else before
            return
        for entry in node.entries:
            self.last = entry.path
            if refusal := self._leads_out(entry):
                yield Gap(entry.path, entry.path, refusal)
            else:
                yield entry
        for child in node.children:
            yield from self._below(child.node, node.level - 1, child.last)

    def _path_node(self, name: bytes, level: int | None, last: bytes | None) -> Node:
        node = _of_level(self.repository.node(name, self.key), PATHS, level)
        paths = [entry.path for entry in node.entries] + [child.last for child in node.children]
        if last is not None and paths[-1:] != [last]:
            raise Refused("invalid", "a node that does not end where its parent says")
        if self.last is not None and paths and paths[0] <= self.last:
            raise Refused("invalid", "paths that do not come after those of the node before")
        return node

    def _leads_out(self, entry: Entry) -> str | None:
        """Below what is no folder nothing may lie: it could be a link out of the target."""
        above = self.not_a_folder
        if above is not None and (not above or entry.path.startswith(above + b"\x00")):
            return f"lies below {above!r}, which is no folder"
        self.not_a_folder = None if entry.type == FOLDER else entry.path
        return None

    def extents(self, entry: Entry) -> Iterator[Extent]:
        if entry.extent_tree is None:
            yield from entry.extents
        else:
            yield from self._extents_below(entry.extent_tree, None, entry.size)

    def _extents_below(self, name: bytes, level: int | None, length: int) -> Iterator[Extent]:
        node = _of_level(self.repository.node(name, self.key), EXTENTS, level)
        found = sum(extent.length for extent in node.extents)
        found += sum(child.length for child in node.children)
        if found != length:
            raise Refused("invalid", f"extents of {found} bytes where {length} are said")
        yield from node.extents
        for child in node.children:
            yield from self._extents_below(child.node, node.level - 1, child.length)


def _of_level(node: Node, tree: int, level: int | None) -> Node:
    if node.tree != tree or (level is not None and node.level != level):
        raise Refused("invalid", "a node of another tree or level than its parent says")
    return node
