"""Observers against numpy, against quantization really carried out, and on degenerate tensors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.histogram import Histogram
from calibration.observers import OBSERVERS, check_observer, clipped_share, range_of
from edge.errors import ConfigError

VALUES = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
TENSORS = arrays(np.float32, st.integers(1, 300), elements=VALUES)


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def quantized(values: np.ndarray, low: float, high: float, bits: int, symmetric: bool) -> np.ndarray:
    """What values become in signed integers of so many bits, by the scale and zero point files get."""
    most = 2 ** (bits - 1) - 1
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return np.rint(values)
    scale = float(np.float32(max(-low, high) / most if symmetric else (high - low) / (2 * most + 1)))
    scale = max(scale, float(np.finfo(np.float32).tiny))
    zero_point = 0 if symmetric else min(max(round(-most - 1 - low / scale), -most - 1), most)
    least = -most if symmetric else -most - 1
    return (np.clip(np.rint(values / scale) + zero_point, least, most) - zero_point) * scale


def true_error(values: np.ndarray, chosen: tuple[float, float], bits: int = 8, symmetric: bool = False) -> float:
    values = values.astype(np.float64)
    return float(((quantized(values, *chosen, bits, symmetric) - values) ** 2).mean())


def middles_of(histogram: Histogram, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each bin, not beyond the true ends, and how many values but zeros are in it."""
    edges = histogram.edges()
    counts, _ = np.histogram(values[values != 0].astype(np.float64), edges)
    return np.clip((edges[:-1] + edges[1:]) / 2, values.min(), values.max()), counts


@settings(max_examples=60, deadline=None)
@given(TENSORS)
def test_min_max_is_numpys(values):
    low, high = range_of(histogram_of(values), "min-max")
    assert (low, high) == (min(values.min(), 0), max(values.max(), 0))


@settings(max_examples=60, deadline=None)
@given(TENSORS, st.sampled_from([90.0, 99.0, 99.9]))
def test_percentiles_are_numpys_within_a_bin(values, percent):
    histogram = histogram_of(values)
    width = float(np.diff(histogram.edges())[0])
    low, high = range_of(histogram, f"percentile:{percent}")
    expected = np.percentile(values.astype(np.float64), [100 - percent, percent])
    assert abs(low - min(expected[0], 0)) <= width * 1.001
    assert abs(high - max(expected[1], 0)) <= width * 1.001
    _, high = range_of(histogram, f"percentile:{percent}", symmetric=True)
    assert abs(high - np.percentile(np.abs(values.astype(np.float64)), percent)) <= width * 1.001


def test_moving_average_follows_the_samples_in_their_order():
    histogram = Histogram()
    for peak in (10, 20, 40):
        histogram.add(np.array([-1, peak], np.float32))
    low, high = range_of(histogram, "moving-average:0.5")
    assert (low, high) == (-1, (10 + 20) / 2 / 2 + 40 / 2)


@settings(max_examples=60, deadline=None)
@given(TENSORS, st.booleans())
def test_mse_by_the_histogram_is_never_worse_than_min_max(values, symmetric):
    histogram = histogram_of(values)
    best, plain = (range_of(histogram, name, 8, symmetric) for name in ("mse", "min-max"))
    middles, counts = middles_of(histogram, values)
    errors = [np.square(quantized(middles, *chosen, 8, symmetric) - middles) @ counts for chosen in (best, plain)]
    assert errors[0] <= errors[1] * (1 + 1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", ["normal", "laplace", "student", "relu", "silu", "sigmoid", "uniform"])
def test_mse_is_not_worse_than_min_max_when_really_quantized(shape, bits, symmetric):
    rng = np.random.default_rng(3)
    normal = rng.normal(size=20_000) * 3
    values = {
        "normal": normal,
        "laplace": rng.laplace(size=20_000),
        "student": rng.standard_t(3, size=20_000),
        "relu": np.maximum(normal, 0),
        "silu": normal / (1 + np.exp(-normal)),
        "sigmoid": 1 / (1 + np.exp(-normal)),
        "uniform": rng.uniform(-1, 4, size=20_000),
    }[shape].astype(np.float32)
    histogram = histogram_of(values)
    best, plain = (range_of(histogram, name, bits, symmetric) for name in ("mse", "min-max"))
    found = true_error(values, best, bits, symmetric), true_error(values, plain, bits, symmetric)
    assert found[0] <= found[1] * 1.02


@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_cuts_outliers_off_a_gaussian_and_keeps_its_body(symmetric):
    rng = np.random.default_rng(4)
    values = np.append(rng.normal(size=100_000), [90, -70, 110]).astype(np.float32)
    low, high = range_of(histogram_of(values), "entropy", 8, symmetric)
    assert 3 < high < 20
    assert -20 < low < -3
    assert true_error(values[:-3], (low, high), 8, symmetric) < true_error(values[:-3], (-70, 110), 8, symmetric) / 50


def test_entropy_ignores_exact_zeros():
    values = np.abs(np.random.default_rng(5).normal(size=20_000)).astype(np.float32)
    ranges = [range_of(histogram_of(np.append(values, np.zeros(n, np.float32))), "entropy") for n in (0, 500_000)]
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("observer", [*OBSERVERS, "percentile:99.99"])
@pytest.mark.parametrize("values", [[0], [0, 0, 0], [3], [-2] * 9, [5] * 9, [1e-30], [0, 7], [-1e29, 1e29], [0.25, 4]])
def test_degenerate_tensors_have_sane_ranges(observer, values, symmetric):
    values = np.array(values, np.float32)
    low, high = range_of(histogram_of(values), observer, 8, symmetric)
    assert np.isfinite([low, high]).all()
    assert low <= 0 <= high
    assert not symmetric or low == -high
    if len(set(values.tolist())) == 1:
        assert max(-low, high) == pytest.approx(abs(float(values[0])))
        assert high - low == pytest.approx(abs(float(values[0])) * (1 + symmetric))


def test_before_the_first_sample_every_range_is_empty():
    assert {range_of(Histogram(), observer) for observer in OBSERVERS} == {(0.0, 0.0)}


def test_clipped_share_counts_what_lies_outside():
    histogram = histogram_of(np.arange(-100, 901, dtype=np.float32))
    assert clipped_share(histogram, -100, 900) == 0
    assert clipped_share(histogram, -100, 800) == pytest.approx(0.1, abs=0.002)
    assert clipped_share(histogram, 0, 900) == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    "word", ["median", "", "percentile:x", "percentile:101", "percentile:0", "mse:3", "moving-average:1", "percentile:"]
)
def test_unknown_observers_are_refused(word):
    with pytest.raises(ConfigError):
        check_observer(word)
