"""The tools: kist and its peers, each with default settings and encryption on.

A tool tells its commands; parts.py runs and times them. Each has a home of its own below its place, so what is
cached between runs is what the tool itself caches by default, and nothing of the user's is touched.
"""
from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

from measure import HERE, Failed, Place, read
from s3 import ACCESS_KEY, REGION, SECRET_KEY

ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("KIST_CACHE") or Path.home() / ".cache/kist-lab")
PASSPHRASE = "correct horse battery staple"


@dataclasses.dataclass
class Repo:
    """Where a repository is: a folder, or a bucket of a server that keeps it in that folder."""

    folder: Path
    endpoint: str = ""
    bucket: str = ""


class Tool:
    """One tool at one repository. Steps are names of backups: cold, same, some, kept."""

    name = ""
    speaks_s3 = False

    def __init__(self, program: Path, place: Place, repo: Repo) -> None:
        self.program, self.place, self.repo = str(program), place, repo
        self.secret = place.folder / "passphrase"
        self.secret.write_text(PASSPHRASE)
        place.env.update(HOME=str(place.folder / "home"), PATH=os.environ["PATH"], LC_ALL="C.UTF-8")
        if repo.endpoint:
            place.env.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION=REGION)
        (place.folder / "home").mkdir()
        self.set_up()

    def set_up(self) -> None:
        """Puts what the tool needs into its environment."""

    def call(self, *words: str | Path) -> list[str]:
        return [self.program, *map(str, words)]

    def init(self) -> list[list[str]]:
        return [self.call("init")]

    def backup(self, source: Path, step: str) -> list[str]:
        raise NotImplementedError

    def restore(self, target: Path, step: str) -> list[str]:
        raise NotImplementedError

    def check(self, step: str) -> list[str]:
        """Reads and opens all data."""
        raise NotImplementedError

    def forget(self, steps: list[str]) -> list[list[str]]:
        """Forgets the backups of these steps, which are all but the newest. Not timed."""
        raise NotImplementedError

    def prune(self) -> list[str]:
        return self.call("prune")

    def old_ids(self, snapshots: list[tuple[str, str]]) -> list[str]:
        """The ids of (time, id) without the newest."""
        return [name for _, name in sorted(snapshots)[:-1]]


class Kist(Tool):
    """The catalog stays on: it is the default, and its first use is within the cold backup."""

    name = "kist"
    speaks_s3 = True

    def set_up(self) -> None:
        url = str(self.repo.folder)
        if self.repo.endpoint:
            url = f"s3://{self.repo.bucket}/repo?endpoint={self.repo.endpoint}&region={REGION}"
        self.place.env.update(KIST_REPO=url, KIST_PASSPHRASE_FILE=str(self.secret))

    def backup(self, source: Path, step: str) -> list[str]:
        return self.call("backup", "files", source)

    def restore(self, target: Path, step: str) -> list[str]:
        return self.call("restore", "files", "latest", target)

    def check(self, step: str) -> list[str]:
        return self.call("check", "--read-data")

    def forget(self, steps: list[str]) -> list[list[str]]:
        lines = read(self.call("snapshots", "--json"), self.place).splitlines()
        found = [json.loads(line) for line in lines]
        listed = [(f"{entry['timeNanos']:020}", entry["snapshot"]) for entry in found if entry["type"] == "snapshot"]
        return [self.call("forget", *self.old_ids(listed))]


class Restic(Tool):
    name = "restic"
    speaks_s3 = True

    def set_up(self) -> None:
        url = str(self.repo.folder)
        if self.repo.endpoint:
            url = f"s3:{self.repo.endpoint}/{self.repo.bucket}/repo"
        self.place.env.update(RESTIC_REPOSITORY=url, RESTIC_PASSWORD_FILE=str(self.secret))

    def backup(self, source: Path, step: str) -> list[str]:
        return self.call("backup", source)

    def restore(self, target: Path, step: str) -> list[str]:
        return self.call("restore", "latest", "--target", target)

    def check(self, step: str) -> list[str]:
        return self.call("check", "--read-data")

    def forget(self, steps: list[str]) -> list[list[str]]:
        found = json.loads(read(self.call("snapshots", "--json"), self.place))
        return [self.call("forget", *self.old_ids(snapshots_in(found)))]


