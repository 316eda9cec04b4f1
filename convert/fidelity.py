"""How close a candidate comes to the float model on the user's own pictures, and how long its engine takes.

Both go through the runtime that runs on the robot and the matching of `harrier eval`. No annotations are needed:
the float model's own results stand for the truth.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from calibration.pictures import CalibrationSet
from convert.float_model import FLOAT_ONNX, FloatModel, write_manifest
from edge.clock import monotonic_ns
from edge.config import EngineSection
from edge.engines.base import Engine
from edge.errors import ConfigError, ManifestError
from edge.evaluation.datasets import read_picture
from edge.evaluation.detection_metrics import mean_of, predictions
from edge.evaluation.matching import Predicted, Truth, average_precision, match
from edge.evaluation.runner import OneFrameSource, RunSettings, operating_score, seen_of
from edge.evaluation.store import Seen
from edge.manifest import Target
from edge.model import Model
from edge.pipeline import Pipeline
from edge.sources.base import FrameSource
from edge.targets import load_engine

__all__ = ["Fidelity", "compare_latency", "latency_ms"]

_CACHE_BYTES = 512 << 20
_THINNEST_PX = 1.0  # thinner boxes do not even overlap themselves reliably
_RUNS_PER_TURN = 4  # the first of a turn finds cold caches and does not count


class Fidelity:
    """Measures candidates against one float model on the same pictures; 1 is "as the float model".

    Detectors: mAP50-95 of all the candidate's detections (score 0.001 and more), the truth being the float model's
    detections at its operating threshold.
    Classifiers: with n pictures, a of them of the same first class as the float model's, and d the mean distance of
    the probabilities, (a + 1 - d) / (n + 1): the agreement decides, d orders what agrees equally often. The distance
    of a picture is half the sum of |p - q| over the classes that either names among its five best.

    Decoded pictures stay in memory up to 512 MiB; those beyond are read again each time.
    Raises: ConfigError for pictures that cannot be read or on which the float model sees nothing, ModelError.
    """

    def __init__(
        self,
        model: FloatModel,
        pictures: CalibrationSet | Sequence[Path],
        reference_target: str = FLOAT_ONNX,
        threads: int | None = None,
    ) -> None:
        file = model.file(reference_target)
        if file is None:
            raise ManifestError(f"{model.manifest.name} has no target '{reference_target}'", "convert it to that first")
        if not len(pictures):
            raise ConfigError("there is no picture to measure on", "give calibration pictures")
        self._model, self._threads = model, threads
        self._pictures = pictures
        self._images: dict[int, np.ndarray] = {}
        self._kind, self._count, self._operating = "", 0, 0.0
        self._reference = self._see(file, model.manifest.targets[reference_target])
        self._truths: list[Truth] = []
        if self._kind == "detections":
            self._truths = self._own_truths()

    def measure(self, file: Path, target: Target) -> float:
        """Return the fidelity, in [0, 1], of a model file with the outputs that `target` describes.

        The file may lie anywhere; `target.file` and its hash play no role.
        Raises: ModelError when the file cannot be loaded or run.
        """
        seen = self._see(file, target)
        if self._kind == "classification":
            return _agreement(self._reference, seen)
        found = predictions(seen, range(self._count))
        return mean_of(average_precision(match(self._truths, found, self._count))) or 0.0

    def _own_truths(self) -> list[Truth]:
        found = predictions(self._reference, range(self._count), self._operating)
        truths = [_truth_of(predicted) for predicted in found]
        if not any(len(truth.xywh) for truth in truths):
            raise ConfigError(
                f"the float model finds nothing on {len(truths)} pictures at a score of {self._operating:g}",
                "give calibration pictures that show what it detects",
            )
        return truths

    def _see(self, file: Path, target: Target) -> list[Seen]:
        """What the file, standing in a bundle of its own, says of every picture."""
        with tempfile.TemporaryDirectory(prefix="harrier-fidelity-") as name:
            alone = msgspec.structs.replace(target, file=file.name, sha256=None)
            manifest = msgspec.structs.replace(
                self._model.manifest, targets={"candidate": alone}, labels=self._model.labels
            )
            write_manifest(Path(name), manifest)
            (Path(name) / file.name).symlink_to(file.resolve())
            settings = RunSettings(name, "candidate", threads=self._threads)
            opened = settings.open()
        try:
            return self._step_through(opened, settings)
        finally:
            opened.close()

    def _step_through(self, opened: Model, settings: RunSettings) -> list[Seen]:
        self._kind, self._operating = opened.decoder.kind, operating_score(opened)
        if self._kind == "classification":
            opened.decoder.score_threshold = 0.0  # an unsure picture has a first class too
        source = OneFrameSource()
        pipeline = Pipeline(cast(FrameSource, source), opened, [], settings.config())
        seen = []
        for i in range(len(self._pictures)):
            source.put(self._image(i))
            pipeline.step()
            seen.append(seen_of(pipeline))
        highest = max((int(one.class_ids.max()) for one in seen if len(one.class_ids)), default=0)
        self._count = max(self._count, opened.decoder.class_count or len(opened.labels), highest + 1)
        return seen

    def _image(self, i: int) -> np.ndarray:
        image = self._images.get(i)
        if image is None:
            pictures = self._pictures
            image = pictures.picture(i) if isinstance(pictures, CalibrationSet) else read_picture(pictures[i])
            if sum(kept.nbytes for kept in self._images.values()) + image.nbytes <= _CACHE_BYTES:
                self._images[i] = image
        return image


def latency_ms(file: Path, threads: int) -> float:
    """Return the median time of one run of a model file's engine alone, in ms.

    Raises: ModelError when the file cannot be loaded or run.
    """
    return compare_latency([file], threads)[0]


def compare_latency(files: Sequence[Path], threads: int, rounds: int = 12) -> list[float]:
    """Return the median time of one run of each file's engine alone, in ms.

    The files take turns, `rounds` times, in alternating order, so that what else the machine does falls on all.
    The input is always the same noise.
    Raises: ModelError when a file cannot be loaded or run.
    """
    engines: list[Engine] = []
    try:
        for file in files:
            engines.append(load_engine(file, EngineSection(threads=threads)))
            _fill(engines[-1])
        times: list[list[int]] = [[] for _ in engines]
        for turn in range(rounds):
            order = range(len(engines)) if turn % 2 == 0 else reversed(range(len(engines)))
            for i in order:
                times[i] += _timed_runs(engines[i])
    finally:
        for engine in engines:
            engine.close()
    return [float(np.median(own)) / 1e6 for own in times]


def _fill(engine: Engine) -> None:
    noise = np.random.default_rng(0)
    for array in engine.inputs:
        values = noise.integers(0, 128, array.shape)
        np.copyto(array, values if array.dtype.kind in "iu" else values / 128, casting="unsafe")


def _timed_runs(engine: Engine) -> list[int]:
    times = []
    for _ in range(_RUNS_PER_TURN):
        start = monotonic_ns()
        engine.run()
        times.append(monotonic_ns() - start)
    return times[1:]


def _truth_of(predicted: Predicted) -> Truth:
    thick = predicted.xywh[:, 2:].min(axis=1) >= _THINNEST_PX
    xywh = predicted.xywh[thick]
    return Truth(xywh, predicted.class_ids[thick], np.zeros(len(xywh), bool), xywh[:, 2] * xywh[:, 3])


def _agreement(wanted: Sequence[Seen], seen: Sequence[Seen]) -> float:
    same = sum(a.class_ids[:1].tolist() == b.class_ids[:1].tolist() for a, b in zip(wanted, seen, strict=True))
    distance = np.mean([_distance(a, b) for a, b in zip(wanted, seen, strict=True)])
    return float((same + 1 - distance) / (len(wanted) + 1))


def _distance(a: Seen, b: Seen) -> float:
    """Total variation of two probability vectors as far as they were seen, in [0, 1]."""
    p, q = (dict(zip(one.class_ids.tolist(), one.scores.tolist(), strict=True)) for one in (a, b))
    return min(1.0, sum(abs(p.get(c, 0.0) - q.get(c, 0.0)) for c in p.keys() | q.keys()) / 2)
