#!/usr/bin/env python3
"""kist beside its peers: runs each operation side by side, and writes tables, plots and all raw figures.

    make bench                                   everything
    make bench WHAT="mixed.cold small.restore"   parts: SETTING or SETTING.OPERATION; `growth`, `memory`, `s3`, `neighbour` too
    BENCH_SCALE=0.1 BENCH_ROUNDS=1 make bench    less data, fewer rounds (1 and 3)

BENCH_FOLDER (in the lab's cache) gets data and repositories and is where they are measured: put it on the disk that
counts. BENCH_OUT (target/bench) gets results.json, table.md, bench.svg, growth.svg; parts that were not run are kept in
there if they were made with the same settings. BENCH_PUBLISH=1 writes into benches/results and README.md instead.
KIST is the binary. Root, because the page cache has to be dropped.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import neighbour
from measure import Failed, file_system, machine, say
from parts import Bench, Results, chosen
from peers import CACHE, ROOT, pinned, programs
from plot import bars, lines
from report import fill, growth, report, short

KIST = ROOT / "target/x86_64-unknown-linux-gnu/release/kist"
# Data, its repositories by five tools and one restored copy, at scale 1.
GIB_NEEDED = 25


def self_test() -> None:
    found = unittest.defaultTestLoader.loadTestsFromName("test_compare")
    if not unittest.TextTestRunner(verbosity=0).run(found).wasSuccessful():
        raise Failed("the bench's own tests failed: its figures would be worth nothing")


def number_from(name: str, default: float) -> float:
    value = os.environ.get(name) or default
    try:
        number = float(value)
    except ValueError:
        number = 0
    if number <= 0:
        raise Failed(f"{name}={value}: write a number above 0")
    return number


def load(place: Path, settings: dict[str, Any], facts: dict[str, Any]) -> Results:
    """The results of earlier parts, if they were made with the same settings on the same machine."""
    results = Results()
    if place.exists():
        old = json.loads(place.read_text(encoding="utf-8"))
        if old["settings"] == settings and old["machine"] == facts:
            results = Results(old["figures"], old["failures"], old["about"], old.get("neighbour", []))
        else:
            say(f"{place} is of other settings or another machine: made anew")
    return results


def write(out: Path, results: Results, settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    whole = {"machine": facts, "settings": settings, "about": results.about, "failures": results.failures,
             "neighbour": results.neighbour, "figures": results.figures}
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(report(whole), encoding="utf-8")
    (out / "bench.svg").write_text(bars(whole), encoding="utf-8")
    if growth(whole):
        (out / "growth.svg").write_text(lines(whole), encoding="utf-8")
    return whole


def version_of(kist: Path) -> str:
    if not os.access(kist, os.X_OK):
        raise Failed(f"{kist} is not there: make build, or say where it is by KIST=…")
    done = subprocess.run([kist, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def bench(words: list[str]) -> None:
    settings_asked = [word for word in words if word != "neighbour"]
    parts = chosen(settings_asked) if settings_asked or not words else {}
    self_test()
    scale, rounds = number_from("BENCH_SCALE", 1), int(number_from("BENCH_ROUNDS", 3))
    folder = Path(os.environ.get("BENCH_FOLDER") or CACHE / "bench").resolve()
    publish = os.environ.get("BENCH_PUBLISH", "0") not in ("", "0")
    usual = ROOT / ("benches/results" if publish else "target/bench")
    out = usual if publish else Path(os.environ.get("BENCH_OUT") or usual).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**30
    if free < GIB_NEEDED * scale:
        raise Failed(f"{folder} has {free:.0f} GiB free and {GIB_NEEDED * scale:.0f} are needed: set BENCH_FOLDER")
    kist = Path(os.environ.get("KIST") or KIST).resolve()
    mine = version_of(kist)
    found, versions, missing = programs(kist)
    for name in missing:
        say(f"PEER LEFT OUT: {name} is not installed (tests/tools/install.sh peers)")
    if os.geteuid() != 0:
        say("NOT ROOT: the page cache can't be dropped, the figures will be of a warm one")
    facts = machine()
    settings = {"scale": scale, "rounds": rounds, "versions": {"kist": mine, **versions}, "missing": missing,
                "binary": hashlib.sha256(kist.read_bytes()).hexdigest()[:16], "file_system": file_system(folder), "cold": os.geteuid() == 0}
    results = load(out / "results.json", settings, facts)
    server = CACHE / f"bin/versitygw-{pinned('versitygw')}"
    runs = Bench(folder, found, server, scale, rounds, results)
    whole = write(out, results, settings, facts)
    for name, operations in parts.items():
        try:
            runs.run_setting(name, operations)
        except Failed as error:
            results.fail(f"{name}: {error}")
        whole = write(out, results, settings, facts)
    if not words or "neighbour" in words:
        results.forget("neighbour")
        try:
            results.neighbour = neighbour.run(found, folder)
        except Failed as error:
            results.fail(f"neighbour: {error}")
        whole = write(out, results, settings, facts)
    if publish:
        fill(ROOT / "README.md", short(whole, "benches/results"))
    print((out / "table.md").read_text(encoding="utf-8"))
    # That a peer fails, of too little memory for one, is a result.
    mine_too = [text for text in results.failures if not any(f" by {peer}: " in text for peer in versions)]
    if mine_too:
        raise Failed(f"failed: {'; '.join(mine_too)}")


def main() -> int:
    try:
        bench(sys.argv[1:])
    except Failed as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
