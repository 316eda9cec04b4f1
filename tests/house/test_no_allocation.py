"""After warm-up a step allocates nothing that grows with the image or the tensor."""

import tracemalloc

import cv2
import numpy as np
import pytest

from edge import catalogue as catalogue_module
from edge.config import EngineSection, RunConfig
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.testing import MemoryPublisher, MemorySource

PEAK_BYTES, KEPT_BYTES = 128 * 1024, 64 * 1024


def check_allocations(model: str, image: np.ndarray) -> None:
    config = RunConfig(engine=EngineSection(threads=1))
    opened = open_model(model, config.engine)
    pipeline = Pipeline(MemorySource([image]), opened, [MemoryPublisher()], config)
    for _ in range(5):
        pipeline.step()
    tracemalloc.start()
    for _ in range(10):
        pipeline.step()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    opened.close()
    assert peak < PEAK_BYTES
    assert kept < KEPT_BYTES


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (3840, 2160)])
def test_faces_at_any_frame_size(catalogue, size):
    catalogue("face")
    photo = cv2.imread(str(catalogue("astronaut") / catalogue_module.entries()["astronaut"].file))
    check_allocations("face", cv2.resize(photo, size))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolox_nano.onnx", "FastestDet.onnx", "mobilenet_v2_1.0_224_quant.tflite"])
def test_other_models(shared, name):
    picture = cv2.imread(str(shared / "data/images/pets.jpg"))
    check_allocations(str(shared / "models" / name), cv2.resize(picture, (1280, 720)))
