"""Restores a snapshot from a repository of kist, with no code of kist's.

    restore.py REPO TARGET [--snapshot NAME] KEY [--domain NAME]
    restore.py REPO --list KEY [--domain NAME]

KEY is one of --passphrase-file FILE, --key-file FILE, --kit FILE. NAME is `latest`, or the
beginning of a snapshot's name; what is forgotten is no snapshot. TARGET has to be empty or not
there. A snapshot of a cluster gives TARGET/manifests and TARGET/volumes/NAMESPACE/CLAIM. Exit
codes: 0 all is there; 1 failed; 3 some attributes could not be set; 4 damage or an alarm: what is
listed is not there, or may not be all.
"""

import argparse
import datetime
import os
import sys
from pathlib import Path
from typing import Any

import layout
from codec import Refused
from keys import OWNER, READER, ROLES, Keys
from opening import Store
from repository import Lost, Repository, open_with_key, open_with_passphrase
from slots import decode_key_file, decode_kit
from snapshot import ROOT_KINDS, Commit, Root, canonical_source
from target import Target
from tree import check_name
from walk import Gap, Walk


class Failed(Exception):
    """What ends the program, and is not damage."""


def open_repository(arguments: argparse.Namespace) -> Repository:
    store = Store(Path(arguments.repo))
    if arguments.passphrase_file:
        passphrase = Path(arguments.passphrase_file).read_bytes()
        return open_with_passphrase(store, passphrase, arguments.domain)
    if arguments.kit:
        key = decode_kit(Path(arguments.kit).read_text())
    else:
        key = decode_key_file(Path(arguments.key_file).read_text())
    return open_with_key(store, key, arguments.domain)


def chosen(commits: list[Commit], name: str) -> Commit:
    """The newest, or the one whose name begins so. Nothing is guessed where sources differ."""
    if name == "latest":
        if len({commit.source for commit in commits}) > 1:
            raise Failed("there are snapshots of several sources: name one of --list")
        fits = commits[-1:]
    else:
        fits = [commit for commit in commits if layout.short_name(commit.session).startswith(name)]
    if len(fits) != 1:
        raise Failed(f"{len(fits)} snapshots are called {name!r}")
    return fits[0]


def summary_of(repository: Repository, commit: Commit) -> dict[str, Any] | None:
    """None: this key does not open it."""
    key = repository.keys.meta(commit.meta_key(commit.source))
    return None if key is None else commit.summary(repository.config.repository, key)


def list_snapshots(repository: Repository) -> None:
    for commit in repository.view.commits:
        time = datetime.datetime.fromtimestamp(commit.time // 10**9, datetime.UTC).isoformat()
        state = "complete" if commit.complete else "incomplete"
        summary = summary_of(repository, commit)
        source = "sealed for others" if summary is None else summary.get("source")
        print(f"{layout.short_name(commit.session)} {time} {state} {source!r}")


def folder_of(root: Root, commit: Commit, summary: dict[str, Any] | None, keys: Keys) -> Path:
    """Where in the target the tree of a root goes."""
    kind = ROOT_KINDS[root.kind]
    if kind == "files":
        return Path()
    if kind == "manifests":
        return Path("manifests")
    cluster = (summary or {}).get("source", {}).get("cluster", "")
    for volume in ((summary or {}).get("cluster") or {}).get("volumes", []):
        names = [volume["namespace"], volume["name"]]
        parts = [cluster, "/".join(["volumes", *names, volume["uid"]])]
        if keys.source_id(canonical_source(2, parts)) == root.source:
            for name in names:
                check_name(name.encode())
            return Path("volumes", *names)
    return Path("volumes", root.source.hex())


def restore_root(
    repository: Repository, commit: Commit, root: Root, folder: Path, target: Target
) -> None:
    walk = Walk(repository, commit.meta_key(root.source))
    plain = ROOT_KINDS[root.kind] == "manifests"
    target.begin(folder, attributes=not plain)
    for found in walk.entries(root.node):
        if isinstance(found, Gap):
            target.lost(found.last, f"behind {found.after!r}: {found.why}")
        else:
            target.put(found, walk)
    target.end()


def restore(repository: Repository, commit: Commit, folder: Path) -> int:
    if repository.keys.role not in (OWNER, READER):
        raise Failed(f"this key opens no content: a {ROLES[repository.keys.role]}'s never does")
    try:
        summary = summary_of(repository, commit)
    except Refused as error:
        print(f"damaged: the summary of the snapshot: {error}", file=sys.stderr)
        summary = None
    target = Target(repository, folder)
    for root in commit.roots:
        below = folder_of(root, commit, summary, repository.keys)
        restore_root(repository, commit, root, folder / below, target)
    for line in target.losses:
        print(f"lost: {line}", file=sys.stderr)
    for line in target.problems:
        print(f"problem: {line}", file=sys.stderr)
    counts = f"{target.entries} entries, {target.files} files, {target.bytes} bytes"
    print(f"{counts}; {len(target.losses)} lost, {len(target.problems)} problems")
    return 4 if target.losses or repository.view.alarms else 3 if target.problems else 0


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restores a snapshot of kist's, without kist.")
    parser.add_argument("repo")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--list", action="store_true", help="list the snapshots")
    parser.add_argument("--snapshot", default="latest", metavar="NAME")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--passphrase-file", metavar="FILE")
    keys.add_argument("--key-file", metavar="FILE")
    keys.add_argument("--kit", metavar="FILE", help="the recovery page, or its eight lines")
    parser.add_argument("--domain", metavar="NAME", help="an owner has the choice")
    arguments = parser.parse_args(argv)
    if arguments.list == (arguments.target is not None):
        parser.error("give a target, or --list")
    return arguments


def main(argv: list[str]) -> int:
    arguments = parsed(argv)
    try:
        repository = open_repository(arguments)
        for alarm in repository.view.alarms:
            print(f"alarm: {alarm}", file=sys.stderr)
        for problem in repository.view.problems:
            print(f"damaged: {problem}", file=sys.stderr)
        if arguments.list:
            list_snapshots(repository)
            return 4 if repository.view.alarms else 0
        commit = chosen(repository.view.commits, arguments.snapshot)
        folder = Path(arguments.target)
        folder.mkdir(parents=True, exist_ok=True)
        if os.listdir(folder):
            raise Failed(f"{folder} is not empty")
        return restore(repository, commit, folder)
    except (Failed, Lost, Refused, OSError) as error:
        print(f"restore: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
