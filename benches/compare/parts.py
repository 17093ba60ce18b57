"""What is run: parts are names as `mixed.cold`: a place and an operation.

An operation needs those before it. They are run by all tools in turn, the order rotated by round; who fails is
out until the next round, and named. Whatever is run is measured and reported.
"""
from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import data
from compare_trees import differences
from limits import limits
from measure import LIMIT_SECONDS, MIB, Cgroup, Failed, Figure, Place, drop_caches, read, run, say, size_of
from peers import KINDS, Repo, Tool
from s3 import Server

OPERATIONS = {
    "cold": "cold backup",
    "same": "nothing changed",
    "some": "1 % changed",
    "restore": "restore",
    "check": "check, all data read",
    "prune": "prune",
}
NEEDS = {"cold": [], "same": ["cold"], "some": ["cold"], "restore": ["cold"], "check": ["cold"],
         "prune": ["cold", "some"]}
MEMORY_LIMIT = 256 * MIB


@dataclasses.dataclass(frozen=True)
class Setting:
    """A place to run operations at: which data, how much of it, where the repository is, in how much memory."""

    data: str
    operations: tuple[str, ...] = tuple(OPERATIONS)
    portion: float = 1.0
    delay_ms: int | None = None
    memory: int | None = None
    limit_seconds: int = LIMIT_SECONDS
    # Of 200,000 files and of a million entries one round says enough.
    one_round: bool = False

    def about(self) -> str:
        words = [self.data if self.portion == 1.0 else f"{self.portion:g} of {self.data}"]
        if self.delay_ms is not None:
            words.append(f"S3, {self.delay_ms} ms")
        if self.memory is not None:
            words.append(f"{self.memory // MIB} MiB of memory, page cache included")
        return ", ".join(words)


SETTINGS = {
    "mixed": Setting("mixed"),
    "small": Setting("small", one_round=True),
    "big": Setting("big"),
    "database": Setting("database"),
    # What a file costs to restore, check and prune is measured on `small`: a million would take the time of all the rest.
    "tree": Setting("tree", ("cold", "same", "some"), one_round=True),
    "s3-0": Setting("mixed", delay_ms=0),
    "s3-30": Setting("mixed", delay_ms=30),
    # Who needs more memory reads the same pages again and again, for hours.
    "memory": Setting("mixed", ("cold", "restore"), memory=MEMORY_LIMIT, limit_seconds=120),
    **{f"growth-{n}": Setting("mixed", ("cold", "same", "restore"), portion=n / 16) for n in (1, 2, 4, 8)},
}


def chosen(words: list[str]) -> dict[str, list[str]]:
    """The operations to run by setting, with what they need. `growth` is all four; no words are everything."""
    wanted: dict[str, set[str]] = {}
    for word in words or list(SETTINGS):
        name, _, operation = word.partition(".")
        names = [key for key in SETTINGS if key == name or key.startswith(f"{name}-")]
        if not names:
            raise Failed(f"no such part: {word}; there are {', '.join(SETTINGS)}, each with .OPERATION "
                         f"({', '.join(OPERATIONS)})")
        for key in names:
            allowed = SETTINGS[key].operations
            if operation and operation not in allowed:
                raise Failed(f"no such part: {word}; {key} has {', '.join(allowed)}")
            for one in [operation] if operation else allowed:
                wanted.setdefault(key, set()).update([one, *NEEDS[one]])
    return {key: [one for one in OPERATIONS if one in wanted[key]] for key in SETTINGS if key in wanted}


@dataclasses.dataclass
class Results:
    """All that was measured, as plain data that becomes JSON: setting, operation, tool, one entry a round."""

    figures: dict[str, dict[str, dict[str, list[dict[str, float]]]]] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)
    about: dict[str, str] = dataclasses.field(default_factory=dict)
    neighbour: list[dict[str, float | str]] = dataclasses.field(default_factory=list)

    def add(self, setting: str, operation: str, tool: str, figure: Figure, size: int | None) -> None:
        entry: dict[str, float] = dict(dataclasses.asdict(figure))
        if size is not None:
            entry["size"] = size
        self.figures.setdefault(setting, {}).setdefault(operation, {}).setdefault(tool, []).append(entry)

    def forget(self, setting: str) -> None:
        """What an earlier run of this setting has left."""
        self.figures.pop(setting, None)
        self.failures = [text for text in self.failures if not text.startswith((f"{setting}.", f"{setting}:"))]

    def fail(self, text: str) -> None:
        say(f"FAILED: {text}")
        if text not in self.failures:
            self.failures.append(text)


@dataclasses.dataclass
class Bench:
    """What all settings share."""

    folder: Path
    programs: dict[str, Path]
    server: Path
    scale: float
    rounds: int
    results: Results

    def run_setting(self, name: str, operations: list[str]) -> None:
        setting = SETTINGS[name]
        self.results.forget(name)
        source = data.DataSet(self.folder / "data", setting.data, self.scale * setting.portion)
        source.prepare()
        self.results.about[name] = f"{setting.about()}: {source.entries} entries, {source.bytes / MIB:.0f} MiB"
        for number in range(1 if setting.one_round else self.rounds):
            say(f"{name}, round {number + 1}")
            Round(self, name, setting, source, number).run(operations)


