"""The builder against the TensorRT generations that cannot be installed here: fakes with exactly their attributes.

The attribute sets were read from the classes of NVIDIA's own Python bindings (8.6.1, 10.13.3 and 11.0 wheels) and from
the published source of the bindings of 8.2; what a fake does with a call is what NVIDIA's documentation says.
"""

import enum
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from convert.tensorrt import build as build_module
from convert.tensorrt.build import build
from convert.tensorrt.bundle import build_bundle
from convert.tensorrt.features import probe
from convert.tensorrt.find import find_tensorrt
from convert.tensorrt.messages import logger_of
from convert.tensorrt.request import BuildOptions, BuildRequest
from convert.tensorrt.watch import Watch, supervised
from edge.board import available_mib, l4t_release
from edge.engines.driver import gpu_capability
from edge.engines.tensorrt_words import first_error
from edge.errors import AcceleratorError, ConfigError, MissingBackendError, ModelError
from edge.manifest import read_manifest
from edge.progress import Progress

GENERATIONS = {
    "8.2": {
        "Builder": "build_engine build_serialized_network create_builder_config create_network "
        "create_optimization_profile error_recorder gpu_allocator is_network_supported logger "
        "max_DLA_batch_size max_batch_size num_DLA_cores platform_has_fast_fp16 "
        "platform_has_fast_int8 platform_has_tf32 reset",
        "IBuilderConfig": "DLA_core add_optimization_profile algorithm_selector avg_timing_iterations can_run_on_DLA "
        "clear_flag clear_quantization_flag create_timing_cache default_device_type "
        "engine_capability flags get_calibration_profile get_device_type get_flag "
        "get_quantization_flag get_tactic_sources get_timing_cache int8_calibrator "
        "is_device_type_set max_workspace_size min_timing_iterations num_optimization_profiles "
        "profile_stream profiling_verbosity quantization_flags reset reset_device_type "
        "set_calibration_profile set_device_type set_flag set_quantization_flag set_tactic_sources "
        "set_timing_cache",
        "ParserError": "code desc file func line node",
        "BuilderFlag": "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS "
        "SAFETY_SCOPE",
        "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH EXPLICIT_PRECISION",
        "MemoryPoolType": "",
        "HardwareCompatibilityLevel": "",
        "module": "IInt8EntropyCalibrator2 IInt8MinMaxCalibrator",
    },
    "8.6": {
        "Builder": "build_engine build_serialized_network create_builder_config create_network "
        "create_optimization_profile error_recorder get_plugin_registry gpu_allocator "
        "is_network_supported logger max_DLA_batch_size max_batch_size max_threads num_DLA_cores "
        "platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32 reset",
        "IBuilderConfig": "DLA_core add_optimization_profile algorithm_selector avg_timing_iterations "
        "builder_optimization_level can_run_on_DLA clear_flag clear_quantization_flag "
        "create_timing_cache default_device_type engine_capability flags get_calibration_profile "
        "get_device_type get_flag get_memory_pool_limit get_preview_feature get_quantization_flag "
        "get_tactic_sources get_timing_cache hardware_compatibility_level int8_calibrator "
        "is_device_type_set max_aux_streams max_workspace_size min_timing_iterations "
        "num_optimization_profiles plugins_to_serialize profile_stream profiling_verbosity "
        "quantization_flags reset reset_device_type set_calibration_profile set_device_type "
        "set_flag set_memory_pool_limit set_preview_feature set_quantization_flag "
        "set_tactic_sources set_timing_cache",
        "ParserError": "code desc file func line node",
        "BuilderFlag": "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS "
        "SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO "
        "REJECT_EMPTY_ALGORITHMS ENABLE_TACTIC_HEURISTIC VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME "
        "FP8",
        "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH EXPLICIT_PRECISION",
        "MemoryPoolType": "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS",
        "module": "IInt8EntropyCalibrator2 IInt8MinMaxCalibrator",
    },
    "10.13": {
        "Builder": "build_engine_with_config build_serialized_network build_serialized_network_to_stream "
        "create_builder_config create_network create_optimization_profile error_recorder "
        "get_plugin_registry gpu_allocator is_network_supported logger max_DLA_batch_size "
        "max_threads num_DLA_cores platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32 "
        "reset",
        "IBuilderConfig": "DLA_core add_optimization_profile algorithm_selector avg_timing_iterations "
        "builder_optimization_level can_run_on_DLA clear_flag clear_quantization_flag "
        "create_timing_cache default_device_type engine_capability flags get_calibration_profile "
        "get_device_type get_flag get_memory_pool_limit get_preview_feature get_quantization_flag "
        "get_tactic_sources get_timing_cache hardware_compatibility_level int8_calibrator "
        "is_device_type_set l2_limit_for_tiling max_aux_streams max_num_tactics "
        "num_optimization_profiles plugins_to_serialize profile_stream profiling_verbosity "
        "progress_monitor quantization_flags remote_auto_tuning_config reset reset_device_type "
        "runtime_platform set_calibration_profile set_device_type set_flag set_memory_pool_limit "
        "set_preview_feature set_quantization_flag set_tactic_sources set_timing_cache "
        "tiling_optimization_level",
        "ParserError": "code desc file func line local_function_stack local_function_stack_size node node_name "
        "node_operator",
        "BuilderFlag": "FP16 BF16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE EDITABLE_TIMING_CACHE TF32 "
        "SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS "
        "DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8 "
        "ERROR_ON_TIMING_CACHE_MISS DISABLE_COMPILATION_CACHE WEIGHTLESS STRIP_PLAN REFIT_IDENTICAL "
        "WEIGHT_STREAMING INT4 REFIT_INDIVIDUAL STRICT_NANS MONITOR_MEMORY FP4 "
        "DISTRIBUTIVE_INDEPENDENCE",
        "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED PREFER_AOT_PYTHON_PLUGINS "
        "PREFER_JIT_PYTHON_PLUGINS",
        "MemoryPoolType": "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
        "module": "IInt8EntropyCalibrator2 IInt8MinMaxCalibrator IProgressMonitor",
    },
    "11.0": {
        "Builder": "build_engine_with_config build_serialized_network build_serialized_network_to_stream "
        "create_builder_config create_network create_optimization_profile error_recorder "
        "get_plugin_registry gpu_allocator is_network_supported logger max_DLA_batch_size "
        "max_threads num_DLA_cores reset",
        "IBuilderConfig": "DLA_core add_optimization_profile avg_timing_iterations builder_optimization_level "
        "can_run_on_DLA clear_flag create_timing_cache default_device_type engine_capability flags "
        "get_device_type get_flag get_memory_pool_limit get_preview_feature get_tactic_sources "
        "get_timing_cache hardware_compatibility_level is_device_type_set l2_limit_for_tiling "
        "max_aux_streams max_num_tactics num_optimization_profiles plugins_to_serialize "
        "profile_stream profiling_verbosity progress_monitor remote_auto_tuning_config reset "
        "reset_device_type runtime_platform set_device_type set_flag set_memory_pool_limit "
        "set_preview_feature set_tactic_sources set_timing_cache tiling_optimization_level",
        "ParserError": "code desc file func line local_function_stack local_function_stack_size node node_name "
        "node_operator",
        "BuilderFlag": "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE EDITABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS "
        "SAFETY_SCOPE DIRECT_IO VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME ERROR_ON_TIMING_CACHE_MISS "
        "DISABLE_COMPILATION_CACHE STRIP_PLAN REFIT_IDENTICAL WEIGHT_STREAMING REFIT_INDIVIDUAL "
        "STRICT_NANS MONITOR_MEMORY DISTRIBUTIVE_INDEPENDENCE",
        "NetworkDefinitionCreationFlag": "STRONGLY_TYPED PREFER_AOT_PYTHON_PLUGINS PREFER_JIT_PYTHON_PLUGINS",
        "MemoryPoolType": "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
        "module": "IProgressMonitor",
    },
}
PLAN = b"plan" * 100


