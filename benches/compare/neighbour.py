"""What a backup does to a database that runs beside it: the latency of pgbench, alone and while its files are backed up.

pgbench asks at a fixed rate that the machine keeps up with by far, so what is seen is how long each transaction waits.
Backups of the database's folder follow each other, each into a new repository, until pgbench ends.
"""
from __future__ import annotations

import os
import pwd
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import Failed, Place, drop_caches, last_lines, read, say
from peers import KINDS, Repo

SECONDS = 30
# About 750 MiB.
SCALE = 50
RATE = 100
CLIENTS = 4
# Not below /root: PostgreSQL refuses to run as root, and its own user can't go there.
PARENT = Path("/var/tmp")


def programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    if not found:
        raise Failed("there is no pgbench below /usr/lib/postgresql: install PostgreSQL")
    return found[-1].parent


class Database:
    """A PostgreSQL with pgbench's tables, reached by a socket in its folder."""

    def __init__(self) -> None:
        self.bin = programs()
        if os.geteuid() != 0:
            raise Failed("only root can start PostgreSQL as its own user")
        user = pwd.getpwnam("postgres")
        self.folder = Path(tempfile.mkdtemp(prefix="kist-bench-", dir=PARENT))
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.data = self.folder / "data"
        self.env = {"PATH": "/usr/bin:/bin", "PGHOST": str(self.folder), "PGUSER": "postgres", "LC_ALL": "C"}
        self.server: subprocess.Popen[bytes] | None = None
        try:
            self.call("initdb", "-D", str(self.data), "-A", "trust", "--no-sync")
            options = ["-c", f"unix_socket_directories={self.folder}", "-c", "listen_addresses=", "-c",
                       "shared_buffers=128MB", "-c", "checkpoint_timeout=30s"]
            self.server = self.start("postgres", "-D", str(self.data), *options)
            self.wait()
            self.call("pgbench", "-i", "-q", "-s", str(SCALE), "postgres")
        except BaseException:
            self.close()
            raise

    def start(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{program}.log").open("ab")
        return subprocess.Popen([self.bin / program, *words], user="postgres", group="postgres", extra_groups=[],
                                env=self.env, cwd=self.folder, stdout=log, stderr=log)

    def call(self, program: str, *words: str) -> None:
        code = self.start(program, *words).wait()
        if code != 0:
            text = (self.folder / f"{program}.log").read_text(errors="replace")[-400:]
            raise Failed(f"{program}: exit {code}; {text}")

    def wait(self) -> None:
        """Until it answers; half a minute at most."""
        end = time.monotonic() + 30
        while self.start("pg_isready").wait() != 0:
            if time.monotonic() > end:
                raise Failed("PostgreSQL did not answer within 30 s")
            time.sleep(0.1)

    def latencies(self, beside: Callable[[float], None]) -> list[float]:
        """Milliseconds of each transaction, from when it was due, while `beside` is called again and again, and told
        until when it may take."""
        for old in self.folder.glob("transactions*"):
            old.unlink()
        # Dirty pages of what went before are not this run's.
        self.call("psql", "-c", "checkpoint", "postgres")
        drop_caches()
        bench = self.start("pgbench", "-n", "-c", str(CLIENTS), "-j", "1", "-T", str(SECONDS), "-R", str(RATE), "-l",
                           "--log-prefix", str(self.folder / "transactions"), "postgres")
        until = time.monotonic() + SECONDS
        try:
            while time.monotonic() < until:
                beside(until)
            bench.wait()
        finally:
            bench.kill()
            bench.wait()
        if bench.returncode != 0:
            raise Failed(f"pgbench: exit {bench.returncode}")
        lines = [line.split() for log in self.folder.glob("transactions*") for line in log.read_text().splitlines()]
        return [int(line[2]) / 1000 for line in lines]

    def close(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait()
        shutil.rmtree(self.folder)


class Beside:
    """Backups of the database's folder, one after the other; counts those that ended."""

    def __init__(self, name: str, options: list[str], program: Path, database: Database, folder: Path) -> None:
        self.kind = next(kind for kind in KINDS if kind.name == name)
        self.options, self.program, self.database, self.folder = options, program, database, folder
        self.done = 0

    def once(self, until: float) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        place = Place(self.folder, {"PATH": "/usr/bin:/bin"}, self.folder / "log")
        tool = self.kind(self.program, place, Repo(self.folder / "repo"))
        for command in tool.init():
            read(command, place)
        command = [*tool.backup(self.database.data, "cold"), *self.options]
        with place.log.open("ab") as log:
            backup = subprocess.Popen(command, env=place.env, cwd=place.folder, stdout=log, stderr=log)
        start = time.monotonic()
        try:
            code = backup.wait(max(0.1, until - start))
            # Files that change while they are read make it incomplete: 3, of both.
            if code not in (0, 3):
                raise Failed(f"{self.kind.name}: exit {code}; {last_lines(place.log)}")
            self.done += 1
        except subprocess.TimeoutExpired:
            backup.kill()
            backup.wait()


def wait_until(until: float) -> None:
    time.sleep(max(0.0, min(0.2, until - time.monotonic())))


def run(found: dict[str, Path], folder: Path) -> list[dict[str, float | str]]:
    """The rows: what ran beside pgbench, and its latencies in milliseconds."""
    polite = ["--priority", "low", "--threads", "2"]
    cases: list[tuple[str, str, list[str]]] = [
        ("nothing", "", []),
        ("restic", "restic", []),
        ("kist", "kist", []),
        ("kist as a mover pod has it: --priority low --threads 2", "kist", polite),
        ("kist, the same with --limit-read 50M", "kist", [*polite, "--limit-read", "50M"]),
    ]
    database = Database()
    rows: list[dict[str, float | str]] = []
    try:
        for title, name, options in cases:
            if name and name not in found:
                continue
            if name:
                beside = Beside(name, options, found[name], database, folder / "neighbour")
                waits = database.latencies(beside.once)
                backups = beside.done
            else:
                waits = database.latencies(wait_until)
                backups = 0
            cuts = statistics.quantiles(waits, n=100)
            rows.append({"beside": title, "backups": backups, "median": cuts[49], "p95": cuts[94], "p99": cuts[98],
                         "transactions": len(waits)})
            say(f"neighbour, {title}: median {cuts[49]:.2f} ms, 95 % {cuts[94]:.2f} ms, 99 % {cuts[98]:.2f} ms")
    finally:
        database.close()
        shutil.rmtree(folder / "neighbour", ignore_errors=True)
    return rows
