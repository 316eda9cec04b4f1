"""An engine of another distribution that goes wrong as it is told, by its file when it starts, by its input later."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from edge.errors import EngineError, EngineLostError
from edge.tensor import TensorSpec

ORDERS = ["echo", "hang", "exit", "abort", "kill", "nan", "inf", "shape", "dtype"]
ORDERS += ["leak", "print", "engine", "gone", "defect", "slow", "signals"]


class FaultyEngine:
    """Input "order": a number of `ORDERS`; input "value" comes back as output "echo"."""

    lost = ""
    embedded = {"made by": "test"}  # noqa: RUF012

    def __init__(self, path, options):
        with path.with_suffix(".starts").open("a") as file:
            file.write(".")
        start = path.with_suffix(".starts").stat().st_size
        if f"{start}:abort" in path.read_text():
            print("no such weather", file=sys.stderr)
            os.abort()
        if f"{start}:hang" in path.read_text():
            time.sleep(600)
        print("what is said at the start tells nothing of the end")
        rows = 3 if f"{start}:other" in path.read_text() else 2
        self.input_specs = [TensorSpec("order", (1,), np.dtype("int64")), TensorSpec("value", (2, 3), np.dtype("f4"))]
        self.output_specs = [TensorSpec("echo", (rows, 3), np.dtype("f4")), TensorSpec("half", (2, 3), np.dtype("f2"))]
        self.inputs = [np.zeros(spec.shape, spec.dtype) for spec in self.input_specs]
        self.outputs = [np.zeros(spec.shape, spec.dtype) for spec in self.output_specs]
        self.hoard = []

    def run(self):
        getattr(self, ORDERS[self.inputs[0][0]])()

    def close(self):
        self.inputs, self.outputs = [], []

    def echo(self):
        self.outputs[0][:2] = self.inputs[1]
        self.outputs[1][:] = 0

    def hang(self):
        time.sleep(600)

    def exit(self):
        os._exit(3)

    def abort(self):
        print("terminate called: the sky fell", file=sys.stderr)
        os.abort()

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def nan(self):
        self.echo()
        self.outputs[0][1, 1] = np.nan

    def inf(self):
        self.echo()
        self.outputs[1][1, 2] = -np.inf

    def shape(self):
        self.outputs[0] = np.zeros((1, 3), np.float32)

    def dtype(self):
        self.outputs[0] = np.zeros((2, 3), np.float64)

    def leak(self):
        self.hoard.append(np.ones(60_000_000, np.uint8))
        self.echo()

    def print(self):
        print("to standard output " * 20_000)
        print("to standard error", file=sys.stderr)
        self.echo()

    def engine(self):
        raise EngineError("these numbers do not suit it", "give others")

    def gone(self):
        raise EngineLostError("the device fell off the bus", "plug it in")

    def defect(self):
        raise ZeroDivisionError("division by zero")

    def slow(self):
        value = self.inputs[1].copy()
        time.sleep(0.15)
        self.outputs[0][:2] = value

    def signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        self.echo()


def install(folder: Path, file_says: str = "") -> Path:
    """Install this engine as a distribution in a folder, and return a model file for it."""
    (folder / "faulty_engine.py").write_text(Path(__file__).read_text())
    info = folder / "faulty-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edge.engines]\nfaulty = faulty_engine:FaultyEngine\n")
    (folder / "model.faulty").write_text(file_says)
    return folder / "model.faulty"