def enumeration(name: str, members: str) -> type[enum.IntEnum]:
    return enum.IntEnum(name, {member: index for index, member in enumerate(members.split())})


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Dtype(enum.Enum):
    FLOAT, HALF, INT8 = range(3)


class Kind(enum.Enum):
    CONVOLUTION, QUANTIZE, DEQUANTIZE, ACTIVATION = range(4)


class Tensor:
    def __init__(self, name: str, dtype: Dtype, shape=(1, 3, 8, 8)) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer:
    def __init__(self, name: str, kind: Kind, inputs: list[Tensor], dtype: Dtype) -> None:
        self.name, self.type, self._inputs, self._output = name, kind, inputs, Tensor(f"{name}.out", dtype)
        self.num_inputs, self.num_outputs = len(inputs), 1

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self._output


def layers_of(content: str) -> list[Layer]:
    """The network of a 'model' that says float, half or qdq."""
    kind = Dtype.HALF if content == "half" else Dtype.FLOAT
    data = Tensor("images", kind)
    if content != "qdq":
        return [Layer("conv", Kind.CONVOLUTION, [data], kind)]
    q = Layer("q", Kind.QUANTIZE, [data], Dtype.INT8)
    dq = Layer("dq", Kind.DEQUANTIZE, [q.get_output(0)], kind)
    weights = Layer("wdq", Kind.DEQUANTIZE, [Tensor("w", Dtype.INT8)], kind)
    return [q, dq, weights, Layer("conv", Kind.CONVOLUTION, [dq.get_output(0), weights.get_output(0)], kind)]


