"""Tables of the results: medians and spread, ratios to the fastest peer and to the limit, sizes to the smallest."""
from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from measure import MIB, Failed
from parts import OPERATIONS, SETTINGS
from peers import KINDS

TOOLS = [kind.name for kind in KINDS]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NOTES = """\
Cells: median wall seconds to the end of a sync (lowest–highest), peak memory in MiB. Page cache dropped before each run, \
order of the tools rotated by round, default settings, encryption on, passphrase from a file (bupstash: key file), the \
tools' own caches on, kist's catalog too. *Ratio to peers*: kist to the fastest peer; *to limit*: kist to the fastest of the limits \
in that row, which do nothing but: `read` every file (one process a core), `tar` piped to `zstd -3`, `find -ls`, `cp -a`, \
`read packs` (kist's). bupstash has no check: it writes all of the newest backup to /dev/null. borg compresses with lz4 by \
default, the others with zstd. rustic keeps what a prune finds for 23 hours by default, so its prune frees nothing at once. \
bupstash and borg speak no S3.
"""

Runs = list[dict[str, float]]


def median(runs: Runs, what: str) -> float:
    return statistics.median(run[what] for run in runs)


def cell(runs: Runs | None) -> str:
    """Median, spread if there are several, peak in MiB."""
    if not runs:
        return "–"
    walls = [run["wall"] for run in runs]
    spread = f" ({seconds(min(walls))}–{seconds(max(walls))})" if len(walls) > 1 else ""
    return f"{seconds(statistics.median(walls))}{spread}, {max(run['peak'] for run in runs) / 1024:.0f} MiB"


def seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(mine: float | None, others: list[float]) -> str:
    """Mine to the least of the others."""
    if mine is None or not others or min(others) <= 0:
        return "–"
    return f"{mine / min(others):.2f}"


def peers_of(tools: dict[str, Runs]) -> list[str]:
    return [name for name in TOOLS[1:] if name in tools]


def limits_of(tools: dict[str, Runs]) -> list[str]:
    return [name for name in tools if name not in TOOLS]


def row(operation: str, tools: dict[str, Runs]) -> list[str]:
    mine = median(tools["kist"], "wall") if "kist" in tools else None
    bare = [f"{name} {seconds(median(tools[name], 'wall'))}" for name in limits_of(tools)]
    return [
        OPERATIONS[operation],
        *(cell(tools.get(name)) for name in TOOLS),
        ", ".join(bare) or "–",
        ratio(mine, [median(tools[name], "wall") for name in peers_of(tools)]),
        ratio(mine, [median(tools[name], "wall") for name in limits_of(tools)]),
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def times(results: dict[str, Any]) -> str:
    out = ""
    for setting, operations in ordered(results["figures"]):
        rows = [row(operation, operations[operation]) for operation in OPERATIONS if operation in operations]
        out += f"\n**{setting}**: {results['about'][setting]}\n\n"
        out += table(["operation", *TOOLS, "limits, s", "to peers", "to limit"], rows)
    return out


def ordered(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, figures[name]) for name in SETTINGS if name in figures]


def sizes(results: dict[str, Any]) -> str:
    """MiB of the repositories, after the cold backup and after the prune; kist's to the smallest of the peers."""
    rows = []
    for setting, operations in ordered(results["figures"]):
        for operation in ("cold", "prune"):
            found = {name: median(runs, "size") / MIB for name, runs in operations.get(operation, {}).items()
                     if name in TOOLS}
            if found:
                cells = [f"{found[name]:.1f}" if name in found else "–" for name in TOOLS]
                least = ratio(found.get("kist"), [size for name, size in found.items() if name != "kist"])
                rows.append([f"{setting}, after the {OPERATIONS[operation]}", *cells, least])
    return table(["repository, MiB", *TOOLS, "to the smallest"], rows)


def processor(results: dict[str, Any]) -> str:
    """Seconds of CPU, user and system."""
    rows = []
    for setting, operations in ordered(results["figures"]):
        for operation in [name for name in OPERATIONS if name in operations]:
            tools = operations[operation]
            cells = [seconds(median(tools[name], "cpu")) if name in tools else "–" for name in TOOLS]
            rows.append([f"{setting}, {OPERATIONS[operation]}", *cells])
    return table(["CPU seconds", *TOOLS], rows)


