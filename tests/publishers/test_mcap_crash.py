"""A recording survives what ends its process: every whole chunk can be read, and the next start finishes the file."""

import errno
import fcntl
import os
import random
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from mcap.reader import SeekingReader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader, breakup_chunk
from recorded import detections, entry_of, messages_of, numbers_in, wait_for, writing

from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_disk import DiskWriter
from edge.publishers.mcap_file import RecordingFile
from edge.publishers.mcap_folder import RecordingFolder
from edge.publishers.mcap_repair import finish_cut
from edge.recording import Recording
from edge.uri import parse_uri

MAGIC = b"\x89MCAP0\r\n"
PROCESS = Path(__file__).parent / "recording_process.py"
KILLS = 6
FLUSH_S = 0.1
LATEST_S = 1.0  # its threads may have waited for the processor, on a machine that does much else


def killed_recording(folder: Path, alive_s: float, options: str = "") -> tuple[int, int]:
    """Record in a process that is killed after so long; return what it had sent by a flush before, and acknowledged."""
    command = [sys.executable, str(PROCESS), str(folder), f"min_free_mb=0&flush_s={FLUSH_S}{options}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        deadline = None
        try:
            for line in process.stdout:
                t_s, seq, sent = line.split()
                lines.append((float(t_s), int(seq), int(sent)))
                deadline = deadline or time.monotonic() + alive_s
                if time.monotonic() > deadline:
                    break
        finally:
            process.kill()
        lines += [(float(t), int(q), int(s)) for t, q, s in (x.split() for x in process.stdout if x.count(" ") == 2)]
    early = [seq for t_s, seq, _ in lines if t_s < lines[-1][0] - LATEST_S]
    return early[-1] if early else 0, lines[-1][2]


def test_kill_9_costs_no_more_than_the_flush_interval(tmp_path):
    """At random moments; the seed is in the message of a failure."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    files: list[Path] = []
    for _ in range(KILLS):
        old, acknowledged = killed_recording(tmp_path, moments.uniform(0.05, 1.7))
        begun = [p for p in RecordingFolder(tmp_path, "harrier", 0, 0).files() if p.read_bytes().startswith(MAGIC)]
        path = next((p for p in begun if p not in files), None)
        if path is None:  # killed before its file had a beginning
            assert acknowledged == old == 0, f"{acknowledged} were acknowledged, there is no file (seed {seed})"
            continue
        files.append(path)
        found = messages_of(path)
        numbers = numbers_in(path)
        assert numbers == list(range(len(numbers))), f"a gap (seed {seed})"
        assert len(numbers) >= old, f"{old} were sent {LATEST_S} s before the end, {len(numbers)} are there ({seed})"
        assert len(found) >= acknowledged, f"{acknowledged} were acknowledged, {len(found)} are there (seed {seed})"
    assert files, f"every run was killed before it began (seed {seed})"
    counts = [len(messages_of(path)) for path in files]
    last = McapPublisher(parse_uri(f"mcap://{tmp_path}?min_free_mb=0"))  # the next start finishes them all
    last.send(detections())
    last.close(10.0)
    for path, count in zip(files, counts, strict=True):
        assert path.read_bytes().endswith(MAGIC)
        with path.open("rb") as file:
            reader = SeekingReader(file, validate_crcs=True)
            assert reader.get_summary().statistics.message_count == count
            assert sum(1 for _ in reader.iter_messages()) == count, f"through the index (seed {seed})"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """A finished file of several chunks on three topics."""
    folder = tmp_path_factory.mktemp("whole")
    disk = DiskWriter(folder / "x.mcap", writing(max_bytes=0), on=True)
    for seq in range(60):
        disk.put(entry_of(seq, 2000))
        disk.put(entry_of(seq, 500)._replace(topic="/harrier/status"))
        if seq % 12 == 11:
            wait_for(lambda: disk.written == 2 * (seq + 1), "written")  # noqa: B023
    disk.close(5.0)
    return (folder / "x.mcap").read_bytes()


def whole_messages(data: bytes) -> list[tuple[int, int, int]]:
    """Of the chunks that are whole: topic's number, sequence, time."""
    found = []
    try:
        for record in StreamReader(BytesIO(data), emit_chunks=True).records:
            if isinstance(record, Chunk):
                inside = breakup_chunk(record, validate_crc=True)
                found += [(m.channel_id, m.sequence, m.log_time) for m in inside if hasattr(m, "sequence")]
    except Exception:
        pass
    return found


def test_a_file_cut_anywhere_gives_its_whole_chunks_and_can_be_finished(tmp_path, whole):
    places = sorted(
        {random.Random(4).randrange(16, len(whole)) for _ in range(80)} | {len(whole) - n for n in range(1, 60)}
    )
    for at in places:
        path = tmp_path / "cut.mcap"
        path.write_bytes(whole[:at])
        wanted = whole_messages(whole[:at])
        recording = Recording(path)
        assert len(list(recording)) == len(wanted), at
        assert finish_cut(path), at
        data = path.read_bytes()
        with path.open("rb") as file:
            found = [(m.channel_id, m.sequence, m.log_time) for _, _, m in SeekingReader(file).iter_messages()]
        assert sorted(found) == sorted(wanted), at
        assert not finish_cut(path), at
        assert path.read_bytes() == data, at
        assert list(Recording(path)) is not None
        path.unlink()


def test_a_flipped_bit_costs_its_chunk_and_no_other(tmp_path, whole):
    path = tmp_path / "bad.mcap"
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    recording = Recording(path)
    found = {m.sequence for m in recording}
    assert recording.damaged == 1
    lost = set(range(60)) - found
    assert lost
    assert max(lost) - min(lost) == len(lost) - 1 < 40


def test_a_crashed_file_that_is_damaged_in_its_middle_keeps_what_comes_behind_it(tmp_path, whole):
    path = tmp_path / "bad.mcap"
    chunks = [
        record.data for record in StreamReader(BytesIO(whole), emit_chunks=True).records if isinstance(record, Chunk)
    ]
    cut = whole[: whole.index(chunks[-1]) + len(chunks[-1]) // 2]
    kept = []
    for chunk in chunks[1:-1]:  # the first one says what the topics are
        at = cut.index(chunk) + len(chunk) // 2
        path.write_bytes(cut[:at] + bytes([cut[at] ^ 0x10]) + cut[at + 1 :])
        before = [(m.topic, m.sequence) for m in Recording(path)]
        assert finish_cut(path)
        assert [(m.topic, m.sequence) for m in Recording(path)] == before
        with path.open("rb") as file:
            reader = SeekingReader(file, validate_crcs=True)
            found = [(channel.topic, m.sequence) for _, channel, m in reader.iter_messages()]
            assert reader.get_summary().statistics.message_count == len(found)
        assert sorted(found) == sorted(before)
        kept.append(len(before))
    assert min(kept) > 0


def test_a_file_that_is_being_written_is_not_finished_by_another(tmp_path):
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(), on=True)
    disk.put(entry_of(0))
    wait_for(lambda: disk.written, "written")
    assert disk.file is not None
    assert not finish_cut(disk.file)
    path = disk.file
    disk.close(5.0)
    assert numbers_in(path) == [0]


def test_what_cannot_be_finished_stays_as_it_is(tmp_path, whole, monkeypatch):
    path = tmp_path / "harrier-000001-20260701T120000Z.mcap"
    cut = whole[: len(whole) // 2]
    path.write_bytes(cut)
    before = whole_messages(cut)

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert RecordingFolder(tmp_path, "harrier", 0, 0).finish_cut() == []
    monkeypatch.undo()
    assert whole_messages(path.read_bytes()) == before
    (tmp_path / "harrier-000002-20260701T120000Z.mcap").write_bytes(b"something else, without an end")
    assert RecordingFolder(tmp_path, "harrier", 0, 0).finish_cut() == [path]
    assert len(messages_of(path)) == len(before)
    assert (tmp_path / "harrier-000002-20260701T120000Z.mcap").read_bytes() == b"something else, without an end"


@pytest.mark.parametrize("content", [b"", bytes(4096)], ids=["empty", "zeros, as after a power cut"])
def test_a_file_without_a_first_byte_belongs_to_the_cap(tmp_path, content):
    left = tmp_path / "harrier-000001-20200101T000000Z.mcap"
    left.write_bytes(content)
    notes = tmp_path / "harrier-notes.mcap"
    notes.touch()
    kept = tmp_path / "harrier-000002-20200101T000000Z.mcap"
    kept.write_bytes(bytes(2_000_000))
    RecordingFolder(tmp_path, "harrier", total_mb=3, min_free_mb=0).make_room(1_500_000)
    assert not left.exists()
    assert notes.exists()


def test_an_empty_file_goes_at_the_next_start_unless_it_is_being_written(tmp_path):
    folder = RecordingFolder(tmp_path, "harrier", 0, 0)
    left, begun = (tmp_path / f"harrier-00000{i}-20200101T000000Z.mcap" for i in (1, 2))
    left.touch()
    other = tmp_path / "front-000001-20200101T000000Z.mcap"
    other.touch()
    file = RecordingFile(begun, "none", sync=False)
    assert folder.finish_cut() == []
    assert sorted(tmp_path.iterdir()) == [other, begun]
    file.add(entry_of(7))
    file.finish()
    assert numbers_in(begun) == [7]


def test_a_file_that_went_before_it_was_locked_is_not_written_to(tmp_path, monkeypatch):
    """Another process made room in the moment between."""
    path = tmp_path / "harrier-000001-20200101T000000Z.mcap"
    lock = fcntl.flock

    def slow(fd: int, how: int) -> None:
        path.unlink()
        lock(fd, how)

    monkeypatch.setattr("edge.publishers.mcap_file.fcntl.flock", slow)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        RecordingFile(path, "none", sync=False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_is_taken_is_not_written_over(tmp_path):
    path = tmp_path / "x.mcap"
    path.write_bytes(b"of somebody")
    with pytest.raises(FileExistsError):
        RecordingFile(path, "none", sync=False)
    assert path.read_bytes() == b"of somebody"


def test_a_chunk_that_did_not_fit_leaves_no_half_of_it(tmp_path, monkeypatch):
    file = RecordingFile(tmp_path / "x.mcap", "none", sync=False)
    file.add(entry_of(0))
    file.commit()
    size = file.path.stat().st_size
    write = os.pwrite

    def fill(fd: int, data: memoryview, at: int) -> int:
        if at > size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2], at)

    file.add(entry_of(1, 1000))
    with monkeypatch.context() as full:
        full.setattr("edge.publishers.mcap_file.os.pwrite", fill)
        with pytest.raises(OSError, match="No space"):
            file.commit()
    assert file.path.stat().st_size == size
    file.finish()
    assert numbers_in(file.path) == [0, 1]
