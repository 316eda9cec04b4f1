"""Charts as inline SVG: precision-recall curves, and bars with their intervals."""

from collections.abc import Sequence
from html import escape

__all__ = ["SERIES_COLORS", "bar_chart", "pr_chart"]

SERIES_COLORS = ("#1f6feb", "#d1570a", "#2da44e", "#8250df", "#bf3989", "#57606a")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _LEGEND = 600, 300, 44, 40, 12, 170


def pr_chart(series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return precision over recall, both from 0 to 1; a series is a name and its precision at evenly spaced recalls."""
    plot_w, plot_h = _WIDTH - _LEFT - _LEGEND, _HEIGHT - _BOTTOM - _TOP
    parts = []
    for step in range(0, 11, 2):
        x, y = _LEFT + plot_w * step / 10, _TOP + plot_h * (1 - step / 10)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + plot_w}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{step / 10:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{step / 10:g}</text>')
    parts.append(f'<text x="{_LEFT + plot_w / 2}" y="{_HEIGHT - 8}" text-anchor="middle">recall</text>')
    middle = _TOP + plot_h / 2
    parts.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">precision</text>')
    for i, (name, values) in enumerate(series):
        color = SERIES_COLORS[i % len(SERIES_COLORS)]
        last = max(1, len(values) - 1)
        points = " ".join(
            f"{_LEFT + plot_w * k / last:.1f},{_TOP + plot_h * (1 - value):.1f}" for k, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = _TOP + 16 + 17 * i
        x = _LEFT + plot_w + 14
        parts.append(f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{color}"/>')
        parts.append(f'<text x="{x + 17}" y="{y}">{escape(name[:22])}</text>')
    return _svg(_WIDTH, _HEIGHT, parts)


def bar_chart(rows: Sequence[tuple[str, Sequence[tuple[float, float, float] | None]]]) -> str:
    """Return horizontal bars from 0 to 1; a row is a name and, for each series, (value, low, high) or None."""
    series = max((len(values) for _, values in rows), default=1)
    height, left, plot_w = 13 * series + 7, 130, 300
    parts = []
    bottom = height * len(rows)
    for step in range(0, 11, 2):
        x = left + plot_w * step / 10
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{step / 10:g}</text>')
    for r, (name, values) in enumerate(rows):
        top = r * height
        parts.append(
            f'<text x="{left - 6}" y="{top + height / 2 + 4:.1f}" text-anchor="end">{escape(name[:19])}</text>'
        )
        for i, entry in enumerate(values):
            if entry is None:
                continue
            value, low, high = (min(1.0, max(0.0, v)) for v in entry)
            top_y, color = top + 4 + 13 * i, SERIES_COLORS[i % len(SERIES_COLORS)]
            parts.append(
                f'<rect x="{left}" y="{top_y}" width="{plot_w * value:.1f}" height="10" fill="{color}" rx="1"/>'
            )
            start, end = left + plot_w * low, left + plot_w * high
            parts.append(
                f'<path d="M{start:.1f} {top_y + 5}H{end:.1f}M{start:.1f} {top_y + 2}v6M{end:.1f} {top_y + 2}v6" '
                'stroke="#24292f" fill="none"/>'
            )
    return _svg(left + plot_w + 16, bottom + 22, parts)


def _svg(width: int, height: int, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{"".join(parts)}</svg>'
