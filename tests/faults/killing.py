"""Kills `harrier run` and `harrier model install` at random moments and looks at what is left.

killing.py WORK SEED COUNT. Both run in forks of this process, so that 200 starts take seconds. What a publisher counts
as sent is acknowledged; which messages those are survives in memory that both processes share. Tells a JSON line for
each kill, and a last one for the whole.
"""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from broken_runs import null_bundle

import edge.run  # noqa: F401
from edge import slots
from edge.cli import main
from edge.errors import WireError
from edge.manifest import read_manifest, verify_file
from edge.publishers import stream
from edge.publishers.base import PublisherBase
from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_file import RecordingFile
from edge.publishers.mcap_schemas import SETTINGS, Entry
from edge.recording import Recording
from edge.sources.synthetic import SyntheticSource  # noqa: F401
from edge.wire.jsonl import decode
from edge.wire.messages import Message

STARTING_S = 0.3
WRITING_S = 0.15
PATIENCE_S = 5.0
CUT_SHARE = 0.2  # of the kills that a torn line follows, as after a power cut
COMPLETE_EVERY = 20
CONFIG = """
model = "front"
source = "synthetic://?fps=400&size=64x48"
publish = ["file://{work}/results.jsonl", "mcap://{work}/recordings?{options}"]
[update]
shadow_frames = 5
watch_s = 0.2
"""
RECORDING = "pictures=none&flush_s=0.02&min_free_mb=0&total_mb=0&sync=off"
U64 = struct.Struct("Q")
MOST = 1 << 16
END = b"\x89MCAP0\r\n"


def key_of(name: str, sequence: int) -> int:
    """A message in 64 bits: its kind or topic, and its number."""
    return zlib.crc32(name.encode()) << 32 | sequence & 0xFFFFFFFF


class Acknowledged:
    """Messages in their order, and how many of them are acknowledged; outlives the process that notes them."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, U64.size * (1 + MOST))
        self._noted = 0

    def clear(self) -> None:
        self._noted = 0
        self.count = 0

    def note(self, name: str, sequence: int) -> None:
        self._noted += 1
        U64.pack_into(self._shared, U64.size * self._noted, key_of(name, sequence))

    @property
    def count(self) -> int:
        return U64.unpack_from(self._shared)[0]

    @count.setter
    def count(self, count: int) -> None:
        U64.pack_into(self._shared, 0, count)

    @property
    def keys(self) -> list[int]:
        return [U64.unpack_from(self._shared, U64.size * (1 + at))[0] for at in range(self.count)]


def note_lines(lines: Acknowledged) -> None:
    """From now on: the message whose line is being written when its publisher counts one more is acknowledged."""
    restamped = stream.restamped
    written: list[Message] = []

    def restamp(message: Message) -> Message:
        written[:] = [message]
        return restamped(message)

    def take(self: PublisherBase, sent: int) -> None:
        self.__dict__["sent"] = sent
        for message in written:
            lines.note(message.kind, message.seq)
        lines.count = sent

    stream.restamped = restamp
    stream.FilePublisher.sent = property(lambda self: self.__dict__["sent"], take)  # type: ignore[assignment, misc]


def note_records(records: Acknowledged) -> None:
    """From now on: of what is added to recordings, in this order, as much as their publisher counts is acknowledged."""
    add = RecordingFile.add

    def add_it(self: RecordingFile, entry: Entry) -> None:
        if entry.topic != SETTINGS:  # which are no message
            records.note(entry.topic, entry.sequence)
        add(self, entry)

    def take(self: PublisherBase, sent: int) -> None:
        self.__dict__["sent"] = records.count = sent

    RecordingFile.add = add_it  # type: ignore[method-assign]
    McapPublisher.sent = property(lambda self: self.__dict__["sent"], take)  # type: ignore[assignment, misc]


def named(lost: Counter[int]) -> list[int]:
    """The numbers of messages."""
    return sorted(key & 0xFFFFFFFF for key in lost)


def forked(work: Callable[[], object], log: Path) -> int:
    """Do something in another process, in a session of its own; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        code = int(work() or 0)
    finally:
        os._exit(code)


