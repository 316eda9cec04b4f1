"""The pictures of a data set through the very pipeline that runs on the robot."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from edge import __version__
from edge.bundle import MANIFEST_NAME, locate
from edge.clock import monotonic_ns
from edge.config import EngineSection, RunConfig, Thresholds
from edge.detections import Detections
from edge.errors import ConfigError, EndOfStreamError, ManifestError
from edge.evaluation.datasets import Dataset, read_picture
from edge.evaluation.store import ResultStore, Seen
from edge.frame import Frame, FrameInfo
from edge.manifest import read_manifest, sha256_of
from edge.model import Model, open_model
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.sources.base import FrameSource, SourceEvent

__all__ = [
    "OneFrameSource",
    "RunSettings",
    "check_kind",
    "operating_score",
    "run_dataset",
    "second_reference",
    "seen_of",
]


_LIBRARIES = (
    *("ai-edge-litert", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13-bindings"),
    *("opencv-python-headless", "opencv-python", "numpy"),
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Which model, which target, and what is kept of its results."""

    reference: str
    target: str | None = None
    labels: str | None = None
    score: float = 0.001
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(max_candidates=10_000))
    threads: int | None = None

    def open(self) -> Model:
        """Return the opened model; whoever calls closes it."""
        return open_model(
            self.reference, EngineSection(target=self.target, threads=self.threads), self.labels, self.score
        )

    def config(self) -> RunConfig:
        """Return the configuration of the pipeline."""
        return RunConfig(thresholds=msgspec.structs.replace(self.thresholds, score=self.score))


class OneFrameSource:
    """Gives the picture that was put into it, once: a source without a device, a thread or a wait."""

    def __init__(self) -> None:
        self.source_id = "evaluation"
        self.picture_fault = ""
        self._image: np.ndarray | None = None
        self._seq = 0

    def put(self, image: np.ndarray) -> None:
        """Give `image` (H, W, 3) uint8 BGR at the next read."""
        self._image = image

    def read(self, timeout_s: float) -> Frame:
        """Return the picture, stamped now.

        Raises: EndOfStreamError when there is none.
        """
        if self._image is None:
            raise EndOfStreamError("no picture is left", "nothing to do")
        image, self._image = self._image, None
        height, width = image.shape[:2]
        self._seq += 1
        info = FrameInfo(self._seq - 1, self.source_id, monotonic_ns(), width, height, timestamp_quality="generated")
        return Frame(image, info)

    def poll_events(self) -> list[SourceEvent]:
        """Return no events."""
        return []

    def close(self) -> None:
        """Do nothing."""


def run_dataset(
    model: Model, settings: RunSettings, dataset: Dataset, folder: Path | None, title: str = "evaluating"
) -> list[Seen]:
    """Return the model's result for each sample, in order; those found in `folder` are not computed again.

    Raises: ConfigError for a picture that cannot be read or a model of another kind, EngineError.
    """
    check_kind(model, dataset)
    source = OneFrameSource()
    pipeline = Pipeline(cast(FrameSource, source), model, [], settings.config())
    progress = Progress(title, len(dataset.samples))
    with ResultStore(folder, _identity(model, settings)) as store:
        for i, sample in enumerate(dataset.samples):
            if not store.known(sample):
                source.put(read_picture(sample.path, sample.size_wh))
                pipeline.step()
                store.add(sample, seen_of(pipeline))
            progress.update(i + 1, f"{i + 1} of {len(dataset.samples)} pictures")
        again = f", {store.reused} from before" if store.reused else ""
        progress.finish(len(dataset.samples), f"{len(dataset.samples)} pictures{again}")
        return [store.results[sample.name] for sample in dataset.samples]


def check_kind(model: Model, dataset: Dataset) -> None:
    """Find out that a data set is for models of another kind.

    Raises: ConfigError.
    """
    kind = model.decoder.kind
    if kind != dataset.kind.replace("detection", "detections"):
        raise ConfigError(
            f"{model.name} gives {kind}, but {dataset.path} ({dataset.form}) is for {dataset.kind}",
            "give a data set of the model's kind",
        )


def operating_score(model: Model) -> float:
    """Return the score threshold the model runs with on the robot."""
    return model.manifest.decoder.score_threshold


def second_reference(settings: RunSettings, other: str) -> RunSettings:
    """Return the settings of what `other` means: a target of the same bundle, else another model.

    Raises: ManifestError or CatalogueError when it is neither, which names the targets of a bundle.
    """
    path = locate(settings.reference)
    targets = read_manifest(path / MANIFEST_NAME).targets if path.is_dir() else {}
    if other in targets:
        return _replaced(settings, settings.reference, other)
    try:
        locate(other)
    except ManifestError as exc:
        if not targets:
            raise
        raise ManifestError(
            f"'{other}' is neither a target of {settings.reference} nor a model",
            f"its targets: {', '.join(f'--compare {name}' for name in targets)}",
        ) from exc
    return _replaced(settings, other, None)


def _replaced(settings: RunSettings, reference: str, target: str | None) -> RunSettings:
    return RunSettings(reference, target, settings.labels, settings.score, settings.thresholds, settings.threads)


def _identity(model: Model, settings: RunSettings) -> dict[str, Any]:
    """Everything that could change a result."""
    return {
        "version": __version__,
        "model": model.name,
        "target": model.target,
        "sha256": sha256_of(model.file),
        "outputs": model.manifest.targets[model.target].outputs,
        "input": msgspec.to_builtins(model.manifest.input),
        "decoder": msgspec.to_builtins(model.manifest.decoder),
        "classes": len(model.labels),
        "score": settings.score,
        "thresholds": msgspec.to_builtins(settings.thresholds),
        "threads": settings.threads,  # another split of a sum rounds otherwise
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def seen_of(pipeline: Pipeline) -> Seen:
    """Return a copy of the result of the pipeline's last step."""
    result, frame = pipeline.result, pipeline.frame
    assert frame is not None
    n = result.count
    xyxy = result.xyxy[:n].astype(np.float64) if isinstance(result, Detections) else np.zeros((0, 4))
    return Seen(
        (frame.info.width_px, frame.info.height_px),
        xyxy,
        result.class_ids[:n].astype(np.int64),
        result.scores[:n].astype(np.float64),
    )
