"""The same ranges for ONNX, and so for TensorRT, as for TFLite: by tensor, in the same form of the graph."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from calibration.collect import collect, open_activations
from calibration.collected import Histograms, ranges_from
from calibration.pictures import CalibrationSet
from calibration.ranges import Ranges
from calibration.shared_names import translate_ranges
from convert.calibrated import fidelity_on, inputs_of
from convert.float_model import FLOAT_ONNX, FloatModel
from convert.onnx_decode import onnx_decode_arithmetic
from convert.onnx_equalize import equalize_onnx
from convert.quantize_onnx import activation_names, quantize_onnx
from convert.workspace import Workspace, writing
from edge.errors import ManifestError
from edge.manifest import sha256_of

__all__ = ["OnnxBeside"]

_COMPARED = 2  # pictures on which tensors are told to be the same


class OnnxBeside:
    """The float ONNX of a model beside its float TFLite file, plain or with the same channels equalized.

    A tensor that only the ONNX file has (another route made it, or it is not equalized in the same places) gets its
    range from the same pictures by the same observer. Raises: ManifestError when there is no float ONNX.
    """

    def __init__(
        self, model: FloatModel, halves: tuple[CalibrationSet, CalibrationSet], work: Workspace, threads: int
    ) -> None:
        source = model.file(FLOAT_ONNX)
        if source is None:
            raise ManifestError(f"{model.manifest.name} has no target '{FLOAT_ONNX}'", "convert it to ONNX first")
        self._model, self._source, self._halves = model, source, halves
        self._target = model.manifest.targets[FLOAT_ONNX]
        self._folder = work.folder / "onnx"
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
        self._fidelity = fidelity_on(model, FLOAT_ONNX, halves[1], work, threads)
        self._kept = frozenset(onnx_decode_arithmetic(source, self._target.outputs))
        self._forms: dict[Path, tuple[Path, dict[str, str]]] = {}
        self._histograms: dict[Path, Histograms] = {}

    def measure(self, tflite: Path, factors: Mapping[str, np.ndarray], ranges: Ranges) -> float:
        """Return the fidelity of an int8 Q/DQ file with the ranges of a TFLite file."""
        file, own = self.taken(tflite, factors, ranges)
        trial = self._folder / "beside.onnx"
        quantize_onnx(file, trial, own, self._kept)
        try:
            return self._fidelity.measure(trial, self._target)
        finally:
            trial.unlink()

    def taken(self, tflite: Path, factors: Mapping[str, np.ndarray], ranges: Ranges) -> tuple[Path, Ranges]:
        """Return the float ONNX that corresponds to a TFLite file, and its ranges.

        factors: by which the TFLite file was equalized, {} where it was not.
        """
        if tflite not in self._forms:
            self._forms[tflite] = self._form(tflite, factors)
        file, names = self._forms[tflite]
        tensors = {name: ranges.tensors[origin] for name, origin in names.items() if origin in ranges.tensors}
        if any(name not in tensors for name in activation_names(file)):
            if file not in self._histograms:
                self._histograms[file] = collect(file, self._inputs(file))
            observed = ranges_from(self._histograms[file], ranges.observer.partition("+")[0])
            tensors = {**observed.tensors, **tensors}
        return file, msgspec.structs.replace(ranges, model_sha256=sha256_of(file), tensors=tensors, channels={})

    def _form(self, tflite: Path, factors: Mapping[str, np.ndarray]) -> tuple[Path, dict[str, str]]:
        """The ONNX file in the form of a TFLite file, and the TFLite file's name of each of its tensors."""
        file = self._source
        if factors:
            equalized = self._folder / f"{file.stem}-beside.onnx"
            file = equalized if equalize_onnx(file, equalized, factors) else file
        few = self._halves[0].chosen(range(min(_COMPARED, len(self._halves[0]))))
        pairs = zip(inputs_of(self._model, tflite, few)(), inputs_of(self._model, file, few)(), strict=True)
        everything = dict.fromkeys(_names(tflite), (0.0, 0.0))
        dummy = Ranges(model_sha256=sha256_of(tflite), observer="", images=0, tensors=everything)
        found = translate_ranges(dummy, tflite, file, list(pairs))
        return file, {name: found.by_value.get(name, name) for name in found.ranges.tensors}

    def _inputs(self, file: Path) -> Iterator[np.ndarray]:
        return chain.from_iterable(inputs_of(self._model, file, half)() for half in self._halves)


def _names(file: Path) -> list[str]:
    return list(open_activations(file).names)
