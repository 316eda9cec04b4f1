"""How a recording gets to the disk: nothing waits for it, files rotate under a cap, a disk that fails loses nothing."""

import errno
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from mcap.reader import make_reader
from recorded import (
    HELLO,
    LABELS,
    MB,
    detections,
    entry_of,
    frame,
    messages_of,
    numbers_in,
    status,
    wait_for,
    writing,
)

from edge.errors import ConfigError, PublishError
from edge.publishers import mcap_encoding, mcap_file
from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_disk import DiskWriter
from edge.publishers.mcap_folder import RecordingFolder
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import jsonl


def publisher_of(place: Path, options: str = "") -> McapPublisher:
    return McapPublisher(parse_uri(f"mcap://{place}?min_free_mb=0{'&' if options else ''}{options}"))


def test_the_contract_of_publishers(tmp_path):
    check_publisher(publisher_of(tmp_path / "folder"))
    check_publisher(publisher_of(tmp_path / "file.mcap"))


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "names no file"),
        ("FOLDER?format=binary", "JSON and protobuf"),
        ("FOLDER?trigger=region", "there is none"),
        ("FOLDER?ring_s=5&trigger=scores<1", "triggers nothing"),
        ("FOLDER?max_mb=100&total_mb=150", "two files"),
        ("FOLDER?total_mb=1", "two files"),
        ("FOLDER?pictures=bmp", "pictures"),
        ("FOLDER?name=../x", "name"),
        ("FOLDER?camera=/nowhere.toml", "no file"),
        ("x.mcap?total_mb=10", "is for a folder"),
    ],
)
def test_wrong_addresses_say_what_is_wrong(tmp_path, rest, said):
    with pytest.raises(ConfigError, match=said):
        McapPublisher.check(parse_uri(f"mcap://{rest.replace('FOLDER', str(tmp_path))}"))


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path):
    with pytest.raises(PublishError, match="no folder"):
        McapPublisher.check(parse_uri(f"mcap://{tmp_path}/not/there.mcap"))
    (tmp_path / "taken").write_text("x")
    with pytest.raises(PublishError, match="is no folder"):
        McapPublisher.check(parse_uri(f"mcap://{tmp_path}/taken"))
    with pytest.raises(PublishError, match="cannot make the folder"):
        McapPublisher(parse_uri(f"mcap://{tmp_path}/taken/below"))


def test_a_file_that_is_there_is_never_written_over(tmp_path, caplog):
    path = tmp_path / "drive.mcap"
    path.write_bytes(b"precious")
    publisher = publisher_of(path)
    publisher.send(detections(1))
    publisher.close(5.0)
    assert path.read_bytes() == b"precious"
    assert numbers_in(tmp_path / "drive-2.mcap") == [1]
    assert "is there already" in caplog.text


def test_every_so_many_pictures_and_no_more_than_a_rate(tmp_path):
    for options, wanted in (("every=3", [0, 3, 6, 9]), ("max_hz=5", [0, 2, 4, 6, 8]), ("pictures=none", [])):
        path = tmp_path / f"{options}.mcap"
        publisher = publisher_of(path, options)
        for seq in range(10):
            publisher.send(detections(seq))
            publisher.show(frame(seq, (32, 24), t_capture_ns=10**9 + seq * 100_000_000), detections(seq))
            wait_for(lambda: not publisher._waiting, "encoded")  # noqa: B023
        publisher.close(5.0)
        assert [m.sequence for m in messages_of(path) if m.topic == "/camera/image"] == wanted
        assert numbers_in(path) == list(range(10))  # every result, whatever pictures are left out


def test_neither_results_nor_pictures_ever_wait(tmp_path, monkeypatch):
    """The encoder hangs: the loop's calls return, what has no room is counted, and the rest comes later."""
    gate, real = threading.Event(), mcap_encoding.picture_of
    monkeypatch.setattr(mcap_encoding, "picture_of", lambda *args: gate.wait(10) and real(*args))
    path = tmp_path / "x.mcap"
    publisher = publisher_of(path)
    for seq in range(20):
        publisher.show(frame(seq, (32, 24)), detections(seq))
    for seq in range(5000):
        publisher.send(detections(seq, []))
    for _ in range(3):
        publisher.send(status("lost"))  # events still have room
    gate.set()
    publisher.close(10.0)
    found = Counter(m.topic for m in messages_of(path))
    assert found["/camera/image"] == 6
    assert found["/harrier/status"] == 3
    assert publisher.dropped == 20 - 6 + 5000 - found["/harrier/detections"]
    assert 4000 < found["/harrier/detections"] < 5000


def test_a_picture_that_cannot_be_encoded_is_counted_and_told(tmp_path, monkeypatch):
    path = tmp_path / "x.mcap"
    publisher = publisher_of(path)
    publisher.show(frame(0, (70_000, 1)), detections(0))  # wider than a JPEG can be
    wait_for(lambda: publisher.failure, "failure")
    assert "cannot be encoded" in publisher.failure
    publisher.show(frame(1, (32, 24)), detections(1))
    wait_for(lambda: not publisher.failure, "works again")
    publisher.close(5.0)
    assert publisher.dropped == 1
    assert [m.sequence for m in messages_of(path) if m.topic == "/camera/image"] == [1]