class Fake(types.ModuleType):
    """A `tensorrt` of one generation. calls: what was done to it, in order. fast_int8, no_gpu: the machine."""

    def __init__(self, generation: str) -> None:
        super().__init__("tensorrt")
        names = GENERATIONS[generation]
        self.__version__ = f"{generation}.0"
        self.calls: list = []
        self.fast_int8, self.no_gpu, self.fail = True, False, ""
        self.ILogger = type("ILogger", (), {"Severity": Severity, "__init__": lambda self: None})
        for name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "HardwareCompatibilityLevel"):
            if names[name]:
                setattr(self, name, enumeration(name, names[name]))
        self.LayerInformationFormat = enumeration("LayerInformationFormat", "ONELINE JSON")
        self.ProfilingVerbosity = enumeration("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED NONE")
        for name in names["module"].split():
            setattr(self, name, type(name, (), {"__init__": lambda self: None}))
        self.Builder = only_with(names["Builder"], builder_class(self))
        self.IBuilderConfig = only_with(names["IBuilderConfig"], config_class(self))
        self.ParserError = only_with(names["ParserError"], ParserError)
        self.OnnxParser = parser_class(self)
        self.Runtime = runtime_class(self)

    def say(self, severity: Severity, text: str) -> None:
        logger_of(self).log(severity, text)


def only_with(names: str, base: type) -> type:
    """The class with those attributes only: a name of another generation is an AttributeError, read or written."""
    known = set(names.split())

    def missing(self, *given):
        raise NotImplementedError("the fake does not do this")

    members = {name: getattr(base, name, missing) for name in known}
    for name in known & set(getattr(base, "SETTINGS", ())):
        members[name] = property(lambda self, n=name: self.values.get(n), lambda self, v, n=name: self.set(n, v))
    hidden = {name: getattr(base, name) for name in ("__init__", "set", "called") if hasattr(base, name)}

    def guarded(self, name, value):
        if name not in known and name not in ("values", "trt"):
            raise AttributeError(f"{base.__name__} has no {name}")
        object.__setattr__(self, name, value)

    return type(base.__name__, (), {**hidden, **members, "__setattr__": guarded})


