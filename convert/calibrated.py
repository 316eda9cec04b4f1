"""The calibration pictures as the quantizers take them: two halves, as input tensors and as files.

Ranges come of the first half while ways are compared, the comparison of the second: never of the same pictures.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from calibration.pictures import CalibrationSet
from calibration.preprocessed import tensors
from convert.fidelity import Fidelity
from convert.float_model import FloatModel
from convert.workspace import Workspace, writing
from edge.config import EngineSection
from edge.errors import ConfigError
from edge.model import load_engine
from edge.tensor import TensorSpec

__all__ = ["fidelity_on", "halves", "input_spec", "inputs_of", "picture_files"]

MOST_MEASURED = 60
"""More pictures than this make a comparison slower, not surer."""


def halves(pictures: CalibrationSet | None) -> tuple[CalibrationSet, CalibrationSet]:
    """Return the pictures of even and of odd number.

    Raises: ConfigError when there are fewer than two.
    """
    if pictures is None or len(pictures) < 2:
        raise ConfigError(
            "int8 needs at least two pictures to calibrate with", "give --calibration more (a few hundred are best)"
        )
    return pictures.chosen(range(0, len(pictures), 2)), pictures.chosen(range(1, len(pictures), 2))


def input_spec(file: Path) -> TensorSpec:
    """Return the image input of a model file.

    Raises: EngineError when it cannot be loaded.
    """
    engine = load_engine(file, EngineSection())
    try:
        return engine.input_specs[0]
    finally:
        engine.close()


def inputs_of(model: FloatModel, file: Path, pictures: CalibrationSet) -> Callable[[], Iterator[np.ndarray]]:
    """Return what gives the pictures as inputs of a float file, (1, ...) float32 each, anew at every call."""
    spec = input_spec(file)
    return lambda: tensors(pictures, model.manifest.input, spec)


def fidelity_on(model: FloatModel, reference: str, pictures: CalibrationSet, work: Workspace, threads: int) -> Fidelity:
    """Return what measures candidates against the float target `reference` on up to 60 of the pictures.

    Raises: ConfigError when the float model sees nothing on them, or the disk is full.
    """
    some = pictures.chosen(range(0, len(pictures), -(-len(pictures) // MOST_MEASURED)))
    return Fidelity(model, picture_files(some, work), reference, threads)


def picture_files(pictures: CalibrationSet, work: Workspace) -> list[Path]:
    """Return the pictures as files; frames of a video are written into the working folder.

    Raises: ConfigError when the disk is full.
    """
    if pictures.paths:
        return list(pictures.paths)
    folder, files = work.folder / f"frames-{pictures.identity[:16]}", []
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for i, name in enumerate(pictures.names):
            files.append(folder / f"{name}.png")
            if not files[-1].exists():
                cv2.imwrite(str(files[-1]), pictures.picture(i))
    return files