def test_files_rotate_and_each_can_be_read_alone(tmp_path):
    publisher = publisher_of(tmp_path, "max_mb=1&total_mb=0&flush_s=0.05")
    publisher.send(HELLO)
    publisher.send(LABELS)
    for seq in range(40):
        message = detections(seq)
        publisher.send(message)
        publisher.show(frame(seq), message)
        wait_for(lambda: not publisher._waiting, "encoded")
    publisher.close(5.0)
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 3
    assert all(re.fullmatch(r"harrier-00000\d-\d{8}T\d{6}Z\.mcap", path.name) for path in files)
    assert numbers_in(*files) == list(range(40))
    for path in files:
        assert path.stat().st_size <= 1.05 * MB
        topics = [m.topic for m in messages_of(path)]
        assert {"/harrier/hello", "/harrier/labels"} <= set(topics[:4])
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            assert reader.get_summary().statistics.message_count == len(topics) == len(list(reader.iter_messages()))
    assert publisher.sent == sum(len(messages_of(path)) for path in files)


def test_a_file_ends_after_its_time(tmp_path):
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(max_s=10.0), on=True)
    start = time.monotonic_ns()
    for seq in range(31):
        disk.put(entry_of(seq, t_ns=start + seq * 10**9))
    disk.close(5.0)
    assert [numbers_in(p) for p in sorted(tmp_path.iterdir())] == [[*range(11)], [*range(11, 22)], [*range(22, 31)]]


