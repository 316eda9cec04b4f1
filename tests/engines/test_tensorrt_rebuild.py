"""Engines that are built again on the board: the real `harrier build` in a process, over a stand-in for JetPack 4's
`trtexec`; read-only bundles, failures that are remembered, too little memory, Ctrl-C, crashes.
"""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge import rebuild
from edge.config import EngineSection
from edge.engine_needs import Board
from edge.errors import AcceleratorError
from edge.manifest import read_manifest
from edge.rebuild import fit_target

ROOT = Path(__file__).resolve().parents[2]
NANO = Board("5.3", {"tensorrt": "8.2.1.8"}, "32.7.1", platform.machine())
AUTO, NEVER = EngineSection(rebuild="auto"), EngineSection()
OPTIONS = "--onnx --saveEngine --fp16 --int8 --timingCacheFile --workspace --buildOnly"
TOOL = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # $0 $*"
[ "$1" = --help ] && {{ echo "{options}"; exit 0; }}
echo "$$ $*" >> {log}
for argument in "$@"; do
  case "$argument" in
    --saveEngine=*) out="${{argument#*=}}" ;;
    --onnx=*) onnx="${{argument#*=}}" ;;
  esac
done
{work}
"""
BUILDS = 'cp "$onnx" "$out"'
FAILS = 'echo half > "$out"; echo "[01/01/2024-10:00:00] [E] Error[2]: Error Code 2: out of luck"; exit 1'
LINGERS = 'echo half > "$out"; while :; do sleep 0.05; done'
KILLED = 'kill -9 "$PPID"; sleep 30'
SITE = """
import sys
for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_libs"):
    sys.modules[name] = None  # not installed, as in Harrier's own Python on JetPack 4
import edge.board, edge.engines.driver
edge.board._TRTEXEC = {tool!r}
edge.engines.driver.gpu_capability = lambda device=0: "5.3"
"""


LEAVES = """
import os, sys, threading, time
from pathlib import Path
from edge.build_process import run_build
log = Path(sys.argv[1])
command = [sys.executable, "-m", "edge", "build", str(log.parent / "bundle"), "--on-device", "--precision", "fp16"]
lock = os.open(os.devnull, os.O_RDONLY)
threading.Thread(target=run_build, args=(command, lock), daemon=True).start()
deadline = time.monotonic() + 30
while not log.exists() and time.monotonic() < deadline:
    time.sleep(0.02)
