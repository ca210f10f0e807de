"""Plots as SVG, drawn here: a few rectangles and lines need no library. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tests.benchmarks.figures import written
from tests.benchmarks.result import Plot

WIDTH = 760
BAR_HEIGHT, BAR_GAP, LABEL_WIDTH = 22, 8, 270
PLOT_HEIGHT, LEFT, BOTTOM, TOP = 300, 80, 46, 40
COLOURS = ("#1f6f8b", "#d1495b", "#8a8f3c", "#7a4e9a", "#c77d1e", "#4a4a4a")
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    'font-family="system-ui, sans-serif" font-size="13">\n'
    "<title>{title}</title>\n"
    '<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
    '<text x="12" y="24" font-size="15" fill="#222222">{title}</text>\n'
)


def drawn(plot: Plot) -> str:
    """The picture. Points that are no numbers are left out."""
    points = [len(line.points) for line in plot.lines]
    return _bars(plot) if points and max(points) == 1 else _lines(plot)


def _bars(plot: Plot) -> str:
    values = [(line.name, line.points[0][1]) for line in plot.lines if _known(line.points[0][1])]
    height = TOP + len(values) * (BAR_HEIGHT + BAR_GAP) + 12
    greatest = max((value for _, value in values), default=1.0) or 1.0
    parts = [HEAD.format(width=WIDTH, height=height, title=escape(f"{plot.title} ({plot.y})"))]
    for number, (name, value) in enumerate(values):
        top = TOP + number * (BAR_HEIGHT + BAR_GAP)
        length = (WIDTH - LABEL_WIDTH - 90) * value / greatest
        parts.append(
            f'<text x="{LABEL_WIDTH - 8}" y="{top + 15}" text-anchor="end" fill="#222222">{escape(name)}</text>\n'
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT}" '
            f'fill="{_colour(name)}"/>\n'
            f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{top + 15}" fill="#222222">{written(value)}</text>\n'
        )
    return "".join([*parts, "</svg>\n"])


def _colour(name: str) -> str:
    """Ours has one colour everywhere, and the ceiling another."""
    return COLOURS[0] if "loom-ingest" in name else COLOURS[5] if "COPY" in name else COLOURS[1]


def _lines(plot: Plot) -> str:
    height = TOP + PLOT_HEIGHT + BOTTOM
    every = [point for line in plot.lines for point in line.points if _known(point[1])]
    parts = [HEAD.format(width=WIDTH, height=height, title=escape(f"{plot.title} ({plot.y})"))]
    if every:
        across = [_across(plot, x) for x, _ in every]
        low, high = min(across), max(across)
        wide = (high - low) or 1.0
        top_value = _round_up(max(y for _, y in every))
        right = WIDTH - 30

        def place(x: float, y: float) -> str:
            horizontal = LEFT + (right - LEFT) * (_across(plot, x) - low) / wide
            return f"{horizontal:.1f},{TOP + PLOT_HEIGHT * (1 - y / top_value):.1f}"

        for step in range(5):
            y = top_value * step / 4
            vertical = TOP + PLOT_HEIGHT * (1 - step / 4)
            parts.append(
                f'<line x1="{LEFT}" y1="{vertical}" x2="{right}" y2="{vertical}" stroke="#dddddd"/>\n'
                f'<text x="{LEFT - 8}" y="{vertical + 4}" text-anchor="end" fill="#555555">{written(y)}</text>\n'
            )
        for x in _marks(plot, [x for x, _ in every]):
            horizontal = place(x, 0).split(",")[0]
            parts.append(
                f'<text x="{horizontal}" y="{TOP + PLOT_HEIGHT + 18}" text-anchor="middle" fill="#555555">'
                f"{written(x)}</text>\n"
            )
        for number, line in enumerate(plot.lines):
            path = " ".join(place(x, y) for x, y in line.points if _known(y))
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n')
            if len(line.points) <= 20:
                for x, y in line.points:
                    if _known(y):
                        horizontal, vertical_at = place(x, y).split(",")
                        parts.append(f'<circle cx="{horizontal}" cy="{vertical_at}" r="3.5" fill="{colour}"/>\n')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{height - 8}" text-anchor="middle" fill="#222222">{escape(plot.x)}</text>\n</svg>\n'
    )
    return "".join(parts)


def _across(plot: Plot, x: float) -> float:
    return math.log10(x) if plot.logarithmic_x else x


def _marks(plot: Plot, xs: Sequence[float]) -> list[float]:
    """Where the horizontal axis is labelled: at each point where there are few, else at five places."""
    few = sorted(set(xs))
    if len(few) <= 6:
        return few
    return [few[0] + (few[-1] - few[0]) * step / 4 for step in range(5)]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if value <= step * power * 1.0001)


def _known(value: float) -> bool:
    return math.isfinite(value)
