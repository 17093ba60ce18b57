"""Measuring: one run in a fresh process, page cache dropped; sizes of folders; memory cgroups; machine facts."""
from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
# A run that takes longer is ended and counts as failed: no tool may hold up the rest.
LIMIT_SECONDS = 1800


class Failed(Exception):
    """A command that did not do its work; the text says which, how, and the end of what it printed."""


@dataclasses.dataclass
class Figure:
    """What one run took: seconds to the end of the sync, seconds of CPU, peak memory in KiB."""

    wall: float
    cpu: float
    peak: int


@dataclasses.dataclass
class Place:
    """Where and how commands of one tool run."""

    folder: Path
    env: dict[str, str]
    log: Path
    join: list[str] = dataclasses.field(default_factory=list)
    limit_seconds: int = LIMIT_SECONDS


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def drop_caches() -> None:
    """Writes all dirty pages and forgets all clean ones; without root the caches stay warm, and main says so."""
    os.sync()
    if os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def run(command: list[str], place: Place, cwd: Path | None = None, quiet: bool = False) -> Figure:
    """Runs a command to the end of a sync. `quiet` throws its standard output away: it may be all the data."""
    order = {
        "command": command,
        "env": place.env,
        "cwd": str(cwd or place.folder),
        "stdout": "/dev/null" if quiet else None,
        "log": str(place.log),
        "sync": str(place.folder),
        "join": place.join,
        "limit": place.limit_seconds,
    }
    with place.log.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
    launch = [sys.executable, "-I", "-S", str(HERE / "launch.py")]
    done = subprocess.run(launch, input=json.dumps(order).encode(), stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failed(f"{command[0]}: the process that starts it failed with exit {done.returncode}")
    figure = json.loads(done.stdout)
    if figure["code"] != 0:
        how = f"signal {-figure['code']}" if figure["code"] < 0 else f"exit {figure['code']}"
        if figure["wall"] >= place.limit_seconds:
            how = f"not at its end after {place.limit_seconds} s"
        raise Failed(f"{how}; {' '.join(command)}; {last_lines(place.log)}")
    return Figure(figure["wall"], figure["cpu"], figure["peak"])


def read(command: list[str], place: Place) -> str:
    """What a command prints. Not measured."""
    done = subprocess.run(command, env=place.env, cwd=place.folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}; {done.stderr.strip()[-400:]}")
    return done.stdout


def last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-4:])


def size_of(folder: Path) -> int:
    """Bytes of a repository: what its files hold, not what they occupy."""
    done = subprocess.run(["du", "--apparent-size", "--block-size=1", "-s", str(folder)], capture_output=True,
                          text=True, check=True)
    return parse_du(done.stdout)


def parse_du(text: str) -> int:
    """The number of a line of `du -s`."""
    found = re.match(r"(\d+)\s", text)
    if not found:
        raise Failed(f"du printed no size: {text!r}")
    return int(found.group(1))


class Cgroup:
    """A memory cgroup, page cache included, of version 1 or 2, whichever is mounted."""

    def __init__(self, limit_bytes: int) -> None:
        root, limit = find_memory_cgroups()
        self.folder = Path(tempfile.mkdtemp(prefix="kist-bench-", dir=root))
        (self.folder / limit).write_text(str(limit_bytes))
        # Version 2 limits swap alone, version 1 memory and swap together. Neither file is there without swap accounting.
        for name, most in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit_bytes)):
            if (self.folder / name).exists():
                (self.folder / name).write_text(str(most))

    def procs(self) -> str:
        return str(self.folder / "cgroup.procs")

    def remove(self) -> None:
        self.folder.rmdir()


def find_memory_cgroups() -> tuple[Path, str]:
    """The folder to make memory cgroups in and the name of their limit."""
    first = Path("/sys/fs/cgroup/memory")
    if (first / "memory.limit_in_bytes").exists():
        return first, "memory.limit_in_bytes"
    second = Path("/sys/fs/cgroup")
    control = second / "cgroup.subtree_control"
    if control.exists() and "memory" in control.read_text().split():
        return second, "memory.max"
    raise Failed("no memory cgroups: neither version 1 (memory) nor version 2 with the memory controller is mounted")


def machine() -> dict[str, str | int]:
    """Facts about this machine that figures depend on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": os.cpu_count() or 0,
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "memory_mib": int(memory.group(1)) // 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def file_system(folder: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.strip()
