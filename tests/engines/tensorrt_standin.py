"""Stand-ins for CUDA and for TensorRT's Python module of each generation, with exactly the members of that generation.

What a call does is what NVIDIA's documentation says of it. A plan is JSON: the tensors in the order of their bindings,
and how many profiles there are. The stand-in computes something that shows which buffer was read and written:
`raw` = images * gain (as float16), `total` = the sum of images.
"""

import enum
import json
import types
from itertools import count
from pathlib import Path

import numpy as np

from edge.engines.portable import RunnerError
from edge.structs import read_toml

SURFACES = read_toml(Path(__file__).with_name("tensorrt_surfaces.toml"))
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8"}
IMAGES = {"name": "images", "input": True, "dtype": "FLOAT", "shape": [1, 3, 4, 6]}
GAIN = {"name": "gain", "input": True, "dtype": "FLOAT", "shape": [1]}
RAW = {"name": "raw", "input": False, "dtype": "HALF", "shape": [1, 3, 4, 6]}
TOTAL = {"name": "total", "input": False, "dtype": "INT32", "shape": [1, 1]}


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def plan_of(*tensors, version="", magic=b"ftrt", profiles=1, warning="") -> bytes:
    """An engine file. version: of the TensorRT that built it, "" for the one that reads it."""
    tensors = tensors or (RAW, IMAGES, TOTAL, GAIN)  # outputs between inputs, so that order matters
    return magic + json.dumps([list(tensors), version, profiles, warning]).encode()