"""


class BoardWithBundle:
    """A Jetson Nano's files, a bundle with an engine of another board in it, and the stand-in builder."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bundle, self.state = folder / "root", folder / "bundle", folder / "state"
        self.log, self.tool = folder / "builds", folder / "trtexec"
        self.bundle.mkdir()
        (self.bundle / "model.onnx").write_text("the network")
        (self.bundle / "old.engine").write_text("plan")
        (self.bundle / "manifest.toml").write_text(
            'name = "n"\n[targets.tensorrt-fp16]\nfile = "old.engine"\noutputs = { raw = "out" }\n'
            'needs = { tensorrt = "8.5.2", flavour = "tensorrt", sm = "8.7" }\n'
            '[targets.onnx-fp32]\nfile = "model.onnx"\noutputs = { raw = "out" }\n'
            '[input]\n[decoder]\nfamily = "yolox"\n'
        )
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/nv_tegra_release").write_text("# R32 (release), REVISION: 7.1, GCID: 1\n")
        self.remember_memory(available_mib=2600, swap_mib=2000)
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(tool=str(self.tool)))
        self.python_path = f"{site}:{ROOT}"
        self.builder(BUILDS)

    def remember_memory(self, available_mib: int, swap_mib: int) -> None:
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc/meminfo").write_text(
            f"MemTotal: {3964 << 10} kB\nMemAvailable: {available_mib << 10} kB\nSwapFree: {swap_mib << 10} kB\n"
        )

    def builder(self, work: str) -> None:
        self.tool.write_text(TOOL.format(options=OPTIONS, log=self.log, work=work))
        self.tool.chmod(0o755)

    @property
    def builds(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def fit(self, options: EngineSection = AUTO):
        return fit_target(
            "tensorrt-fp16", read_manifest(self.bundle / "manifest.toml"), self.bundle, options, self.root
        )


@pytest.fixture
def nano(tmp_path, monkeypatch):
    made = BoardWithBundle(tmp_path)
    monkeypatch.setattr(rebuild, "board_for", lambda options, root: NANO)
    monkeypatch.setenv("PYTHONPATH", made.python_path)
    monkeypatch.setenv("STATE_DIRECTORY", f"{made.state}:{tmp_path / 'second'}")
    return made


@pytest.fixture
def read_only(nano, monkeypatch):
    """The bundle is on a file system nobody may write; the suite may run as root, whom no mode bits stop."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != nano.bundle and real(path, mode))
    return nano


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_engine_of_another_board_is_built_again_once(nano, capfd):
    target, folder = nano.fit()
    assert folder == nano.bundle
    assert (folder / target.file).read_text() == "the network"
    assert (target.needs["tensorrt"], target.needs["sm"]) == ("8.2.1", "5.3")
    assert target.outputs == {"raw": "out"}
    (line,) = nano.builds
    assert "--fp16" in line
    assert "--workspace=256" in line  # of a board with 4 GB
    assert f"--timingCacheFile={nano.bundle / 'tensorrt.timings'}" in line
    said = capfd.readouterr()
    assert "tensorrt-fp16" in said.err
    assert said.out == ""  # where messages may go
    assert nano.fit(NEVER) == (target, folder)
    assert len(nano.builds) == 1
    assert not [name for name in files(nano.bundle) if "partial" in name or "build.json" in name]


def test_it_is_built_only_where_that_was_asked_for(nano):
    with pytest.raises(
        AcceleratorError, match=r"built by TensorRT 8\.5\.2 for sm 8\.7; here are 8\.2\.1\.8 and 5\.3.*rebuild = "
    ):
        nano.fit(NEVER)
    manifest = read_manifest(nano.bundle / "manifest.toml")
    manifest.targets["by-hand"] = manifest.targets["tensorrt-fp16"]
    with pytest.raises(AcceleratorError, match="harrier build BUNDLE --on-device"):
        fit_target("by-hand", manifest, nano.bundle, AUTO, nano.root)
    assert not nano.builds


def test_a_missing_engine_is_built(nano):
    (nano.bundle / "old.engine").unlink()
    target, folder = nano.fit()
    assert (folder / target.file).is_file()


def test_an_engine_older_than_its_onnx_is_built_again(nano):
    nano.fit()
    (nano.bundle / "model.onnx").write_text("another network")
    target, folder = nano.fit()
    assert (folder / target.file).read_text() == "another network"
    assert len(nano.builds) == 2


def test_a_read_only_bundle_is_built_elsewhere_and_found_there(read_only):
    before = files(read_only.bundle)
    target, folder = read_only.fit()
    assert files(read_only.bundle) == before
    assert folder.parent == read_only.state / "engines"
    assert (folder / target.file).read_text() == "the network"
    assert (folder / "model.onnx").is_symlink()
    assert read_only.fit() == read_only.fit(NEVER) == (target, folder)
    assert len(read_only.builds) == 1


def test_without_systemd_harriers_own_folder_is_used(read_only, monkeypatch, tmp_path):
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))
    _, folder = read_only.fit()
    assert folder.parent == tmp_path / "home/engines"


def test_where_nothing_can_be_written_nothing_is_built(read_only):
    read_only.state.write_text("a file in the way")
    with pytest.raises(AcceleratorError, match="can be built neither in .*bundle nor in .*state.*StateDirectory="):
        read_only.fit()
    assert not read_only.builds


def test_a_failed_build_is_not_tried_at_each_start(nano, monkeypatch):
    nano.builder(FAILS)
    with pytest.raises(
        AcceleratorError, match=r"here are 8\.2.*building it here failed \(trtexec.*out of luck"
    ) as caught:
        nano.fit()
    record = nano.bundle / ".tensorrt-fp16.build.json"
    assert str(record) in caught.value.cure
    assert "old.engine" in files(nano.bundle)  # what was there stays
    nano.builder(BUILDS)
    with pytest.raises(AcceleratorError, match="out of luck"):
        nano.fit()
    assert len(nano.builds) == 1
    record.unlink()
    nano.fit()
    assert len(nano.builds) == 2


def test_another_tensorrt_is_another_try(nano, monkeypatch):
    nano.builder(FAILS)
    with pytest.raises(AcceleratorError, match="out of luck"):
        nano.fit()
    nano.builder(BUILDS)
    newer = Board("5.3", {"tensorrt": "8.2.1.9"}, "32.7.1", platform.machine())
    monkeypatch.setattr(rebuild, "board_for", lambda options, root: newer)
    nano.fit()
    assert not (nano.bundle / ".tensorrt-fp16.build.json").exists()


def test_what_was_built_must_fit_too(nano, monkeypatch):
    """Harrier's own Python and the one that runs the engine may have different releases."""
    other = Board("5.3", {"tensorrt": "10.3.0"}, None, platform.machine())
    monkeypatch.setattr(rebuild, "board_for", lambda options, root: other)
    for _ in range(2):
        with pytest.raises(AcceleratorError, match=r"what was built does not fit: .* built by TensorRT 8\.2\.1 for sm"):
            nano.fit()
    assert len(nano.builds) == 1


def test_a_builder_that_is_killed_is_no_crash_of_ours(nano):
    nano.builder(KILLED)
    with pytest.raises(AcceleratorError, match="the builder was killed: most likely there was too little memory"):
        nano.fit()
    assert_gone(int(nano.builds[0].split()[0]))


def test_a_build_that_never_ends_is_tried_twice_at_most(nano):
    nano.builder(FAILS)
    with pytest.raises(AcceleratorError):
        nano.fit()
    record = nano.bundle / ".tensorrt-fp16.build.json"
    known = json.loads(record.read_text())
    assert known["begun"] == 1
    record.write_text(json.dumps({**known, "reason": "", "begun": 2}))  # as after two power cuts
    with pytest.raises(AcceleratorError, match="2 builds were begun and had no end"):
        nano.fit()
    record.write_text(json.dumps({**known, "reason": "", "begun": 1}))
    nano.builder(BUILDS)
    nano.fit()
    record.write_text("torn")
    (nano.bundle / "model.onnx").write_text("another")
    nano.fit()
    assert len(nano.builds) == 3


def test_too_little_memory_is_refused_before_it_hurts(nano):
    nano.remember_memory(available_mib=900, swap_mib=100)
    with pytest.raises(
        AcceleratorError, match=r"takes roughly 1756 MiB of memory; 900 MiB are free, and 100 MiB of swap.*add swap"
    ):
        nano.fit()
    assert not nano.builds
    nano.remember_memory(available_mib=900, swap_mib=1000)
    nano.fit()
    assert len(nano.builds) == 1


def test_ctrl_c_ends_the_builder_and_leaves_no_trace(nano):
    nano.builder(LINGERS)
    before = files(nano.bundle)

    def press() -> None:
        deadline = time.monotonic() + 30
        while not nano.builds and time.monotonic() < deadline:
            time.sleep(0.02)
        if nano.builds:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    # a shell in the background lets its commands ignore Ctrl-C
    before_int = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            nano.fit()
        thread.join(30)
    finally:
        signal.signal(signal.SIGINT, before_int)
    assert set(files(nano.bundle)) - set(before) <= {".building", "tensorrt.timings"}
    assert_gone(int(nano.builds[0].split()[0]))


def test_a_builder_that_somebody_stops_is_no_failure(nano):
    nano.builder('kill -TERM "$PPID"; sleep 30')
    with pytest.raises(AcceleratorError, match="here are 8.2.1.8 and 5.3, and the build was stopped: start again"):
        nano.fit()
    assert not (nano.bundle / ".tensorrt-fp16.build.json").exists()
    assert_gone(int(nano.builds[0].split()[0]))


def test_the_builder_does_not_outlive_the_run(nano):
    nano.builder(LINGERS)
    run = subprocess.run([sys.executable, "-c", LEAVES, str(nano.log)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert_gone(int(nano.builds[0].split()[0]))


def test_a_second_run_waits_and_finds_the_first_ones_engine(nano):
    _, folder = nano.fit()
    built = (folder / "manifest.toml").read_bytes()
    old = read_manifest(folder / "manifest.toml")
    old.targets["tensorrt-fp16"] = old.targets["tensorrt-fp16-sm87"]
    (folder / "manifest.toml").write_text((folder / "manifest.toml").read_text().replace('sm = "5.3"', 'sm = "8.7"'))
    results = []
    with (folder / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(
            target=lambda: results.append(fit_target("tensorrt-fp16", old, folder, AUTO, nano.root))
        )
        thread.start()
        thread.join(0.3)
        assert not results
        (folder / "manifest.toml").write_bytes(built)
    thread.join(30)
    assert results[0][0].needs["sm"] == "5.3"
    assert len(nano.builds) == 1


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":  # nobody waits for an orphan in a container without an init
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs on {sys.platform}")
