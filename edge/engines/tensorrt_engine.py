"""TensorRT engines of this process."""

from pathlib import Path

from edge.config import EngineSection
from edge.engines.adapted import AdaptedEngine
from edge.engines.tensorrt import open_runner

__all__ = ["TensorRtEngine"]


class TensorRtEngine(AdaptedEngine):
    """Runs an `.engine` or `.plan` file on an NVIDIA GPU. See `edge.engines.base.Engine` for the contract.

    runner: has what a kernel needs that fills the input on the GPU (`edge.engines.tensorrt.TensorRtRunner`).
    """

    def __init__(self, path: Path, options: EngineSection) -> None:
        super().__init__(open_runner, path, options)
        self.moving = self.runner.moving  # type: ignore[attr-defined]  # outputs whose shape may change