class StandInCuda:
    """Device memory is a bytearray each, at an address of its own; what is put into a stream is done at once, or kept
    while it is being captured. calls: what was asked, in order. lost, no_graphs, refuse_capture: how it fails."""

    binding, capability = "stand-in", "8.7"

    def __init__(self, device: int = 0) -> None:
        self.device, self.memory_of, self.calls = device, {}, []
        self.lost = self.no_graphs = self.refuse_capture = self.closed = False
        self.locked: list[int] = []
        self._addresses = count(0x1000, 0x1000)
        self._capturing: list | None = None

    def make_current(self):
        self.calls.append("make_current")

    def stream(self):
        return types.SimpleNamespace(handle=77)

    def alloc(self, nbytes):
        pointer = next(self._addresses)
        self.memory_of[pointer] = bytearray(nbytes)
        return pointer

    def free(self, pointer):
        del self.memory_of[pointer]

    def pinned(self, shape, dtype):
        return np.full(shape, 9, dtype)  # whatever was there

    def register(self, array):
        self.locked.append(array.ctypes.data)
        return True

    def unregister(self, array):
        self.locked.remove(array.ctypes.data)

    def do(self, name, work):
        self.calls.append(name)
        if self.lost:
            raise RunnerError("CUDA: CUDA_ERROR_LAUNCH_FAILED", "restart", "lost")
        if self._capturing is None:
            work()
        elif self.refuse_capture:
            raise RunnerError("CUDA: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "restart", "lost")
        else:
            self._capturing.append(work)

    def upload(self, pointer, array, stream):
        assert array.nbytes == len(self.memory_of[pointer])
        self.do("upload", lambda: self.memory_of[pointer].__setitem__(slice(None), array.tobytes()))

    def download(self, array, pointer, stream):
        def work():
            stored = bytes(self.memory_of[pointer][: array.nbytes])
            array[...] = np.frombuffer(stored, array.dtype).reshape(array.shape)

        self.do("download", work)

    def synchronize(self, stream):
        assert self._capturing is None, "a stream that is captured cannot be waited for"
        self.do("synchronize", lambda: None)

    def begin_capture(self, stream):
        self.calls.append("begin_capture")
        self._capturing = []

    def end_capture(self, stream):
        self.calls.append("end_capture")
        captured, self._capturing = self._capturing, None
        return None if self.no_graphs or not captured else captured

    def launch_graph(self, graph, stream):
        self.do("launch_graph", lambda: [work() for work in graph])

    def close(self):
        self.closed = True


def enumeration(name: str, members: str) -> type[enum.Enum]:
    return enum.Enum(name, members.split())


class StandInTensorRt(types.ModuleType):
    """A `tensorrt` of one generation on a CUDA stand-in. fail: what it says when it runs. capturable: RTX's answer."""

    def __init__(self, generation: str, cuda: StandInCuda) -> None:
        super().__init__("tensorrt_rtx" if generation.startswith("rtx") else "tensorrt")
        surface = SURFACES[generation]
        self.__version__ = f"{generation.removeprefix('rtx-')}.0"
        self.cuda, self.fail, self.no_memory, self.capturable = cuda, "", False, True
        self.magic = b"vtrt" if "rtx" in self.__name__ else b"ftrt"
        self.ILogger = type("ILogger", (), {"Severity": Severity, "__init__": lambda self: None})
        self.DataType = enumeration("DataType", surface["DataType"])
        self.TensorFormat = enumeration("TensorFormat", "LINEAR CHW2 HWC8 CHW4")
        names = surface["module"].split()
        if "TensorIOMode" in names:
            self.TensorIOMode = enumeration("TensorIOMode", "NONE INPUT OUTPUT")
        if "IOutputAllocator" in names:
            self.IOutputAllocator = type("IOutputAllocator", (), {"__init__": lambda self: None})
        if "init_libnvinfer_plugins" in names:
            self.init_libnvinfer_plugins = lambda logger, namespace: True
        self.Runtime = only_with(surface["Runtime"], Runtime, self)
        self.ICudaEngine = only_with(surface["ICudaEngine"], Engine, self)
        self.IExecutionContext = only_with(surface["IExecutionContext"], Context, self)


def only_with(names: str, base: type, trt: StandInTensorRt) -> type:
    """The class with those public members only; what the stand-in does not do raises NotImplementedError."""

    def missing(self, *given):
        raise NotImplementedError

    members = {name: base.__dict__.get(name, missing) for name in names.split()}
    hidden = {name: value for name, value in base.__dict__.items() if name == "__init__" or name.startswith("do_")}
    return type(base.__name__, (), {**hidden, **members, "do_trt": trt})


class Runtime:
    def __init__(self, logger) -> None:
        self.do_logger = logger

    def deserialize_cuda_engine(self, data):
        trt, plan, log = self.do_trt, bytes(data), self.do_logger.log
        if plan[:4] != trt.magic:
            log(Severity.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
                "header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible "
                "serialization version (2021161080 != 1953657974).)")  # fmt: skip
            return None
        tensors, version, profiles, warning = json.loads(plan[4:])
        if version and version != trt.__version__:
            log(Severity.ERROR, "6: The engine plan file is not compatible with this version of TensorRT, expecting "
                f"library version {trt.__version__} got {version}, please rebuild.")  # fmt: skip
            log(Severity.ERROR, "4: [runtime.cpp::deserializeCudaEngine::50] Error Code 4: Internal Error (Engine "
                "deserialization failed.)")  # fmt: skip
            return None
        if warning:
            log(Severity.WARNING, warning)
        engine = trt.ICudaEngine()
        engine.do_logger, engine.do_tensors, engine.do_profiles = self.do_logger, tensors, profiles
        return engine


class Engine:
    def do_index(self, key):
        return key % len(self.do_tensors) if isinstance(key, int) else [t["name"] for t in self.do_tensors].index(key)

    def do_of(self, key):
        return self.do_tensors[self.do_index(key)]

    def create_execution_context(self):
        if self.do_trt.no_memory:
            self.do_logger.log(Severity.ERROR, "[defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime "
                               "(out of memory)")  # fmt: skip
            return None
        context = self.do_trt.IExecutionContext()
        context.do_engine, context.do_shapes, context.do_pointers = self, {}, {}
        context.do_catchers, context.do_profile = {}, None
        return context

    has_implicit_batch_dimension = property(lambda self: any(t.get("implicit") for t in self.do_tensors))
    num_optimization_profiles = property(lambda self: self.do_profiles)
    num_bindings = property(lambda self: len(self.do_tensors) * self.do_profiles)
    num_io_tensors = property(lambda self: len(self.do_tensors))

    def get_binding_name(self, index):
        name = self.do_of(index)["name"]
        return name if index < len(self.do_tensors) else f"{name} [profile {index // len(self.do_tensors)}]"

    def get_tensor_name(self, index):
        return self.do_tensors[index]["name"]

    def binding_is_input(self, index):
        return self.do_of(index)["input"]

    def get_tensor_mode(self, name):
        mode = self.do_trt.TensorIOMode
        return mode.INPUT if self.do_of(name)["input"] else mode.OUTPUT

    def get_binding_dtype(self, index):
        return self.do_trt.DataType[self.do_of(index)["dtype"]]

    def get_binding_format(self, index):
        return self.do_trt.TensorFormat[self.do_of(index).get("format", "LINEAR")]

    def get_binding_shape(self, index):
        return tuple(self.do_of(index)["shape"])

    def is_shape_binding(self, index):
        return bool(self.do_of(index).get("is_shape"))

    def get_profile_shape(self, profile, index):
        return self.do_of(index)["profile"]

    def get_tensor_profile_shape(self, name, profile):
        return self.do_of(name)["profile"]

    get_tensor_dtype, get_tensor_format, get_tensor_shape = get_binding_dtype, get_binding_format, get_binding_shape
    is_shape_inference_io = is_shape_binding


class Context:
    def do_shape(self, key):
        """The shape as it is now; outputs follow the first input's batch."""
        tensor = self.do_engine.do_of(key)
        if tensor["name"] in self.do_shapes:
            return self.do_shapes[tensor["name"]]
        if tensor["input"] or tensor.get("unknown"):
            return tuple(tensor["shape"])
        first = next(t for t in self.do_engine.do_tensors if t["input"])
        batch = self.do_shape(first["name"])[0]
        return tuple(batch if n == -1 else n for n in tensor["shape"])

    def set_optimization_profile_async(self, profile, stream):
        assert stream == 77
        self.do_profile = profile
        return True

    def do_set_shape(self, key, shape):
        tensor = self.do_engine.do_of(key)
        least, _, most = tensor["profile"]
        if self.do_profile != 0 or not all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
            self.do_engine.do_logger.log(Severity.ERROR, "Error Code 3: the shape is outside the profile")
            return False
        self.do_shapes[tensor["name"]] = tuple(shape)
        return True

    def set_binding_shape(self, index, shape):
        return self.do_set_shape(index, shape)

    def set_input_shape(self, name, shape):
        return self.do_set_shape(name, shape)

    def get_binding_shape(self, index):
        return self.do_shape(index)

    def get_tensor_shape(self, name):
        return self.do_shape(name)

    def get_max_output_size(self, name):
        return self.do_engine.do_of(name).get("most_bytes", -1)

    def set_tensor_address(self, name, pointer):
        self.do_pointers[name] = pointer
        return True

    def set_output_allocator(self, name, allocator):
        self.do_catchers[name] = allocator
        return True

    def is_stream_capturable(self, stream):
        return self.do_trt.capturable

    def execute_async_v3(self, stream):
        return self.do_execute(stream, dict(self.do_pointers))

    def execute_async_v2(self, bindings, stream):
        tensors = self.do_engine.do_tensors
        assert len(bindings) == len(tensors) * self.do_engine.do_profiles
        return self.do_execute(stream, {t["name"]: bindings[i] for i, t in enumerate(tensors)})

    def do_execute(self, stream, pointers) -> bool:
        trt, engine = self.do_trt, self.do_engine
        assert stream == 77, "on the runner's own stream"
        assert set(pointers) == {t["name"] for t in engine.do_tensors}, "every tensor has its memory"
        if trt.fail:
            engine.do_logger.log(Severity.ERROR, trt.fail)
            return False
        trt.cuda.do("execute", lambda: self.do_compute(pointers))
        return True

    def do_compute(self, pointers) -> None:
        memory, values = self.do_trt.cuda.memory_of, {}
        for t in self.do_engine.do_tensors:
            if t["input"]:
                stored = np.frombuffer(bytes(memory[pointers[t["name"]]]), NUMPY[t["dtype"]])
                values[t["name"]] = stored.reshape(self.do_shape(t["name"])).astype(np.float64)
        images, gain = values["images"], values.get("gain", np.ones(1))
        results = {
            "raw": images * gain[0],
            "total": np.full((1, 1), images.sum()),
            "boxes": np.arange(images.max() * 2),
        }
        for t in self.do_engine.do_tensors:
            if not t["input"]:
                value = results[t["name"]].astype(NUMPY[t["dtype"]])
                pointer = pointers[t["name"]]
                if t.get("unknown"):
                    value = value.reshape(-1, 2)
                    pointer = self.do_catchers[t["name"]].reallocate_output(t["name"], pointer, value.nbytes, 256)
                    self.do_catchers[t["name"]].notify_shape(t["name"], value.shape)
                memory[pointer][: value.nbytes] = value.tobytes()
