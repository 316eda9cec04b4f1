"""TensorRT's calibration cache, against figures worked out by hand."""

from pathlib import Path

import pytest

from calibration.ranges import Ranges
from calibration.tables import read_tensorrt_cache, scales_of, write_tensorrt_cache
from edge.errors import ConfigError


def ranges(tensors: dict[str, tuple[float, float]]) -> Ranges:
    return Ranges(model_sha256="0" * 64, observer="min-max", images=1, tensors=tensors)


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
