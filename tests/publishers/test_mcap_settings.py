"""The settings that made the results stand in every file of a recording, before those results, whatever happens."""

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from mcap.reader import make_reader
from recorded import HELLO, MB, detections, entry_of, frame, messages_of, status, wait_for, writing

from edge.config import RunConfig, Thresholds, TrackingSection
from edge.errors import ConfigError
from edge.geometry_config import RegionSection
from edge.manifest import DecoderSection
from edge.publishers import mcap_file
from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_disk import DiskWriter
from edge.publishers.mcap_folder import RecordingFolder
from edge.publishers.mcap_repair import finish_cut
from edge.publishers.mcap_schemas import SETTINGS, Entry
from edge.recording import Recording
from edge.run_settings import METADATA, RunSettings, metadata_of, settings_from, settings_in_force
from edge.uri import parse_uri

PROCESS = Path(__file__).parent / "recording_process.py"


def settings_of(score: float) -> RunSettings:
    config = RunConfig(
        thresholds=Thresholds(score=score, max_per_class=3),
        tracking=TrackingSection(min_hits=3),
        region=[RegionSection(name='the "door"', kind="line", points=[(0.1, 0.2), (0.5, 0.25)], labels=["tür\n"])],
    )
    return settings_in_force(config, DecoderSection(family="yolo", nms="weighted"), "pets", "onnx", fits=2)


def entry(score: float, t_ns: int | None = None) -> Entry:
    t_ns = time.monotonic_ns() if t_ns is None else t_ns
    return Entry(SETTINGS, t_ns, t_ns, 0, msgspec.json.encode(metadata_of(settings_of(score))))


def scores_in(path: Path) -> list[tuple[int, float | None]]:
    """Every result's number, and the score of the settings that stand before it."""
    recording, found = Recording(path), []
    for message in recording:
        metadata = recording.metadata.get(METADATA)
        if message.schema == "harrier.Detections":
            found.append((message.sequence, settings_from(metadata).thresholds.score if metadata else None))
    return found


def test_what_is_written_reads_back():
    settings = settings_of(0.3)
    assert settings_from(metadata_of(settings)) == settings
    assert (settings.of_model, settings.thresholds.nms, settings.thresholds.iou) == (("iou", "nms"), "weighted", 0.5)
    bare = settings_in_force(RunConfig(), DecoderSection(family="yolo"))
    assert settings_from(metadata_of(bare)) == bare
    assert bare.thresholds.score == 0.25


def test_neither_addresses_nor_passwords_are_written():
    config = RunConfig(source="rtsp://me:hunter2@camera/", publish=["mqtt://me:hunter2@broker/x"], labels="/home/me/x")
    found = metadata_of(
        settings_in_force(config, DecoderSection(family="yolo"), "pets", "kserve+http://hunter2@host/m")
    )
    assert found["target"] == "kserve+http"
    assert not [word for word in ("hunter2", "host", "camera", "broker", "/home") if word in str(found)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "2"}, "of format '2'"),
        ({"settings": "thresholds = ["}, "is not valid TOML"),
        ({"settings": "[thresholds]\nscores = 1"}, "unknown key 'scores'"),
        ({"settings": ""}, "thresholds"),
        ({"fits": "many"}, "fits"),
    ],
)
def test_what_cannot_be_read_says_why(change, said):
    with pytest.raises(ConfigError, match=said):
        settings_from({**metadata_of(settings_of(0.3)), **change})


def test_every_file_that_rotates_begins_with_them(tmp_path):
    publisher = McapPublisher(parse_uri(f"mcap://{tmp_path}?min_free_mb=0&max_mb=1&total_mb=0&flush_s=0.05"))
    held = [settings_of(0.3)]
    publisher.settings = lambda: held[0]
    publisher.send(HELLO)
    for seq in range(40):
        if seq == 25:
            held[0] = settings_of(0.6)
        message = detections(seq)
        publisher.send(message)
        publisher.show(frame(seq), message)
        wait_for(lambda: not publisher._waiting, "encoded")
    publisher.close(5.0)
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 3
    assert [pair for path in files for pair in scores_in(path)] == [(s, 0.3 if s < 25 else 0.6) for s in range(40)]
    assert publisher.sent == sum(len(messages_of(path)) for path in files)
    for path in files:
        recording = Recording(path)
        next(iter(recording))
        assert METADATA in recording.metadata, "behind the first message"
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            records = [record.metadata for record in reader.iter_metadata()]  # through the index
            assert reader.get_summary().statistics.metadata_count == len(records)
        assert settings_from(records[0]) in (settings_of(0.3), settings_of(0.6))


