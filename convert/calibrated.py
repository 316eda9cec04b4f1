"""The calibration pictures as the quantizers take them: two halves, as input tensors and as files.

Ranges come of the first half while ways are compared, the comparison of the second: never of the same pictures.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import cv2
import numpy as np

from calibration.pictures import CalibrationSet
from calibration.preprocessed import tensors
from calibration.ranges import Ranges, read_ranges
from calibration.shared_names import translate_ranges
from convert.fidelity import Fidelity
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from convert.workspace import Workspace, writing
from edge.config import EngineSection
from edge.errors import ConfigError
from edge.manifest import sha256_of
from edge.targets import load_engine
from edge.tensor import TensorSpec

__all__ = ["fidelity_on", "given_ranges", "halves", "input_spec", "inputs_of", "picture_files"]

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


def given_ranges(
    model: FloatModel,
    file: Path,
    ranges_file: Path,
    pictures: CalibrationSet,
    needed: Collection[str] | None = None,
) -> Ranges:
    """Return the ranges of a file as those of a float file of the model, so that all formats have the very same.

    Tensors of another name are found by their values on two pictures. needed: activations that must have a range,
    None: all. Raises: ConfigError for ranges of another model or that leave such activations without a range.
    """
    ranges = read_ranges(ranges_file)
    known = [model.original, model.file(FLOAT_ONNX), model.file(FLOAT_TFLITE)]
    origin = next((f for f in known if f and f.is_file() and sha256_of(f) == ranges.model_sha256), None)
    if origin is None:
        raise ConfigError(f"{ranges_file} is of another model", "harrier calibrate run MODEL DATA --out FILE")
    if origin == file:
        return ranges
    few = pictures.chosen(range(min(2, len(pictures))))
    pairs = zip(inputs_of(model, origin, few)(), inputs_of(model, file, few)(), strict=True)
    found = translate_ranges(ranges, origin, file, list(pairs))
    missing = [name for name in found.unmatched if needed is None or name in needed]
    if missing:
        raise ConfigError(
            f"{ranges_file} has no range for {len(missing)} activations of {file.name} ({missing[0]})",
            "calibrate the float file of a bundle: harrier calibrate run BUNDLE DATA --out FILE",
        )
    return found.ranges


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
