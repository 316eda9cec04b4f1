"""TensorFlow Lite models through LiteRT, tflite-runtime or TensorFlow's own interpreter, whichever is installed."""

from pathlib import Path

from edge.config import EngineSection
from edge.engines.adapted import AdaptedEngine, edge_error_of
from edge.engines.tflite import interpreter_missing, open_runner
from edge.engines.tflite_ops import EDGE_TPU_OP

__all__ = ["EDGE_TPU_OP", "LiteRtEngine"]

if (_missing := interpreter_missing()) is not None:
    raise edge_error_of(_missing)


class LiteRtEngine(AdaptedEngine):
    """Runs a `.tflite` file: on the CPU with XNNPACK, on a Coral Edge TPU where it was compiled for one.

    See `edge.engines.base.Engine` for the contract.
    """

    def __init__(self, path: Path, options: EngineSection) -> None:
        super().__init__(open_runner, path, options)
        self.moving = self.runner.moving  # type: ignore[attr-defined]  # outputs whose shape may change
