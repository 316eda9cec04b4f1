"""Histograms: exact counts whatever the order, growing, adding up, channels, sentinels, and the file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.collected import Histograms, ranges_from, read_histograms, write_histograms
from calibration.histogram import Histogram
from edge.errors import ConfigError

VALUES = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-12)
SAMPLES = st.lists(arrays(np.float32, st.integers(1, 50), elements=VALUES), min_size=1, max_size=6)


def filled(samples, channels: int = 1, axis: int = 0, bins: int = 256) -> Histogram:
    histogram = Histogram(channels, bins)
    for sample in samples:
        histogram.add(sample, axis)
    return histogram


def same(a: Histogram, b: Histogram) -> bool:
    names = ("counts", "exponent", "offset", "zeros", "left_out", "low", "high")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@settings(max_examples=50, deadline=None)
@given(SAMPLES, st.randoms())
def test_the_order_of_samples_does_not_matter(samples, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert same(filled(samples), filled(shuffled))


@settings(max_examples=50, deadline=None)
@given(SAMPLES, SAMPLES)
def test_two_histograms_add_up_to_that_of_all_samples(first, second):
    merged = filled(first)
    merged.merge(filled(second))
    assert same(merged, filled(first + second))
    swapped = filled(second)
    swapped.merge(filled(first))
    assert same(merged, swapped)


@settings(max_examples=50, deadline=None)
@given(SAMPLES)
def test_every_value_is_counted_in_its_bin(samples):
    histogram, values = filled(samples), np.concatenate(samples).astype(np.float64)
    edges = histogram.edges()
    expected, _ = np.histogram(values, np.append(edges[:-1], np.inf))
    assert np.array_equal(histogram.counts[0], expected)
    assert histogram.zeros[0] == (values == 0).sum()
    assert 0.0 in edges


@settings(max_examples=50, deadline=None)
@given(SAMPLES)
def test_bins_are_as_fine_as_the_values_allow(samples):
    histogram, values = filled(samples), np.concatenate(samples)
    span = max(float(values.max()), 0) - min(float(values.min()), 0)
    if span:
        assert np.diff(histogram.edges())[0] <= 2.1 * span / (256 - 1)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (2, 3, 4, 5), elements=VALUES), st.sampled_from([1, 3]))
def test_a_channel_is_the_histogram_of_its_own_values(sample, axis):
    channels = sample.shape[axis]
    histogram = filled([sample, sample * 2], channels, axis)
    for c in range(channels):
        own = np.take(sample, c, axis)
        assert same(histogram.channel(c), filled([own, own * 2]))


def test_samples_longer_than_a_block_are_counted_whole():
    values = np.random.default_rng(0).normal(size=(3, 70_001)).astype(np.float32)
    assert filled([values]).counts.sum() == values.size
    assert filled([values], 3).counts.sum(axis=1).tolist() == [70_001] * 3
    assert same(filled([values], 3).channel(1), filled([values[1]]))


def test_stand_ins_for_infinity_are_left_out():
    histogram = filled([np.array([1, -3.4e38, 2, np.inf, 0], np.float32)])
    assert (histogram.low[0], histogram.high[0]) == (0, 2)
    assert (histogram.left_out[0], histogram.counts.sum(), histogram.zeros[0]) == (2, 3, 1)
    assert filled([np.full(4, -np.inf, np.float32)]).left_out[0] == 4


@pytest.mark.parametrize(("values", "said"), [([1, np.nan], "NaN"), ([], "empty")])
def test_values_that_cannot_be_counted(values, said):
    with pytest.raises(ValueError, match=said):
        filled([np.array(values, np.float32)])
    with pytest.raises(ValueError, match="5 channels"):
        filled([np.zeros((5, 2), np.float32)], 4)


def test_the_file_gives_back_what_was_written(tmp_path: Path):
    rng = np.random.default_rng(1)
    found = Histograms("ab" * 32, 2, inputs="x")
    found.whole = {"conv:0": filled(rng.normal(size=(2, 99))), "/a/b": filled([np.zeros(3), np.ones(3)])}
    found.channels = {"conv:0": filled(rng.normal(size=(2, 3, 9)), 3)}
    path = tmp_path / "h.npz"
    write_histograms(path, found)
    again = read_histograms(path)
    assert list(tmp_path.iterdir()) == [path]
    assert (again.model_sha256, again.images, again.inputs) == (found.model_sha256, 2, "x")
    for observer in ("min-max", "moving-average", "percentile:99", "mse"):
        assert ranges_from(again, observer) == ranges_from(found, observer)
    again.whole["conv:0"].add(np.ones(5))  # a run goes on


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "h.npz"
    with pytest.raises(ConfigError, match="no file"):
        read_histograms(path)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ConfigError, match="holds no histograms"):
        read_histograms(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ConfigError, match="holds no histograms"):
        read_histograms(path)
    with pytest.raises(ConfigError, match="cannot write"):
        write_histograms(tmp_path / "none" / "h.npz", Histograms(""))
