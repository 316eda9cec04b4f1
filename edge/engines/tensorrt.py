"""Serialized TensorRT engines, on every release from 8.2 to 11 and TensorRT-RTX. Portable: Python 3.6.

Method: page-locked buffers, one stream, one CUDA graph of upload, inference and download, as NVIDIA's guide to
TensorRT's performance advises for small models, whose cost is in the launches.
"""

import logging
import threading

import numpy as np

from .cuda import open_cuda
from .driver import driver_problem
from .portable import RunnerError, Tensor
from .tensorrt_load import load_plan, read_plan
from .tensorrt_tensors import output_catcher, tensors_of
from .tensorrt_words import FOREIGN, explained, first_error

__all__ = ["TensorRtRunner", "open_runner"]

_LOG = logging.getLogger("harrier")
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def open_runner(path, options):
    """Return the runner of an engine file; options: "device", the GPU by number.

    Raises: RunnerError.
    """
    plan = read_plan(path)
    wanted = str(options.get("device") or "0")
    if not wanted.isdecimal() or len(wanted) > 4:
        raise RunnerError(f"'{wanted}' is no CUDA device", "give its number, as in device = '0'", "config")
    problem = driver_problem(int(wanted))
    if problem:
        cure = "run this where the GPU and its driver are; a Jetson has them with JetPack"
        raise RunnerError(f"there is no GPU {wanted} to run {plan.name} ({problem})", cure, "accelerator")
    cuda = open_cuda(int(wanted))
    try:
        loaded = load_plan(plan)
    except BaseException:
        cuda.close()
        raise
    return TensorRtRunner(cuda, loaded, plan.embedded)


