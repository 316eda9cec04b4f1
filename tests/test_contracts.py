"""The checks of edge.testing over every registered name: the same ones third parties call."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_models import node, save

from edge.config import EngineSection
from edge.decoders.base import DecoderContext
from edge.errors import MissingBackendError
from edge.registry import names, resolve
from edge.sources.base import open_source
from edge.targets import load_engine
from edge.tensor import Quantization, TensorSpec
from edge.testing import MemorySource, check_decoder, check_engine, check_publisher, check_source
from edge.uri import parse_uri

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'

# family -> role -> shape; 64 x 64 px inputs have 84 cells at strides 8, 16, 32 and 85 with stride 64
DECODERS = {
    "classification": ({"scores": (1, 10)}, {}),
    "ssd_postprocess": ({"boxes": (1, 10, 4), "classes": (1, 10), "scores": (1, 10), "count": (1,)}, {}),
    "ssd_anchors": ({"boxes": (1, 128, 16), "scores": (1, 128, 1)}, {"strides": [8], "keypoints": 6}),
    "yolo": ({"raw": (1, 84, 84)}, {"channels_first": True}),
    "yolox": ({"raw": (1, 84, 85)}, {"channels_first": False}),
    "nanodet": ({"raw": (1, 85, 112)}, {"strides": [8, 16, 32, 64]}),
    "fastestdet": ({"raw": (1, 85, 4, 4)}, {}),
    "detr": ({"logits": (1, 30, 8), "boxes": (1, 30, 4)}, {}),
}


def context_of(family: str, dtype: str) -> DecoderContext:
    shapes, params = DECODERS[family]
    quantization = Quantization(1 / 255, 0) if dtype == "uint8" else None
    outputs = [
        TensorSpec(role, shape, np.dtype("float32" if role == "count" else dtype), None,
                   None if role == "count" else quantization)
        for role, shape in shapes.items()
    ]  # fmt: skip
    return DecoderContext(outputs, {role: role for role in shapes}, (64, 64), 0.3, None, params)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("family", names("decoders"))
def test_decoders(family, dtype):
    context = context_of(family, dtype)
    rng = np.random.default_rng(1)
    decoder = resolve("decoders", family)(context)
    outputs = []
    for spec in context.outputs:
        if spec.name == "count":
            outputs.append(np.array([7], np.float32))
        elif spec.dtype == np.uint8:
            outputs.append(rng.integers(0, 256, spec.shape).astype(np.uint8))
        else:
            outputs.append(rng.uniform(0, 1, spec.shape).astype(spec.dtype))
    check_decoder(decoder, outputs)


def engine_file(suffix: str, folder: Path, catalogue) -> Path:
    if suffix == "tflite":
        return catalogue("face") / "face_detection_short_range.tflite"
    path = folder / f"model.{suffix}"
    if suffix == "null":
        path.write_text(NULL)
    else:
        save(path, [node("Relu", "x", "y")], {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]})
    return path


@pytest.mark.parametrize("suffix", names("engines"))
def test_engines(suffix, tmp_path, catalogue):
    if suffix.startswith("kserve"):
        pytest.skip("needs a server: tests/engines/test_kserve_triton.py has one")
    if suffix in ("engine", "plan"):
        pytest.skip("needs a GPU: tests/engines/test_tensorrt_runner.py has a stand-in for one")
    check_engine(load_engine(engine_file(suffix, tmp_path, catalogue), EngineSection(threads=1)))


def source_text(scheme: str, folder: Path) -> str:
    """A source of each scheme that can run on a machine without devices."""
    if scheme == "synthetic":
        return "synthetic://?fps=60"
    if scheme == "images":
        for i in range(4):
            cv2.imwrite(str(folder / f"{i}.png"), np.full((20, 30, 3), i, np.uint8))
        return f"images://{folder}"
    if scheme == "file":
        writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
        for i in range(30):
            writer.write(np.full((48, 64, 3), i * 8, np.uint8))
        writer.release()
        return f"file://{folder}/v.avi"
    if scheme == "gst":
        if not shutil.which("gst-launch-1.0"):
            pytest.skip("gst-launch-1.0 is not installed")
        return "gst://videotestsrc is-live=true ! video/x-raw,width=64,height=48"
    pytest.skip(f"{scheme}:// needs a device or a server: tests/sources has its own tests")


@pytest.mark.parametrize("scheme", names("sources"))
def test_sources(scheme, tmp_path):
    source = open_source(source_text(scheme, tmp_path))
    source.start()
    check_source(source)


def test_the_fake_source_keeps_the_contract_too():
    check_source(MemorySource([np.zeros((8, 8, 3), np.uint8)]))


@pytest.mark.parametrize("scheme", [name for name in names("publishers") if name != "stdout"])
def test_publishers(scheme, tmp_path):
    """Without anybody at the other end: a missing broker, autopilot or port stops nothing."""
    texts = {
        "file": f"file://{tmp_path}/x.jsonl",
        "tcp": "tcp://127.0.0.1:0",
        "unix": f"unix://{tmp_path}/x.sock",
        "udp": "udp://127.0.0.1:9",
        "serial": f"serial://{tmp_path}/ttyNone",
        "ws": "ws://127.0.0.1:0",
        "mqtt": "mqtt://127.0.0.1:9/harrier",
        "mqtts": "mqtts://127.0.0.1:9/harrier",
        "zenoh": "zenoh://harrier/check",
        "ros2": "ros2://check?domain=97",
        "mavlink": "mavlink://udpout:127.0.0.1:9",
        "mcap": f"mcap://{tmp_path}/recordings?min_free_mb=0",
    }
    try:
        plug = resolve("publishers", scheme)
    except MissingBackendError as exc:
        pytest.skip(str(exc))
    check_publisher(plug(parse_uri(texts[scheme])))


def test_the_stdout_publisher():
    script = (
        "from edge.publishers.stream import StdoutPublisher\n"
        "from edge.testing import check_publisher\n"
        "from edge.uri import parse_uri\n"
        "check_publisher(StdoutPublisher(parse_uri('stdout://')))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=True)
    assert json.loads(out.stdout.splitlines()[0])["kind"] == "detections"


class BrokenEngine:
    """Overwrites its input as it runs."""

    def __init__(self) -> None:
        self.input_specs = [TensorSpec("x", (1, 2), np.dtype(np.float32))]
        self.output_specs = [TensorSpec("y", (1, 2), np.dtype(np.float32))]
        self.inputs, self.outputs = [np.zeros((1, 2), np.float32)], [np.zeros((1, 2), np.float32)]

    def run(self) -> None:
        self.inputs[0][:] = 0

    def close(self) -> None:
        self.inputs, self.outputs = [], []


def test_the_checks_find_what_is_broken():
    with pytest.raises(AssertionError, match="must leave the inputs as they are"):
        check_engine(BrokenEngine())
    late = MemorySource([np.zeros((8, 8), np.uint8)])
    with pytest.raises(AssertionError, match="axes"):
        check_source(late)