def builder_class(trt: Fake) -> type:
    class Builder:
        def __init__(self, logger) -> None:
            if trt.no_gpu:
                trt.say(Severity.ERROR, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        platform_has_fast_int8 = property(lambda self: trt.fast_int8)
        platform_has_fast_fp16 = property(lambda self: True)

        def create_network(self, flags: int = 0):
            trt.calls.append(("create_network", flags))
            return types.SimpleNamespace(flags=flags, layers=[])

        def create_builder_config(self):
            return trt.IBuilderConfig()

        def build_serialized_network(self, network, config):
            trt.calls.append("build_serialized_network")
            return serialized(trt, network, config)

    return Builder


def serialized(trt: Fake, network, config) -> bytes | None:
    """What a real builder would answer: it refuses precisions that are not allowed, and reports where it can."""
    flags = config.values.get("set", set())
    strong = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and network.flags & (
        1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    )
    weak_only = {"FP16", "INT8"} & flags
    quantized = any(layer.type is Kind.QUANTIZE for layer in network.layers)
    halves = any(layer.get_output(0).dtype is Dtype.HALF for layer in network.layers)
    if strong and weak_only:
        trt.say(Severity.ERROR, "[x.cpp::validate::1] Error Code 3: a strongly typed network allows no precision flags")
        return None
    if not strong and ((quantized and "INT8" not in flags) or (halves and "FP16" not in flags)):
        trt.say(Severity.ERROR, "[x.cpp::validate::2] Error Code 9: the network needs a precision that is not allowed")
        return None
    if calibrator := config.values.get("int8_calibrator"):
        trt.calls.append(("calibration", calibrator.read_calibration_cache(), calibrator.get_batch(["images"])))
    if monitor := config.values.get("progress_monitor"):
        monitor.phase_start("Building engine", None, 2)
        for step in range(2):
            if not monitor.step_complete("Building engine", step):
                return None
        monitor.phase_finish("Building engine")
    if trt.fail:
        trt.say(Severity.ERROR, trt.fail)
        return None
    return PLAN


def config_class(trt: Fake) -> type:
    class IBuilderConfig:
        SETTINGS = (
            "max_workspace_size",
            "builder_optimization_level",
            "max_aux_streams",
            "hardware_compatibility_level",
            "int8_calibrator",
            "progress_monitor",
            "profiling_verbosity",
        )

        def __init__(self) -> None:
            self.values = {}

        def set(self, name, value) -> None:
            self.values[name] = value
            trt.calls.append((name, value if isinstance(value, int) else type(value).__name__))

        def set_memory_pool_limit(self, pool, size) -> None:
            trt.calls.append(("set_memory_pool_limit", pool.name, size))

        def set_flag(self, flag) -> None:
            self.values.setdefault("set", set()).add(flag.name)
            trt.calls.append(("set_flag", flag.name))

        def create_timing_cache(self, data):
            return types.SimpleNamespace(data=data, serialize=lambda: b"timings of " + trt.__version__.encode())

        def set_timing_cache(self, cache, ignore_mismatch) -> bool:
            taken = not cache.data or cache.data == cache.serialize()
            trt.calls.append(("set_timing_cache", cache.data, ignore_mismatch, taken))
            if taken:
                self.values["timings"] = cache
            return taken

        def get_timing_cache(self):
            return self.values.get("timings")

        def add_optimization_profile(self, profile) -> int:
            return 0

    return IBuilderConfig


class ParserError:
    def __init__(self) -> None:
        pass

    def desc(self) -> str:
        return "Plugin not found"

    def node_operator(self) -> str:
        return "Frobnicate"

    def node_name(self) -> str:
        return "odd"


def parser_class(trt: Fake) -> type:
    class OnnxParser:
        def __init__(self, network, logger) -> None:
            self._network, self.num_errors = network, 0

        def parse_from_file(self, path: str) -> bool:
            content = Path(path).read_text()
            trt.calls.append("parse_from_file")
            needs_batch = hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
            if needs_batch and not self._network.flags & (1 << trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH):
                trt.say(Severity.ERROR, "the network has no explicit batch dimension")
                return False
            if content == "odd":
                self.num_errors = 1
                trt.say(Severity.ERROR, 'ModelImporter.cpp:773: While parsing node number 7 [Frobnicate -> "y"]:')
                return False
            layers = layers_of(content)
            network = self._network
            network.layers, network.num_layers, network.get_layer = layers, len(layers), layers.__getitem__
            network.num_inputs, network.num_outputs = 1, 1
            network.get_input = lambda index: Tensor("images", Dtype.FLOAT)
            return True

        def get_error(self, index: int):
            return trt.ParserError()

    return OnnxParser


def runtime_class(trt: Fake) -> type:
    class Runtime:
        def __init__(self, logger) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes):
            assert plan == PLAN
            word = "Half" if int(trt.__version__.split(".")[0]) >= 10 else "Two wide channel vectorized row major FP16"
            tensors = [{"Name": "t", "Dimensions": [1, 3, 8, 8], "Format/Datatype": word}]
            layer = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": tensors}
            text = json.dumps({"Layers": [layer], "Bindings": ["images"]})
            inspector = types.SimpleNamespace(get_engine_information=lambda form: text)
            return types.SimpleNamespace(create_engine_inspector=lambda: inspector)

    return Runtime


