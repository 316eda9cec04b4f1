"""A serial line with noise on it, and one that is pulled and plugged in again."""

import contextlib
import os
import random
import select
import time
from pathlib import Path

import pytest

pytest.importorskip("serial", reason="pyserial is not installed (extra serial)")

from broken_runs import Camera, Reader, null_bundle, running, wait_for

from edge.wire.decoder import decode
from edge.wire.framing import SerialDeframer
from edge.wire.names import Names

CONFIG = 'model = "{model}"\nsource = "{source}"\npublish = ["tcp://127.0.0.1:0", "serial://{line}?baud=460800"]\n'


class Plug:
    """A USB adapter with the other end of its line: a name that is there while it is plugged in."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        self.link.symlink_to(os.ttyname(slave))
        os.close(slave)
        self._deframer, self._names = SerialDeframer(), Names()

    def pull(self) -> None:
        self.link.unlink()
        os.close(self.master)

    @property
    def damaged(self) -> int:
        return self._deframer.damaged

    def results(self) -> int:
        """How many whole results have arrived since the last look."""
        count = 0
        while select.select([self.master], [], [], 0.01)[0]:
            with contextlib.suppress(OSError):  # nobody has the port open
                for payload in self._deframer.feed(os.read(self.master, 65536)):
                    count += decode(payload, self._names).kind == "classification"
                continue
            break
        return count


@pytest.fixture
def line(tmp_path) -> Plug:
    return Plug(tmp_path / "line")


def config_of(folder: Path) -> str:
    return CONFIG.format(model=null_bundle(folder / "bundle"), source=Camera(folder).uri(), line=folder / "line")


def test_a_line_that_is_pulled_is_taken_up_again(tmp_path, line, measured):
    """Promise: other readers notice nothing; a line that is back gets greeting and newest result within 2 s."""
    with running(tmp_path, config_of(tmp_path)) as run, Reader(run.address) as reader:
        wait_for(lambda: line.results() > 5, "results on the line")
        line.pull()
        run.says("was unplugged")
        assert len(reader.results(0.5)) > 10
        line.plug()
        measured(recovery_s=wait_for(line.results, "results on the line"))
        run.says("works again")
        assert line.damaged == 0


def test_noise_on_the_line_costs_what_it_hits(tmp_path, line, measured):
    """Promise: whatever comes in, results go out whole; no noise is taken for a command."""
    own = random.Random(3)
    with running(tmp_path, config_of(tmp_path)) as run, Reader(run.address) as reader:
        wait_for(lambda: line.results() > 5, "results on the line")
        seen, sent, end = 0, 0, time.monotonic() + 1.5
        while time.monotonic() < end:
            noise = own.randbytes(own.choice([1, 20, 500]))
            os.set_blocking(line.master, False)
            with contextlib.suppress(BlockingIOError):
                sent += os.write(line.master, noise)
            seen += line.results()
        measured(noise_bytes=sent, results=seen, damaged=line.damaged)
        assert seen > 20
        assert line.damaged == 0
        assert not reader.status or all("paused" not in state for state in reader.status)
        assert reader.result().flags == ()