def test_a_ring_begins_with_those_of_its_oldest_result(tmp_path):
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(ring_s=10.0), on=False)
    start = time.monotonic_ns() - 30 * 10**9
    disk.put(entry(0.1, start))
    for seq in range(30):
        if seq in (5, 25):
            disk.put(entry(seq / 100, start + seq * 10**9))
        disk.put(entry_of(seq, t_ns=start + seq * 10**9))
    disk.save("why", 0.0)
    wait_for(lambda: len(list(tmp_path.glob("*why.mcap"))) == 1 and not disk.file, "written")
    disk.close(5.0)
    (path,) = tmp_path.iterdir()
    assert scores_in(path) == [(seq, 0.05 if seq < 25 else 0.25) for seq in range(19, 30)]


def test_they_are_not_lost_with_what_memory_has_no_room_for(tmp_path, monkeypatch):
    """The disk takes nothing for a while, and the change of settings gives way to newer results."""
    real, state = mcap_file.os.pwrite, {"full": False}

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if state["full"]:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(mcap_file.os, "pwrite", pwrite)
    path = tmp_path / "x.mcap"
    disk = DiskWriter(path, writing(max_bytes=0, memory_bytes=MB // 4), on=True)
    disk.put(entry(0.1))
    disk.put(entry_of(0))
    wait_for(lambda: disk.written == 1, "the first")
    state["full"] = True
    disk.put(entry_of(1, 1000))
    wait_for(lambda: disk.failure, "told")
    disk.put(entry(0.2))
    for seq in range(2, 60):
        disk.put(entry_of(seq, 10_000))
    dropped = disk.dropped
    assert 20 < dropped < 58
    state["full"] = False
    disk.close(5.0)
    assert disk.dropped == dropped
    assert scores_in(path) == [(0, 0.1), (1, 0.1), *((seq, 0.2) for seq in range(2 + dropped, 60))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """A finished file whose settings change in between."""
    path = tmp_path_factory.mktemp("whole") / "x.mcap"
    disk = DiskWriter(path, writing(max_bytes=0), on=True)
    for seq in range(40):
        if seq in (0, 13, 14, 30):
            disk.put(entry((seq + 1) / 100))
        disk.put(entry_of(seq, 1000))
        if seq % 8 == 7:
            wait_for(lambda: disk.written == seq + 1, "written")  # noqa: B023
    disk.close(5.0)
    return path.read_bytes()


def test_a_file_cut_anywhere_keeps_them_and_can_be_finished(tmp_path, whole):
    path = tmp_path / "cut.mcap"
    path.write_bytes(whole)
    everything = scores_in(path)
    assert [score for _, score in everything] == [0.01] * 13 + [0.14] + [0.15] * 16 + [0.31] * 10
    for at in sorted({random.Random(7).randrange(30, len(whole) - 9) for _ in range(120)}):
        path.write_bytes(whole[:at])
        before = scores_in(path)
        assert before == everything[: len(before)], at
        assert finish_cut(path), at
        assert scores_in(path) == before, at
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            records = [settings_from(record.metadata) for record in reader.iter_metadata()]
            assert len(list(reader.iter_messages())) == len(before), at
        assert len(records) >= len({score for _, score in before}), at
        recording = Recording(path)
        assert list(recording) is not None
        assert (recording.cut, recording.damaged) == ("", 0), at


def test_a_flipped_bit_in_them_costs_no_result(tmp_path, whole):
    path = tmp_path / "bad.mcap"
    at = whole.index(b"[thresholds]")
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
    recording = Recording(path)
    assert [m.sequence for m in recording] == list(range(40))
    assert recording.damaged == 1


def test_kill_9_leaves_them(tmp_path):
    """What was acknowledged has its settings, in the torn file and in the one that the next start has finished."""
    command = [sys.executable, str(PROCESS), str(tmp_path), "min_free_mb=0&flush_s=0.05", "0.37"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line.split()[2]) > 20:
                break
        process.kill()
    (path,) = tmp_path.iterdir()
    for _ in range(2):
        found = scores_in(path)
        assert len(found) > 3
        assert {score for _, score in found} == {0.37}
        finish_cut(path)
    assert not Recording(path).cut


def test_without_anybody_who_says_them_there_are_none(tmp_path):
    publisher = McapPublisher(parse_uri(f"mcap://{tmp_path}/x.mcap?min_free_mb=0"))
    publisher.send(detections(1))
    publisher.send(status("lost"))
    publisher.close(5.0)
    assert scores_in(tmp_path / "x.mcap") == [(1, None)]
    assert all(m.topic.startswith("/") for m in messages_of(tmp_path / "x.mcap"))
