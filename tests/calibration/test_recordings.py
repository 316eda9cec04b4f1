"""Recordings as calibration data: MCAP files with pictures, whatever encodes the messages around them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")

from calibration_pictures import scene
from mcap.writer import Writer

from calibration.frames import frames_of, list_pictures
from calibration.pictures import read_pictures
from edge.errors import ConfigError


def write(
    path: Path, pictures: list[np.ndarray], schema: str = "foxglove.CompressedImage", suffix: str = ".jpg"
) -> Path:
    """Messages with bytes of another encoding before and behind the picture, and a topic of something else."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        other = writer.register_channel("/imu", "cdr", writer.register_schema("Imu", "ros2msg", b"x"))
        images = writer.register_channel("/camera", "protobuf", writer.register_schema(schema, "protobuf", b"x"))
        for i, picture in enumerate(pictures):
            data = b"\x0a\x04time\x12\x90\x4e" + cv2.imencode(suffix, picture)[1].tobytes() + b"\x1a\x04jpeg"
            writer.add_message(other, i, b"\xff\xd8\xff no picture", i)
            writer.add_message(images, i, data, i)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [scene(seed) for seed in range(6)]


@pytest.mark.parametrize("schema", ["foxglove.CompressedImage", "sensor_msgs/msg/CompressedImage"])
def test_pictures_are_found_in_messages_of_any_encoding(tmp_path, pictures, schema):
    path = write(tmp_path / "drive.mcap", pictures, schema, ".png")
    frames = frames_of(path)
    found = list(frames)
    assert len(found) == 6
    assert all(np.array_equal(a, b) for a, b in zip(found, pictures, strict=True))
    assert np.array_equal(frames.frame(4), pictures[4])
    assert np.array_equal(frames.frame(1), pictures[1])  # going back begins again
    with pytest.raises(ConfigError, match="has no picture 6"):
        frames.frame(6)
    frames.close()


def test_a_recording_calibrates_as_a_video_does(tmp_path):
    path = write(tmp_path / "drive.mcap", [scene(seed) for seed in range(60)])
    found = read_pictures(str(path), limit=55)
    assert len(found) == 55
    assert found.picture(0).shape == (120, 160, 3)
    assert found.names[0] == "drive_frame000000"


def test_a_recording_cut_short_gives_what_is_whole(tmp_path, pictures):
    path = write(tmp_path / "drive.mcap", pictures * 20)
    whole = len(list(frames_of(path)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    try:
        count = len(list(frames_of(path)))
    except ConfigError as exc:
        assert "no whole recording" in str(exc)  # all its pictures were in the chunk that was cut
    else:
        assert 0 < count < whole


def test_a_recording_without_pictures_and_what_is_no_recording_say_so(tmp_path, pictures):
    with pytest.raises(ConfigError, match="no CompressedImage"):
        list(frames_of(write(tmp_path / "imu.mcap", pictures, "foxglove.Log")))
    (tmp_path / "text.mcap").write_text("no recording")
    with pytest.raises(ConfigError, match="no whole recording"):
        list(frames_of(tmp_path / "text.mcap"))
    (tmp_path / "old.bag").write_text("x")
    with pytest.raises(ConfigError, match="only MCAP is read"):
        list_pictures(str(tmp_path / "old.bag"))
