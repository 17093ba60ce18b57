"""Runs one command and says what it took: the process between the bench and a tool.

    python3 -I -S launch.py < ORDER > FIGURE        (both JSON)

A process of its own, because Linux hands the peak memory of whoever starts a program on to that program:
a bench that holds tables would hide a small tool. This one is about 8 MiB, the floor of all peaks.
ORDER: command, env, cwd, stdout (a file or null), log (a file for both outputs), sync (a path on the file system
that is synced before the clock stops), join (files that our process id is written to: cgroups), limit (seconds).
FIGURE: wall and cpu in seconds, peak in KiB, code (negative: the signal that ended it).
"""
import json
import os
import signal
import sys
import time
from typing import Any


def run(command: list[str], order: dict[str, Any]) -> int:
    """Starts the command in a session of its own and gives its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        out = os.open(order["stdout"], os.O_WRONLY) if order["stdout"] else log
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(log, 2)
        os.chdir(order["cwd"])
        os.execvpe(command[0], command, order["env"])
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def main() -> None:
    order = json.load(sys.stdin)
    for place in order["join"]:
        with open(place, "w", encoding="ascii") as group:
            group.write(str(os.getpid()))
    start = time.monotonic()
    child = run(order["command"], order)

    def too_long(_signal: int, _frame: object) -> None:
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, too_long)
    # Ours end with us: a tool that outlives the bench would write into what comes next.
    signal.signal(signal.SIGINT, too_long)
    signal.signal(signal.SIGTERM, too_long)
    signal.alarm(order["limit"])
    _, status, usage = os.wait4(child, 0)
    signal.alarm(0)
    # syncfs: what the tool has left in the page cache is part of its work.
    os.waitpid(os.posix_spawnp("sync", ["sync", "-f", order["sync"]], os.environ), 0)
    figure = {
        "wall": time.monotonic() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss,
        "code": os.waitstatus_to_exitcode(status),
    }
    json.dump(figure, sys.stdout)


main()
