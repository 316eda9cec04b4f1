"""On-GPU preprocessing on a real GPU against the CPU path; skipped, with the reason, where there is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from edge.engines.cuda import open_cuda
from edge.engines.gpu_preprocess import GpuPreprocessor
from edge.engines.portable import RunnerError
from edge.errors import MissingBackendError
from edge.manifest import InputContract
from edge.preprocess.letterbox import plan_geometry
from edge.preprocess.pixels import Preprocessor, pixel_tables
from edge.tensor import Quantization, TensorSpec


@pytest.fixture(scope="module")
def cuda():
    try:
        opened = open_cuda(0)
    except RunnerError as exc:
        pytest.skip(str(exc))
    yield opened
    opened.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_the_tensor_on_the_device_is_the_cpus(cuda, dtype, layout, resize):
    shape = (1, 3, 416, 416) if layout == "NCHW" else (1, 416, 416, 3)
    quantization = Quantization(0.0039, -128) if dtype == "int8" else None
    spec = TensorSpec("image", shape, np.dtype(dtype), layout, quantization)
    contract = InputContract(resize=resize, scale=1 / 255)
    wanted, got = np.zeros(shape, dtype), cuda.pinned(shape, dtype)
    stream, pointer = cuda.stream(), cuda.alloc(got.nbytes)
    runner = SimpleNamespace(cuda=cuda, stream=stream, input_pointer=pointer, skip_upload=False)
    tables = pixel_tables(contract, spec)
    cpu = Preprocessor(contract, spec, wanted)
    try:
        gpu = GpuPreprocessor(runner, contract, spec, tables, lambda wh: plan_geometry(contract, wh, (416, 416)))
    except MissingBackendError as exc:
        pytest.skip(str(exc))
    random = np.random.default_rng(0)
    for width, height in ((1280, 720), (1280, 720), (640, 480), (333, 1001), (100, 50), (416, 416)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        assert gpu(image) == cpu(image)
        cuda.download(got, pointer, stream)
        cuda.synchronize(stream)
        # OpenCV's own resize differs between processors (its NEON routines): there one grey level is the bound
        assert np.abs(got.astype(np.float64) - wanted).max() <= np.abs(np.diff(tables.astype(np.float64))).max()
        assert (got != wanted).mean() < 0.01
    gpu.close()
    cuda.free(pointer)