@pytest.fixture(autouse=True)
def board(monkeypatch):
    """A machine with an Orin's GPU."""
    for module in ("build", "bundle"):
        monkeypatch.setattr(f"convert.tensorrt.{module}.gpu_capability", lambda: "8.7")


@pytest.fixture
def model(tmp_path):
    def write(content: str) -> Path:
        path = tmp_path / f"{content}.onnx"
        path.write_text(content)
        return path

    return write


def made(trt: Fake, source: Path, precision: str, progress: Progress | None = None, **options):
    return build(
        BuildRequest(source, source.with_name("made.engine"), precision, BuildOptions(**options)), progress, trt
    )


WEAK = ["8.2", "8.6"]
EXPLICIT = ("create_network", 1)
STRONG = {"10.13": ("create_network", 3), "11.0": ("create_network", 1)}  # 10.x: with EXPLICIT_BATCH, which is idle


def test_a_fake_has_the_attributes_of_its_generation_only():
    config = Fake("8.2").IBuilderConfig()
    with pytest.raises(AttributeError):
        config.builder_optimization_level = 3
    with pytest.raises(AttributeError):
        config.set_memory_pool_limit  # noqa: B018
    assert not hasattr(Fake("11.0").BuilderFlag, "FP16")
    with pytest.raises(AttributeError):
        Fake("11.0").IBuilderConfig().max_workspace_size = 1


@pytest.mark.parametrize(
    ("generation", "typing", "memory", "implicit", "level", "progress", "asks"),
    [
        ("8.2", "weak", "max_workspace_size", True, False, False, True),
        ("8.6", "weak", "memory pools", True, True, False, True),
        ("10.13", "both", "memory pools", True, True, True, True),
        ("11.0", "strong", "memory pools", False, True, True, False),
    ],
)
def test_what_each_generation_offers(generation, typing, memory, implicit, level, progress, asks):
    features = probe(Fake(generation))
    assert (features.typing, features.memory, features.implicit_calibration) == (typing, memory, implicit)
    assert (features.optimization_level, features.progress, features.asks_platform) == (level, progress, asks)
    assert features.compute_capabilities == ()


def test_8_2_sets_the_workspace_by_its_old_name(model):
    trt = Fake("8.2")
    result = made(trt, model("float"), "fp16", workspace_mib=64)
    assert trt.calls == [
        EXPLICIT,
        "parse_from_file",
        ("max_workspace_size", 64 << 20),
        ("set_flag", "FP16"),
        "build_serialized_network",
    ]
    assert result.engine.read_bytes() == PLAN
    assert not result.strongly_typed
    assert (result.needs["tensorrt"], result.needs["flavour"], result.needs["sm"]) == ("8.2.0", "tensorrt", "8.7")


def test_8_6_sets_the_workspace_as_a_pool_and_knows_more_settings(model):
    trt = Fake("8.6")
    options = {"workspace_mib": 64, "tactic_mib": 512, "max_aux_streams": 1, "optimization_level": 2}
    made(trt, model("qdq"), "best", **options, hardware_compatibility="ampere_plus")
    assert trt.calls == [
        EXPLICIT,
        "parse_from_file",
        ("set_memory_pool_limit", "WORKSPACE", 64 << 20),
        ("set_memory_pool_limit", "TACTIC_DRAM", 512 << 20),
        ("max_aux_streams", 1),
        ("builder_optimization_level", 2),
        ("hardware_compatibility_level", 1),
        ("set_flag", "FP16"),
        ("set_flag", "INT8"),
        "build_serialized_network",
    ]


def test_settings_a_generation_lacks_are_left_out_and_said(model):
    result = made(Fake("8.2"), model("half"), "fp16", optimization_level=2, max_aux_streams=1, tactic_mib=9)
    assert len(result.notes) == 4  # and the workspace that was set, since none was named
    assert "has no builder_optimization_level: left out" in " ".join(result.notes)
    with pytest.raises(ConfigError, match=r"has no hardware compatibility 'ampere_plus' \(it has none\)"):
        made(Fake("8.2"), model("half"), "fp16", hardware_compatibility="ampere_plus")


@pytest.mark.parametrize("generation", WEAK)
@pytest.mark.parametrize(("precision", "flags"), [("fp32", []), ("fp16", ["FP16"])])
def test_weak_types_take_float_and_flags(model, generation, precision, flags):
    trt = Fake(generation)
    made(trt, model("float"), precision)
    assert [call[1] for call in trt.calls if call[0] == "set_flag"] == flags


