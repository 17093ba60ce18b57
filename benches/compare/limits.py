"""The limits: the least that the work of an operation could be, done by tools that do nothing else.

They run in turn with the tools, under the same rules. Processes run side by side, one for each core.
"""
from __future__ import annotations

import os
import shlex
from pathlib import Path


def reading(folder: Path) -> str:
    return f"find {shlex.quote(str(folder))} -type f -print0 | xargs -0 -r -n 100 -P {os.cpu_count()} cat > /dev/null"


def limits(operation: str, source: Path, repo: Path, out: Path) -> dict[str, list[str]]:
    """The limits of an operation: name and command. `repo` is kist's, whose packs a check has to read."""
    shell = {
        "cold": {"read": reading(source), "tar+zstd": zstd(source, out)},
        "same": {"find -ls": f"find {shlex.quote(str(source))} -ls > /dev/null"},
        "some": {"find -ls": f"find {shlex.quote(str(source))} -ls > /dev/null"},
        "restore": {"cp -a": f"cp -a {shlex.quote(str(source))} {shlex.quote(str(out))}"},
        "check": {"read packs": reading(repo)},
    }
    return {name: ["bash", "-c", f"set -eu -o pipefail; {text}"] for name, text in shell.get(operation, {}).items()}


def zstd(source: Path, out: Path) -> str:
    return f"tar -C {shlex.quote(str(source))} -cS . | zstd -q -3 -T0 -o {shlex.quote(str(out / 'all.tar.zst'))}"
