"""Engines that crash, hang or take all memory, with and without another one to take over."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import leaking_engine
import pytest
from broken_runs import Camera, Reader, Run, null_bundle, running, wait_for

CONFIG = """
model = "{model}"
source = "{source}"
publish = ["tcp://127.0.0.1:0"]
[engine]
target = "first"
isolate = true
deadline_ms = 200
retry_s = 0.5
{extra}
"""


def config_of(folder: Path, fallback: bool) -> str:
    extra = 'fallback = ["second"]' if fallback else ""
    model = null_bundle(folder / "bundle", 0.8)
    return CONFIG.format(model=model, source=Camera(folder).uri(), extra=extra)


def longest_gap_s(begin_s: float, results: list) -> float:
    times = [begin_s, *(t for t, _ in results)]
    return max(b - a for a, b in itertools.pairwise(times))


def wait_for_engine(run: Run, other_than: int = 0) -> int:
    wait_for(lambda: run.engine_pid() not in (0, other_than), "the engine's process")
    return run.engine_pid()


@pytest.mark.parametrize("fallback", [False, True], ids=["alone", "with a fallback"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_an_engine_that_dies_or_hangs_is_replaced(tmp_path, measured, number, fallback):
    """Promise: one frame is late by deadline_ms; a fallback runs it, else it is lost and results wait for a start.

    Whichever target runs, what it says is its own: the second gives half the score.
    """
    with running(tmp_path, config_of(tmp_path, fallback)) as run, Reader(run.address) as reader:
        reader.result(lambda message: not message.flags)
        pid = wait_for_engine(run)
        begin_s = time.monotonic()
        os.kill(pid, number)
        results = reader.results(1.5)
        reader.result(lambda message: not message.flags and message.t_capture_local_ns > time.monotonic_ns() - 1e9)
        assert wait_for_engine(run, pid)
        results += reader.results(0.1)
        assert all(
            message.classes[0].score == pytest.approx(0.4 if "fallback" in message.flags else 0.8, abs=0.01)
            for _, message in results
        )
        flags = {flag for _, message in results for flag in message.flags}
        assert flags <= {"degraded", "fallback", "stale"}
        assert ("fallback" in flags) == fallback
        measured(longest_gap_s=longest_gap_s(begin_s, results))


def test_an_engine_that_takes_more_and_more_memory_is_started_again_and_the_loop_stays(tmp_path, measured):
    """Promise: over memory_mb the engine's process goes, looked at once a second; the loop does not grow."""
    leaking_engine.install(tmp_path)
    config = config_of(tmp_path, False).replace('target = "first"', "memory_mb = 250")
    bundle = tmp_path / "bundle"
    (bundle / "model.leaking").write_text((bundle / "first.null").read_text())
    targets = '[targets.leaking]\nfile = "model.leaking"\noutputs = { scores = "s" }\n'
    manifest = bundle / "manifest.toml"
    manifest.write_text(re.sub(r"\[targets.*(?=\[input])", targets, manifest.read_text(), flags=re.DOTALL))
    with running(tmp_path, config) as run, Reader(run.address) as reader:
        reader.result()
        before_mb = rss_mb(run.process.pid)
        pid = wait_for_engine(run)
        run.says("over memory_mb = 250; it is started again")
        run.says("runs again")
        assert wait_for_engine(run, pid)
        results = reader.results(0.5)
        assert results
        grown_mb = rss_mb(run.process.pid) - before_mb
        measured(took_mb=int(re.search(r"took (\d+) MB", run.log)[1]), loop_grew_mb=grown_mb)
        assert grown_mb < 60


def rss_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024 / 1e6
