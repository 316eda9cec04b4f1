"""Preprocessing on the GPU that runs the model: fills its input there, called as the preprocessing on the CPU is."""

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from edge.engines.adapted import edge_error_of
from edge.engines.gpu_letterbox import Letterbox
from edge.engines.portable import RunnerError
from edge.manifest import InputContract
from edge.tensor import TensorSpec

__all__ = ["GpuPreprocessor", "GpuRunner", "Placement"]


class GpuRunner(Protocol):
    """What a runner on CUDA shows of itself.

    input_pointer: the device address of input 0. skip_upload: input 0 is on the device already, `run()` copies nothing.
    """

    cuda: Any
    stream: Any
    input_pointer: int
    skip_upload: bool


class Placement(Protocol):
    """Where a source lands in the input image, in whole px; `edge.preprocess.letterbox.Geometry` is one."""

    @property
    def region_xywh(self) -> tuple[int, int, int, int]:
        """The part of the source that is used."""

    @property
    def resized_wh(self) -> tuple[int, int]:
        """What it is resized to."""

    @property
    def offset_xy(self) -> tuple[int, int]:
        """Where it is put."""


P = TypeVar("P", bound=Placement)


class GpuPreprocessor(Generic[P]):
    """Fills input 0 of a runner on CUDA, on the device, from (H, W, 3) uint8 BGR images of any size.

    tables: the (C, 256) pixel tables in the tensor's dtype. plan: a source's (width, height) -> where it goes.
    It works in the runner's stream, before `run()` and in the same thread; `engine.inputs[0]` is not filled. Close it
    before the engine.
    Raises: ConfigError for an interpolation the GPU does not do, MissingBackendError without NVRTC, EngineLostError.
    """

    path = "gpu"

    def __init__(
        self,
        runner: GpuRunner,
        contract: InputContract,
        spec: TensorSpec,
        tables: np.ndarray,
        plan: Callable[[tuple[int, int]], P],
    ) -> None:
        self._runner, self._plan = runner, plan
        self._source_wh = (0, 0)
        self._thread = threading.get_ident()
        self.geometry: P | None = None
        try:
            self._letterbox = Letterbox(
                runner.cuda,
                runner.stream,
                runner.input_pointer,
                spec.shape,
                spec.layout,
                tables,
                contract.channel_order,
                contract.pad_value,
                contract.interpolation,
            )
        except RunnerError as exc:
            raise edge_error_of(exc) from exc
        runner.skip_upload = True

    def __call__(self, image: np.ndarray) -> P:
        """Have the GPU fill the tensor from `image` (H, W, 3) uint8 BGR and return where its pixels go.

        The image may be overwritten at once. The tensor is filled when the stream, where the model's run follows, has
        got there.
        Raises: EngineLostError.
        """
        height, width = image.shape[:2]
        thread = threading.get_ident()
        try:
            if thread != self._thread:
                self._runner.cuda.make_current()
                self._thread = thread
            if self.geometry is None or (width, height) != self._source_wh:
                planned, self.geometry = self._plan((width, height)), None
                self._letterbox.prepare((width, height), planned.region_xywh, planned.resized_wh, planned.offset_xy)
                self.geometry, self._source_wh = planned, (width, height)
            self._letterbox(image)
        except RunnerError as exc:
            raise edge_error_of(exc) from exc
        return self.geometry

    def close(self) -> None:
        """Release its memory; the runner copies its input again."""
        self._runner.skip_upload = False
        try:
            self._letterbox.close()
        except RunnerError:
            pass  # the GPU is lost, and its memory with it
