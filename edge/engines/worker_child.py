"""The other side of `edge.engines.worker`: the program of the process that runs an engine.

Written in the syntax of Python 3.6 and started by its path, `worker_child.py CHANNEL_FD MEMORY_FD`. With the
parent's own interpreter it runs any engine of `edge`; with another one it loads the folder it lies in as a package of
its own and runs a portable runner (see `portable.py`), importing nothing else of Harrier.

The two sides talk over a stream socket. Every message is a `HEADER` (what, bytes that follow, number of the frame) and
that many bytes of JSON. A start: SETUP (file, options), then TENSORS back, AREAS (where each tensor lies in the shared
memory), READY. A frame: RUN with nothing after it, answered by DONE, FAILED (the engine goes on) or BROKEN (it does
not). The end of the stream ends the process.
"""

import os
import sys

if __name__ == "__main__":  # the folder of this file holds a tensorrt.py that is not the one engines mean
    sys.path[:] = [p for p in sys.path if os.path.realpath(p) != os.path.dirname(os.path.realpath(__file__))]

import importlib
import importlib.util
import json
import mmap
import signal
import socket
import struct

try:
    import ctypes
except ImportError:  # a Python built without libffi: the end of the stream must do
    ctypes = None  # type: ignore[assignment]
try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

__all__ = [
    "AREAS",
    "BROKEN",
    "DONE",
    "FAILED",
    "HEADER",
    "READY",
    "RUN",
    "RUNNERS",
    "SETUP",
    "TENSORS",
    "Failure",
    "main",
    "receive",
    "send",
    "shared_arrays",
]

HEADER = struct.Struct("<IIq")
SETUP, TENSORS, AREAS, READY, RUN, DONE, FAILED, BROKEN = range(8)

RUNNERS = {"tflite": "tflite", "engine": "tensorrt", "plan": "tensorrt"}  # by file suffix
_PACKAGE = "harrier_runners"
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Failure(Exception):
    """What this side itself has to say, in the words of a RunnerError: cause, cure and one of `portable.KINDS`."""

    def __init__(self, cause, cure, kind):
        super(Failure, self).__init__(cause)  # noqa: UP008
        self.cause, self.cure, self.kind = cause, cure, kind


def send(channel, what, number=0, content=None):
    """Send one message; content is anything JSON can carry, None for nothing."""
    body = b"" if content is None else json.dumps(content).encode("utf-8")
    channel.sendall(HEADER.pack(what, len(body), number) + body)


def receive(channel):
    """Return the next message as (what, number, content); what is None at the end of the stream."""
    head = _exactly(channel, HEADER.size)
    if head is None:
        return None, 0, None
    what, size, number = HEADER.unpack(head)
    body = _exactly(channel, size) if size else b""
    return (None, 0, None) if body is None else (what, number, json.loads(body.decode("utf-8")) if body else None)


def shared_arrays(memory, tensors, areas):
    """Return an array for each tensor (as `Tensor` has it) at its place, (first byte, bytes), in the memory."""
    found = []
    for tensor, (start, _) in zip(tensors, areas):  # noqa: B905
        shape, dtype = tensor[1], np.dtype(tensor[2])
        count = int(np.prod(shape, dtype=np.int64))
        found.append(np.frombuffer(memory, dtype, count, start).reshape(shape))
    return found


