"""`replay://`: a recording as a camera, with its own numbers and its own gaps."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")

from mcap.writer import CompressionType, Writer

from edge.errors import ConfigError, EndOfStreamError, SourceError, SourceOpenError
from edge.sources.base import open_source
from edge.sources.replay import ReplaySource
from edge.testing import check_source
from edge.uri import parse_uri


def picture(number: int) -> np.ndarray:
    return np.full((24, 32, 3), 10 * number, np.uint8)


def write(
    path: Path, entries: list[tuple[str, int, int, int | None]], schema: str = "foxglove.CompressedImage"
) -> Path:
    """entries: topic, number, time in ms, what is on the picture (None: no picture)."""
    with path.open("wb") as file:
        writer = Writer(file, 400, CompressionType.NONE)
        writer.start()
        kind = writer.register_schema(schema, "protobuf", b"x")
        channels: dict[str, int] = {}
        for topic, number, t_ms, shown in entries:
            channel = channels.get(topic) or writer.register_channel(topic, "protobuf", kind)
            channels[topic] = channel
            encoded = cv2.imencode(".png", picture(shown))[1].tobytes() if shown is not None else b"\xff\xd8\xff broken"
            t_ns = 10**18 + t_ms * 1_000_000
            writer.add_message(channel, t_ns + 7_000_000, b"\x12\x90\x4e" + encoded + b"\x1a\x03png", t_ns, number)
        writer.finish()
    return path


def read_all(uri: str) -> list[tuple[int, int, str, float]]:
    """Number, what is shown, frame_ref, and ms since the first."""
    found = []
    with open_source(uri) as source:
        try:
            while True:
                frame = source.read(5.0)
                info = frame.info
                found.append((info.seq, int(frame.image[0, 0, 0]) // 10, info.frame_ref, info.t_capture_ns / 1e6))
        except EndOfStreamError:
            pass
    return [(seq, shown, ref, t - found[0][3]) for seq, shown, ref, t in found]


def test_the_contract_of_sources(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", i, 20 * i, i) for i in range(8)])
    source = open_source(f"replay://{path}")
    source.start()
    check_source(source)


def test_numbers_and_gaps_are_those_of_the_recording(tmp_path):
    times = [0, 20, 60, 70, 190]
    numbers = [5, 6, 8, 9, 20]
    path = write(
        tmp_path / "x.mcap", [("/camera", n, t, i) for i, (n, t) in enumerate(zip(numbers, times, strict=True))]
    )
    for speed in (1, 4):
        found = read_all(f"replay://{path}?speed={speed}")
        shown = [one for _, one, _, _ in found]
        assert shown == sorted(set(shown))  # a slow machine may miss some: the newest wins, as with a camera
        for seq, one, ref, t_ms in found:
            assert (seq, ref) == (numbers[one], str(numbers[one]))
            assert t_ms == pytest.approx((times[one] - times[shown[0]]) / speed, abs=0.01)


def test_as_fast_as_it_is_taken_every_picture_comes_once(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", 2 * i, 1000 * i, i % 20) for i in range(40)])
    found = read_all(f"replay://{path}?speed=0")
    assert [(seq, shown) for seq, shown, _, _ in found] == [(2 * i, i % 20) for i in range(40)]


def test_it_begins_again_with_numbers_that_go_on(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", i, i, i) for i in range(3)])
    with open_source(f"replay://{path}?speed=0&loop=yes") as source:
        seen = [source.read(5.0).info for _ in range(7)]
    assert [info.seq for info in seen] == list(range(7))
    assert [info.frame_ref for info in seen] == ["0", "1", "2", "0", "1", "2", "0"]


@pytest.mark.parametrize("schema", ["foxglove.CompressedImage", "sensor_msgs/msg/CompressedImage"])
def test_a_foreign_camera_is_chosen_by_topic(tmp_path, schema):
    """Other writers do not number their messages, or all from 0."""
    entries = [(topic, 0, 10 * i, i + add) for i in range(3) for topic, add in (("/left", 1), ("/right", 11))]
    path = write(tmp_path / "x.mcap", entries, schema)
    assert [(s, shown) for s, shown, _, _ in read_all(f"replay://{path}?speed=0")] == [(0, 1), (1, 2), (2, 3)]
    assert [shown for _, shown, _, _ in read_all(f"replay://{path}?speed=0&topic=/right")] == [11, 12, 13]
    with (
        open_source(f"replay://{path}?topic=/up") as source,
        pytest.raises(SourceError, match="no CompressedImage on /up"),
    ):
        source.read(5.0)


def test_a_picture_that_cannot_be_decoded_is_passed_over(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", 0, 0, 1), ("/camera", 1, 10, None), ("/camera", 2, 20, 2)])
    with open_source(f"replay://{path}?speed=0") as source:
        assert [source.read(5.0).info.seq for _ in range(2)] == [0, 2]
        assert source.stats.corrupt == 1
        with pytest.raises(EndOfStreamError, match="after 2 pictures"):
            source.read(5.0)


def test_a_recording_cut_short_is_played_as_far_as_it_is_whole(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", i, i, i % 20) for i in range(30)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(f"replay://{path}?speed=0") as source:
        numbers = []
        try:
            while True:
                numbers.append(source.read(5.0).info.seq)
        except EndOfStreamError:
            pass
        reasons = [event.reason for event in source.poll_events()]
    assert numbers == list(range(len(numbers)))
    assert 3 < len(numbers) < 25
    assert any("no end, as after a crash" in reason for reason in reasons)


def test_what_is_no_recording_says_so(tmp_path):
    with pytest.raises(SourceOpenError, match="does not exist"):
        open_source(f"replay://{tmp_path}/none.mcap")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceOpenError, match=r"there is no \.mcap file in"):
        open_source(f"replay://{tmp_path}/empty")
    (tmp_path / "text.mcap").write_text(json.dumps({"no": "recording"}))
    with (
        open_source(f"replay://{tmp_path}/text.mcap") as source,
        pytest.raises(SourceError, match="no whole recording"),
    ):
        source.read(5.0)
    with pytest.raises(ConfigError, match="speed"):
        open_source(f"replay://{tmp_path}/text.mcap?speed=-1")


def test_a_path_is_enough(tmp_path):
    path = write(tmp_path / "x.mcap", [("/camera", 0, 0, 3)])
    with open_source(str(path)) as source:
        assert source.read(5.0).image[0, 0, 0] == 30


def reasons_of(source) -> list[str]:
    return [event.reason for event in source.poll_events()]


def numbers_of(uri: str) -> list[tuple[int, str]]:
    return [(seq, ref) for seq, _, ref, _ in read_all(uri)]


def test_files_of_one_run_in_a_folder_play_like_one(tmp_path):
    """Numbers go on, and so do times, though the clock was set between the files."""
    write(tmp_path / "a-000009-x.mcap", [("/camera", n, 20 * n, n % 20) for n in range(3, 12)])
    write(tmp_path / "a-000010-x.mcap", [("/camera", n, 20 * n, n % 20) for n in (12, 13, 15)])
    write(tmp_path / "a-000011-x.mcap", [("/camera", n, 9_000_000 + 20 * n, n % 20) for n in range(16, 20)])
    write(tmp_path / "a-000012-x.mcap", [("/camera", n, 20 * n - 5000, n % 20) for n in range(20, 24)])
    (tmp_path / "notes.txt").write_text("no recording")
    wanted = [*range(3, 14), *range(15, 24)]
    assert numbers_of(f"replay://{tmp_path}?speed=0") == [(n, str(n)) for n in wanted]
    for seq, shown, ref, t_ms in (found := read_all(f"replay://{tmp_path}")):  # the newest wins on a slow machine
        assert (ref, shown) == (str(seq), seq % 20)
        assert t_ms == pytest.approx(20 * (seq - found[0][0]), abs=0.01)


def test_recordings_of_several_runs_follow_each_other_without_a_gap(tmp_path):
    """By name; each has its own timing, and what lies between them is no longer than between two frames."""
    write(tmp_path / "a.mcap", [("/camera", n, 30 * n, n) for n in range(4)])
    write(tmp_path / "b.mcap", [("/front", n, 3_600_000 + 10 * n, n % 20) for n in range(700, 704)])
    write(tmp_path / "c.mcap", [("/camera", n, 40 * n, n) for n in range(2)])
    assert numbers_of(f"replay://{tmp_path}?speed=0") == [
        *((n, str(n)) for n in range(4)),
        *((n, str(n)) for n in range(700, 704)),
        (704, "0"),
        (705, "1"),
    ]
    source = ReplaySource(parse_uri(f"replay://{tmp_path}?loop=yes"))
    source.open()
    due_ms = [source.grab(None).t_capture_ns / 1e6 for _ in range(13)]
    assert np.diff(due_ms).round(2).tolist() == [30, 30, 30, 30, 10, 10, 10, 10, 40, 40, 30, 30]


def test_a_loop_begins_with_the_first_of_the_folder(tmp_path):
    write(tmp_path / "a.mcap", [("/camera", n, n, n) for n in range(5, 7)])
    write(tmp_path / "b.mcap", [("/camera", n, n, n) for n in range(7, 9)])
    with open_source(f"replay://{tmp_path}?speed=0&loop=yes") as source:
        seen = [source.read(5.0).info for _ in range(10)]
    assert [info.frame_ref for info in seen] == list("5678567856")
    assert [info.seq for info in seen] == list(range(5, 15))


def test_a_damaged_file_in_a_folder_is_told_and_passed_over(tmp_path):
    write(tmp_path / "a.mcap", [("/camera", n, n, n) for n in range(3)])
    (tmp_path / "b.mcap").write_text("nothing of the kind")
    cut = write(tmp_path / "c.mcap", [("/camera", n, n, n % 20) for n in range(3, 33)])
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write(tmp_path / "d.mcap", [("/imu", n, n, n) for n in range(3)], schema="Imu")
    write(tmp_path / "e.mcap", [("/camera", n, n, n % 20) for n in range(40, 43)])
    (tmp_path / "f.mcap").mkdir()
    with open_source(f"replay://{tmp_path}?speed=0") as source:
        numbers = []
        try:
            while True:
                numbers.append(source.read(5.0).info.seq)
        except EndOfStreamError as exc:
            assert exc.cause == f"{tmp_path} ended after {len(numbers)} pictures"
        reasons = reasons_of(source)
        assert source.stats.corrupt == 4
    assert numbers[:6] == list(range(6))
    assert numbers[-3:] == [40, 41, 42]
    assert 10 < len(numbers) < 30
    for said in ("b.mcap is no whole recording", "c.mcap has no end", "d.mcap has no Compr", "cannot read .*f.mcap"):
        assert len([reason for reason in reasons if re.search(said, reason)]) == 1, said
    with open_source(f"replay://{tmp_path}?speed=0&loop=yes") as source:
        for _ in range(3 * len(numbers)):
            source.read(5.0)
        assert source.stats.corrupt == 4  # once each, not in every pass


def test_a_folder_of_which_nothing_can_be_played_says_so(tmp_path):
    (tmp_path / "a.mcap").write_text("nothing of the kind")
    write(tmp_path / "b.mcap", [("/imu", n, n, n) for n in range(3)], schema="Imu")
    for options in ("", "&loop=yes"):
        with (
            open_source(f"replay://{tmp_path}?speed=0{options}") as source,
            pytest.raises(SourceError, match=r"no recording in .* can be played \(.*a\.mcap is no whole recording"),
        ):
            source.read(5.0)
