"""Charts as SVG text: no script, no network, readable without colour (dashes and labels tell lines apart)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """How an engine is drawn in every chart."""

    colour: str
    dash: str


# Okabe and Ito's colours, which people with the common forms of colour blindness tell apart; the teacher is grey.
TEACHER_LINE = Line("#555555", "5 4")
ENGINE_LINES = (Line("#0072b2", ""), Line("#d55e00", "8 3"), Line("#009e73", "2 3"), Line("#cc79a7", "10 3 2 3"))
SPARE_LINE = Line("#56b4e9", "1 2")


def lines_of(engines: Sequence[str], teacher: str = "teacher") -> dict[str, Line]:
    """A line style for each engine, the same in every chart."""
    students = [engine for engine in engines if engine != teacher]
    styles = {engine: (*ENGINE_LINES, *[SPARE_LINE] * len(students))[i] for i, engine in enumerate(students)}
    return {engine: TEACHER_LINE if engine == teacher else styles[engine] for engine in engines}


def precision_recall_chart(title: str, curves: Mapping[str, FloatArray], lines: Mapping[str, Line]) -> str:
    """Precision over recall of one class; both axes from 0 to 1.

    Args:
        title: what the chart tells, also for people who do not see it.
        curves: engine → points (recall, precision), shape (n, 2).
        lines: engine → style.
    """
    left, top, side_x, side_y = 34.0, 8.0, 206.0, 150.0
    parts = [_grid(left, top, side_x, side_y)]
    for engine, points in curves.items():
        at = " ".join(f"{left + r * side_x:.1f},{top + (1 - p) * side_y:.1f}" for r, p in points)
        parts.append(f'<polyline points="{at}" {_stroke(lines[engine])}><title>{escape(engine)}</title></polyline>')
    parts.append(f'<text x="{left + side_x / 2}" y="188" text-anchor="middle">recall</text>')
    middle = top + side_y / 2
    parts.append(f'<text x="8" y="{middle}" text-anchor="middle" transform="rotate(-90 8 {middle})">precision</text>')
    return _svg(250, 194, title, parts)


def latency_chart(title: str, times_ms: Mapping[str, FloatArray], lines: Mapping[str, Line]) -> str:
    """One row an engine: how often each total latency was seen, with the median and the 99th percentile marked.

    Args:
        title: what the chart tells.
        times_ms: engine → total latency of every round, ms.
        lines: engine → style.
    """
    left, width, row = 120.0, 600.0, 62.0
    limit_ms = max(float(np.quantile(times, 0.995)) for times in times_ms.values()) * 1.08
    step = _round_step(limit_ms / 6)
    bottom = 10 + row * len(times_ms)
    parts = []
    for tick in np.arange(0, limit_ms, step):
        x = left + tick / limit_ms * width
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="6" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{bottom + 34:.1f}" text-anchor="middle">total latency, ms</text>')
    for number, (engine, times) in enumerate(times_ms.items()):
        parts.append(_latency_row(engine, times, lines[engine], (left, 10 + row * (number + 1) - 10), width, limit_ms))
    return _svg(740, bottom + 42, title, parts)


def interval_bar(low: float | None, value: float | None, high: float | None, limit: float | None, good: bool) -> str:
    """A measurement's interval against its limit: a bar, a dot for the value, a line for the limit. '' if unknown."""
    known = [number for number in (low, value, high, limit) if number is not None and np.isfinite(number)]
    if value is None or limit is None or low is None or high is None or len(known) < 4:
        return ""
    start, end = min(known), max(known)
    margin = (end - start) * 0.15 or abs(end) * 0.1 or 1.0
    start, span = start - margin, end - start + 2 * margin

    def x(number: float) -> float:
        return (number - start) / span * 150

    colour = "#0072b2" if good else "#c24400"
    parts = [
        f'<line x1="{x(low):.1f}" y1="11" x2="{x(high):.1f}" y2="11" stroke="{colour}" stroke-width="5" '
        'stroke-linecap="round" opacity=".45"/>',
        f'<circle cx="{x(value):.1f}" cy="11" r="4" fill="{colour}"/>',
        f'<line x1="{x(limit):.1f}" y1="1" x2="{x(limit):.1f}" y2="21" stroke="#111" stroke-width="2"/>',
    ]
    return _svg(150, 22, f"interval {low:.3g} to {high:.3g}, value {value:.3g}, limit {limit:.3g}", parts)


def legend_mark(line: Line) -> str:
    """The piece of line that stands beside an engine's name."""
    parts = [f'<line x1="1" y1="6" x2="35" y2="6" {_stroke(line)}/>']
    return f'<svg class="mark" viewBox="0 0 36 12" aria-hidden="true">{"".join(parts)}</svg>'


def _latency_row(
    engine: str, times: FloatArray, line: Line, base: tuple[float, float], width: float, limit_ms: float
) -> str:
    left, y = base
    counts, edges = np.histogram(np.clip(times, 0, limit_ms), bins=160, range=(0, limit_ms))
    heights = np.convolve(counts, [0.25, 0.5, 0.25], "same")
    heights = heights / max(float(heights.max()), 1e-9) * 40
    seen = np.flatnonzero(heights > 0)
    centres = left + (edges[:-1] + edges[1:]) / 2 / limit_ms * width
    inner = " ".join(f"{centres[i]:.1f},{y - heights[i]:.1f}" for i in range(seen[0], seen[-1] + 1))
    area = f"{centres[seen[0]]:.1f},{y:.1f} {inner} {centres[seen[-1]]:.1f},{y:.1f}"
    p50, p99 = (float(np.quantile(times, q)) for q in (0.5, 0.99))
    marks = [
        f'<text x="{left - 10}" y="{y - 4:.1f}" text-anchor="end">{escape(engine)}</text>',
        f'<line class="axis" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>',
        f'<polygon points="{area}" fill="{line.colour}" fill-opacity=".35" stroke="{line.colour}" stroke-width="1.2">'
        f"<title>{escape(engine)}: median {p50:.2f} ms, p99 {p99:.2f} ms</title></polygon>",
    ]
    for time_ms, height in ((p50, 44), (p99, 16)):
        x = left + min(time_ms, limit_ms) / limit_ms * width
        marks.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y - height:.1f}" stroke="#111" stroke-width="1.5"/>'
        )
    x = left + p50 / limit_ms * width
    marks.append(f'<text class="small" x="{x + 5:.1f}" y="{y - 37:.1f}">{p50:.1f}</text>')
    return "".join(marks)


def _grid(left: float, top: float, side_x: float, side_y: float) -> str:
    parts = []
    for tick in (0, 0.5, 1):
        x, y = left + tick * side_x, top + (1 - tick) * side_y
        parts += [
            f'<line class="grid" x1="{x}" y1="{top}" x2="{x}" y2="{top + side_y}"/>',
            f'<line class="grid" x1="{left}" y1="{y}" x2="{left + side_x}" y2="{y}"/>',
            f'<text x="{x}" y="{top + side_y + 14}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{left - 5}" y="{y + 4}" text-anchor="end">{tick:g}</text>',
        ]
    return "".join(parts)


def _stroke(line: Line) -> str:
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'fill="none" stroke="{line.colour}" stroke-width="2"{dash}'


def _round_step(least: float) -> float:
    """The next of 1, 2, 5 × 10ⁿ."""
    power = 10 ** np.floor(np.log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least))


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    told = escape(title, quote=True)
    return f'<svg role="img" aria-label="{told}" viewBox="0 0 {width:g} {height:g}">{"".join(parts)}</svg>'
