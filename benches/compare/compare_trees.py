"""Compares a restored tree with its source: types, permissions, times, link targets, contents."""
from __future__ import annotations

import os
import stat
from pathlib import Path

PIECE = 1 << 20


def differences(source: Path, out: Path) -> list[str]:
    """What differs, one line each. A tool may put the tree below its full name, its last name, or right into `out`."""
    names = [out / str(source).lstrip("/"), out / source.name, out]
    root = next(place for place in names if place.is_dir())
    found: list[str] = []
    for path, folders, files in os.walk(source):
        below = os.path.relpath(path, source)
        there = root / below
        if not there.is_dir():
            found.append(f"{below} is missing")
            continue
        extra = set(os.listdir(there)) - set(folders) - set(files)
        found += [f"{below}/{name} was not in the source" for name in sorted(extra)]
        for name in files:
            what = difference(os.path.join(path, name), os.path.join(there, name))
            if what:
                found.append(f"{below}/{name}: {what}")
    return found


def difference(one: str, other: str) -> str | None:
    """What is different between two files or links, if anything."""
    if not os.path.lexists(other):
        return "is missing"
    first, second = os.lstat(one), os.lstat(other)
    if first.st_mode != second.st_mode:
        return f"mode {second.st_mode:o} and not {first.st_mode:o}"
    if stat.S_ISLNK(first.st_mode):
        return None if os.readlink(one) == os.readlink(other) else "another target"
    if first.st_mtime_ns != second.st_mtime_ns:
        return "another time"
    return None if same_content(one, other) else "another content"


def same_content(one: str, other: str) -> bool:
    """Reads both. The standard library's comparison remembers by name and time: it would not read a second restore."""
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            left, right = first.read(PIECE), second.read(PIECE)
            if left != right:
                return False
            if not left:
                return True
