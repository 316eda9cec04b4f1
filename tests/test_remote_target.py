"""Which target of a bundle a server's model is."""

import msgspec
import numpy as np
import pytest

from edge.errors import ManifestError
from edge.manifest import Manifest
from edge.remote_target import matching_target
from edge.tensor import TensorSpec

TARGETS = {
    "tflite-int8": {"file": "m.tflite", "outputs": {"boxes": "StatefulPartitionedCall:0", "scores": "Call:1"}},
    "onnx-fp32": {"file": "m.onnx", "outputs": {"boxes": "boxes", "scores": "scores"}},
    "onnx-fp16": {"file": "m16.onnx", "outputs": {"boxes": "boxes", "scores": "scores"}},
}


class Served:
    """An engine by its tensors' names and sizes alone."""

    def __init__(self, outputs: list[str], size: int = 32, dtype: type = np.float32) -> None:
        self.input_specs = [TensorSpec("x", (1, 3, size, size), np.dtype(dtype), "NCHW")]
        self.output_specs = [TensorSpec(name, (1, 4), np.dtype(np.float32)) for name in outputs]


def manifest(targets: dict = TARGETS, size_wh: tuple[int, int] | None = (32, 32)) -> Manifest:
    described = {"name": "pets", "targets": targets, "input": {"size_wh": size_wh}, "decoder": {"family": "yolo"}}
    return msgspec.convert(described, Manifest)


def test_the_first_target_whose_outputs_the_server_has():
    assert matching_target(manifest(), Served(["scores", "boxes"])) == "onnx-fp32"
    assert matching_target(manifest(), Served(["Call:1", "StatefulPartitionedCall:0", "more"])) == "tflite-int8"


def test_both_sides_are_named_where_nothing_fits():
    with pytest.raises(ManifestError) as caught:
        matching_target(manifest(), Served(["boxes", "classes"]))
    for word in ("boxes, classes", "boxes, scores", "pets", "tflite-int8"):
        assert word in str(caught.value)


def test_a_target_without_named_outputs_fits_nothing():
    with pytest.raises(ManifestError, match=r"no named outputs \(onnx\)"):
        matching_target(manifest({"onnx": {"file": "m.onnx"}}), Served(["boxes"]))


def test_a_model_for_pictures_of_another_size_is_refused():
    with pytest.raises(ManifestError, match="takes images of 64x64 px, pets is for 32x32 px"):
        matching_target(manifest(), Served(["scores", "boxes"], 64))
    assert matching_target(manifest(size_wh=None), Served(["scores", "boxes"], 64)) == "onnx-fp32"


def test_whole_numbers_are_for_pixels_as_they_are():
    described = {"name": "pets", "targets": TARGETS, "input": {"scale": 1 / 255}, "decoder": {"family": "yolo"}}
    scaled, plain = msgspec.convert(described, Manifest), manifest()
    shifted = msgspec.convert({**described, "input": {"mean": [128, 128, 128]}}, Manifest)
    outputs = ["scores", "boxes"]
    assert matching_target(plain, Served(outputs, dtype=np.uint8)) == "onnx-fp32"
    assert matching_target(shifted, Served(outputs, dtype=np.int8)) == "onnx-fp32"
    assert matching_target(scaled, Served(outputs)) == "onnx-fp32"
    for wrong, dtype in ((scaled, np.uint8), (plain, np.int8), (shifted, np.uint8)):
        with pytest.raises(ManifestError, match=r"takes u?int8, and pixels of pets become"):
            matching_target(wrong, Served(outputs, dtype=dtype))
