"""Preprocessing on the CPU; what the CPU does of it for the GPU, copying rows; and the whole way on a GPU."""

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from edge.engines.cuda import Cuda, open_cuda
from edge.engines.gpu_preprocess import GpuPreprocessor
from edge.engines.portable import RunnerError
from edge.manifest import InputContract
from edge.preprocess.letterbox import plan_geometry
from edge.preprocess.pixels import Preprocessor, pixel_tables
from edge.tensor import Quantization, TensorSpec

FRAME_WH, BUFFERS, ROUNDS = (1280, 720), 3, 300
CONTRACT = InputContract(scale=1 / 255)
CASES = [(side, dtype, layout) for side in (416, 640) for dtype, layout in (("float32", "NCHW"), ("uint8", "NHWC"))]


def measure() -> bool:
    """Measure every case in turns, three frame buffers as a live source has them; there is no target."""
    cuda = None
    try:
        cuda = open_cuda(0)
        print(f"GPU: compute capability {cuda.capability}, {cuda.binding}")
    except RunnerError as exc:
        print(f"no GPU: {exc}")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*FRAME_WH[::-1], 3), np.uint8) for _ in range(BUFFERS)]
    print(f"{FRAME_WH[0]}x{FRAME_WH[1]} frames, letterbox, RGB; median ms of {ROUNDS}\n")
    print(f"{'input':<26}{'CPU path':>10}{'row copy':>10}{'GPU path':>10}")
    for side, dtype, layout in CASES:
        shape = (1, 3, side, side) if layout == "NCHW" else (1, side, side, 3)
        quantization = Quantization(1 / 255, 0) if dtype == "uint8" else None
        spec = TensorSpec("image", shape, np.dtype(dtype), layout, quantization)
        ways = {"cpu": Preprocessor(CONTRACT, spec, np.zeros(shape, dtype)), "rows": _row_copy(side)}
        if cuda:
            ways["gpu"] = _on_gpu(cuda, spec)
        spent = _interleaved(ways, images)
        figures = "".join(f"{spent[way]:>10.3f}" if way in spent else f"{'-':>10}" for way in ("cpu", "rows", "gpu"))
        print(f"{f'{side}x{side} {dtype} {layout}':<26}{figures}")
    if cuda:
        cuda.close()
    return True


def _interleaved(ways: dict[str, Callable[[np.ndarray], object]], images: list[np.ndarray]) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images[i % BUFFERS])
            spent[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(times) for name, times in spent.items()}


def _row_copy(side: int) -> Callable[[np.ndarray], object]:
    """What `Letterbox` does with each frame on the host: the rows that count into one place."""
    height = plan_geometry(CONTRACT, FRAME_WH, (side, side)).resized_wh[1]
    top = np.floor((np.arange(height) + 0.5) * FRAME_WH[1] / height - 0.5).astype(int)
    rows = np.unique(np.clip([top, top + 1], 0, FRAME_WH[1] - 1))
    staging = np.empty((len(rows), FRAME_WH[0], 3), np.uint8)
    return lambda image: np.take(image, rows, axis=0, out=staging, mode="clip")


def _on_gpu(cuda: Cuda, spec: TensorSpec) -> Callable[[np.ndarray], object]:
    """Until the tensor is filled; in a pipeline the model follows in the same stream and nobody waits here."""
    stream, pointer = cuda.stream(), cuda.alloc(int(np.prod(spec.shape)) * spec.dtype.itemsize)
    runner = SimpleNamespace(cuda=cuda, stream=stream, input_pointer=pointer, skip_upload=False)
    tables = pixel_tables(CONTRACT, spec)
    fill = GpuPreprocessor(runner, CONTRACT, spec, tables, lambda wh: plan_geometry(CONTRACT, wh, spec.size_wh))
    return lambda image: (fill(image), cuda.synchronize(stream))
