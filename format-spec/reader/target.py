"""Writes entries into a folder, each with all of its attributes, and never outside of it.

Folders stay open on a stack while something below them is written, and everything is made
relative to them, so no path is longer than one name and no link is ever followed. A folder gets
its attributes when nothing more comes into it.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

import codec
import tree
from codec import Refused
from repository import Lost, Repository
from tree import Entry, Extent
from walk import Walk

ACL = b"system.posix_acl_"
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SPECIAL = {
    tree.FIFO: stat.S_IFIFO,
    tree.SOCKET: stat.S_IFSOCK,
    tree.CHARACTER: stat.S_IFCHR,
    tree.BLOCK: stat.S_IFBLK,
}


@dataclass
class Open:
    """A folder on the stack."""

    name: bytes
    fd: int
    entry: Entry | None = None


class Target:
    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.is_root = os.geteuid() == 0
        self.losses: list[str] = []
        self.problems: list[str] = []
        self.entries = self.files = self.bytes = 0
        self.attributes = True
        self.stack: list[Open] = []
        self.links: dict[bytes, Entry] = {}

    def begin(self, folder: Path, attributes: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.attributes = attributes
        self.stack = [Open(b"", os.open(folder, FOLDER_FLAGS))]
        self.links = {}

    def end(self) -> None:
        while self.stack:
            self._leave()

    def lost(self, path: bytes | None, why: str) -> None:
        self.losses.append(f"{path!r}: {why}" if path is not None else why)

    def put(self, entry: Entry, walk: Walk) -> None:
        self.entries += 1
        names = entry.names()
        try:
            if entry.type == tree.FOLDER:
                self._enter(names).entry = entry
                return
            if not names:
                raise Refused("invalid", "the root is no folder")
            parent = self._enter(names[:-1])
            if not self._linked(entry, parent, names[-1]):
                self._make(entry, parent, names[-1], walk)
                if entry.link_group is not None:
                    self.links[entry.link_group] = entry
        except (Refused, Lost, OSError) as error:
            self.lost(entry.path, str(error))

    def _enter(self, names: list[bytes]) -> Open:
        """The folder of these names, made if it is not there; others on the stack are left."""
        have = [folder.name for folder in self.stack[1:]]
        same = 0
        while same < min(len(have), len(names)) and have[same] == names[same]:
            same += 1
        while len(self.stack) > same + 1:
            self._leave()
        for name in names[same:]:
            above = self.stack[-1].fd
            os.mkdir(name, 0o700, dir_fd=above)
            self.stack.append(Open(name, os.open(name, FOLDER_FLAGS, dir_fd=above)))
        return self.stack[-1]

    def _leave(self) -> None:
        folder = self.stack.pop()
        try:
            if folder.entry is not None:
                self._dress(folder.entry, folder.fd)
        finally:
            os.close(folder.fd)

    def _linked(self, entry: Entry, parent: Open, name: bytes) -> bool:
        """Makes one more name of a file that is there already."""
        first = self.links.get(entry.link_group) if entry.link_group is not None else None
        if first is None:
            return False
        *folders, last = first.names()
        fd = os.dup(self.stack[0].fd)
        for folder in folders:
            below = os.open(folder, FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        os.link(last, name, src_dir_fd=fd, dst_dir_fd=parent.fd, follow_symlinks=False)
        os.close(fd)
        return True

    def _make(self, entry: Entry, parent: Open, name: bytes, walk: Walk) -> None:
        if entry.type == tree.FILE:
            self._file(entry, parent, name, walk)
            return
        if entry.type == tree.SYMLINK:
            os.symlink(entry.target, name, dir_fd=parent.fd)
        else:
            device = os.makedev(*entry.device)
            os.mknod(name, SPECIAL[entry.type] | 0o600, device, dir_fd=parent.fd)
        self._dress(entry, b"/proc/self/fd/%d/%s" % (parent.fd, name))

    def _file(self, entry: Entry, parent: Open, name: bytes, walk: Walk) -> None:
        """A file is there whole, or not at all."""
        fd = os.open(name, FILE_FLAGS, 0o600, dir_fd=parent.fd)
        try:
            self._fill(entry, fd, walk)
            self._dress(entry, fd)
        except BaseException:
            os.unlink(name, dir_fd=parent.fd)
            raise
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += entry.size

    def _fill(self, entry: Entry, fd: int, walk: Walk) -> None:
        at = 0
        hashed = None
        # Of bundled files, which are small: nobody has to read a terabyte of a hole for this.
        if entry.hash is not None and entry.size <= codec.PACK_LEN:
            hashed = blake3(key=self.repository.keys.file_hash_key())
        for extent in walk.extents(entry):
            data = self._data(extent)
            if data is not None:
                os.lseek(fd, at, os.SEEK_SET)
                _write_all(fd, data)
            if hashed is not None:
                hashed.update(data if data is not None else bytes(extent.length))
            at += extent.length
        os.ftruncate(fd, at)
        if hashed is not None and hashed.digest() != entry.hash:
            raise Refused("invalid", "a file whose content has another hash")

    def _data(self, extent: Extent) -> memoryview | None:
        if extent.chunk is None:
            return None
        chunk = self.repository.chunk(extent.chunk)
        if len(chunk) != extent.chunk_length:
            raise Refused("invalid", "a chunk of another length than its node says")
        return memoryview(chunk)[extent.offset : extent.offset + extent.length]

    def _dress(self, entry: Entry, where: int | bytes) -> None:
        """Owner first, because it takes away capabilities and setuid; ACLs behind the mode, because
        the mode changes them; the time last."""
        if not self.attributes:
            return
        is_link = entry.type == tree.SYMLINK
        follow = {} if isinstance(where, int) else {"follow_symlinks": False}
        mode = entry.mode
        if self.is_root:
            self._try(entry, "owner", lambda: os.chown(where, entry.uid, entry.gid, **follow))
        else:
            mode &= 0o1777
        acls = [xattr for xattr in entry.xattrs if xattr[0].startswith(ACL)]
        for name, value in (xattr for xattr in entry.xattrs if xattr not in acls):
            self._set(entry, where, name, value, follow)
        if not is_link:
            self._try(entry, "mode", lambda: os.chmod(where, mode))
        for name, value in acls:
            self._set(entry, where, name, value, follow)
        time = entry.mtime.in_nanoseconds()
        self._try(entry, "mtime", lambda: os.utime(where, None, ns=(time, time), **follow))

    def _set(
        self, entry: Entry, where: int | bytes, name: bytes, value: bytes, follow: dict[str, bool]
    ) -> None:
        self._try(entry, repr(name), lambda: os.setxattr(where, name, value, **follow))

    def _try(self, entry: Entry, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, OverflowError) as error:
            self.problems.append(f"{entry.path!r}: {what}: {error}")


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
