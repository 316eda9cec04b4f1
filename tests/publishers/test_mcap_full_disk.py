"""A disk that fills at the worst moments of a recording: as a file ends and the next one begins."""

import errno
import os
from collections.abc import Callable

import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from recorded import MB, entry_of, messages_of, numbers_in, wait_for, writing

from edge.publishers import mcap_file
from edge.publishers.mcap_disk import DiskWriter
from edge.publishers.mcap_file import RecordingFile
from edge.publishers.mcap_folder import RecordingFolder
from edge.recording import Recording

SIZE = 9_000
FIT = (MB - (1 << 16)) // (SIZE + 64)  # of these messages, about, in a file


@pytest.fixture
def full(monkeypatch) -> Callable[[bool], None]:
    """A disk that takes half of a write, and then no more, while it is told to be full."""
    write, state = os.pwrite, {"full": False, "half": False}

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if not state["full"]:
            return write(fd, data, offset)
        state["half"] = not state["half"]
        if state["half"] and len(data) > 1:
            return write(fd, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    def tell(is_full: bool) -> None:
        state.update(full=is_full, half=False)

    monkeypatch.setattr(mcap_file.os, "pwrite", pwrite)
    return tell


def test_what_comes_as_a_file_rotates_on_a_full_disk_is_not_lost(tmp_path, full):
    """The message that is too much for a file waits until that file has its end, and is the next one's first."""
    folder = RecordingFolder(tmp_path, "a", 0, 0)
    disk = DiskWriter(folder, writing(max_bytes=MB, flush_s=0.05), on=True)
    disk.put(entry_of(0, SIZE))
    wait_for(lambda: disk.written == 1, "the first")
    full(True)
    with disk._lock:  # so that all of it waits at once, and the file is full before the disk is asked again
        for seq in range(1, 2 * FIT):
            disk._append(entry_of(seq, SIZE))
    wait_for(lambda: disk.failure, "told")
    waiting = disk._waiting_bytes
    assert numbers_in(*folder.files()) == [0]
    assert not Recording(folder.files()[0]).cut
    full(False)
    wait_for(lambda: disk.written == 2 * FIT, f"written after all, {waiting} bytes waited")
    disk.close(5.0)
    assert disk._waiting_bytes == 0
    files = folder.files()
    assert len(files) > 1
    assert numbers_in(*files) == list(range(2 * FIT))
    assert messages_of(files[1])[0].sequence == len(messages_of(files[0]))


def test_what_was_written_can_be_read_while_the_disk_is_full(tmp_path, full):
    """Half a chunk is cut off again, so a reader finds a file that is whole up to the last acknowledged message."""
    file = RecordingFile(tmp_path / "x.mcap", "none", sync=False)
    file.add(entry_of(0, SIZE))
    assert file.commit() == 1
    size = file.path.stat().st_size
    full(True)
    file.add(entry_of(1, SIZE))
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.commit()
        assert file.path.stat().st_size == size
        reading = Recording(file.path)
        assert [one.sequence for one in reading] == [0]
    full(False)
    assert file.finish() == 1
    assert numbers_in(file.path) == [0, 1]


def test_a_trigger_after_an_end_that_the_disk_did_not_take_begins_a_file(tmp_path, full):
    """Nothing is added behind a file's end, where no reader would look."""
    folder = RecordingFolder(tmp_path, "a", 0, 0)
    disk = DiskWriter(folder, writing(ring_s=10.0), on=False)
    disk.put(entry_of(0))
    disk.save("one", 0.1)
    wait_for(lambda: disk.written == 1 and disk.file is not None, "begun")
    full(True)
    wait_for(lambda: disk.failure, "the end did not fit")
    disk.put(entry_of(1))
    disk.save("two", 5.0)
    full(False)
    wait_for(lambda: disk.written == 2, "the second")
    disk.close(5.0)
    assert numbers_in(*folder.files()) == [0, 1]
    assert [path.read_bytes()[-8:] for path in folder.files()] == [b"\x89MCAP0\r\n"] * 2