@pytest.mark.parametrize("generation", WEAK)
def test_weak_types_take_q_dq_with_the_int8_flag(model, generation):
    trt = Fake(generation)
    result = made(trt, model("qdq"), "int8")
    assert [call for call in trt.calls if call[0] == "set_flag"] == [("set_flag", "INT8")]
    assert result.precisions == {"INT8": 1}
    with pytest.raises(ModelError, match="1 FLOAT: give the Q/DQ ONNX"):
        made(trt, model("float"), "int8")
    with pytest.raises(ModelError, match="1 HALF: give the float ONNX"):
        made(trt, model("half"), "fp32")


@pytest.mark.parametrize("generation", STRONG)
@pytest.mark.parametrize(("content", "precision"), [("float", "fp32"), ("half", "fp16"), ("qdq", "int8")])
def test_strong_types_are_taken_from_the_onnx(model, generation, content, precision):
    trt = Fake(generation)
    result = made(trt, model(content), precision)
    assert trt.calls == [STRONG[generation], "parse_from_file", ("progress_monitor", "Monitor"), trt.calls[-1]]
    assert trt.calls[-1] == "build_serialized_network"
    assert result.strongly_typed


def test_10_falls_back_to_flags_where_the_onnx_is_float(model):
    trt = Fake("10.13")
    result = made(trt, model("float"), "fp16")
    assert [call for call in trt.calls if call[0] in ("create_network", "set_flag")] == [
        STRONG["10.13"],
        EXPLICIT,
        ("set_flag", "FP16"),
    ]
    assert not result.strongly_typed
    with pytest.raises(ModelError, match="give the float16-cast ONNX"):
        made(Fake("11.0"), model("float"), "fp16")


@pytest.mark.parametrize("generation", ["8.2", "8.6", "10.13"])
@pytest.mark.parametrize("algorithm", ["EntropyCalibration2", "MinMaxCalibration"])
def test_a_calibration_cache_is_taken_where_there_are_calibrators(model, tmp_path, generation, algorithm):
    trt, cache = Fake(generation), tmp_path / "calib.cache"
    cache.write_text(f"TRT-8502-{algorithm}\nimages: 3c010a14\n")
    made(trt, model("float"), "int8", calibration_cache=cache)
    assert EXPLICIT in trt.calls
    assert ("set_flag", "INT8") in trt.calls
    assert ("calibration", cache.read_bytes(), None) in trt.calls
    with pytest.raises(ConfigError, match="has its own scales"):
        made(trt, model("qdq"), "int8", calibration_cache=cache)
    for text, said in (
        ("rubbish", "does not begin with TRT-"),
        (f"TRT-8502-{algorithm}\nimages: 3c01z\n", "calib.cache:2 is not"),
        ("TRT-8502-LegacyCalibration\nimages: 3c010a14\n", "the calibrator LegacyCalibration"),
    ):
        cache.write_text(text)
        with pytest.raises(ConfigError, match=said):
            made(trt, model("float"), "int8", calibration_cache=cache)


def test_11_takes_no_calibration_cache(model, tmp_path):
    (tmp_path / "calib.cache").write_text("TRT-8502-EntropyCalibration2\n")
    with pytest.raises(ConfigError, match="takes no calibration cache: it reads scales from the ONNX only"):
        made(Fake("11.0"), model("float"), "int8", calibration_cache=tmp_path / "calib.cache")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_timing_cache_is_read_and_written(model, tmp_path, generation):
    trt, cache = Fake(generation), tmp_path / "timings"
    made(trt, model("half"), "fp16", timing_cache=cache)
    first = cache.read_bytes()
    assert first == b"timings of " + trt.__version__.encode()
    again = made(trt, model("half"), "fp16", timing_cache=cache)
    assert ("set_timing_cache", first, False, True) in trt.calls
    assert not any("timing" in note for note in again.notes)
    cache.write_bytes(b"of another GPU")
    result = made(trt, model("half"), "fp16", timing_cache=cache)
    assert any("damaged or of another GPU" in note for note in result.notes)
    assert trt.calls[-3 if probe(trt).progress else -2] == ("set_timing_cache", b"", False, True)
    assert cache.read_bytes() == first