class Round:
    """One round of one setting: new repositories, every operation by every tool."""

    def __init__(self, bench: Bench, name: str, setting: Setting, source: data.DataSet, number: int) -> None:
        self.bench, self.name, self.setting, self.source, self.number = bench, name, setting, source, number
        self.folder = bench.folder / "run"
        self.tools: dict[str, Tool] = {}
        self.steps: list[str] = []
        self.join: list[str] = []

    def run(self, operations: list[str]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        server = cgroup = None
        try:
            if self.setting.memory is not None:
                cgroup = Cgroup(self.setting.memory)
                self.join = [cgroup.procs()]
            if self.setting.delay_ms is not None:
                server = Server(self.bench.server, self.folder / "server", self.setting.delay_ms)
            self.open(server)
            for operation in operations:
                self.operate(operation)
        finally:
            self.source.revert()
            if server is not None:
                server.close()
            if cgroup is not None:
                cgroup.remove()
        shutil.rmtree(self.folder)

    def open(self, server: Server | None) -> None:
        for kind in KINDS:
            if kind.name not in self.bench.programs or (server is not None and not kind.speaks_s3):
                continue
            place = self.place(kind.name)
            repo = Repo(place.folder / "repo")
            if server is not None:
                bucket = f"bench-{kind.name}"
                repo = Repo(server.bucket(bucket), server.endpoint, bucket)
            tool = kind(self.bench.programs[kind.name], place, repo)
            with self.guard(kind.name, "init"):
                for command in tool.init():
                    run(command, place)
                self.tools[kind.name] = tool

    def place(self, name: str) -> Place:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        env = {"PATH": "/usr/bin:/bin"}
        return Place(folder, env, folder / "log", self.join, self.setting.limit_seconds)

    def operate(self, operation: str) -> None:
        if operation in ("cold", "same", "some"):
            self.steps.append(operation)
        if operation == "some":
            self.source.change()
        if operation == "prune":
            self.make_garbage()
        # kist's packs are what reading the packs is measured on.
        packs = self.tools["kist"].repo.folder if "kist" in self.tools else self.folder
        bare = limits(operation, self.source.source, packs, self.folder / "limit/out")
        for name in rotated([*self.tools, *bare], self.number):
            with self.guard(name, operation):
                if name in bare:
                    self.measure_limit(name, operation, bare[name])
                else:
                    self.measure_tool(name, operation)

    def measure_limit(self, name: str, operation: str, command: list[str]) -> None:
        place = self.place("limit")
        out = place.folder / "out"
        out.mkdir()
        drop_caches()
        figure = run(command, place)
        shutil.rmtree(out)
        self.bench.results.add(self.name, operation, name, figure, None)

    def measure_tool(self, name: str, operation: str) -> None:
        tool = self.tools[name]
        out = tool.place.folder / "out"
        if operation == "restore":
            out.mkdir()
            command = tool.restore(out, self.steps[-1])
        elif operation == "check":
            command = tool.check(self.steps[-1])
        elif operation == "prune":
            command = tool.prune()
        else:
            command = tool.backup(self.source.source, operation)
        drop_caches()
        figure = run(command, tool.place, quiet=operation == "check")
        self.bench.results.add(self.name, operation, name, figure, size_of(tool.repo.folder))
        say(f"{self.name}.{operation} {name}: {figure.wall:.2f} s, {figure.peak / 1024:.0f} MiB")
        if operation == "restore":
            found = differences(self.source.source, out)
            shutil.rmtree(out)
            if found:
                self.bench.results.fail(f"{self.name}.restore by {name}: {len(found)} differences, first: {found[0]}")

    def make_garbage(self) -> None:
        """Where the data has halves: a backup of one half only. Then all but the newest backup is forgotten."""
        kept = self.source.kind.kept
        for name, tool in list(self.tools.items()):
            with self.guard(name, "forget"):
                if kept:
                    run(tool.backup(self.source.source / kept, "kept"), tool.place)
                for command in tool.forget(self.steps if kept else self.steps[:-1]):
                    read(command, tool.place)

    def guard(self, name: str, operation: str) -> Guard:
        return Guard(self, name, operation)


class Guard:
    """Notes what fails inside, and leaves the tool out of the rest of the round: what follows needs what failed."""

    def __init__(self, round_: Round, name: str, operation: str) -> None:
        self.round, self.name, self.operation = round_, name, operation

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Failed):
            return False
        self.round.bench.results.fail(f"{self.round.name}.{self.operation} by {self.name}: {error}")
        self.round.tools.pop(self.name, None)
        shutil.rmtree(self.round.folder / self.name / "out", ignore_errors=True)
        return True


def rotated(names: list[str], number: int) -> Iterator[str]:
    """The names, beginning one further each round."""
    at = number % max(1, len(names))
    yield from names[at:] + names[:at]
