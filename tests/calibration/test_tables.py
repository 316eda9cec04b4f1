"""Scale and zero point, and TensorRT's calibration cache, against figures worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.ranges import Ranges
from calibration.tables import (
    as_ranges,
    read_tensorrt_cache,
    scale_and_zero_point,
    scales_of,
    write_tensorrt_cache,
)
from edge.errors import ConfigError

ENDS = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)


def ranges(tensors: dict[str, tuple[float, float]]) -> Ranges:
    return Ranges(model_sha256="0" * 64, observer="min-max", images=1, tensors=tensors)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "symmetric", "expected"),
    [
        (0.0, 255.0, "uint8", False, (1.0, 0)),
        (0.0, 255.0, "int8", False, (1.0, -128)),
        (-1.0, 1.55, "uint8", False, (0.01, 100)),
        (2.0, 25.5, "uint8", False, (0.1, 0)),  # widened to 0
        (-12.7, 3.0, "int8", True, (0.1, 0)),
        (-12.7, 3.0, "uint8", True, (0.1, 128)),
        (-3.2767, 0.0, "int16", True, (0.0001, 0)),
        (0.0, 0.0, "int8", False, (1.0, 0)),
        (0.0, 0.0, "uint8", True, (1.0, 128)),
    ],
)
def test_scale_and_zero_point_by_hand(low, high, dtype, symmetric, expected):
    scale, zero_point = scale_and_zero_point(low, high, dtype, symmetric)
    assert (scale, zero_point) == (pytest.approx(expected[0], rel=1e-6), expected[1])
    assert scale == np.float32(scale)


@given(ENDS, ENDS, st.sampled_from(["int8", "uint8", "int16"]), st.booleans())
def test_zero_is_exact_and_the_ends_are_reached(a, b, dtype, symmetric):
    low, high = min(a, b), max(a, b)
    scale, zero_point = scale_and_zero_point(low, high, dtype, symmetric)
    limits = np.iinfo(dtype)
    assert scale > 0
    assert limits.min <= zero_point <= limits.max
    for real in (min(low, 0.0), max(high, 0.0)):
        stored = min(max(round(real / scale) + zero_point, limits.min), limits.max)
        assert abs((stored - zero_point) * scale - real) <= scale * 1.01
    if symmetric and dtype != "uint8":
        assert zero_point == 0


@pytest.mark.parametrize("bad", [(0.0, np.inf, "int8"), (np.nan, 1.0, "int8"), (0.0, 1.0, "int32")])
def test_what_has_no_scale(bad):
    with pytest.raises(ValueError):
        scale_and_zero_point(*bad, symmetric=False)


def test_the_cache_is_written_as_tensorrt_writes_it(tmp_path: Path):
    path = tmp_path / "calibration.cache"
    write_tensorrt_cache(path, ranges({"data": (0.0, 1.0), "conv:0": (-254.0, 3.0), "a b/c": (0.0, 0.0)}), 7000)
    lines = path.read_text().splitlines()
    # 1 / 127 and 254 / 127 as float32, most significant byte first
    assert lines[:3] == ["TRT-7000-EntropyCalibration2", "data: 3c010204", "conv:0: 40000000"]
    assert list(tmp_path.iterdir()) == [path]
    cache = read_tensorrt_cache(path)
    assert (cache.version, cache.algorithm) == (7000, "EntropyCalibration2")
    assert cache.scales == scales_of(ranges({"data": (0.0, 1.0), "conv:0": (-254.0, 3.0), "a b/c": (0.0, 0.0)}))
    assert cache.scales["conv:0"] == 2.0
    assert as_ranges(cache.scales, "0" * 64).tensors["conv:0"] == (-254.0, 254.0)


def test_a_cache_of_tensorrt_is_read(tmp_path: Path):
    path = tmp_path / "table"
    path.write_bytes(b"TRT-8503-MinMaxCalibration\r\n(Unnamed Layer* 48) [Constant]_output: 3f800000\nprob: 0\n\n")
    cache = read_tensorrt_cache(path)
    assert (cache.version, cache.algorithm) == (8503, "MinMaxCalibration")
    assert cache.scales == {"(Unnamed Layer* 48) [Constant]_output": 1.0, "prob": 0.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin"),
        ("hello\na: 3f800000", "does not begin"),
        ("TRT-8201-X\na 3f800000", ":2 is not"),
        ("TRT-8201-X\na: xyz", ":2 is not"),
    ],
)
def test_what_is_no_cache(tmp_path: Path, text, said):
    path = tmp_path / "cache"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_tensorrt_cache(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_tensorrt_cache(tmp_path / "none")
    with pytest.raises(ConfigError, match="does not fit in a line"):
        write_tensorrt_cache(path, ranges({"a\nb": (0.0, 1.0)}))
    assert path.read_text() == text