def test_a_failed_build_writes_nothing_and_says_the_first_reason(model, tmp_path):
    trt = Fake("8.6")
    trt.fail = "[optimizer.cpp::computeCosts::3728] Error Code 10: Could not find any implementation for node conv."
    cache = tmp_path / "timings"
    with pytest.raises(ModelError, match=r"could not build half\.onnx \(Error Code 10: Could not find any") as caught:
        made(trt, model("half"), "fp16", timing_cache=cache)
    assert "optimizer.cpp" not in str(caught.value)
    assert not cache.exists()
    assert not (tmp_path / "made.engine").exists()


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_operator_is_named_by_every_parser(model, generation):
    with pytest.raises(ModelError, match="cannot take operator 'Frobnicate'.*Plugin not found"):
        made(Fake(generation), model("odd"), "fp32")


@pytest.mark.parametrize(("chip", "name"), [("5.3", "Jetson Nano"), ("6.2", "Jetson TX2")])
def test_int8_is_refused_on_chips_without_it(model, monkeypatch, chip, name):
    monkeypatch.setattr(build_module, "gpu_capability", lambda: chip)
    for generation, precision in (("8.2", "int8"), ("11.0", "best")):
        with pytest.raises(AcceleratorError, match=f"{chip} .*{name}.* has no fast INT8.*--precision fp16"):
            made(Fake(generation), model("qdq"), precision)
    assert made(Fake("8.2"), model("half"), "fp16").engine.exists()


def test_int8_is_refused_where_the_builder_says_so(model, monkeypatch):
    monkeypatch.setattr(build_module, "gpu_capability", lambda: None)
    trt = Fake("8.6")
    trt.fast_int8 = False
    with pytest.raises(AcceleratorError, match="this GPU has no fast INT8"):
        made(trt, model("qdq"), "int8")


def test_other_gpus_and_missing_ones(model):
    with pytest.raises(ConfigError, match=r"builds only for the GPU it runs on, not for 8\.6"):
        made(Fake("10.13"), model("half"), "fp16", compute_capabilities=("8.6",))
    trt = Fake("10.13")
    trt.no_gpu = True
    with pytest.raises(
        AcceleratorError, match="cannot start a builder .*CUDA initialization failure.*needs an NVIDIA GPU"
    ):
        made(trt, model("half"), "fp16")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_engine_is_read_back_where_asked(model, generation):
    trt = Fake(generation)
    result = made(trt, model("half"), "fp16", inspect=True)
    assert ("profiling_verbosity", 1) in trt.calls  # DETAILED
    assert result.layer_source == "engine"
    assert result.precisions == {"HALF": 1}


