"""The intervals cover what they promise, also for values that depend on their neighbours."""

from pathlib import Path

import numpy as np
import pytest

from edge.bench import intervals
from edge.bench.intervals import Interval, block_length, paired_ratio, percentile_intervals, sen_slope


def autocorrelated(rng: np.random.Generator, n: int, rho: float = 0.6) -> np.ndarray:
    noise = rng.normal(size=n)
    values = np.empty(n)
    values[0] = noise[0]
    for i in range(1, n):
        values[i] = rho * values[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return values


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_percentiles_are_covered_however_much_neighbours_are_alike(rho):
    rng = np.random.default_rng(1)
    truth, hits = {50: 0.0, 90: 1.28155, 99: 2.32635}, {50: [], 90: [], 99: []}
    for _ in range(300):
        for (percent, value), found in zip(
            truth.items(), percentile_intervals(autocorrelated(rng, 1000, rho), list(truth)), strict=True
        ):
            if found.known:
                hits[percent].append(covers(found, value))
    assert len(hits[50]) == 300
    assert all(np.mean(hit) >= 0.92 for hit in hits.values() if hit)
    assert bool(hits[99]) is (rho == 0.0)  # as few as ten values that hang together say nothing about a p99
    assert np.mean(hits[50]) <= 0.995


def test_bounds_are_the_ranks_of_the_binomial_law():
    values = np.random.default_rng(0).permutation(10_000).astype(float)
    p50, p99 = percentile_intervals(values, (50, 99))
    assert (p50.low, p50.high) == pytest.approx((4901, 5098), rel=0.01)  # 5000 -+ 1.96 x 50
    assert (p99.low, p99.high) == pytest.approx((9880, 9920), abs=4)  # 9900 -+ 1.96 x 9.95


def test_blocks_are_longer_where_neighbours_are_alike():
    rng = np.random.default_rng(2)
    assert block_length(autocorrelated(rng, 2000, 0.95)) > 2 * block_length(rng.normal(size=2000))


def test_one_outlier_does_not_hide_the_correlation():
    values = autocorrelated(np.random.default_rng(3), 1000, 0.9)
    plain = block_length(values)
    values[500] = 1e6
    assert block_length(values) > plain / 2


def test_too_few_values_have_no_bounds():
    assert percentile_intervals(np.arange(10.0), (50,)) == [Interval(4.5, count_needed=20)]
    assert percentile_intervals(np.array([3.0]), (99,)) == [Interval(3.0, count_needed=563)]
    p50, p99 = percentile_intervals(np.random.default_rng(0).normal(size=100), (50, 99))
    assert p50.known
    assert not p99.known  # one value lies beyond it
    assert not percentile_intervals(np.arange(100.0), (50,))[0].known  # a trend has no middle of its own


@pytest.mark.parametrize("tau", [1.0, 3.7, 40.0])
@pytest.mark.parametrize("percent", [10, 50, 90, 99])
def test_with_as_many_values_as_are_said_to_be_needed_there_are_bounds(percent, tau, monkeypatch):
    monkeypatch.setattr(intervals, "_correlation_time", lambda values: tau)
    values = np.random.default_rng(0).normal(size=100_000)
    needed = percentile_intervals(values[:5], (percent,))[0].count_needed
    enough, short = (
        percentile_intervals(values[:needed], (percent,)),
        percentile_intervals(values[: needed - 1], (percent,)),
    )
    assert (enough[0].known, enough[0].count_needed) == (True, None)
    assert (short[0].known, short[0].count_needed) == (False, needed)


def test_the_documents_say_how_many_frames_a_p99_needs():
    needed = percentile_intervals(np.zeros(1), (99,))[0].count_needed
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    assert f"a p99 needs {needed} frames" in text


def test_paired_ratios_are_covered_although_the_machine_drifts():
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(300):
        load = np.exp(rng.normal(0, 0.5, 12))
        first, second = load * np.exp(rng.normal(0, 0.05, 12)), 1.2 * load * np.exp(rng.normal(0, 0.05, 12))
        hits.append(covers(paired_ratio(list(first), list(second)), 1.2))
    assert 0.91 <= np.mean(hits) <= 0.99


def test_the_signed_rank_bounds_are_those_of_the_tables():
    """Pairs 6: the whole range; pairs 12: the 14th smallest of 78 Walsh averages (critical value 13)."""
    assert not paired_ratio([1.0] * 5, [2.0] * 5).known
    logs = np.array([0.01, 0.03, 0.07, 0.15, 0.31, 0.63])
    found = paired_ratio([1.0] * 6, list(np.exp(logs)))
    assert (found.low, found.high) == pytest.approx((np.exp(0.01), np.exp(0.63)))
    logs = np.array([2.0**i for i in range(12)]) / 5000
    i, j = np.triu_indices(12)
    walsh = np.sort((logs[i] + logs[j]) / 2)
    found = paired_ratio([1.0] * 12, list(np.exp(logs)))
    assert (found.low, found.high) == pytest.approx((np.exp(walsh[13]), np.exp(walsh[-14])))


def test_a_slope_is_covered_and_one_outlier_does_not_turn_it():
    rng = np.random.default_rng(5)
    t = np.linspace(0, 1, 40)
    hits = [covers(sen_slope(t, 3 * t + rng.normal(0, 0.2, 40)), 3.0) for _ in range(200)]
    assert np.mean(hits) >= 0.9
    y = 3 * t
    y[20] = 1e6
    assert sen_slope(t, y).value == pytest.approx(3.0, abs=0.01)


def test_a_slope_is_covered_where_neighbours_are_alike():
    rng, t = np.random.default_rng(6), np.arange(60.0)
    hits = [covers(sen_slope(t, 0.1 * t + autocorrelated(rng, 60)), 0.1) for _ in range(200)]
    assert np.mean(hits) >= 0.85
