"""Plots, drawn as SVG by hand: bars of wall time by operation and tool, with the limit as a line; lines of growth."""
from __future__ import annotations

import html
import itertools
from typing import Any

from parts import OPERATIONS
from report import TOOLS, growth, limits_of, median, ordered, seconds

# Readable by people who see no red or no green, and in grey.
COLOURS = dict(zip(TOOLS, ["#0b5fa5", "#e69f00", "#7a7a7a", "#56b4a0", "#cc79a7"]))
FONT = 'font-family="Helvetica, Arial, sans-serif"'
# In pixels: the whole, a column of bars, the room for its labels, the height of a bar.
WIDTH, COLUMN, LABEL, BAR = 900, 420, 125, 11


def text(x: float, y: float, words: str, size: int = 11, anchor: str = "start", weight: str = "normal") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="#222">{html.escape(words)}</text>\n')


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>\n'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#222", dash: str = "none", width: float = 1) -> str:
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}" stroke-dasharray="{dash}"/>\n')


def svg(height: float, body: str, title: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n'
            f"<title>{html.escape(title)}</title>\n{box(0, 0, WIDTH, height, '#ffffff')}{body}</svg>\n")


def legend(x: float, y: float, names: list[str]) -> str:
    out = ""
    for name in names:
        out += box(x, y - 9, 10, 10, COLOURS[name]) + text(x + 14, y, name)
        x += 14 + 8 * len(name) + 22
    return out


def shown(results: dict[str, Any]) -> list[str]:
    """The tools that have any figure."""
    return [name for name in TOOLS if any(name in tools for _, operations in ordered(results["figures"])
                                          for tools in operations.values())]


def bars(results: dict[str, Any]) -> str:
    """A group for each operation; within it a bar for each tool, as long as its time is to the longest of the group."""
    body = text(20, 26, "Wall seconds, each group to its own longest bar; shorter is better", 14, weight="bold")
    body += legend(20, 50, shown(results)) + line(600, 46, 625, 46, dash="4 3", width=1.5) + text(630, 50, "limit")
    # Two columns; the next setting goes into the shorter one.
    ends = [64.0, 64.0]
    for setting, operations in ordered(results["figures"]):
        if setting.startswith("growth-"):
            continue
        column = ends.index(min(ends))
        x, y = 20.0 + column * (COLUMN + 20), ends[column] + 20
        body += text(x, y, setting, 13, weight="bold") + line(x, y + 6, x + COLUMN, y + 6, "#cccccc")
        y += 14
        for operation in [name for name in OPERATIONS if name in operations]:
            drawn, y = group(operation, operations[operation], x, y)
            body += drawn
        ends[column] = y
    return svg(max(ends) + 20, body, "Wall time of kist and its peers by operation")


def group(operation: str, tools: dict[str, Any], x: float, y: float) -> tuple[str, float]:
    """The bars of one operation, and where they end."""
    walls = {name: median(tools[name], "wall") for name in TOOLS if name in tools}
    bare = [median(tools[name], "wall") for name in limits_of(tools)]
    most = max([*walls.values(), *bare, 1e-9])
    start, room, top = x + LABEL, COLUMN - LABEL - 40.0, y
    body = text(start - 8, y + BAR - 2, OPERATIONS[operation], anchor="end")
    for name, wall in walls.items():
        length = wall / most * room
        body += box(start, y, max(1.0, length), BAR - 1, COLOURS[name])
        body += text(start + length + 5, y + BAR - 2, seconds(wall), 10, weight="bold" if name == TOOLS[0] else "normal")
        y += BAR
    if bare:
        at = start + min(bare) / most * room
        body += line(at, top - 2, at, y + 1, dash="4 3", width=1.5)
    return body, y + 6


def lines(results: dict[str, Any]) -> str:
    """Time and memory against the amount of data: one panel each for each operation."""
    points = growth(results)
    names = [name for name in OPERATIONS if any(name in operations for _, operations in points)]
    body = text(20, 26, "Growth: so many times the data", 14, weight="bold") + legend(20, 48, shown(results))
    high, wide = 150.0, (WIDTH - 60.0) / max(1, len(names))
    for column, operation in enumerate(names):
        x = 60 + column * wide
        for number, (what, unit, part) in enumerate([("wall", "s", 1.0), ("peak", "MiB", 1024.0)]):
            title = f"{OPERATIONS[operation]}, {'seconds' if unit == 's' else 'peak ' + unit}"
            body += panel(points, operation, what, part, (x, 80 + number * (high + 60), wide - 60, high), title)
    return svg(80 + 2 * (high + 60), body, "Time and memory against the amount of data")


def panel(points: list[tuple[float, Any]], operation: str, what: str, part: float,
          place: tuple[float, float, float, float], title: str) -> str:
    """One panel: from nothing to the most there is, both ways, so that a straight line is linear growth."""
    x, y, wide, high = place
    least, largest = min(portion for portion, _ in points), max(portion for portion, _ in points)
    series = {name: [(portion, median(operations[operation][name], what) / part) for portion, operations in points
                     if name in operations.get(operation, {})] for name in TOOLS}
    most = max([value for values in series.values() for _, value in values] + [1e-9])
    body = text(x, y - 8, title, 12, weight="bold")
    body += line(x, y, x, y + high, "#888888") + line(x, y + high, x + wide, y + high, "#888888")
    body += text(x - 4, y + 8, seconds(most), 10, "end") + text(x - 4, y + high, "0", 10, "end")
    for portion, _ in points:
        body += text(x + portion / largest * wide, y + high + 14, f"{portion / least:.0f}×", 10, "middle")
    for name, values in series.items():
        at = [(x + portion / largest * wide, y + high - value / most * high) for portion, value in values]
        for one, two in itertools.pairwise(at):
            body += line(*one, *two, COLOURS[name], width=2)
        for left, top in at:
            body += box(left - 2.5, top - 2.5, 5, 5, COLOURS[name])
    return body