class Killer:
    """One folder of a robot, and what must hold in it after every kill."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.random = work, random.Random(seed)
        os.environ["HARRIER_HOME"] = str(work / "home")
        self.bundles = [str(null_bundle(work / f"bundle-{n}", 0.3 + n / 10, ballast=200_000)) for n in range(3)]
        self.config = work / "run.toml"
        self.config.write_text(CONFIG.format(work=work, options=RECORDING))
        self.log, self.results = work / "log.txt", work / "results.jsonl"
        self.noted_lines, self.noted_records = Acknowledged(), Acknowledged()
        note_lines(self.noted_lines)
        note_records(self.noted_records)
        self.lines: list[int] = []  # whole ones that must be there for ever
        assert self.waited(forked(lambda: main(["model", "install", self.bundles[0]]), self.log)) == 0

    def waited(self, pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def round(self) -> dict:
        """Kill both at a random moment; return what was acknowledged and what is there."""
        lines, records = self.noted_lines, self.noted_records
        lines.clear()
        records.clear()
        known = set(self.recordings())
        amid = self.random.random() < 0.5  # of writing, else at whatever moment of the start
        alive_s = self.random.uniform(0.0, WRITING_S if amid else STARTING_S)
        run = forked(lambda: main(["run", str(self.config)]), self.log)
        order = self.random.sample(self.bundles, 3)
        installs = forked(lambda: [main(["model", "install", one]) for one in order] and 0, self.log)
        deadline = time.monotonic() + PATIENCE_S
        while amid and not (lines.count and records.count) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(alive_s)
        for pid in self.random.sample([run, installs], 2):
            os.kill(pid, signal.SIGKILL)
            self.waited(pid)
        seen = self.whole_lines()
        before = len(self.lines)
        assert seen[:before] == self.lines, "lines of runs before are there no more"
        lost = Counter(lines.keys) - Counter(seen[before:])
        assert not lost, f"{lines.count} lines were acknowledged, {len(seen) - before} are there, but not {named(lost)}"
        self.lines = seen
        new = [path for path in self.recordings() if path not in known]
        found = [key_of(one.topic, one.sequence) for path in new for one in Recording(path)]
        lost = Counter(records.keys) - Counter(found)
        assert not lost, f"{records.count} records were acknowledged, {len(found)} are there, but not {named(lost)}"
        self.look_at_models()
        if self.random.random() < CUT_SHARE and self.lines:
            os.truncate(self.results, self.results.stat().st_size - self.random.randint(1, 30))
            self.lines = self.whole_lines()
            assert self.lines in (seen, seen[:-1])
        return {"alive_s": round(alive_s, 3), "lines": lines.count, "records": records.count, "found": len(found)}

    def recordings(self) -> list[Path]:
        """All but those that were killed before their first byte."""
        return sorted(path for path in (self.work / "recordings").glob("*.mcap") if path.stat().st_size)

    def whole_lines(self) -> list[int]:
        keys = []
        lines = self.results.read_bytes().split(b"\n") if self.results.exists() else []
        for line in lines:
            try:
                message = decode(line)
            except WireError:
                continue
            keys.append(key_of(message.kind, message.seq))
        return keys

    def look_at_models(self) -> None:
        """Both versions are whole, and one runs."""
        running = slots.current("front")
        assert running is not None
        assert "current" in slots.versions("front").values()
        for version, mark in slots.versions("front").items():
            if not mark:
                continue  # an installation that did not get to its link
            folder = running.parent / version
            manifest = read_manifest(folder / "manifest.toml")
            assert slots.verified(folder) == version
            for target in manifest.targets.values():
                verify_file(folder / target.file, target.sha256)
        slots.on_trial("front")

    def complete(self) -> float:
        """The next start works, finishes what was cut, and ends well; return how many seconds it took."""
        begin = time.monotonic()
        code = self.waited(forked(lambda: main(["run", str(self.config), "--frames", "10"]), self.log))
        took_s = time.monotonic() - begin
        assert code == 0, self.log.read_text()[-3000:]
        for path in self.recordings():
            assert path.read_bytes().endswith(END), path
        seen = self.whole_lines()
        before = len(self.lines)
        assert seen[:before] == self.lines
        assert len(seen) >= before + 10, f"{before} lines before, {len(seen)} after 10 more results"
        self.lines = seen
        for path in self.recordings()[:-1]:
            path.unlink()  # as total_mb would; else every start looks at all of them
        return took_s


def kill(work: Path, seed: int, count: int) -> None:
    killer = Killer(work, seed)
    starts = []
    for number in range(1, count + 1):
        print(json.dumps(killer.round()), flush=True)
        if number % COMPLETE_EVERY == 0 or number == count:
            starts.append(round(killer.complete(), 3))
    code = killer.waited(forked(lambda: main(["model", "install", killer.bundles[1]]), killer.log))
    assert code == 0
    left = [path.name for path in (work / "home/installed/front/versions").iterdir()]
    assert len(left) <= 2, left
    assert "Traceback" not in killer.log.read_text(), killer.log.read_text()[-5000:]
    print(json.dumps({"starts_s": starts, "lines": len(killer.lines)}), flush=True)


if __name__ == "__main__":
    kill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
