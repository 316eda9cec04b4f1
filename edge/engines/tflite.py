"""The runner of .tflite files, on the CPU or, if compiled for it, on a Coral Edge TPU; in the board's own Python, too.

It takes the interpreter that is installed: ai-edge-litert, then tflite-runtime, then TensorFlow's own.
"""

import os
import sys

import numpy as np

from .edgetpu_delegate import explain, loss, open_tpu
from .portable import RunnerError, Tensor
from .tflite_ops import EDGE_TPU_OP, read_ops

_broken = ""
try:
    import ai_edge_litert.interpreter as _library
except ImportError as _exc:
    _broken = "" if isinstance(_exc, ModuleNotFoundError) else f"ai-edge-litert cannot be loaded ({_exc})"
    try:
        import tflite_runtime.interpreter as _library
    except ImportError as _exc:
        if not isinstance(_exc, ModuleNotFoundError):
            _broken = _broken or f"tflite-runtime cannot be loaded ({_exc})"
        try:
            from tensorflow import lite as _library
        except ImportError:
            _library = None

__all__ = ["interpreter_missing", "open_runner"]


def interpreter_missing() -> "RunnerError | None":
    """Return what is to be done where no interpreter can be loaded, None where one was."""
    if _library is not None:
        return None
    if _broken:
        return RunnerError(_broken, "pip install 'numpy<2' for tflite-runtime, or a wheel for this system", "missing")
    package = "ai-edge-litert" if sys.version_info >= (3, 10) else "tflite-runtime"
    pip = "pip" if __name__.startswith("edge.") else sys.executable + " -m pip"  # elsewhere that is another Python's
    return RunnerError("no TensorFlow Lite interpreter is installed", pip + " install " + package, "missing")


def open_runner(path, options):  # type: ignore[no-untyped-def]
    """Return the runner of a .tflite file (see `edge.engines.adapted.Runner`).

    options: threads, None for all cores up to 4; device, which Edge TPU runs a file compiled for it, "" for any.

    Raises: RunnerError.
    """
    missing = interpreter_missing()
    if missing is not None:
        raise missing
    return _Runner(path, options)


class _Runner:
    def __init__(self, path: str, options: dict) -> None:
        self._tpu = None
        ops = read_ops(path)
        self._interpreter = self._load(path, ops, options)
        details = self._interpreter.get_input_details()
        self.input_tensors = [_tensor(detail, len(detail["shape"]) == 4) for detail in details]
        self.inputs = [_pinned(self._interpreter, detail["index"]) for detail in details]
        for array in self.inputs:
            array[...] = 0  # the interpreter leaves whatever was in that memory
        self._invoke()  # XNNPACK packs weights in the first run, and dynamic outputs get their shape
        details = self._interpreter.get_output_details()
        self.output_tensors = [_tensor(detail, False) for detail in details]
        self.outputs = [_pinned(self._interpreter, detail["index"]) for detail in details]
        # Outputs in memory that the interpreter may move at each run: those behind a custom operator
        # (TFLite_Detection_PostProcess allocates its outputs as it runs) or with an open dimension.
        moves = [bool(ops.custom) or -1 in detail.get("shape_signature", ()) for detail in details]
        self.moving = [i for i, moved in enumerate(moves) if moved]
        self._readers = [(i, self._interpreter.tensor(details[i]["index"])) for i in self.moving]
        for i, reader in self._readers:
            self.outputs[i] = reader().copy()
        self.embedded = {}  # type: dict[str, str]

    def run(self) -> None:
        """Invoke the interpreter.

        Raises: RunnerError.
        """
        self._invoke()
        for i, reader in self._readers:
            value = reader()
            if value.shape == self.outputs[i].shape:
                self.outputs[i][...] = value
            else:
                self.outputs[i] = value.copy()
            del value  # the next run refuses while it lives

    def close(self) -> None:
        """Release the interpreter, and with it the Edge TPU, as soon as nobody looks into its memory any more."""
        self.inputs, self.outputs, self._readers = [], [], []
        self._interpreter = self._tpu = None

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            raise (self._tpu and loss(self._tpu, str(exc))) or RunnerError(
                f"the model failed while running ({exc})", "convert it again or use another target"
            ) from exc

    def _load(self, path, ops, options):  # type: ignore[no-untyped-def]
        if not os.path.isfile(path):
            raise RunnerError(f"no model file {path}", "check the path")
        name = os.path.basename(path)
        delegates = None
        if EDGE_TPU_OP in ops.custom:
            self._tpu = _open_tpu(name, ops, options)
            delegates = [self._tpu.delegate]
        try:
            interpreter = _library.Interpreter(
                model_path=path,
                num_threads=options.get("threads") or min(4, os.cpu_count() or 1),
                experimental_delegates=delegates,
            )
            interpreter.allocate_tensors()
        except SystemError as exc:  # what tflite-runtime makes of an array of another numpy
            cause = f"{_library.__name__} does not fit numpy {np.__version__}"
            raise RunnerError(cause, "pip install 'numpy<2'", "missing") from exc
        except (RuntimeError, ValueError, OSError) as exc:
            raise _load_error(path, ops, self._tpu, exc) from exc
        if not interpreter.get_input_details():
            raise RunnerError(f"{name} has no input", "export the model with its input")
        return interpreter