class TensorRtRunner:
    """Runs one engine; see `Runner` in adapted.py. The tensors are those of batch 1 and the profile's best size.

    cuda, stream, input_pointer: for a kernel that fills the first input on the GPU, before `run()`, on this stream,
    with `skip_upload` set to True. graph: whether a run is one launch of a CUDA graph. moving: the numbers of the
    outputs whose shape may change. library: "TensorRT 10.3.0".
    """

    def __init__(self, cuda, loaded, embedded):
        self.cuda, self.embedded, self.library = cuda, embedded, loaded.library
        self.inputs, self.outputs = [], []
        self.input_tensors, self.output_tensors = [], []
        self._loaded, self._name = loaded, loaded.name
        self._thread = threading.get_ident()
        self._context = self._tensors = self._graph = None
        self.skip_upload, self._captured_for = False, None
        self._shapes, self._catchers, self._pointers, self._registered = {}, {}, [], []
        self.moving = []
        try:
            self.stream = cuda.stream()
            self._open()
            self._launch()  # TensorRT loads kernels in the first run, and wants one before a capture
            self.run()
        except FOREIGN as exc:
            error = self._explained(str(exc))
            self.close()
            raise error from exc
        except BaseException:
            self.close()
            raise
        for line in dict.fromkeys(loaded.logger.warnings):
            _LOG.warning("%s: %s", self.library, first_error([line]))

    @property
    def graph(self):
        """Whether a run is one launch of a CUDA graph."""
        return self._graph is not None

    def adopt(self, inputs, outputs):
        """Use these arrays, of the tensors' shapes and dtypes, from now on; `moving` outputs stay. Returns True."""
        fixed = {i: array for i, array in enumerate(outputs) if i not in self._catchers}
        given = [*inputs, *fixed.values()]
        for array in given:  # where it cannot be page-locked, copies are slower
            self.cuda.register(array)
        for array in self._registered:
            self.cuda.unregister(array)
        self._registered = given
        self.inputs[:] = inputs
        for i, array in fixed.items():
            self.outputs[i] = array
        self._captured_for = None
        self.run()
        return True

    def run(self):
        """Compute the outputs from the inputs.

        Raises: RunnerError.
        """
        thread = threading.get_ident()
        if thread != self._thread:
            self.cuda.make_current()
            self._thread = thread
        if self._captured_for != self.skip_upload:
            self._capture()
        if self._graph is None:
            self._launch()
            return
        self.cuda.launch_graph(self._graph, self.stream)
        self.cuda.synchronize(self.stream)

    def close(self):
        """Release everything."""
        if self.cuda is None:
            return
        cuda, self.cuda = self.cuda, None
        self._graph = self._tensors = self._context = self._loaded = None  # in this order
        del self.inputs[:], self.outputs[:]
        try:
            cuda.make_current()
            for array in self._registered:
                cuda.unregister(array)
            for pointer in self._pointers:
                cuda.free(pointer)
        except RunnerError:
            pass  # the device is lost, and the memory with it
        self._pointers, self._registered, self._catchers = [], [], {}
        cuda.close()

    def _explained(self, *said):
        errors = self._loaded.logger.errors if self._loaded else []
        return explained(self._name, self.library, [*errors, *said])

    def _open(self):
        engine = self._loaded.engine
        if getattr(engine, "has_implicit_batch_dimension", False):
            cause = f"{self._name} was built with an implicit batch dimension"
            raise RunnerError(cause, "build it again from the ONNX")
        self._context = engine.create_execution_context()
        if self._context is None:
            raise self._explained()
        self._tensors = tensors_of(self._loaded.trt, engine, self._context)
        self._set_shapes()
        self._allocate()

    def _set_shapes(self):
        """Give open inputs their shape: batch 1 or the least the profile has, the rest as the profile likes it."""
        tensors = self._tensors
        if not tensors.inputs:
            raise RunnerError(f"{self._name} has no input", "export the model with its input")
        is_open = [name for name in tensors.inputs if -1 in tensors.shape(name)]
        if is_open and not tensors.use_profile(self.stream.handle):
            raise self._explained()
        for name in tensors.inputs:
            if tensors.holds_shape(name):
                cause = f"input '{name}' of {self._name} is a shape, not data"
                raise RunnerError(cause, "export the model with fixed sizes")
            shape = tensors.shape(name)
            if name in is_open:
                least, best, _ = tensors.profile(name)
                shape = (max(1, least[0]), *best[1:]) if shape[0] == -1 else best
                if not tensors.set_shape(name, shape):
                    raise self._explained()
            self._shapes[name] = shape
        for name in tensors.outputs:
            self._shapes[name] = tensors.actual_shape(name)
        self.cuda.synchronize(self.stream)

    def _allocate(self):
        tensors = self._tensors
        self.input_tensors = [self._described(name, True) for name in tensors.inputs]
        outputs = [self._described(name, False) for name in tensors.outputs]
        for tensor in self.input_tensors:
            self.inputs.append(self._buffer(tensor, tensor.shape))
            self.inputs[-1][...] = 0
        self.input_pointer = self._pointers[0]
        for i, tensor in enumerate(outputs):
            if -1 in tensor.shape:
                self.output_tensors.append(self._caught(i, tensor))
            else:
                self.outputs.append(self._buffer(tensor, tensor.shape))
                self.output_tensors.append(tensor)

    def _described(self, name, is_input):
        word, form = self._tensors.dtype(name), self._tensors.format(name)
        if word not in _DTYPES or form != "LINEAR":
            what = word if word not in _DTYPES else f"laid out as {form}"
            raise RunnerError(f"'{name}' of {self._name} is {what}", "build it with plain float inputs and outputs")
        if word == "INT8":
            cause = f"'{name}' of {self._name} is int8, and TensorRT does not tell its scale"
            raise RunnerError(cause, "build it with float inputs and outputs, as trtexec and harrier build do")
        shape, layout = [int(n) for n in self._shapes[name]], None
        if is_input and len(shape) == 4:
            layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
        return Tensor(name, shape, _DTYPES[word], layout, None, 0)

    def _buffer(self, tensor, shape):
        """The host's end of a tensor; its end on the GPU is bound."""
        array = self.cuda.pinned(tuple(shape), np.dtype(tensor.dtype))
        pointer = self.cuda.alloc(max(1, array.nbytes))
        self._pointers.append(pointer)
        if not self._tensors.bind(tensor.name, pointer):
            raise self._explained()
        return array

    def _caught(self, i, tensor):
        """Make room for an output whose shape only the run shows; its tensor with the most it can be."""
        most = self._tensors.most_bytes(tensor.name)
        known = int(np.prod([n for n in tensor.shape if n >= 0] or [1])) * np.dtype(tensor.dtype).itemsize
        if most <= 0 or tensor.shape.count(-1) != 1 or known <= 0:
            raise RunnerError(
                f"output '{tensor.name}' of {self._name} has no greatest size ({tensor.shape})",
                "export the model without NMS: Harrier filters boxes itself",
            )
        shape = [most // known if n == -1 else n for n in tensor.shape]
        flat = self._buffer(tensor, (most // np.dtype(tensor.dtype).itemsize,))
        catcher = output_catcher(self._loaded.trt, self._pointers[-1], most)
        if not self._tensors.catch(tensor.name, catcher):
            raise self._explained()
        self._catchers[i] = (catcher, flat)
        self.moving.append(i)
        self.outputs.append(flat[: int(np.prod(shape))].reshape(shape))
        return tensor._replace(shape=shape)

    def _enqueue(self):
        """Put upload, inference and download into the stream and return whether TensorRT took it."""
        cuda, stream, count = self.cuda, self.stream, len(self.inputs)
        for i in range(1 if self.skip_upload else 0, count):
            cuda.upload(self._pointers[i], self.inputs[i], stream)
        if not self._tensors.enqueue(stream.handle):
            return False
        for i, array in enumerate(self.outputs):
            if i not in self._catchers:
                cuda.download(array, self._pointers[count + i], stream)
        return True

    def _launch(self):
        """One inference without a graph."""
        errors = self._loaded.logger.errors
        errors.clear()
        taken = self._enqueue()
        self.cuda.synchronize(self.stream)  # which tells a lost device from a model that fails
        if not taken:
            cause = f"{self._name} failed while running ({first_error(errors)})"
            raise RunnerError(cause, "build it again or use another target")
        for i, (catcher, flat) in self._catchers.items():
            array = flat[: int(np.prod(catcher.shape))]
            if array.size:
                self.cuda.download(array, self._pointers[len(self.inputs) + i], self.stream)
                self.cuda.synchronize(self.stream)
            self.outputs[i] = array.reshape(catcher.shape)

    def _capture(self):
        """Make one CUDA graph of a run where that can be, else say why not."""
        self._graph, self._captured_for = None, self.skip_upload
        if self._catchers:
            _LOG.info("%s runs without a CUDA graph: the shape of an output changes", self._name)
            return
        self._graph, why = self._captured()
        if self._graph is None:
            _LOG.warning("%s runs without a CUDA graph, a little slower: %s", self._name, why)

    def _captured(self):
        """(graph or None, why not)."""
        capturable, errors = getattr(self._context, "is_stream_capturable", None), self._loaded.logger.errors
        if capturable is not None and not capturable(self.stream.handle):
            return None, "this engine cannot be captured"
        errors.clear()
        graph, why = None, "the driver cannot capture it"
        try:
            self.cuda.begin_capture(self.stream)
            try:
                taken = self._enqueue()
            finally:
                graph = self.cuda.end_capture(self.stream)
            if not taken:
                return None, first_error(errors)
        except RunnerError as exc:
            return None, exc.cause
        return graph, why