def test_the_oldest_go_when_the_cap_is_reached_and_only_our_own(tmp_path):
    others = {
        "harrier-000000-20200101T000000Z.mcap": b"\x89MCAP0\r\n" + b"of somebody else" * 20_000,
        "harrier-notes.mcap": b"x" * MB,
        "front-000001-20200101T000000Z.mcap": b"x" * MB,
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    link = tmp_path / "harrier-000002-20200101T000000Z.mcap"
    link.symlink_to(tmp_path / "harrier-notes.mcap")
    folder = RecordingFolder(tmp_path, "harrier", total_mb=5, min_free_mb=0)
    disk = DiskWriter(folder, writing(), on=True)
    most = 0
    for seq in range(120):
        disk.put(entry_of(seq, 100_000))
        if seq % 8 == 7:
            wait_for(lambda: disk.written == seq + 1, "written")  # noqa: B023
            most = max(most, sum(p.stat().st_size for p in folder.files() if p.name not in others and p != link))
    disk.close(5.0)
    assert all((tmp_path / name).read_bytes() == content for name, content in others.items())
    assert link.is_symlink()
    kept = numbers_in(*(p for p in folder.files() if p.name not in others and p != link))
    assert kept == list(range(kept[0], 120))  # the newest, without a gap
    assert kept[0] > 0
    assert 2 * MB < most <= 5 * MB
    assert (disk.failure, disk.dropped) == ("", 0)


def test_a_file_that_another_process_writes_is_never_deleted(tmp_path):
    first = DiskWriter(RecordingFolder(tmp_path, "harrier", 3, 0), writing(), on=True)
    first.put(entry_of(0))
    wait_for(lambda: first.file, "the first file")
    second = DiskWriter(RecordingFolder(tmp_path, "harrier", 3, 0), writing(), on=True)
    for seq in range(60):
        second.put(entry_of(seq, 100_000))
    second.close(5.0)
    first.put(entry_of(1))
    path = first.file
    first.close(5.0)
    assert numbers_in(path) == [0, 1]


def test_numbers_not_clocks_say_which_file_is_the_oldest(tmp_path, monkeypatch):
    folder = RecordingFolder(tmp_path, "a", 0, 0)
    (tmp_path / "a-000007-20300101T000000Z.mcap").touch()
    assert folder.next_path("").name.startswith("a-000008-")
    (tmp_path / "a-000008-19700101T000000Z-score.mcap").touch()
    assert [p.name[:8] for p in folder.files()] == ["a-000007", "a-000008"]
    assert re.fullmatch(r"a-000009-\d{8}T\d{6}Z-region-gate-enter\.mcap", folder.next_path("region gate: enter").name)


def test_a_full_disk_is_told_and_nothing_is_lost_that_was_acknowledged(tmp_path, monkeypatch):
    """Injected: every third write takes half a chunk, then ENOSPC, then the disk is full for a while."""
    real, state = os.pwrite, {"calls": 0, "full": False}

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        state["calls"] += 1
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: max(1, len(data) // 2)], offset) if state["calls"] % 3 else real(fd, data, offset)

    monkeypatch.setattr(mcap_file.os, "pwrite", pwrite)
    path = tmp_path / "x.mcap"
    disk = DiskWriter(path, writing(max_bytes=0), on=True)
    for seq in range(50):
        disk.put(entry_of(seq, 5_000))
    wait_for(lambda: disk.written == 50, "the first fifty")
    state["full"] = True
    for seq in range(50, 100):
        disk.put(entry_of(seq, 5_000))
    wait_for(lambda: disk.failure, "told")
    assert "No space left" in disk.failure
    assert numbers_in(path) == list(range(50))  # what was acknowledged can be read all the while
    assert disk.written == 50
    state["full"] = False
    wait_for(lambda: disk.written == 100, "written after all")
    assert disk.failure == ""
    disk.close(5.0)
    assert numbers_in(path) == list(range(100))
    assert disk.dropped == 0


def test_memory_is_bounded_while_the_disk_takes_nothing(tmp_path, monkeypatch):
    state = {"error": errno.EROFS}
    real = os.open

    def opened(path, flags, *mode, **more):
        if state["error"] and str(path).endswith(".mcap"):
            raise OSError(state["error"], "Read-only file system")
        return real(path, flags, *mode, **more)

    monkeypatch.setattr(mcap_file.os, "open", opened)
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(memory_bytes=MB, max_bytes=100 * MB), on=True)
    for seq in range(500):
        disk.put(entry_of(seq, 10_000))
    wait_for(lambda: "Read-only" in disk.failure, "told")
    assert disk._waiting_bytes <= MB
    assert disk.dropped == 500 - len(disk._waiting)
    state["error"] = 0
    wait_for(lambda: disk.written, "written after all")
    disk.close(5.0)
    kept = numbers_in(*tmp_path.iterdir())
    assert kept == list(range(disk.dropped, 500))  # the newest, without a gap


def test_a_real_full_file_system(tmp_path):
    """A tmpfs of 3 MB, filled by another, then freed."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small tmpfs needs root: the injected errors of the tests above stand for it")
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({done.stderr.strip()})")
    try:
        publisher = publisher_of(place / "x.mcap", "flush_s=0.05")
        publisher.send(detections(0))
        wait_for(lambda: publisher.sent, "the first is on the disk")
        room = os.statvfs(place)
        (place / "filler").write_bytes(b"x" * (room.f_bavail * room.f_frsize))
        for seq in range(1, 60):
            publisher.send(detections(seq))
        wait_for(lambda: "No space left" in publisher.failure, "told")
        acknowledged = publisher.sent
        assert len(messages_of(place / "x.mcap")) >= acknowledged
        (place / "filler").unlink()
        wait_for(lambda: not publisher.failure and publisher.sent >= 120, "works again")
        publisher.close(5.0)
        assert numbers_in(place / "x.mcap") == list(range(60))
        assert publisher.dropped == 0
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=20)


def test_the_free_space_floor_deletes_our_oldest_and_else_waits(tmp_path, monkeypatch):
    folder = RecordingFolder(tmp_path, "a", total_mb=100, min_free_mb=10)
    free = {"bytes": 50 * MB}
    monkeypatch.setattr(RecordingFolder, "_free", lambda self: free["bytes"])
    disk = DiskWriter(folder, writing(), on=True)
    for seq in range(30):
        disk.put(entry_of(seq, 100_000))
    wait_for(lambda: disk.written == 30, "written")
    before = folder.files()
    free["bytes"] = 5 * MB
    disk.put(entry_of(30))
    wait_for(lambda: disk.failure == f"less than 10 MB are free in {tmp_path} (min_free_mb)", "told")
    assert folder.files() == before[-1:]  # but for the one that is being written
    assert disk.written == 30
    free["bytes"] = 50 * MB
    wait_for(lambda: disk.written == 31, "written after all")
    disk.close(5.0)


def test_recording_can_be_ended_and_begun_again(tmp_path):
    publisher = publisher_of(tmp_path, "start=off&flush_s=0.05")
    assert not publisher.wants_frames
    publisher.send(detections(0))
    wait_for(lambda: not publisher._waiting, "taken")
    publisher.record(True)
    assert publisher.recording
    assert publisher.wants_frames
    publisher.send(detections(1))
    wait_for(lambda: publisher.file and publisher.sent >= 2, "recorded")
    publisher.record(False)
    wait_for(lambda: publisher.file is None, "finished")
    assert not publisher.recording
    publisher.send(detections(2))
    wait_for(lambda: not publisher._waiting, "taken")
    publisher.record(True)
    publisher.send(detections(3))
    publisher.close(5.0)
    assert [numbers_in(path) for path in sorted(tmp_path.iterdir())] == [[1], [3]]


def test_what_is_sent_comes_back_as_the_message_it_was(tmp_path):
    publisher = publisher_of(tmp_path / "x.mcap", "compression=zstd")
    message = detections(4)
    publisher.send(message)
    publisher.close(5.0)
    found = next(m for m in messages_of(tmp_path / "x.mcap") if m.schema == "harrier.Detections")
    assert jsonl.decode(found.data) == jsonl.decode(jsonl.encode(message))
