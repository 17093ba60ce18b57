#!/usr/bin/env python3
"""kist and restic side by side: cold backup, nothing changed, restore, check, of 4 GiB of mixed files.

    benches/compare/restic.py KIST FOLDER [ROUNDS]

Makes its data in FOLDER (about 15 GB are needed), then runs each operation in turn with both, ROUNDS times,
the page cache dropped before each (root), each timed to the end of a sync. Prints medians and ratios.
Defaults of both; restic from Debian. Data: what /usr holds, a SQLite file, logs, random files; all but the
first from a seed.
"""
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

MIB = 1 << 20


def make_data(folder):
    if os.path.exists(folder + "/done"):
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    rng = random.Random(1)
    copy_some("/usr", folder + "/usr", 2300 * MIB)
    database = sqlite3.connect(folder + "/app.sqlite")
    database.execute("create table orders (id integer primary key, name text, note blob)")
    while os.path.getsize(folder + "/app.sqlite") < 1024 * MIB:
        rows = ((f"customer {rng.randrange(10**6)}", rng.randbytes(200) + b"x" * 400) for _ in range(50_000))
        database.executemany("insert into orders (name, note) values (?, ?)", rows)
        database.commit()
    database.close()
    words = [f"word{n}" for n in range(2000)]
    for number in range(8):
        with open(f"{folder}/log.{number}", "w") as log:
            for line in range(400_000):
                text = " ".join(rng.choice(words) for _ in range(8))
                log.write(f"2026-11-{line % 28 + 1:02} host app[{rng.randrange(9999)}]: {text}\n")
    for number in range(16):
        with open(f"{folder}/random.{number}", "wb") as out:
            for _ in range(32):
                out.write(rng.randbytes(MIB))
    open(folder + "/done", "w").close()


def copy_some(source, target, most):
    """Copies folders of source, in order of name, until most bytes are there."""
    taken = 0
    for path, folders, files in os.walk(source):
        folders.sort()
        to = target + path[len(source):]
        os.makedirs(to, exist_ok=True)
        for name in sorted(files):
            file = os.path.join(path, name)
            if os.path.islink(file) or not os.path.isfile(file):
                continue
            taken += os.path.getsize(file)
            if taken > most:
                return
            shutil.copy2(file, to)


def run(command, env):
    """Seconds to the end of a sync, peak memory in MiB."""
    subprocess.run(["sync"], check=True)
    if os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("3")
    start = time.monotonic()
    timed = ["/usr/bin/time", "-f", "peak %M"] + command
    done = subprocess.run(timed, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    subprocess.run(["sync"], check=True)
    seconds = time.monotonic() - start
    errors = done.stderr.decode(errors="replace")
    if done.returncode != 0:
        sys.exit(f"{command}: exit {done.returncode}\n{errors}")
    return seconds, int(errors.rsplit("peak", 1)[1]) / 1024


def size(folder):
    return sum(os.path.getsize(os.path.join(p, f)) for p, _, fs in os.walk(folder) for f in fs) / MIB


def main():
    kist, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    data, out = folder + "/data", folder + "/out"
    make_data(data)
    with open(folder + "/pass", "w") as secret:
        secret.write("bench")
    repos = {"kist": folder + "/kist", "restic": folder + "/restic"}
    env = {
        "KIST_REPO": repos["kist"], "KIST_PASSPHRASE_FILE": folder + "/pass", "KIST_CATALOG": folder + "/catalog",
        "RESTIC_REPOSITORY": repos["restic"], "RESTIC_PASSWORD_FILE": folder + "/pass",
        "RESTIC_CACHE_DIR": folder + "/cache",
    }
    steps = {
        "cold backup": {"kist": [kist, "backup", "files", data], "restic": ["restic", "backup", data]},
        "nothing changed": {"kist": [kist, "backup", "files", data], "restic": ["restic", "backup", data]},
        "restore": {
            "kist": [kist, "restore", "files", "latest", out],
            "restic": ["restic", "restore", "latest", "--target", out],
        },
        "check, all data": {"kist": [kist, "check", "--read-data"], "restic": ["restic", "check", "--read-data"]},
    }
    results = {(step, tool): [] for step in steps for tool in repos}
    sizes = {}
    for number in range(rounds):
        for repo in list(repos.values()) + [folder + "/cache"]:
            shutil.rmtree(repo, ignore_errors=True)
        run([kist, "init"], env)
        run(["restic", "init"], env)
        for step, commands in steps.items():
            # In turn, and the other one first every other time.
            for tool in sorted(commands, reverse=number % 2 == 1):
                results[step, tool].append(run(commands[tool], env))
                shutil.rmtree(out, ignore_errors=True)
            print(f"round {number + 1} of {rounds}: {step}", file=sys.stderr)
        sizes = {tool: size(repo) for tool, repo in repos.items()}
    version = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.split()[1]
    print(f"Medians of {rounds} rounds, {os.cpu_count()} cores, restic {version}, {size(data):.0f} MiB of data.\n")
    print("| work | kist s (peak MiB) | restic s (peak MiB) | ratio |")
    print("| --- | --- | --- | --- |")
    for step in steps:
        median = {}
        cells = []
        for tool in ("kist", "restic"):
            seconds, peaks = zip(*results[step, tool])
            median[tool] = statistics.median(seconds)
            cells.append(f"{median[tool]:.1f} ({max(peaks):.0f})")
        print(f"| {step} | {cells[0]} | {cells[1]} | {median['kist'] / median['restic']:.2f} |")
    print(f"| repository, MiB | {sizes['kist']:.0f} | {sizes['restic']:.0f} | {sizes['kist'] / sizes['restic']:.2f} |")


main()
