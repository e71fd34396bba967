"""How does it look? Two pictures of a result, as SVG: accepts by connections, and how long an event takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from bench.run import Figure, number

ACCEPTS, LATENCY = "accepts.svg", "latency.svg"
WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 46, 50
COLOURS = ("#0b62c4", "#d1570a", "#2b8a3e", "#8e44ad", "#8a8f98")
STYLE = "font-family='system-ui, sans-serif' font-size='13' fill='#24292f'"


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    points: Sequence[tuple[str, float]]
    is_floor: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    median: float  # ms
    slowest: float  # the 99th percentile


TITLES = {
    ACCEPTS: "Accepted events per second, by connections",
    LATENCY: "From the 202 to the receiver: median to 99th percentile, ms",
}


def of(figures: Sequence[Figure]) -> dict[str, str]:
    """Each picture that the figures are enough for, by its file's name."""
    pictures = {}
    if lines := _accepts(figures):
        pictures[ACCEPTS] = lines_svg(TITLES[ACCEPTS], lines)
    if bars := _latencies(figures):
        pictures[LATENCY] = bars_svg(TITLES[LATENCY], bars)
    return pictures


def _accepts(figures: Sequence[Figure]) -> list[Line]:
    """Of keys like accepts.64.1KB.3: connections, size, destinations."""
    points: dict[tuple[str, str], list[tuple[str, float]]] = {}
    floors: list[tuple[str, float]] = []
    for figure in figures:
        name, *rest = figure.key.split(".")
        if name == "accepts" and len(rest) == 3:
            connections, size, destinations = rest
            points.setdefault((size, destinations), []).append((connections, figure.value))
            if figure.floor and (size, destinations) == ("1KB", "1"):
                floors.append((connections, figure.floor))
    lines = [
        Line(f"{size.replace('KB', ' KB')}, {count} destination{'' if count == '1' else 's'}", mine)
        for (size, count), mine in points.items()
    ]
    return [*lines, Line("bare server, 1 KB", floors, is_floor=True)] if floors else lines


def _latencies(figures: Sequence[Figure]) -> list[Bar]:
    return [
        Bar(figure.label, figure.percentiles["p50"], figure.percentiles["p99"])
        for figure in figures
        if figure.key in {"pickup", "sustained.rate"} and {"p50", "p99"} <= figure.percentiles.keys()
    ]


# --- drawing ------------------------------------------------------------------------------------------------


def lines_svg(title: str, lines: Sequence[Line]) -> str:
    names = sorted({name for line in lines for name, _ in line.points}, key=float)
    step = _step(max(value for line in lines for _, value in line.points))
    most = step * math.ceil(max(value for line in lines for _, value in line.points) / step)
    across = {name: LEFT + _share(i, len(names) - 1) * (WIDTH - LEFT - RIGHT) for i, name in enumerate(names)}

    def height(value: float) -> float:
        return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM)

    parts = [
        _rule(LEFT, height(tick), WIDTH - RIGHT, height(tick))
        + _text(LEFT - 8, height(tick) + 4, number(tick), "end")
        for tick in (step * i for i in range(round(most / step) + 1))
    ]
    parts += [_text(x, HEIGHT - BOTTOM + 22, name, "middle") for name, x in across.items()]
    ends: list[float] = []
    for line, colour in zip(lines, _colours(lines), strict=False):
        path = " ".join(f"{across[name]:.1f},{height(value):.1f}" for name, value in line.points)
        dash = " stroke-dasharray='5 4'" if line.is_floor else ""
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'{dash}/>")
        parts += [
            f"<circle cx='{across[name]:.1f}' cy='{height(value):.1f}' r='3' fill='{colour}'/>"
            for name, value in line.points
        ]
        ends.append(height(line.points[-1][1]))
    for line, colour, y in zip(lines, _colours(lines), _apart(ends), strict=False):
        parts.append(_text(WIDTH - RIGHT + 12, y + 4, line.label, "start", colour))
    return _svg(title, HEIGHT, parts)


def bars_svg(title: str, bars: Sequence[Bar]) -> str:
    """A bar from median to 99th percentile, on a logarithmic scale."""
    least = math.floor(math.log10(min(bar.median for bar in bars)))
    most = math.ceil(math.log10(max(bar.slowest for bar in bars)))
    most = max(most, least + 1)
    left, right, bottom = 30, WIDTH - 40, TOP + 56 * len(bars) + 14

    def across(ms: float) -> float:
        return left + (math.log10(ms) - least) / (most - least) * (right - left)

    parts = []
    for tick in (10.0**power for power in range(least, most + 1)):
        parts.append(_rule(across(tick), TOP, across(tick), bottom))
        parts.append(_text(across(tick), bottom + 20, f"{tick:g}", "middle"))
    for i, bar in enumerate(bars):
        y = TOP + 56 * i + 30
        begin, end = across(bar.median), across(bar.slowest)
        parts.append(_text(left + 4, y - 10, bar.label, "start"))
        width = f"width='{max(end - begin, 2):.1f}' height='14'"
        parts.append(f"<rect x='{begin:.1f}' y='{y}' {width} fill='{COLOURS[0]}'/>")
        parts.append(_text(begin - 6, y + 12, number(bar.median), "end"))
        parts.append(_text(end + 6, y + 12, number(bar.slowest), "start"))
    return _svg(title, bottom + 34, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:g}' {STYLE}>\n"
        f"<title>{escape(title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n"
    )
    return head + "\n".join([_text(20, 26, title, "start", "#000000"), *parts]) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str, fill: str = "") -> str:
    more = f" fill='{fill}'" if fill else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'{more}>{escape(text)}</text>"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='#d8dee4'/>"


def _colours(lines: Sequence[Line]) -> list[str]:
    return [COLOURS[-1] if line.is_floor else COLOURS[i % (len(COLOURS) - 1)] for i, line in enumerate(lines)]


def _step(most: float) -> float:
    """1, 2 or 5 times a power of ten: about five of them reach the largest value."""
    power = 10.0 ** math.floor(math.log10(most / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= most / 5)


def _share(i: int, last: int) -> float:
    return i / last if last else 0.5


def _apart(ends: Sequence[float], *, least: float = 16) -> list[float]:
    """The same heights, moved down where labels would lie on each other."""
    moved = list(ends)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for upper, lower in pairwise(order):
        moved[lower] = max(moved[lower], moved[upper] + least)
    return moved
