"""The data sets: made from a seed, cached on disk by their parameters; their changes, made in place and taken back.

A changed copy would have other inodes and times of change for every file, which some tools look at: so the edits
are made in the source itself, after what was there has been written to a journal, and undone from it.
"""
from __future__ import annotations

import base64
import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import MIB, say

SEED = 5
# Goes up with each change of what is made here: data of an older one is not used again.
VERSION = 1
# 2025-01-01, in nanoseconds: far from any run, so that no tool has to distrust a time.
LONG_AGO = 1_735_689_600 * 10**9
SECOND = 10**9
PAGE = 8192
BLOCK = 65536
CHANGED = 0.01

SYLLABLES = ["ba", "cor", "di", "en", "fal", "gu", "hin", "jo", "kel", "lum", "mar", "no", "pel", "qui", "ra", "sto"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of data: how it is made, its size at scale 1, and what a prune keeps of it (a subfolder or all)."""

    make: Callable[[Path, int], None]
    amount: int
    change: Callable[[Path, random.Random], Iterator[Edit]]
    kept: str = ""
    about: str = ""


@dataclasses.dataclass
class Edit:
    """A change of one file: bytes that replace what is at `offset` (None: only the time changes)."""

    path: Path
    offset: int = 0
    new: bytes | None = None


class DataSet:
    """A data set on disk. `source` is what is backed up."""

    def __init__(self, folder: Path, name: str, scale: float) -> None:
        self.name, self.kind = name, KINDS[name]
        self.amount = max(1, round(self.kind.amount * scale))
        self.folder = folder / f"{name}-{self.amount}-seed{SEED}-v{VERSION}"
        self.source = self.folder / "source"
        self.journal = self.folder / "journal"

    def prepare(self) -> None:
        """Makes the data unless it is there, and takes changes of a run that was ended back."""
        done = self.folder / "done"
        if not done.exists():
            say(f"making the data: {self.name} ({self.amount})")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.source.mkdir(parents=True)
            self.kind.make(self.source, self.amount)
            entries, size = count(self.source)
            done.write_text(json.dumps({"entries": entries, "bytes": size}))
        self.revert()
        facts = json.loads(done.read_text())
        self.entries, self.bytes = int(facts["entries"]), int(facts["bytes"])

    def change(self) -> None:
        """Changes one hundredth: the same hundredth each time."""
        edits = list(self.kind.change(self.source, random.Random(f"{SEED}/changes")))
        draft = self.folder / "journal.draft"
        with draft.open("w", encoding="utf-8") as out:
            for edit in edits:
                out.write(json.dumps(before(edit)) + "\n")
            out.flush()
            os.fsync(out.fileno())
        draft.rename(self.journal)
        for edit in edits:
            time = edit.path.stat().st_mtime_ns
            if edit.new is not None:
                with edit.path.open("r+b") as file:
                    file.seek(edit.offset)
                    file.write(edit.new)
            os.utime(edit.path, ns=(time + SECOND, time + SECOND))

    def revert(self) -> None:
        """Takes the changes back; does nothing if there are none. The last time of a file is its first, so backwards."""
        if not self.journal.exists():
            return
        for line in reversed(self.journal.read_text(encoding="utf-8").splitlines()):
            old = json.loads(line)
            with open(old["path"], "r+b") as file:
                file.seek(old["offset"])
                file.write(base64.b64decode(old["bytes"]))
                file.truncate(old["size"])
            os.utime(old["path"], ns=(old["time"], old["time"]))
        self.journal.unlink()


def before(edit: Edit) -> dict[str, str | int]:
    """What is there before an edit, as a line of the journal."""
    with edit.path.open("rb") as file:
        file.seek(edit.offset)
        old = file.read(len(edit.new or b""))
    state = edit.path.stat()
    return {
        "path": str(edit.path),
        "offset": edit.offset,
        "bytes": base64.b64encode(old).decode(),
        "size": state.st_size,
        "time": state.st_mtime_ns,
    }


def count(folder: Path) -> tuple[int, int]:
    """Entries below a folder, and the bytes of its files."""
    entries = size = 0
    for path, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        size += sum(os.lstat(os.path.join(path, name)).st_size for name in files)
    return entries, size


# Contents. Each is of a generator of its own, so any file can be made again without the others.


class Contents:
    """Bytes of three sorts: text (about 4 to 1), binary (about 1.6 to 1), random."""

    def __init__(self) -> None:
        rng = random.Random(f"{SEED}/words")
        words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(8000)]
        self.phrases = [" ".join(rng.choices(words, k=3)) + rng.choice([" ", ", ", ".\n"]) for _ in range(40_000)]
        # Few symbols are common and many are rare, as in machine code.
        symbols = [min(255, int(rng.expovariate(1 / 12))) for _ in range(256)]
        self.skew = bytes(symbols)

    def of(self, sort: str, rng: random.Random, size: int) -> bytes:
        if sort == "text":
            line = "".join(rng.choices(self.phrases, k=size // 12 + 1))
            return line.encode()[:size].ljust(size, b"\n")
        data = rng.randbytes(size)
        return data.translate(self.skew) if sort == "binary" else data


CONTENTS = Contents()


def write_file(path: Path, parts: Iterator[bytes] | list[bytes], number: int) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
    time = LONG_AGO + number * SECOND
    os.utime(path, ns=(time, time))


def half(number: int) -> str:
    return "ab"[number % 2]


# Mixed: sizes as on a file server (half of the files below 8 KiB, half of the bytes in files above 400 KiB).


def make_mixed(source: Path, mib: int) -> None:
    left, number = mib * MIB, 0
    while left > 0:
        # One file of fifty is a copy of an earlier one.
        twin = number // 2 if number % 50 == 49 else number
        rng = random.Random(f"{SEED}/mixed/{twin}")
        size = min(int(rng.lognormvariate(9, 2)), 64 * MIB, mib * MIB // 4)
        sort = rng.choices(["text", "binary", "random"], [5, 3, 2 if size < MIB else 4])[0]
        folder = source / half(number) / f"{number // 400:03}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = (CONTENTS.of(sort, rng, min(MIB, size - at)) for at in range(0, size, MIB))
        write_file(folder / f"{number:06}.{sort}", parts, number)
        left, number = left - size, number + 1


# Small: 1 to 16 KiB each, two hundred to a folder.


def make_small(source: Path, files: int) -> None:
    for number in range(files):
        rng = random.Random(f"{SEED}/small/{number}")
        sort = rng.choices(["text", "binary", "random"], [6, 2, 2])[0]
        folder = source / half(number) / f"{number // 400:03}"
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / f"{number:06}.{sort}", [CONTENTS.of(sort, rng, rng.randint(1024, 16384))], number)


def change_files(source: Path, rng: random.Random) -> Iterator[Edit]:
    """One file of a hundred: half of them only get another time, the others another content."""
    files = sorted(Path(path) / name for path, _, names in os.walk(source) for name in names)
    files = [file for file in files if not file.is_symlink()]
    for number, file in enumerate(rng.sample(files, max(2, round(len(files) * CHANGED)))):
        sort = file.suffix[1:]
        yield Edit(file, new=None if number % 2 else CONTENTS.of(sort, rng, file.stat().st_size))


# Big: one file; of each eight MiB two are a hole, two random, two binary, two text.


def make_big(source: Path, mib: int) -> None:
    with (source / "disk.img").open("wb") as file:
        for number in range(mib):
            rng = random.Random(f"{SEED}/big/{number}")
            sort = ["text", "binary", "random", "hole"][number // 2 % 4]
            if sort == "hole":
                file.seek(MIB, os.SEEK_CUR)
            else:
                file.write(CONTENTS.of(sort, rng, MIB))
        file.truncate(mib * MIB)
    os.utime(source / "disk.img", ns=(LONG_AGO, LONG_AGO))


def change_blocks(source: Path, rng: random.Random) -> Iterator[Edit]:
    return change_parts(source / "disk.img", rng, BLOCK, lambda _: rng.randbytes(BLOCK))


# Database: pages of a header, rows of text and numbers, and free space at the end.


def page(rng: random.Random, number: int) -> bytes:
    used = rng.randint(PAGE // 2, PAGE - 256)
    rows = CONTENTS.of("text", rng, used * 2 // 3) + rng.randbytes(used // 3)
    return (number.to_bytes(8, "little") + rng.randbytes(16) + rows).ljust(PAGE, b"\0")


def make_database(source: Path, mib: int) -> None:
    pages = mib * MIB // PAGE
    rng = random.Random(f"{SEED}/database")
    write_file(source / "16384", (page(rng, number) for number in range(pages)), 0)


def change_pages(source: Path, rng: random.Random) -> Iterator[Edit]:
    return change_parts(source / "16384", rng, PAGE, lambda number: page(rng, number))


def change_parts(file: Path, rng: random.Random, size: int, make: Callable[[int], bytes]) -> Iterator[Edit]:
    """One part of a hundred, in no order; none of them twice."""
    parts = file.stat().st_size // size
    for number in rng.sample(range(parts), max(1, round(parts * CHANGED))):
        yield Edit(file, number * size, make(number))


# Tree: entries are what counts; nine files of ten are empty, one entry of a hundred is a link.


def make_tree(source: Path, entries: int) -> None:
    rng = random.Random(f"{SEED}/tree")
    made = number = 0
    while made < entries:
        folder = source / f"{number // 100:03}" / f"{number % 100:02}"
        folder.mkdir(parents=True)
        for place in range(100):
            path = folder / f"entry-{place:02}.text"
            if place == 99:
                path.symlink_to("entry-00.text")
            else:
                write_file(path, [CONTENTS.of("text", rng, 100)] if place % 10 == 0 else [], number)
        number, made = number + 1, made + 101


KINDS = {
    "mixed": Kind(make_mixed, 1024, change_files, "a", "files of all sizes"),
    "small": Kind(make_small, 200_000, change_files, "a", "files of 1 to 16 KiB"),
    "big": Kind(make_big, 2048, change_blocks, "", "one file, a quarter of it holes; blocks change"),
    "database": Kind(make_database, 512, change_pages, "", "one file of 8 KiB pages; pages change"),
    "tree": Kind(make_tree, 1_000_000, change_files, "", "entries, nearly all empty files; some change"),
}
