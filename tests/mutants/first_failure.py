#!/usr/bin/env python3
"""Runs a test binary and ends it with the first test that fails: a mutant needs to be noticed but once.

With KIST_MUTANTS=quick the tests that take long are left out, the simulation altogether.
"""

import os
import subprocess
import sys

SLOW = (
    "a_copy_killed",
    "a_prune_killed",
    "a_first_backup_killed",
    "a_second_backup_killed",
    "in_100_days",
    "costs",
    "never_silently",
    "whatever_is_damaged",
)


def main() -> int:
    binary, *arguments = sys.argv[1:]
    if os.environ.get("KIST_MUTANTS") == "quick":
        if os.path.basename(binary).startswith("sim-"):
            return 0
        arguments += [argument for name in SLOW for argument in ("--skip", name)]
    with subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, text=True, errors="replace") as tests:
        for line in tests.stdout:
            print(line, end="", flush=True)
            if line.startswith("test ") and line.endswith(" ... FAILED\n"):
                tests.kill()
                return 101
        return tests.wait()


if __name__ == "__main__":
    sys.exit(main())
