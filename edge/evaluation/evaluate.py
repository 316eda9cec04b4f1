"""One evaluation from end to end: the data set, one or two models, their figures and what they mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge import __version__
from edge.errors import ConfigError
from edge.evaluation.bootstrap import FEWEST_OF_A_CLASS, Interval, warnings_of
from edge.evaluation.categories import class_names, classes_of_categories, order_warnings
from edge.evaluation.classification_metrics import first_categories, hits_of, score_classifier
from edge.evaluation.compare import at_score, compare_classifiers, compare_detectors, picture_quality
from edge.evaluation.datasets import Dataset, check_pictures
from edge.evaluation.detection_metrics import DetectionScores, predictions, score_detector, truths_of
from edge.evaluation.matching import Predicted, Truth
from edge.evaluation.runner import RunSettings, operating_score, run_dataset
from edge.evaluation.store import Seen
from edge.manifest import sha256_of
from edge.model import Model

__all__ = ["Evaluation", "Reference", "Side", "evaluate"]

Reference = Callable[[Sequence[Truth], Sequence[Predicted], int], dict[str, float | None]]


@dataclass(slots=True)
class Side:
    """One model's part: what it said about each picture and the figures.

    operating is its score threshold, doubts are warnings about its labels.
    """

    title: str
    settings: RunSettings
    seen: list[Seen]
    classes: list[int]
    operating: float
    identity: dict[str, Any]
    doubts: list[str]
    labels: list[str]
    figures: dict[str, Any] = field(default_factory=dict)
    found: list[Predicted] = field(default_factory=list)
    scores: DetectionScores | None = None


@dataclass(slots=True)
class Evaluation:
    """Everything an evaluation found out. report is ready for JSON."""

    dataset: Dataset
    names: list[str]
    sides: list[Side]
    report: dict[str, Any]


def evaluate(
    dataset: Dataset,
    settings: list[RunSettings],
    folder: Path | None = None,
    resamples: int = 1000,
    reference: Reference | None = None,
    known: Evaluation | None = None,
) -> Evaluation:
    """Return the evaluation of one model, or of two on the same pictures.

    reference: another evaluation whose mAP is given as ours; a disagreement is a warning.
    known: an evaluation of the first model alone on the same data set, whose figures are taken over.
    Raises: ConfigError for wrong data, ModelError when a model cannot run.
    """
    if dataset.kind == "detection" and all(sample.ignore.all() for sample in dataset.samples):
        raise ConfigError(f"{dataset.path} has no object that counts", "give annotated pictures")
    check_pictures(dataset.samples)
    sides = [replace(known.sides[0], title="A")] if known else []
    names = known.names if known else []
    for i, choice in enumerate(settings[len(sides) :], len(sides)):
        model = choice.open()
        try:
            classes = classes_of_categories(dataset, model.labels, model.decoder.class_count)
            names = names or class_names(dataset, model.labels)
            title = "AB"[i] if len(settings) > 1 else ""
            seen = run_dataset(model, choice, dataset, folder, f"evaluating {title}".strip())
            doubts = order_warnings(dataset, model.labels)
            operating, identity = operating_score(model), _identity(model)
            sides.append(Side(title, choice, seen, classes, operating, identity, doubts, model.labels))
        finally:
            model.close()
    for side in sides[1:] if known else sides:
        if dataset.kind == "detection":
            _score_detector(dataset, side, names, resamples, reference)
        else:
            side.figures = score_classifier(dataset, side.seen, side.classes, names)
    report: dict[str, Any] = {
        "format": 1,
        "harrier": __version__,
        "kind": dataset.kind,
        "data": _data_of(dataset),
        "models": [{**side.identity, "figures": side.figures, "worst": _worst(dataset, side)} for side in sides],
    }
    if len(sides) == 2:
        report["comparison"] = _compared(dataset, sides, resamples)
    report["warnings"] = _warnings(dataset, sides)
    return Evaluation(dataset, names, sides, report)


def _data_of(dataset: Dataset) -> dict[str, Any]:
    found = {"path": str(dataset.path), "form": dataset.form, "split": dataset.split or None}
    return {**found, "pictures": len(dataset.samples)}


def _identity(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "reference": str(model.path.absolute()),
        "file": str(model.file.absolute()),
        "target": model.target,
        "sha256": sha256_of(model.file),
        "decoder": model.manifest.decoder.family,
        "contract": model.origins["contract"],
    }


def _score_detector(
    dataset: Dataset, side: Side, names: list[str], resamples: int, reference: Reference | None
) -> None:
    truths = truths_of(dataset, side.seen)
    side.found = predictions(side.seen, side.classes)
    side.scores = score_detector(truths, side.found, names, side.operating, resamples)
    side.figures = side.scores.figures
    side.figures["coco"] = reference(truths, side.found, len(names)) if reference else None


def _compared(dataset: Dataset, sides: list[Side], resamples: int) -> dict[str, Any]:
    a, b = sides
    names = [sample.name for sample in dataset.samples]
    if a.scores and b.scores:
        return compare_detectors(
            names,
            truths_of(dataset, a.seen),
            (a.scores.matches, b.scores.matches),
            (a.found, b.found),
            (a.operating, b.operating),
            resamples,
        )
    first = [first_categories(side.seen, side.classes) for side in sides]
    hits = hits_of(dataset, a.seen, a.classes), hits_of(dataset, b.seen, b.classes)
    return compare_classifiers(names, hits, (first[0], first[1]))


def _worst(dataset: Dataset, side: Side) -> list[dict[str, Any]]:
    """The pictures solved worst, as compare.picture_quality (detectors) or the first class (classifiers) tells."""
    names = [sample.name for sample in dataset.samples]
    if dataset.kind == "detection":
        truths = truths_of(dataset, side.seen)
        found = [at_score(predicted, side.operating) for predicted in side.found]
        quality = [picture_quality(t, p) for t, p in zip(truths, found, strict=True)]
    else:
        quality = hits_of(dataset, side.seen, side.classes)[:, 0].astype(float).tolist()
    rows = [{"picture": n, "quality": round(q, 4)} for n, q in zip(names, quality, strict=True) if q < 1]
    return sorted(rows, key=lambda row: (row["quality"], row["picture"]))[:50]


def _sparseness(side: Side) -> list[str]:
    """A warning where classes are in so few pictures that their figures, or even mAP, cannot be leaned on."""
    said = []
    pictures = np.count_nonzero(side.scores.matches.objects, axis=0) if side.scores else np.zeros(0)
    seen, sparse = int((pictures > 0).sum()), int(((pictures > 0) & (pictures < FEWEST_OF_A_CLASS)).sum())
    if 2 * sparse > seen:
        said.append(
            f"{sparse} of {seen} classes are in fewer than {FEWEST_OF_A_CLASS} pictures: mAP reads high, and the true "
            "value may lie below its interval, too"
        )
    few = sum(1 for row in side.figures["classes"] if 0 < row.get("objects", row.get("pictures", 0)) < 20)
    if few:
        said.append(f"classes with fewer than 20 examples: {few}, whose own figures are anecdotes")
    return ["; ".join(said)] if said else []


def _warnings(dataset: Dataset, sides: list[Side]) -> list[str]:
    """What a reader has to know, each thing once, whichever of the models it is true of."""
    name, title = ("map", "mAP") if dataset.kind == "detection" else ("top1", "top-1")
    said = list(dataset.notes)
    figures = {side.title: side.figures[name] for side in sides}
    intervals = {who: Interval(f["value"], f["low"], f["high"]) for who, f in figures.items()}
    said += warnings_of(title, intervals, len(dataset.samples)) + _sparseness(sides[0])
    doubts: dict[str, list[str]] = {}
    for side in sides:
        of_this = list(side.doubts)
        coco = side.figures["coco"]["map"] if side.figures.get("coco") else None
        if coco is not None and abs(coco - side.figures["map"]["value"]) > 1e-6:
            value = side.figures["map"]["value"]
            of_this.append(f"faster-coco-eval says mAP {coco:.6f}, Harrier {value:.6f}: please report this")
        if side.identity["contract"].startswith("a guess"):
            of_this.append(f"the pixel contract of {side.identity['name']} is {side.identity['contract']}")
        for doubt in of_this:
            doubts.setdefault(doubt, []).append(side.title)
    return said + [f"{', '.join(whose)}: {doubt}" if whose[0] else doubt for doubt, whose in doubts.items()]
