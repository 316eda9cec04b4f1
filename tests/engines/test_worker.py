"""The worker: an engine in a process of its own keeps the contract, and whatever happens there does not reach here."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_engine import ORDERS, install
from onnx_models import node, save

from edge.config import EngineSection
from edge.engines.worker import WorkerEngine
from edge.engines.worker_process import WorkerProcess
from edge.errors import AcceleratorError, ConfigError, EngineError, EngineLostError
from edge.targets import load_engine
from edge.testing import check_engine

NULL_FILE = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
dtype = "uint8"
layout = "NHWC"
scale = 0.0078125
zero_point = 128

[[outputs]]
name = "scores"
shape = [1, 10]
fill = 0.25
"""
PATIENCE_S = 30.0

Start = Callable[..., WorkerEngine]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a worker of the engine that goes wrong as told; it is closed in the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    engines: list[WorkerEngine] = []

    def started(file_says: str = "", **options: float) -> WorkerEngine:
        file = install(tmp_path, file_says)
        engines.append(WorkerEngine(file, EngineSection(isolate=True, **{"deadline_ms": 5000, **options})))
        return engines[0]

    yield started
    for engine in engines:
        engine.close()


def tell(engine: WorkerEngine, order: str, value: float = 1.0) -> None:
    """Run one frame."""
    engine.inputs[0][0] = ORDERS.index(order)
    engine.inputs[1][:] = value
    engine.run()