def main(arguments):
    """Start the engine the parent asks for and run it until the stream ends."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, int(arguments[0]))
    _settle()
    _, _, setup = receive(channel)
    if setup is None:
        return
    try:
        engine = _open(setup)
        inputs, outputs = _described(engine, "input"), _described(engine, "output")
        moving = list(getattr(engine, "moving", ()))
        said = {"inputs": inputs, "outputs": outputs, "moving": moving, "embedded": dict(engine.embedded)}
        send(channel, TENSORS, 0, said)
        _, _, areas = receive(channel)
        if areas is None:
            return
        memory = mmap.mmap(int(arguments[1]), 0)
        _warm_up(engine)
        served = _Served(engine, memory, inputs, outputs, areas, moving)
    except Exception as exc:
        send(channel, FAILED, 0, _explained(exc))
        raise
    send(channel, READY)
    _serve(channel, served)
    engine.close()


class _Served:
    """An engine between shared memory: what it does not use in place is copied, and what it gives is looked at."""

    def __init__(self, engine, memory, inputs, outputs, areas, moving):
        self._engine, self._memory = engine, memory
        self._inputs = shared_arrays(memory, inputs, areas["inputs"])
        self._outputs = shared_arrays(memory, outputs, areas["outputs"])
        self._names = [tensor[0] for tensor in outputs]
        self._areas, self._moving = areas["outputs"], moving
        self._holder = _adopted(engine, self._inputs, self._outputs)

    def run(self):
        """Compute the outputs; returns the shapes of those that move, None where there are none."""
        for mine, shared in zip(self._holder.inputs, self._inputs):  # noqa: B905
            if mine is not shared:
                np.copyto(mine, shared)
        self._engine.run()
        shapes = {}
        for i, shared in enumerate(self._outputs):
            mine = self._holder.outputs[i]
            if i in self._moving:
                shapes[str(i)] = list(mine.shape)
                self._store(i, mine)
            elif mine is not shared:
                self._check(i, mine)
                np.copyto(shared, mine)
        return shapes or None

    def _check(self, i, mine):
        shared = self._outputs[i]
        if mine.shape != shared.shape or mine.dtype != shared.dtype:
            raise Failure(
                f"it gave {list(mine.shape)} of {mine.dtype} as '{self._names[i]}', "
                f"which was {list(shared.shape)} of {shared.dtype}",
                "",
                "lost",
            )

    def _store(self, i, mine):
        start, room = self._areas[i]
        if mine.dtype != self._outputs[i].dtype or mine.ndim != self._outputs[i].ndim:
            self._check(i, mine)
        if mine.nbytes > room:
            raise Failure(
                f"'{self._names[i]}' has {mine.nbytes} bytes, and a worker has room for {room}",
                "bound the number of results in the model",
                "engine",
            )
        np.copyto(np.frombuffer(self._memory, mine.dtype, mine.size, start).reshape(mine.shape), mine)


def _serve(channel, served):
    while True:
        what, number, _ = receive(channel)
        if what is None:
            return
        try:
            shapes = served.run()
        except Exception as exc:
            said = _explained(exc)
            goes_on = said["kind"] == "engine" or said["type"] == "EngineError"
            send(channel, FAILED if goes_on else BROKEN, number, said)
        else:
            send(channel, DONE, number, shapes)


def _warm_up(engine):
    """Do the first run's lazy work, on the engine's own arrays: in the shared ones may be what the last one died of."""
    for array in engine.inputs:
        array[...] = 0
    engine.run()


def _adopted(engine, inputs, outputs):
    """Offer the shared arrays to the engine, or to the runner in it; return which of the two has the arrays in use."""
    for holder in (engine, getattr(engine, "runner", None)):
        if hasattr(holder, "adopt"):
            holder.adopt(inputs, outputs)
            return holder
    return engine


def _open(setup):
    if np is None:
        raise Failure(
            f"the interpreter {sys.executable} has no numpy",
            f"{sys.executable} -m pip install numpy (Debian, Ubuntu, JetPack: apt install python3-numpy)",
            "missing",
        )
    if setup["path"] is None:
        return _open_portable(setup["file"], setup["options"])
    sys.path[:] = setup["path"]
    options = importlib.import_module("msgspec").convert(
        setup["options"], importlib.import_module("edge.config").EngineSection
    )
    file = importlib.import_module("pathlib").Path(setup["file"])
    return importlib.import_module("edge.targets").load_engine(file, options)


def _open_portable(file, options):
    suffix = os.path.splitext(file)[1].lower().lstrip(".")
    if suffix not in RUNNERS:
        raise Failure(
            f"{os.path.basename(file)} cannot be run by another interpreter",
            "leave out python, or use a target whose file ends in ." + ", .".join(sorted(RUNNERS)),
            "config",
        )
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    package = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)  # type: ignore[union-attr]
    return importlib.import_module(_PACKAGE + "." + RUNNERS[suffix]).open_runner(file, options)


def _described(engine, side):
    """The tensors of an engine of Harrier or of a runner, each as `Tensor` has it."""
    portable = getattr(engine, side + "_tensors", None)
    if portable is not None:
        return [[t.name, [int(n) for n in t.shape], np.dtype(t.dtype).name, *t[3:]] for t in portable]
    found = []
    for spec in getattr(engine, side + "_specs"):
        scale, zero = (spec.quantization.scale, spec.quantization.zero_point) if spec.quantization else (None, 0)
        found.append([spec.name, [int(n) for n in spec.shape], spec.dtype.name, spec.layout, scale, zero])
    return found


def _explained(exc):
    """An error in words JSON can carry; kind is None where it is not a RunnerError."""
    name = type(exc).__name__
    if hasattr(exc, "cause") and hasattr(exc, "cure"):
        return {"type": name, "kind": getattr(exc, "kind", None), "cause": exc.cause, "cure": exc.cure}
    return {"type": name, "kind": None, "cause": " ".join(f"it raised {name}: {exc}".split()), "cure": ""}


def _settle():
    """Die with the parent, be the first the kernel ends for want of memory, and leave signals to the parent."""
    for name in (signal.SIGINT, signal.SIGTERM):  # both are sent to all of a service or terminal at once
        signal.signal(name, signal.SIG_IGN)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, b"harrier-engine", 0, 0, 0)
    except (AttributeError, OSError):
        pass
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            adjusted = min(1000, int(file.read()) + 500)
            file.seek(0)
            file.write(str(adjusted))
    except (OSError, ValueError):
        pass


def _exactly(channel, size):
    """The next bytes, or None where the stream ends before."""
    got = channel.recv(size)
    while 0 < len(got) < size:
        more = channel.recv(size - len(got))
        if not more:
            return None
        got += more
    return got or None


if __name__ == "__main__":
    main(sys.argv[1:])
