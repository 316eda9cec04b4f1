"""Models that sleep, leak or do nothing, and a neighbour that keeps a core busy."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench_engines import CLASSIFIER

from edge.bench.command import add_arguments
from edge.registry import PLUGS, Plug


@pytest.fixture
def engine_file(tmp_path, monkeypatch) -> Callable[[str], str]:
    """A model file per engine of bench_engines: sleep2, sleep4 or leak."""

    def make(kind: str) -> str:
        monkeypatch.setitem(PLUGS["engines"], kind, Plug(f"bench_engines:{kind.capitalize()}Engine"))
        path = tmp_path / f"m_{kind}.{kind}"
        path.write_text(CLASSIFIER)
        return str(path)

    return make


@pytest.fixture
def options() -> Callable[..., argparse.Namespace]:
    """The options of a command line, with a small source unless it names another."""

    def parse(*words: str | Path) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        source = [] if "--source" in words else ["--source", "synthetic://?size=64x48&fps=0"]
        return parser.parse_args([*map(str, words), *source])

    return parse


@pytest.fixture
def busy_loop() -> Iterator[None]:
    """A process of somebody else's, and no child of this one, that keeps a core busy for as long as the test takes."""
    loop = "[sys.executable, '-c', 'while True: sum(range(1000))']"
    script = f"import subprocess as s, sys; print(s.Popen({loop}, stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    command = [sys.executable, "-c", script]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)
    yield
    os.kill(pid, signal.SIGKILL)