def wait_for(true: Callable[[], object], what: str) -> None:
    """Wait until something is so, for a bounded time."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("kind", ["null", "onnx", "tflite"])
def test_a_worker_keeps_the_contract_and_computes_what_the_engine_does(kind, tmp_path, catalogue):
    file = tmp_path / "model.null"
    file.write_text(NULL_FILE)
    if kind == "onnx":
        shape = [1, 3, 5, 4]
        file = save(
            tmp_path / "model.onnx",
            [node("Add", "x x", "y"), node("Mul", "x x", "z")],
            {"x": shape},
            {"y": shape, "z": shape},
            properties={"task": "detect"},
        )
    elif kind == "tflite":
        file = catalogue("face") / "face_detection_short_range.tflite"
    here, worker = load_engine(file, EngineSection(threads=1)), WorkerEngine(file, EngineSection(threads=1))
    assert (worker.input_specs, worker.output_specs) == (here.input_specs, here.output_specs)
    assert worker.embedded == here.embedded
    random = np.random.default_rng(1)
    for _ in range(3):
        for mine, theirs in zip(here.inputs, worker.inputs, strict=True):
            mine[...] = random.uniform(0, 3, mine.shape).astype(mine.dtype)
            theirs[...] = mine
        outputs = list(worker.outputs)
        here.run()
        worker.run()
        for mine, theirs, before in zip(here.outputs, worker.outputs, outputs, strict=True):
            assert np.array_equal(mine, theirs)
            assert theirs is before
    here.close()
    check_engine(worker)


@pytest.mark.shared
def test_a_worker_keeps_the_contract_on_a_real_model(shared):
    check_engine(WorkerEngine(shared / "models/yolox_nano.onnx", EngineSection(threads=1, deadline_ms=20_000)))


def test_engines_that_can_compute_in_memory_given_to_them(tmp_path):
    (tmp_path / "model.null").write_text(NULL_FILE)
    save(tmp_path / "model.onnx", [node("Add", "x x", "y")], {"x": [2, 3]}, {"y": [2, 3]})
    for name, expected in (("model.null", 0.25), ("model.onnx", 14.0)):
        engine = load_engine(tmp_path / name, EngineSection())
        inputs = [np.full(spec.shape, 9, spec.dtype) for spec in engine.input_specs]
        outputs = [np.full(spec.shape, 9, spec.dtype) for spec in engine.output_specs]
        assert engine.adopt(inputs, outputs)
        assert engine.inputs[0] is inputs[0]
        assert engine.outputs[0] is outputs[0]
        inputs[0][...] = 7
        engine.run()
        assert (outputs[0] == expected).all()
        engine.close()


@pytest.mark.parametrize("engine_of", [load_engine, WorkerEngine])
def test_outputs_whose_number_of_results_is_open(tmp_path, engine_of):
    file = save(
        tmp_path / "open.onnx", [node("NonZero", "x", "y")], {"x": [1, 9]}, {"y": [2, "found"]}, dtypes={"y": 7}
    )
    engine = engine_of(file, EngineSection())
    for columns in ([3], [1, 2, 8], [], list(range(9))):
        engine.inputs[0][...] = 0
        engine.inputs[0][0, columns] = 1
        engine.run()
        assert engine.outputs[0].tolist() == [[0] * len(columns), columns]
    engine.close()


FAULTS = [
    ("exit", r"ended with exit code 3: it is started again"),
    ("abort", r"was ended by SIGABRT; its last words: terminate called: the sky fell"),
    ("kill", r"was ended by SIGKILL \(from outside, or by the kernel for want of memory: see dmesg\): it is started"),
    ("nan", r"gave numbers that are not finite as 'echo'"),
    ("inf", r"gave numbers that are not finite as 'half'"),
    ("shape", r"cannot go on \(it gave \[1, 3\] of float32 as 'echo', which was \[2, 3\] of float32\)"),
    ("dtype", r"cannot go on \(it gave \[2, 3\] of float64 as 'echo', which was \[2, 3\] of float32\)"),
    ("gone", r"cannot go on \(the device fell off the bus\): plug it in"),
    ("defect", r"cannot go on \(it raised ZeroDivisionError: division by zero\)"),
]


@pytest.mark.parametrize(("order", "says"), FAULTS)
def test_what_goes_wrong_is_told_and_the_process_started_again(start, order, says, caplog):
    engine = start()
    tell(engine, "echo", 4.0)
    pid = engine.pid
    with pytest.raises(EngineLostError, match=f"the process of model.faulty {says}") as caught:
        tell(engine, order)
    assert "\n" not in str(caught.value)
    assert engine.lost == caught.value.cause
    assert engine.pid == 0
    with pytest.raises(EngineLostError, match=re.escape(caught.value.cause)):
        engine.run()
    wait_for(lambda: not engine.lost, "the process runs again")
    assert gone(pid)
    tell(engine, "echo", 5.0)
    assert (engine.outputs[0] == 5.0).all()
    assert engine.restarts == 1
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{caught.value.cause}; it is started again",
        "the process of model.faulty runs again",
    ]


@pytest.mark.parametrize("how", ["hang", "stopped"])
def test_a_process_that_does_not_answer_is_ended_at_the_deadline(start, how):
    engine = start(deadline_ms=300)
    pid = engine.pid
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(EngineLostError, match="did not answer within 300 ms"):
        tell(engine, "hang" if how == "hang" else "echo")
    assert time.monotonic() - began >= 0.3
    wait_for(lambda: gone(pid), "the process is gone")
    wait_for(lambda: not engine.lost, "another runs")


def test_memory_is_not_used_again_before_the_process_is_gone(start, tmp_path, monkeypatch):
    """A driver can hold a killed process in the kernel: it may still write, so that no other is started."""
    engine = start(deadline_ms=300)
    held, reap = threading.Event(), WorkerProcess.reap

    def slow_reap(process: WorkerProcess, timeout_s: float) -> bool:
        return held.wait(0.01) and reap(process, timeout_s)

    monkeypatch.setattr(WorkerProcess, "reap", slow_reap)
    with pytest.raises(EngineLostError, match="did not answer"):
        tell(engine, "hang")
    wait_for(lambda: "cannot be ended: a driver holds it in the kernel" in engine.lost, "that is said")
    time.sleep(0.5)
    assert (tmp_path / "model.starts").stat().st_size == 1
    held.set()
    wait_for(lambda: not engine.lost, "another runs")
    tell(engine, "echo", 2.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_between_frames_is_missed_at_the_next(start, number):
    engine = start()
    pid = engine.pid
    os.kill(pid, number)
    wait_for(lambda: gone(pid), "it is dead")
    with pytest.raises(EngineLostError, match=number.name):
        tell(engine, "echo")


def test_an_error_of_the_engine_is_an_error_here_and_the_process_goes_on(start):
    engine = start()
    pid = engine.pid
    with pytest.raises(EngineError, match="these numbers do not suit it: give others") as caught:
        tell(engine, "engine")
    assert type(caught.value) is EngineError
    assert engine.lost == ""
    tell(engine, "echo", 2.0)
    assert engine.pid == pid


def test_no_output_is_that_of_another_frame(start):
    """Whatever is killed, stopped or late at whatever moment: what run() returns is the frame's own."""
    engine = start(deadline_ms=100)
    random = np.random.default_rng(5)
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(random.uniform(0.05, 0.4)):
            pid = engine.pid
            if pid and not gone(pid):
                os.kill(pid, random.choice([signal.SIGKILL, signal.SIGSTOP]))

    disturber = threading.Thread(target=disturb)
    disturber.start()
    good = lost = 0
    end = time.monotonic() + 4
    frame = 0
    while time.monotonic() < end:
        frame += 1
        try:
            tell(engine, "slow" if frame % 50 == 0 else "echo", frame)
        except EngineLostError:
            lost += 1
            time.sleep(0.002)
        else:
            good += 1
            assert (engine.outputs[0] == frame).all()
        assert (engine.inputs[1] == frame).all()
    done.set()
    disturber.join()
    assert good > 10
    assert lost > 1


def test_an_answer_with_the_number_of_another_frame_is_not_taken(start, monkeypatch):
    engine = start()
    process, ask = engine._process, engine._process.ask
    monkeypatch.setattr(process, "ask", lambda number, timeout_ns: ask(number - 1, timeout_ns))
    with pytest.raises(EngineLostError, match="answered for another frame"):
        tell(engine, "echo")
    wait_for(lambda: not engine.lost, "another runs")
    tell(engine, "echo", 2.0)