class _Pinned:
    """Lends a tensor's memory to numpy and keeps the interpreter alive as long as any view of it lives.

    `Interpreter.invoke` refuses to run while views made by `tensor()` exist; a view made of the same address does
    not count, and the address holds from `allocate_tensors` on for tensors of fixed shape.
    """

    def __init__(self, interpreter, index):  # type: ignore[no-untyped-def]
        self.interpreter = interpreter
        self.__array_interface__ = dict(interpreter.tensor(index)().__array_interface__)


def _pinned(interpreter, index):  # type: ignore[no-untyped-def]
    return np.asarray(_Pinned(interpreter, index))


def _open_tpu(name, ops, options):  # type: ignore[no-untyped-def]
    load_delegate = getattr(_library, "load_delegate", None)  # TensorFlow has it one floor down
    load_delegate = load_delegate or getattr(getattr(_library, "experimental", None), "load_delegate", None)
    try:
        if load_delegate is None:
            raise RunnerError("this interpreter loads no delegates", "pip install ai-edge-litert", "missing")
        return open_tpu(load_delegate, options.get("device") or "", ops.edgetpu_runtime)
    except RunnerError as exc:
        raise _on_tpu(name, exc) from exc


def _on_tpu(name, error):  # type: ignore[no-untyped-def]
    cure = error.cure + "; on the CPU the uncompiled .tflite file runs"
    return RunnerError(f"{name} is compiled for the Edge TPU, and {error.cause}", cure, error.kind)


def _load_error(path, ops, tpu, exc):  # type: ignore[no-untyped-def]
    """What is to be done; a function, as an exception that a frame of the loading knows would keep the TPU."""
    name, said = os.path.basename(path), _first_sentence(exc)
    found = tpu and (explain(str(exc)) or loss(tpu, str(exc)))
    if found:
        return _on_tpu(name, found)
    if "unresolved custom op" in str(exc):
        return RunnerError(
            f"{name} uses custom operators the runtime lacks ({', '.join(ops.custom) or said})",
            "convert it again with built-in operators only",
        )
    with open(path, "rb") as file:
        head = file.read(8)
    if head[4:8] != b"TFL3":
        return RunnerError(f"{name} is not a TensorFlow Lite model", "give a .tflite file")
    if "valid Flatbuffer" in said:
        return RunnerError(f"{name} is damaged or cut short", "copy or convert it again")
    return RunnerError(f"cannot load {name} ({said})", "convert it again or update the interpreter")


def _first_sentence(exc):  # type: ignore[no-untyped-def]
    return str(exc).partition(". ")[0].partition("\n")[0]


def _tensor(detail, is_image):  # type: ignore[no-untyped-def]
    shape = [int(n) for n in detail["shape"]]
    scale, zero_point = detail["quantization"]
    layout = None
    if is_image:
        layout = "NCHW" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "NHWC"
    real = float(scale) if scale else None
    return Tensor(detail["name"], shape, np.dtype(detail["dtype"]).name, layout, real, int(zero_point))