def neighbour(results: dict[str, Any]) -> str:
    """What backups do to a database beside them."""
    rows = [[str(row["beside"]), *(f"{row[what]:.1f}" for what in ("median", "p95", "p99")), str(row["backups"])]
            for row in results["neighbour"]]
    if not rows:
        return ""
    columns = ["beside pgbench", "median ms", "95 % ms", "99 % ms", "backups ended"]
    return f"\nHow long a transaction of pgbench waits while its database's files are backed up:\n\n{table(columns, rows)}"


def growth(results: dict[str, Any]) -> list[tuple[float, dict[str, dict[str, Runs]]]]:
    """The settings of growth that were run, by their portion of the data."""
    return [(SETTINGS[name].portion, operations) for name, operations in ordered(results["figures"])
            if name.startswith("growth-")]


def head(results: dict[str, Any]) -> str:
    facts, settings = results["machine"], results["settings"]
    once = " and ".join(f"`{name}`" for name, setting in SETTINGS.items() if setting.one_round)
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    out = (f"{facts['cores']} cores ({facts['cpu']}), {facts['memory_mib']} MiB of memory, {settings['file_system']}, "
           f"kernel {facts['kernel']}; {versions}; rounds: {settings['rounds']}, of {once} one; "
           f"scale: {settings['scale']:g}.\n")
    if settings["missing"]:
        out += f"\n**NOT COMPARED, because it could not be installed here: {', '.join(settings['missing'])}.**\n"
    if not settings["cold"]:
        out += "\n**NOT ROOT: the page cache could not be dropped, so these are figures of a warm cache.**\n"
    # What happened is enough here: the command and what it printed are in results.json.
    for text in dict.fromkeys(text.split("; ")[0] for text in results["failures"]):
        out += f"\n**FAILED**: {re.sub(r'[|<>`]', ' ', text)}\n"
    return out


def report(results: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    plots = "![wall time](bench.svg)\n" + ("\n![growth](growth.svg)\n" if growth(results) else "")
    return (f"# kist beside its peers\n\n{head(results)}\n{NOTES}\n{plots}{times(results)}\n## Size\n\n{sizes(results)}\n"
            f"## CPU\n\n{processor(results)}\n## Beside a database\n{neighbour(results)}")


def short(results: dict[str, Any], place: str) -> str:
    """What README shows: ratios only, the plot, and where the rest is."""
    rows = []
    for setting, operations in ordered(results["figures"]):
        if setting.startswith("growth-"):
            continue
        for operation in [name for name in OPERATIONS if name in operations]:
            tools = operations[operation]
            if "kist" not in tools:
                continue
            peers = sorted(peers_of(tools), key=lambda name: median(tools[name], "wall"))
            cells = row(operation, tools)
            fastest = f"{peers[0]} {seconds(median(tools[peers[0]], 'wall'))}" if peers else "–"
            peak = max(run["peak"] for run in tools["kist"]) / 1024
            rows.append([setting, cells[0], seconds(median(tools["kist"], "wall")), f"{peak:.0f}", fastest,
                         cells[-3], cells[-2], cells[-1]])
    columns = ["data", "operation", "kist s", "peak MiB", "fastest peer s", "limits s", "to peer", "to limit"]
    return (f"{head(results)}\n![Wall time of each operation, kist and its peers]({place}/bench.svg)\n\n"
            f"{table(columns, rows)}{neighbour(results)}\nAll tools, spread, sizes, CPU and growth: [{place}/table.md]({place}/table.md); "
            f"every figure: [{place}/results.json]({place}/results.json).\n")


def fill(readme: Path, text: str) -> None:
    """Puts the text between the markers of README."""
    readme.write_text(filled(readme.read_text(encoding="utf-8"), text), encoding="utf-8")


def filled(old: str, text: str) -> str:
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise Failed(f"README.md needs the markers {BEGIN} and {END}, once each and in this order")
    return f"{old[:old.index(BEGIN)]}{BEGIN}\n{text}{old[old.index(END):]}"
