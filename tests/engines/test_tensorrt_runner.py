"""The TensorRT runner on every generation's API, with stand-ins that compute: order, shapes, graphs, threads, words."""

import json
import logging
import threading

import numpy as np
import pytest
from tensorrt_standin import IMAGES, RAW, SURFACES, TOTAL, StandInCuda, StandInTensorRt, plan_of

from edge.config import EngineSection
from edge.engines import tensorrt, tensorrt_load
from edge.engines.portable import RunnerError
from edge.engines.tensorrt_engine import TensorRtEngine
from edge.engines.tensorrt_words import explained, first_error
from edge.errors import AcceleratorError, ConfigError, EngineError, EngineLostError, MissingBackendError
from edge.testing import check_engine

BY_NAME = [generation for generation in SURFACES if generation != "8.2"]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU and a TensorRT of the generations named; gives a function that opens a plan."""

    class Machine:
        def __init__(self) -> None:
            self.cuda = StandInCuda()
            self.libraries: dict = {}

        def install(self, *generations: str):
            for generation in generations:
                trt = StandInTensorRt(generation, self.cuda)
                self.libraries["tensorrt-rtx" if "rtx" in generation else "tensorrt"] = trt
            return trt

        def open(self, plan: bytes = b"", **options) -> TensorRtEngine:
            magic = next(iter(self.libraries.values())).magic if self.libraries else b"ftrt"
            path = tmp_path / "model.engine"
            path.write_bytes(plan or plan_of(magic=magic))
            return TensorRtEngine(path, EngineSection(**options))

    made = Machine()
    monkeypatch.setattr(tensorrt, "driver_problem", lambda device: "")
    monkeypatch.setattr(tensorrt, "open_cuda", lambda device: made.cuda)
    monkeypatch.setattr(tensorrt_load, "find_libraries", lambda: (made.libraries, []))
    return made


def magic_of(generation: str) -> bytes:
    return b"vtrt" if "rtx" in generation else b"ftrt"


def test_a_stand_in_has_the_members_of_its_generation_only():
    old, new = (StandInTensorRt(generation, StandInCuda()) for generation in ("8.2", "11.0"))
    assert not hasattr(old.ICudaEngine, "num_io_tensors")
    assert not hasattr(old.IExecutionContext, "execute_async_v3")
    assert not hasattr(new.ICudaEngine, "num_bindings")
    assert not hasattr(new.ICudaEngine, "has_implicit_batch_dimension")
    assert hasattr(StandInTensorRt("8.6", StandInCuda()).IExecutionContext, "execute_async_v2")


@pytest.mark.parametrize("generation", SURFACES)
def test_every_generation_keeps_the_contract(machine, generation):
    machine.install(generation)
    check_engine(machine.open())
    assert machine.cuda.closed
    assert not machine.cuda.memory_of


@pytest.mark.parametrize("generation", SURFACES)
def test_each_tensor_has_its_own_buffer(machine, generation):
    machine.install(generation)
    engine = machine.open()
    assert [(s.name, s.shape, s.dtype.name, s.layout) for s in engine.input_specs] == [
        ("images", (1, 3, 4, 6), "float32", "NCHW"),
        ("gain", (1,), "float32", None),
    ]
    assert [(s.name, s.dtype.name) for s in engine.output_specs] == [("raw", "float16"), ("total", "int32")]
    for gain in (2.0, -3.0):
        engine.inputs[0][...] = np.arange(72).reshape(1, 3, 4, 6)
        engine.inputs[1][...] = gain
        engine.run()
        np.testing.assert_array_equal(engine.outputs[0], (engine.inputs[0] * gain).astype(np.float16))
        assert engine.outputs[1].tolist() == [[72 * 71 // 2]]


@pytest.mark.parametrize("generation", SURFACES)
def test_the_second_run_is_one_launch_of_a_graph(machine, generation):
    machine.install(generation)
    engine = machine.open()
    calls = machine.cuda.calls
    first = [call for call in calls if call != "synchronize"]
    run = ["upload", "upload", "execute", "download", "download"]
    assert first == [*run, "begin_capture", *run, "end_capture", "launch_graph"]
    assert engine.runner.graph
    calls.clear()
    engine.run()
    assert calls == ["launch_graph", "synchronize"]


@pytest.mark.parametrize("broken", ["no_graphs", "refuse_capture", "not capturable"])
def test_without_a_graph_it_runs_and_says_so(machine, caplog, broken):
    trt = machine.install("rtx-1.7")
    if broken == "not capturable":
        trt.capturable = False
    else:
        setattr(machine.cuda, broken, True)
    with caplog.at_level(logging.WARNING):
        engine = machine.open()
    assert "model.engine runs without a CUDA graph, a little slower" in caplog.text
    assert not engine.runner.graph
    machine.cuda.refuse_capture = False
    engine.inputs[0][...] = 1
    engine.run()
    assert engine.outputs[1].tolist() == [[72]]


@pytest.mark.parametrize("generation", SURFACES)
@pytest.mark.parametrize("profiles", [1, 2])
def test_open_shapes_follow_the_profile(machine, generation, profiles):
    machine.install(generation)
    images = {**IMAGES, "shape": [-1, 3, -1, -1], "profile": [[1, 3, 2, 2], [8, 3, 4, 6], [16, 3, 9, 9]]}
    raw = {**RAW, "shape": [-1, 3, 4, 6]}
    engine = machine.open(plan_of(raw, images, TOTAL, magic=magic_of(generation), profiles=profiles))
    assert [spec.shape for spec in engine.input_specs] == [(1, 3, 4, 6)]  # batch 1 although the best is 8
    assert [spec.shape for spec in engine.output_specs] == [(1, 3, 4, 6), (1, 1)]
    engine.inputs[0][...] = 2
    engine.run()
    assert engine.outputs[1].tolist() == [[144]]
    images["profile"] = [[4, 3, 2, 2], [8, 3, 4, 6], [16, 3, 9, 9]]
    engine = machine.open(plan_of(raw, images, TOTAL, magic=magic_of(generation), profiles=profiles))
    assert engine.input_specs[0].shape == engine.output_specs[0].shape == (4, 3, 4, 6)


@pytest.mark.parametrize("generation", BY_NAME)
def test_an_output_of_unknown_length_is_given_at_its_length(machine, generation):
    machine.install(generation)
    boxes = {"name": "boxes", "input": False, "dtype": "FLOAT", "shape": [-1, 2], "unknown": True, "most_bytes": 80}
    engine = machine.open(plan_of(boxes, IMAGES, TOTAL, magic=magic_of(generation)))
    assert engine.output_specs[0].shape == (10, 2)
    outputs = engine.outputs
    for rows in (3, 0, 10):
        engine.inputs[0][...] = rows
        engine.run()
        assert engine.outputs is outputs
        np.testing.assert_array_equal(outputs[0], np.arange(rows * 2, dtype=np.float32).reshape(-1, 2))
        assert outputs[1].tolist() == [[72 * rows]]
    assert not engine.runner.graph
    assert engine.moving == [0]
    shared = [np.zeros((10, 2), np.float32), np.zeros((1, 1), np.int32)]
    assert engine.runner.adopt([np.ones_like(engine.inputs[0])], shared) is True
    engine.run()
    assert outputs[0].tolist() == [[0, 1]]
    assert shared[1].tolist() == [[72]]
    with pytest.raises(EngineError, match="output 'boxes' of model.engine has no greatest size"):
        machine.open(plan_of({**boxes, "most_bytes": -1}, IMAGES, magic=magic_of(generation)))


def test_arrays_made_elsewhere_are_used_in_place(machine):
    machine.install("8.5")
    engine = machine.open()
    inputs = [np.ones(array.shape, array.dtype) for array in engine.inputs]
    outputs = [np.zeros(array.shape, array.dtype) for array in engine.outputs]
    assert engine.runner.adopt(inputs, outputs) is True
    assert engine.inputs[0] is inputs[0]
    assert engine.outputs[0] is outputs[0]
    inputs[1][...] = 5
    engine.run()
    assert (outputs[0] == 5).all()
    assert len(machine.cuda.locked) == 4
    engine.close()
    assert not machine.cuda.locked


def test_a_kernel_may_fill_the_input_on_the_gpu(machine):
    machine.install("10.3")
    engine = machine.open()
    runner, cuda = engine.runner, machine.cuda
    assert (runner.cuda, runner.stream.handle) == (cuda, 77)
    engine.inputs[0][...] = 100
    engine.inputs[1][...] = 2
    runner.skip_upload = True
    cuda.memory_of[runner.input_pointer][:] = np.full((1, 3, 4, 6), 3, np.float32).tobytes()
    engine.run()
    assert (engine.outputs[0] == 6).all()
    runner.skip_upload = False
    engine.run()
    assert (engine.outputs[0] == 200).all()


def test_another_thread_makes_the_context_its_own(machine):
    machine.install("10.13")
    engine = machine.open()
    engine.run()
    assert "make_current" not in machine.cuda.calls
    machine.cuda.calls.clear()
    thread = threading.Thread(target=lambda: (engine.run(), engine.run()))
    thread.start()
    thread.join(10)
    assert machine.cuda.calls == ["make_current", "launch_graph", "synchronize", "launch_graph", "synchronize"]


def test_a_lost_device_is_told_from_a_model_that_fails(machine):
    trt = machine.install("11.0")
    machine.cuda.no_graphs = True
    engine = machine.open()
    trt.fail = "[executionContext.cpp::enqueue::1] Error Code 3: API Usage Error (the address of raw is not set.)"
    with pytest.raises(EngineError, match=r"model.engine failed while running \(Error Code 3: API Usage") as caught:
        engine.run()
    assert not isinstance(caught.value, EngineLostError)
    machine.cuda.lost = True
    with pytest.raises(EngineLostError, match="CUDA_ERROR_LAUNCH_FAILED"):
        engine.run()
    engine.close()
    assert machine.cuda.closed


@pytest.mark.parametrize("generation", SURFACES)
def test_an_engine_of_another_release_names_both(machine, generation):
    trt = machine.install(generation)
    with pytest.raises(
        AcceleratorError, match=rf"built by TensorRT 8\.4\.1\.5, here is {trt.__version__}.*--on-device.*rebuild = "
    ):
        machine.open(plan_of(version="8.4.1.5", magic=magic_of(generation)))
    assert machine.cuda.closed


def test_the_library_that_fits_is_taken(machine):
    machine.install("10.3", "rtx-1.7")
    assert machine.open(plan_of(magic=b"vtrt")).runner.library == "TensorRT-RTX 1.7.0"
    assert machine.open(plan_of(magic=b"ftrt")).runner.library == "TensorRT 10.3.0"
    with pytest.raises(EngineError, match="model.engine is no TensorRT engine"):
        machine.open(b"\x08\x07onnx and so on")
    del machine.libraries["tensorrt-rtx"]
    with pytest.raises(AcceleratorError, match=r"built by TensorRT-RTX, here is TensorRT 10\.3\.0"):
        machine.open(plan_of(magic=b"vtrt"))
    machine.libraries.clear()
    with pytest.raises(MissingBackendError, match="TensorRT cannot be imported by this Python"):
        machine.open()


def test_what_ultralytics_wrote_before_the_plan(machine):
    machine.install("10.3")
    said = {"task": "detect", "stride": 32, "names": {"0": "person"}}
    text = json.dumps(said).encode()
    engine = machine.open(len(text).to_bytes(4, "little") + text + plan_of())
    assert engine.embedded == {"task": "detect", "stride": "32", "names": '{"0": "person"}'}
    engine.inputs[0][...] = 1
    engine.run()
    assert engine.outputs[1].tolist() == [[72]]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((RAW, {**IMAGES, "dtype": "INT8"}), "'images' .* is int8, and TensorRT does not tell its scale"),
        ((RAW, {**IMAGES, "format": "CHW4"}), "'images' .* is laid out as CHW4"),
        (({**RAW, "dtype": "BF16"}, IMAGES), "'raw' .* is BF16: build it with plain float"),
        ((RAW, {**IMAGES, "is_shape": True}), "'images' .* is a shape, not data"),
        ((RAW,), "has no input"),
    ],
)
def test_engines_that_cannot_be_fed(machine, tensors, said):
    machine.install("10.13")
    with pytest.raises(EngineError, match=said):
        machine.open(plan_of(*tensors))
    assert machine.cuda.closed
    assert not machine.cuda.memory_of


def test_an_implicit_batch_is_explained(machine):
    machine.install("8.2")
    with pytest.raises(EngineError, match="implicit batch dimension: build it again from the ONNX"):
        machine.open(plan_of(RAW, {**IMAGES, "implicit": True}))


def test_too_little_memory_is_explained(machine):
    machine.install("8.6").no_memory = True
    with pytest.raises(AcceleratorError, match="not enough GPU memory for model.engine.*close other programs"):
        machine.open()
    assert machine.cuda.closed


def test_warnings_of_the_library_are_told_once(machine, caplog):
    machine.install("8.2")
    with caplog.at_level(logging.WARNING):
        machine.open(plan_of(warning="Using an engine plan file across different models of devices is not recommended"))
    assert caplog.text.count("TensorRT 8.2.0: Using an engine plan file across") == 1


def test_devices_are_numbers_and_a_machine_without_a_gpu_says_so(machine, monkeypatch):
    machine.install("8.5")
    with pytest.raises(ConfigError, match="'usb:0' is no CUDA device"):
        machine.open(device="usb:0")
    opened = []
    monkeypatch.setattr(tensorrt, "open_cuda", lambda device: opened.append(device) or machine.cuda)
    machine.open(device="1").close()
    assert opened == [1]
    monkeypatch.setattr(tensorrt, "driver_problem", lambda device: "no NVIDIA driver (libcuda.so.1) is installed")
    with pytest.raises(AcceleratorError, match="no GPU 0 to run model.engine .no NVIDIA driver"):
        machine.open()


SAID = {  # as people report them in public
    "6: The engine plan file is generated on an incompatible device, expecting compute 8.6 got compute 7.5, please "
    "rebuild.": "built for compute capability 7.5, the GPU here has 8.6",
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not compatible with this "
    "version of TensorRT, expecting library version 10.14.1.48 got \n..      , please rebuild. In "
    "checkEngineVersionCompatible at /_src/runtime/api/engine.cpp:871)": "here is 10.14.1.48",
    "1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization (Serialization assertion "
    "stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 205, Serialized "
    "Engine Version: 213)": "was built by another release than TensorRT 8.5.2",
    "1: [pluginV2Runner.cpp::load::290] Error Code 1: Serialization (Serialization assertion creator failed.Cannot "
    "deserialize plugin since corresponding IPluginCreator not found in Plugin Registry)": "needs a plugin",
    "3: getPluginCreator could not find plugin BatchedNMS_TRT version 1": "needs the plugin BatchedNMS_TRT",
    "[defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime (out of memory)": "not enough GPU memory",
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at /_src/common/dispatch/"
    "checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))": "driver is "
    "missing or older than TensorRT 8.5.2 needs",
    "[x.cpp::y::1] Error Code 9: something else": "TensorRT 8.5.2 cannot use m.engine (Error Code 9: something else)",
}


@pytest.mark.parametrize("line", SAID)
def test_what_tensorrt_says_becomes_words_to_act_on(line):
    error = explained("m.engine", "TensorRT 8.5.2", [line])
    assert isinstance(error, RunnerError)
    assert SAID[line] in error.cause
    assert error.cure
    assert error.kind == "accelerator"
    assert "\n" not in error.cause


def test_the_first_telling_line_without_the_place_in_the_source():
    lines = ["[optimizer.cpp::computeCosts::3728] Error Code 10: Could not find any implementation for node conv."]
    assert first_error(lines) == "Error Code 10: Could not find any implementation for node conv."
    assert first_error([]) == "TensorRT gives no reason"
    assert first_error(["CUDA initialization failure with error: 35", "4: out of luck"]) == "out of luck"
