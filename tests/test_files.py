"""Files are there whole or as they were, and what cannot be written is said before the work."""

import errno
import os
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.files import check_writable, write_atomically


def test_text_and_bytes_replace_the_file_and_leave_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "grün")
    assert path.read_bytes() == "grün".encode()
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(fault, tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    real = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        real(self, data[:1])
        raise fault

    monkeypatch.setattr(Path, "write_bytes", half)
    expected = KeyboardInterrupt if isinstance(fault, KeyboardInterrupt) else ConfigError
    with pytest.raises(expected) as caught:
        write_atomically(path, b"new")
    if expected is ConfigError:
        assert "No space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        write_atomically(tmp_path / "file" / "a", b"")
    with pytest.raises(ConfigError, match="cannot write"):
        write_atomically(tmp_path, b"")


def test_pipes_devices_and_links_are_written_into(tmp_path):
    (tmp_path / "there.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("there.txt")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "there.txt").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    check_writable([link, pipe, Path(os.devnull)])


def test_what_cannot_be_written_is_named_and_nothing_is_touched(tmp_path):
    check_writable([tmp_path / "new.json", Path("here.json")])
    for path, said in ((tmp_path, "it is a folder"), (tmp_path / "no" / "a.json", "there is no such folder")):
        with pytest.raises(ConfigError, match=said) as caught:
            check_writable([path])
        assert str(path) in str(caught.value)
    assert not list(tmp_path.iterdir())
