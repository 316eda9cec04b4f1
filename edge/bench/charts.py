"""Plots as inline SVG, drawn by hand so that a robot needs no plotting library. Colours come from the page's CSS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "cdf_chart", "histogram_chart", "line_chart", "nice_ticks", "waterfall_chart"]

WIDTH = 1040
_LEFT, _RIGHT = 150, 30


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve; None leaves a gap. colour is one of the page's classes c0 to c7, with " thin" a thin line."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: str


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` round numbers from low to high."""
    span = max(high - low, 1e-9)
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def waterfall_chart(rows: Sequence[tuple[str, float, float]], title: str, end_ms: float) -> str:
    """Return stages as bars one after the other; rows are (name, p50 ms, p99 ms), the whisker is the p99.

    end_ms: how far the axis reaches.
    """
    row_px, top = 34, 12
    height = top + row_px * len(rows) + 40
    starts = [sum(p50 for _, p50, _ in rows[:i]) for i in range(len(rows))]
    most = end_ms or 1.0
    scale = (WIDTH - _LEFT - _RIGHT - 110) / most
    parts = [_x_grid(nice_ticks(0, most, 8), 0, scale, top, top + row_px * len(rows), "ms")]
    for i, ((name, p50, p99), start) in enumerate(zip(rows, starts, strict=True)):
        x, y = _LEFT + start * scale, top + i * row_px + 7
        bar_end = x + max(1.5, p50 * scale)
        mid, end = y + 10, max(bar_end, _LEFT + (start + p99) * scale)
        parts.append(f'<text class="label" x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="fill c{i % 8}" x="{x:.1f}" y="{y}" width="{max(1.5, p50 * scale):.1f}" height="20" rx="2">'
            f"<title>{escape(name)}: p50 {p50:.3f} ms, p99 {p99:.3f} ms</title></rect>"
        )
        parts.append(f'<path class="whisker" d="M{bar_end:.1f} {mid}H{end:.1f}M{end:.1f} {mid - 5}V{mid + 5}"/>')
        at = max(end, bar_end) + 8
        parts.append(f'<text class="value" x="{at:.1f}" y="{y + 15}">{p50:.3f} <tspan>p99 {p99:.3f}</tspan></text>')
    return _svg(height, parts, title)


def cdf_chart(lines: Sequence[Line], title: str, x_max: float) -> str:
    """Return cumulative distributions: ms from left to right, the share of frames from 0 to 100 % upwards."""
    top, bottom = 12, 312
    low = min((min(line.xs) for line in lines if line.xs), default=0.0)
    low = 0.0 if low < 0.5 * x_max else low * 0.98
    scale = (WIDTH - _LEFT - _RIGHT) / max(x_max - low, 1e-9)
    parts = [_x_grid(nice_ticks(low, x_max, 8), low, scale, top, bottom, "ms")]
    for percent in (0, 25, 50, 75, 90, 99):
        y = bottom - (bottom - top) * percent / 100
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        if percent != 99:
            parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{top + 3}" text-anchor="end">99 %</text>')
    for line in lines:
        pairs = zip(line.xs, line.ys, strict=True)
        known = [(x, y) for x, y in pairs if y is not None and y <= 99 and x <= x_max]  # the last 1 % would be a dash
        points = [(_LEFT + (x - low) * scale, bottom - (bottom - top) * y / 100) for x, y in known]
        parts.append(f'<path class="line {line.colour}" d="{_path(points)}"/>')
    return _svg(bottom + 34, parts, title) + _legend([(line.name, line.colour) for line in lines])


def histogram_chart(edges: Sequence[float], counts: Sequence[int], title: str, colour: str) -> str:
    """Return counts between edges in ms as bars; colour as a `Line`'s."""
    top, bottom = 8, 148
    x_scale = (WIDTH - _LEFT - _RIGHT) / max(edges[-1] - edges[0], 1e-9)
    y_scale = (bottom - top) / max([*counts, 1])
    parts = [_x_grid(nice_ticks(edges[0], edges[-1], 8), edges[0], x_scale, top, bottom, "ms")]
    parts.append(
        f'<text class="tick" x="{_LEFT - 8}" y="{top + 8}" text-anchor="end">{max([*counts, 0])} frames</text>'
    )
    for i, count in enumerate(counts):
        x, width = _LEFT + (edges[i] - edges[0]) * x_scale, (edges[i + 1] - edges[i]) * x_scale
        height = count * y_scale
        parts.append(
            f'<rect class="fill {colour}" x="{x:.1f}" y="{bottom - height:.1f}" width="{max(0.5, width - 1):.1f}" '
            f'height="{height:.1f}"><title>{edges[i]:.3f} to {edges[i + 1]:.3f} ms: {count}</title></rect>'
        )
    return _svg(bottom + 34, parts, title)


def line_chart(
    lines: Sequence[Line], title: str, unit: str, x_end: float, height: int = 120, from_zero: bool = False
) -> str:
    """Return curves over time in s, with the quantity's own scale; for stacking above each other."""
    values = [y for line in lines for y in line.ys if y is not None]
    if not values:
        return f'<p class="absent">{escape(title)}: not available on this machine</p>'
    top, bottom = 22, 22 + height
    low, high = (0.0 if from_zero else min(values)), max(values)
    pad = max((high - low) * 0.08, abs(high) * 0.01, 1e-6)
    low, high = (low if from_zero else low - pad), high + pad
    x_scale, y_scale = (WIDTH - _LEFT - _RIGHT) / max(x_end, 1e-9), height / (high - low)
    parts = [_x_grid(nice_ticks(0, x_end, 10), 0, x_scale, top, bottom, "s")]
    for tick in nice_ticks(low, high, 3):
        y = bottom - (tick - low) * y_scale
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g} {unit}</text>')
    for line in lines:
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, value in zip(line.xs, line.ys, strict=True):
            if value is None:
                pieces.append([])
            else:
                pieces[-1].append((_LEFT + x * x_scale, bottom - (value - low) * y_scale))
        path = "".join(map(_path, pieces))
        parts.append(f'<path class="line {line.colour}" d="{path}"/>')
    parts.append(f'<text class="label strong" x="0" y="14">{escape(title)}</text>')
    legend = _legend([(line.name, line.colour) for line in lines]) if len(lines) > 1 else ""
    return _svg(bottom + 24, parts, title) + legend


def _x_grid(ticks: Sequence[float], low: float, scale: float, top: float, bottom: float, unit: str) -> str:
    parts = []
    for tick in ticks:
        x = _LEFT + (tick - low) * scale
        parts.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g} {unit}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return f"{path}h0" if len(points) == 1 else path  # which round ends make a dot


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<span><i class="{colour}"></i>{escape(name)}</span>' for name, colour in entries)
    return f'<p class="legend">{items}</p>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