def test_a_process_that_takes_too_much_memory_is_started_again(start):
    engine = start(memory_mb=250)
    for _ in range(4):
        tell(engine, "leak")

    def looked_at() -> bool:
        try:
            tell(engine, "echo")
        except EngineLostError:
            return True
        return False

    wait_for(looked_at, "its memory is looked at")
    assert re.search(r"took \d+ MB of memory, over memory_mb = 250", engine.lost)
    wait_for(lambda: not engine.lost, "it runs again")
    tell(engine, "echo")


def test_a_limit_below_what_the_engine_needs_to_start_is_explained(start):
    with pytest.raises(ConfigError, match=r"took \d+ MB of memory, over memory_mb = 1, before its first frame"):
        start(memory_mb=1)


def test_what_a_process_prints_is_relayed_and_disturbs_nothing(start, caplog):
    engine = start()
    with caplog.at_level(logging.DEBUG, "harrier"):
        tell(engine, "print", 6.0)
        assert (engine.outputs[0] == 6.0).all()
        wait_for(lambda: "model.faulty: to standard error" in caplog.messages, "the line is in the log")
    assert any(line.startswith("model.faulty: to standard output to standard") for line in caplog.messages)


def test_a_process_leaves_ctrl_c_to_its_parent_and_is_the_first_to_go(start):
    engine = start()
    tell(engine, "signals", 3.0)
    assert (engine.outputs[0] == 3.0).all()
    assert os.getsid(engine.pid) == engine.pid
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{engine.pid}/oom_score_adj").read_text()) == min(1000, own + 500)


def test_a_start_that_fails_is_tried_again_and_again(start):
    engine = start("2:abort 3:other")
    tell(engine, "echo")
    with pytest.raises(EngineLostError, match="exit code 3"):
        tell(engine, "exit")
    wait_for(lambda: "could not be started again" in engine.lost, "the second start fails")
    assert "SIGABRT; its last words: no such weather" in engine.lost
    wait_for(lambda: "has other tensors than before" in engine.lost, "the third start, too")
    wait_for(lambda: not engine.lost, "the fourth start succeeds")
    tell(engine, "echo", 8.0)
    assert (engine.outputs[0] == 8.0).all()


@pytest.mark.parametrize(("says", "error"), [("1:hang", "did not start within 0.5 s"), ("1:abort", "SIGABRT")])
def test_a_first_start_that_fails_is_an_error_and_leaves_nothing(start, says, error):
    before = memory_files(), threading.active_count()
    with pytest.raises(EngineLostError, match=error):
        start(says, start_s=0.5 if "hang" in says else 60.0)
    assert (memory_files(), threading.active_count()) == before


def test_a_first_start_raises_what_the_engine_says(tmp_path):
    (tmp_path / "text.tflite").write_text("just some text, no model at all")
    with pytest.raises(EngineError, match="is not a TensorFlow Lite model: give a .tflite file"):
        WorkerEngine(tmp_path / "text.tflite", EngineSection())
    with pytest.raises(EngineError, match="no model file an engine knows"):
        WorkerEngine(tmp_path / "model.txt", EngineSection())
    save(tmp_path / "model.onnx", [node("Add", "x x", "y")], {"x": [2, 3]}, {"y": [2, 3]})
    with pytest.raises(ConfigError, match="did you mean 'CPUExecutionProvider'"):
        WorkerEngine(tmp_path / "model.onnx", EngineSection(providers=["CPUExecutionProvidr"]))


@pytest.mark.shared
def test_a_missing_accelerator_is_explained_as_it_is_in_this_process(shared):
    with pytest.raises(AcceleratorError, match="compiled for the Edge TPU"):
        WorkerEngine(shared / "models/mobilenet_v1_0.25_128_quant_edgetpu.tflite", EngineSection())


def memory_files() -> int:
    """How many shared memories this process holds open."""
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return sum("memfd:harrier-engine" in link for link in links)


def test_closing_leaves_nothing_and_may_come_at_any_time(start):
    before = memory_files()
    engine = start()
    pid, output = engine.pid, engine.outputs[0]
    tell(engine, "echo", 3.0)
    assert memory_files() > before
    with pytest.raises(EngineLostError):
        tell(engine, "kill")
    engine.close()  # while it is being started again
    assert gone(pid)
    assert output.shape == (2, 3)  # a view outlives the engine, and so does its memory
    del output
    assert memory_files() == before
    with pytest.raises(EngineLostError, match="is closed"):
        engine.run()


PARENT = """
import sys, time
from pathlib import Path
from edge.config import EngineSection
from edge.engines.worker import WorkerEngine
engine = WorkerEngine(Path(sys.argv[1]), EngineSection())
print(engine.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_dies_with_its_parent(tmp_path, stopped):
    (tmp_path / "model.null").write_text(NULL_FILE)
    command = [sys.executable, "-c", PARENT, str(tmp_path / "model.null")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        if stopped:  # deaf to the end of its channel; only the kernel can end it
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    wait_for(lambda: gone(pid), "it has died with its parent")
