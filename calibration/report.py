"""What a calibration found, for people: the widest activations and the most clipped ones."""

from collections.abc import Sequence

from calibration.collected import Histograms
from calibration.observers import clipped_share
from calibration.ranges import Ranges

__all__ = ["report_text"]

_SHOWN = 5


def report_text(histograms: Histograms, ranges: Ranges, notes: Sequence[str] = ()) -> str:
    """Return the notes and a plain table; ranges are those an observer chose from the histograms."""
    shares = {name: clipped_share(found, *ranges.tensors[name]) for name, found in histograms.whole.items()}
    widest = sorted(shares, key=lambda name: _span(ranges, name), reverse=True)[:_SHOWN]
    clipped = [name for name in sorted(shares, key=shares.__getitem__, reverse=True)[:_SHOWN] if shares[name] > 0]
    count = len(ranges.tensors)
    lines = [*notes, f"{count} activations over {ranges.images} pictures, ranges by {ranges.observer}"]
    if histograms.with_sentinels:
        lines.append(f"stand-ins for infinity left out in: {', '.join(histograms.with_sentinels[:_SHOWN])}")
    for title, names in (("widest", widest), ("most clipped", clipped)):
        if names:
            lines += ["", f"{title:<40} {'range':>21} {'seen':>21} {'clipped':>9}"]
            lines += [_row(name, histograms, ranges, shares[name]) for name in names]
    return "\n".join(lines)


def _row(name: str, histograms: Histograms, ranges: Ranges, share: float) -> str:
    found = histograms.whole[name]
    label = name if len(name) <= 40 else f"..{name[-38:]}"
    chosen, seen = _pair(*ranges.tensors[name]), _pair(float(found.low[0]), float(found.high[0]))
    return f"{label:<40} {chosen:>21} {seen:>21} {100 * share:7.3f} %"


def _pair(low: float, high: float) -> str:
    return f"{low:.4g} .. {high:.4g}"


def _span(ranges: Ranges, name: str) -> float:
    low, high = ranges.tensors[name]
    return high - low