class Interrupting(Progress):
    """Presses Ctrl-C the first time it is asked to show anything."""

    def update(self, done, detail="", total=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("generation", ["8.6", "10.13"])
def test_ctrl_c_is_obeyed_or_waited_for(model, tmp_path, generation, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        made(Fake(generation), model("half"), "fp16", Interrupting("building"))
    assert ("cannot be stopped while it builds" in caplog.text) == (generation == "8.6")
    assert not (tmp_path / "made.engine").exists()


def test_little_memory_is_a_warning_with_numbers(model, monkeypatch):
    monkeypatch.setattr(build_module, "available_mib", lambda: 300)
    result = made(Fake("10.13"), model("half"), "fp16")
    assert result.notes == (
        "300 MiB of memory are free and the build needs roughly 1500: close other programs or add swap",
    )


def test_a_board_builds_what_its_bundle_and_chip_allow(tmp_path, monkeypatch, caplog):
    text = ['format = 1\nname = "n"\n[input]\n[decoder]\nfamily = "yolox"\n']
    for precision, content in (("fp32", "float"), ("int8", "qdq"), ("fp16", "half")):
        (tmp_path / f"{precision}.onnx").write_text(content)
        text.append(f'[targets.onnx-{precision}]\nfile = "{precision}.onnx"\n')
    (tmp_path / "manifest.toml").write_text("".join(text))
    monkeypatch.setattr("convert.tensorrt.build.gpu_capability", lambda: "5.3")
    monkeypatch.setattr("convert.tensorrt.bundle.gpu_capability", lambda: "5.3")
    assert [one.name for one in build_bundle(tmp_path, (), None, Fake("8.2"))] == ["tensorrt-fp16"]
    assert "int8 was left out: compute capability 5.3 (Jetson Nano, TX1)" in caplog.text
    (best,) = build_bundle(tmp_path, ["fp32"], None, Fake("8.2"))
    assert best.result.engine.name == "model-fp32.sm53.engine"
    monkeypatch.setattr("convert.tensorrt.build.gpu_capability", lambda: "8.7")
    weak = Fake("8.6")
    (best,) = build_bundle(tmp_path, ["best"], None, weak)  # weakly typed: the same Q/DQ ONNX and both flags
    assert best.source == "onnx-int8"
    assert [call[1] for call in weak.calls if call[0] == "set_flag"] == ["FP16", "INT8"]
    path = tmp_path / "manifest.toml"
    path.write_text(path.read_text() + '[targets.onnx-mixed]\nfile = "int8.onnx"\n')
    (best,) = build_bundle(tmp_path, ["best"], None, Fake("8.6"))
    assert best.source == "onnx-mixed"  # what the search made comes first
    assert set(read_manifest(tmp_path / "manifest.toml").targets) >= {"tensorrt-fp16", "tensorrt-fp32", "tensorrt-best"}


def test_without_tensorrt_the_cure_fits_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("convert.tensorrt.find._CANDIDATES", (("no_such_tensorrt",),))
    with pytest.raises(MissingBackendError, match=r"pip install 'harrier-edge\[tensorrt-rtx\]'") as caught:
        find_tensorrt(tmp_path)
    assert caught.value.exit_code == 2
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")
    with pytest.raises(MissingBackendError, match="JetPack 6: sudo apt install python3-libnvinfer.*trtexec"):
        find_tensorrt(tmp_path)
    assert l4t_release(tmp_path) == "35.4.1"
    broken = tmp_path / "broken_tensorrt.py"
    broken.write_text("raise ImportError('libnvinfer.so.8: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("convert.tensorrt.find._CANDIDATES", (("broken_tensorrt",),))
    with pytest.raises(MissingBackendError, match=r"broken_tensorrt: libnvinfer\.so\.8"):
        find_tensorrt(tmp_path)
    stopped = tmp_path / "stopped_tensorrt.py"
    stopped.write_text("raise ImportError('initialization failed') from KeyboardInterrupt()")
    monkeypatch.setattr("convert.tensorrt.find._CANDIDATES", (("stopped_tensorrt",),))
    with pytest.raises(KeyboardInterrupt):
        find_tensorrt(tmp_path)


def test_a_second_ctrl_c_ends_the_process_at_once():
    script = """
import os, signal, threading, time
from convert.tensorrt.watch import Watch, supervised
from edge.progress import Progress
press = lambda: os.kill(os.getpid(), signal.SIGINT)
for after_s in (0.3, 0.8):
    threading.Timer(after_s, press).start()
supervised(lambda: time.sleep(60), Watch(can_stop=False), Progress("building"))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == -signal.SIGINT
    assert "cannot be stopped while it builds" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("can_stop", [True, False])
def test_an_interrupted_build_is_over_when_ctrl_c_is_passed_on(can_stop):
    watch, over = Watch(can_stop), []

    def work():
        watch.stopped.wait(10)
        time.sleep(0.3)
        over.append(True)

    press = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))  # while it waits, not while it shows
    press.start()
    with pytest.raises(KeyboardInterrupt):
        supervised(work, watch, Progress("building"))
    assert over


def test_the_machine_is_read_from_its_own_files(tmp_path):
    assert l4t_release(tmp_path) is None
    assert available_mib(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4059288 kB\nMemAvailable:    1048576 kB\n")
    assert available_mib(tmp_path) == 1024
    assert gpu_capability() is None or len(gpu_capability().split(".")) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "TensorRT gives no reason"),
        (
            ["[dispatch.cpp::f::25] Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)"],
            "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)",
        ),
        (
            [
                "Cuda Runtime (cudaError 35)",
                "ModelImporter.cpp:140: While parsing node number 0 [X]:",
                "3: [b.cpp::g::1] bad",
            ],
            "bad",
        ),
        (
            ["IBuilder::buildSerializedNetwork: Error Code 4: Usage (No output. In check at /_src/n.cpp:38)"],
            "Error Code 4: Usage (No output)",
        ),
    ],
)
def test_the_first_line_that_tells_something(lines, said):
    assert first_error(lines) == said
