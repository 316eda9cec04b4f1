"""The probe: a few real inputs and what the original framework makes of them, kept to check every float file by."""

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np

from convert.float_model import FloatModel, Origin
from edge.config import EngineSection
from edge.errors import ManifestError, ModelError
from edge.evaluation.datasets import read_picture
from edge.files import write_atomically
from edge.manifest import InputContract
from edge.preprocess.pixels import Preprocessor
from edge.targets import load_engine
from edge.tensor import TensorSpec

__all__ = ["columns_of", "float_error", "make_probe", "probe_inputs", "relative_error"]

MOST_PICTURES = 8
_GENERATED = 4
_GENERATED_WH = (640, 480)


def probe_inputs(contract: InputContract, spec: TensorSpec, pictures: Sequence[Path]) -> np.ndarray:
    """Return (N, ...) float32 inputs in the layout of `spec`, from up to 8 pictures or, without any, smooth noise.

    Raises: ConfigError for a picture that cannot be read, ManifestError when the contract does not fit the input.
    """
    real = TensorSpec(spec.name, spec.shape, np.dtype(np.float32), spec.layout)
    tensor = np.zeros(spec.shape, np.float32)
    fill = Preprocessor(contract, real, tensor)
    images = [read_picture(path) for path in pictures[:MOST_PICTURES]] or _smooth_pictures()
    inputs = []
    for image in images:
        fill(image)
        inputs.append(tensor[0].copy())
    return np.stack(inputs)


def make_probe(file: Path, inputs: np.ndarray, run: Callable[[np.ndarray], list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Write the probe: `input_0` (N, ...) float32 and each original output as `output_<i>` (N, ...), and return it.

    run: the original framework, from one input (1, ...) float32 to its outputs, (1, ...) each.
    Raises: ConfigError when the file cannot be written, ModelError when the original fails or is not finite.
    """
    runs = [run(sample[None]) for sample in inputs]
    values = {"input_0": inputs}
    for i, outputs in enumerate(zip(*runs, strict=True)):
        if len({output.shape for output in outputs}) > 1 or outputs[0].shape[:1] != (1,):
            raise ModelError(
                f"output {i} of the model changes its shape from picture to picture",
                "export the model without its suppression: decoding and NMS are Harrier's part",
            )
        values[f"output_{i}"] = np.concatenate(outputs).astype(np.float32)
        if not np.isfinite(values[f"output_{i}"]).all():
            raise ModelError(f"output {i} of the original model is not finite on a picture", "check the model's input")
    content = BytesIO()
    np.savez(content, **values)  # type: ignore[arg-type]
    write_atomically(file, content.getvalue())
    return values


def float_error(model: FloatModel, target: str) -> dict[str, float]:
    """Return how far each output of a float target is from the original framework on the probe: max|a-b| / max|a|.

    Outputs are compared with the columns of the original that they come from, in whatever order they are laid.
    Raises: ManifestError when there is no such target, EngineError when it cannot be loaded or run.
    """
    file = model.file(target)
    if file is None:
        raise ManifestError(f"{model.manifest.name} has no target '{target}'", "convert it to that first")
    with np.load(model.probe) as probe:
        values = {name: probe[name] for name in probe.files}
    engine = load_engine(file, EngineSection(threads=2))
    try:
        spec = engine.input_specs[0]
        seen: list[list[np.ndarray]] = [[] for _ in engine.outputs]
        for sample in _in_layout(values["input_0"], spec):
            np.copyto(engine.inputs[0], sample[None], casting="unsafe")
            engine.run()
            for outputs, array in zip(seen, engine.outputs, strict=True):
                outputs.append(array.copy())
        names = [output.name for output in engine.output_specs]
    finally:
        engine.close()
    errors = {}
    for name, outputs in zip(names, seen, strict=True):
        origin = model.origins.get(name)
        if origin is None:
            raise ManifestError(f"output '{name}' of {file.name} comes from no output of the original", "convert again")
        wanted = values[f"output_{model.output_names.index(origin.output)}"]
        errors[name] = relative_error(columns_of(wanted, origin), np.concatenate(outputs))
    return errors


def columns_of(values: np.ndarray, origin: Origin) -> np.ndarray:
    """Return the columns of an original output that an origin names, (N, ...) of the dtype of `values` (N, ...)."""
    last = values.shape[origin.axis] if origin.last is None else origin.last
    return np.take(values, range(origin.first, last), origin.axis)


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return max|a-b| / max|a| of two (N, ...) float32 arrays whose inner axes may be laid in another order.

    Where several orders fit by their shape, the values decide. Infinite when none fits.
    """
    if wanted.size != found.size or len(wanted) != len(found):
        return float("inf")
    scale = float(np.abs(wanted).max()) or 1.0
    found = found.astype(np.float64)
    best = float("inf")
    for order in permutations(range(1, wanted.ndim)):
        laid = wanted.transpose(0, *order)
        same_axes = [n for n in laid.shape if n != 1] == [n for n in found.shape if n != 1]
        if same_axes or _flattened(laid.shape, found.shape):
            best = min(best, float(np.abs(laid.reshape(found.shape) - found).max()) / scale)
    return best


def _flattened(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether neighbouring axes of the longer shape, multiplied, give the shorter one."""
    long, short = sorted(([n for n in one if n != 1], [n for n in other if n != 1]), key=len, reverse=True)
    product, rest = 1, list(short)
    for n in long:
        product *= n
        if rest and product == rest[0]:
            rest.pop(0)
            product = 1
    return not rest and product == 1


def _in_layout(inputs: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """`inputs` (N, C, H, W) or (N, H, W, C) in the layout of a target's input."""
    for order in ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)):
        laid = inputs.transpose(order)
        if laid.shape[1:] == spec.shape[1:]:
            return np.ascontiguousarray(laid)
    raise ManifestError(f"the input {spec.shape} is not the original's {inputs.shape}", "convert the model again")


def _smooth_pictures() -> list[np.ndarray]:
    """Pictures of soft coloured patches, always the same."""
    noise = np.random.default_rng(0)
    small = [noise.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(_GENERATED)]
    return [cv2.resize(patches, _GENERATED_WH, interpolation=cv2.INTER_CUBIC) for patches in small]