class Rustic(Restic):
    name = "rustic"

    def set_up(self) -> None:
        env = self.place.env
        env.update(RUSTIC_REPOSITORY=str(self.repo.folder), RUSTIC_PASSWORD_FILE=str(self.secret))
        if self.repo.endpoint:
            env["RUSTIC_REPOSITORY"] = "opendal:s3"
            options = {"root": "/repo", "bucket": self.repo.bucket, "endpoint": self.repo.endpoint, "region": REGION,
                       "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
            env.update({f"OPENDAL_{name.upper()}": value for name, value in options.items()})

    def restore(self, target: Path, step: str) -> list[str]:
        return self.call("restore", "latest", target)


class Bupstash(Tool):
    """It has no check: it is timed writing all of the newest backup to /dev/null, which opens the same data."""

    name = "bupstash"

    def set_up(self) -> None:
        key = self.place.folder / "key"
        self.place.env.update(BUPSTASH_REPOSITORY=str(self.repo.folder), BUPSTASH_KEY=str(key))

    def init(self) -> list[list[str]]:
        return [self.call("init"), self.call("new-key", "-o", self.place.env["BUPSTASH_KEY"])]

    def backup(self, source: Path, step: str) -> list[str]:
        return self.call("put", "--no-progress", f"step={step}", "::", source)

    def restore(self, target: Path, step: str) -> list[str]:
        return self.call("restore", "--no-progress", "--into", target, f"step={step}")

    def check(self, step: str) -> list[str]:
        return self.call("get", "--no-progress", f"step={step}")

    def forget(self, steps: list[str]) -> list[list[str]]:
        return [self.call("rm", "--no-progress", f"step={step}") for step in steps]

    def prune(self) -> list[str]:
        return self.call("gc", "--no-progress")


class Borg(Tool):
    """The mode of encryption has to be chosen: repokey-blake2, the faster of the two on most machines."""

    name = "borg"

    def set_up(self) -> None:
        self.place.env.update(BORG_REPO=str(self.repo.folder), BORG_PASSCOMMAND=f"cat {self.secret}")

    def init(self) -> list[list[str]]:
        return [self.call("init", "--encryption", "repokey-blake2")]

    def backup(self, source: Path, step: str) -> list[str]:
        return self.call("create", f"::{step}", source)

    def restore(self, target: Path, step: str) -> list[str]:
        # It restores into the folder that it is started in.
        return ["env", "-C", str(target), *self.call("extract", f"::{step}")]

    def check(self, step: str) -> list[str]:
        return self.call("check", "--verify-data")

    def forget(self, steps: list[str]) -> list[list[str]]:
        return [self.call("delete", f"::{step}") for step in steps]

    def prune(self) -> list[str]:
        return self.call("compact")


def snapshots_in(found: object) -> list[tuple[str, str]]:
    """(time, id) of the snapshots in what restic or rustic lists, which may be in groups."""
    if isinstance(found, list):
        return [pair for entry in found for pair in snapshots_in(entry)]
    if isinstance(found, dict):
        if isinstance(found.get("id"), str) and "tree" in found:
            return [(str(found["time"]), found["id"])]
        return [pair for entry in found.values() for pair in snapshots_in(entry)]
    return []


KINDS: list[type[Tool]] = [Kist, Rustic, Restic, Bupstash, Borg]


def pinned(name: str) -> str:
    """The version that tests/tools/install.sh installs."""
    text = (ROOT / "tests/tools/install.sh").read_text(encoding="utf-8")
    found = re.search(rf"^{name.upper()}=(\S+)$", text, re.MULTILINE)
    if not found:
        raise Failed(f"tests/tools/install.sh has no line {name.upper()}=…")
    return found.group(1)


def programs(kist: Path) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """The programs by name, their versions, and the names of the peers that are not here."""
    found, versions, missing = {"kist": kist}, {}, []
    for kind in KINDS[1:]:
        version = pinned(kind.name)
        place = CACHE / f"bin/{kind.name}-{version}"
        if kind is Borg:
            place = CACHE / f"borg-{version}/bin/borg"
        versions[kind.name] = version.removeprefix("v")
        if place.exists():
            found[kind.name] = place
        else:
            missing.append(kind.name)
    return found, versions, missing
