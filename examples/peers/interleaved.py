"""Contestants take turns on the same frames, so that a noisy machine is equally noisy for all of them."""

import time
from collections.abc import Callable

import numpy as np

RESAMPLES = 2000


def take_turns(
    contestants: dict[str, Callable[[int], object]], rounds: int, warm_up: int = 10, turn: int = 1
) -> dict[str, np.ndarray]:
    """Return wall-clock ms per round of each contestant, which is called with the number of the round.

    turn: how many rounds one contestant does before the next has its turn. With 1 each finds the caches full of the
    others' code and data; with more it runs as it would alone.
    """
    times = {name: np.zeros(rounds) for name in contestants}
    rng = np.random.default_rng(0)
    names = list(contestants)
    for name in names * warm_up:
        contestants[name](0)
    for first in range(0, rounds, turn):
        for name in rng.permutation(names):  # nobody always finds the caches as the same neighbour left them
            for i in range(first, min(first + turn, rounds)):
                start = time.perf_counter_ns()
                contestants[name](i)
                times[name][i] = (time.perf_counter_ns() - start) / 1e6
    return times


def ratio_interval(ours: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of medians ours / other and its 95 % interval, by a bootstrap of blocks of 20 rounds."""
    rng = np.random.default_rng(0)
    blocks = len(ours) // 20
    a, b = ours[: blocks * 20].reshape(blocks, 20), other[: blocks * 20].reshape(blocks, 20)
    chosen = rng.integers(0, blocks, (RESAMPLES, blocks))
    ratios = [np.median(a[c]) / np.median(b[c]) for c in chosen]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(ours) / np.median(other)), float(low), float(high)


def show(title: str, times: dict[str, np.ndarray], ours: str) -> None:
    """Print a table: median and p99 of each, and how ours compares."""
    print(f"\n{title}\n{'':<44}{'p50 ms':>9}{'p99 ms':>9}   Harrier / this (95 %)")
    for name, values in times.items():
        line = f"{name:<44}{np.median(values):>9.3f}{np.percentile(values, 99):>9.3f}"
        if name != ours:
            ratio, low, high = ratio_interval(times[ours], values)
            line += f"   {ratio:.2f} ({low:.2f} to {high:.2f})"
        print(line)
