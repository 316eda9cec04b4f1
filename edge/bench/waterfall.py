"""Which stages a waterfall shows, and how far its axis reaches, for the page and the PNG alike."""

from collections.abc import Mapping, Sequence

from edge.bench.results import Distribution, Setup

__all__ = ["drawn_stages", "end_ms"]


def drawn_stages(setups: Sequence[Setup]) -> list[dict[str, Distribution]]:
    """Return the stages of each set-up to draw: without the wait for a frame where it would dwarf any one's work."""
    if not any(map(_wait_dwarfs, setups)):
        return [setup.stages for setup in setups]
    return [{name: d for name, d in setup.stages.items() if name != "wait"} for setup in setups]


def end_ms(waterfalls: Sequence[Mapping[str, Distribution]]) -> float:
    """Return how far the longest bar or whisker of all reaches, so that they can share an axis."""
    most = 0.0
    for stages in waterfalls:
        start = 0.0
        for values in stages.values():
            most = max(most, start + max(values.p50.value, values.p99.value))
            start += values.p50.value
    return most


def _wait_dwarfs(setup: Setup) -> bool:
    work = sum(d.p50.value for name, d in setup.stages.items() if name != "wait")
    return "wait" in setup.stages and setup.stages["wait"].p50.value > work
