"""Which stage makes B differ from A: preprocessing, engine, decode or thresholds.

Stages of A are exchanged for B's one by one, front to back and back to front, on identical pictures. What each
exchange costs in agreement with A, mean of both orders, is the stage's share; the shares add up to the whole.
"""

from typing import Any

import msgspec
import numpy as np

from edge.errors import ConfigError
from edge.evaluation.bridge import Hybrid, move, real_image
from edge.evaluation.categories import classes_of_categories
from edge.evaluation.classification_metrics import first_categories
from edge.evaluation.compare import agreement, picture_quality
from edge.evaluation.datasets import Dataset, read_picture
from edge.evaluation.detection_metrics import predictions, truths_of
from edge.evaluation.runner import RunSettings
from edge.evaluation.store import Seen
from edge.model import Model
from edge.progress import Progress
from edge.tensor import TensorSpec

__all__ = ["STAGES", "explain", "sqnr_db"]

STAGES = ("preprocessing", "engine", "decode", "thresholds")
_CHAIN = ("AAAA", "BAAA", "BBAA", "BBBA", "BBBB", "ABBB", "AABB", "AAAB")
_FORWARD, _BACKWARD = (0, 1, 2, 3, 4), (0, 7, 6, 5, 4)
_ENGINE_ONLY = "ABAA"
_SMALL = 0.005  # a loss of agreement below this is rounding


def explain(dataset: Dataset, first: RunSettings, second: RunSettings, score: float | None = None) -> dict[str, Any]:
    """Return the findings, ready for JSON. score None: each model's own threshold, as on the robot.

    Raises: ConfigError when the models are not two builds of one network.
    """
    a, b = first.open(), second.open()
    try:
        if a.decoder.kind != b.decoder.kind or a.decoder.kind != dataset.kind.replace("detection", "detections"):
            raise ConfigError(
                f"A gives {a.decoder.kind}, B {b.decoder.kind}, the data set is for {dataset.kind}",
                "explain compares two builds of one network on data of its kind",
            )
        return _explained(dataset, a, b, msgspec.structs.replace(first.thresholds, score=score))
    finally:
        a.close()
        b.close()


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Return the signal to noise ratio in dB, at most 150, of `other` against `reference`, float32 of one shape."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(reference.astype(np.float64) - other)))
    return min(150.0, float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30))))


def _explained(dataset: Dataset, a: Model, b: Model, thresholds: Any) -> dict[str, Any]:
    of = {"A": a, "B": b}
    hybrids = {
        key: Hybrid((of[key[0]], of[key[1]], of[key[2]], of[key[3]]), thresholds) for key in (*_CHAIN, _ENGINE_ONLY)
    }
    results: dict[str, list[Seen]] = {key: [] for key in _CHAIN}
    inputs: list[dict[str, float]] = []
    outputs: dict[str, list[float]] = {}
    progress = Progress("explaining", len(dataset.samples))
    for i, sample in enumerate(dataset.samples):
        image = read_picture(sample.path, sample.size_wh)
        for key in _CHAIN:
            results[key].append(hybrids[key].see(image))
        hybrids[_ENGINE_ONLY].see(image)
        inputs.append(_input_difference(hybrids["AAAA"], hybrids["BBBB"]))
        for role, value in _output_difference(a, hybrids["AAAA"], hybrids[_ENGINE_ONLY]).items():
            outputs.setdefault(role, []).append(value)
        progress.update(i + 1, f"{i + 1} of {len(dataset.samples)} pictures")
    progress.finish(len(dataset.samples), f"{len(dataset.samples)} pictures")
    tables = [classes_of_categories(dataset, model.labels, model.decoder.class_count) for model in (a, b)]
    steps = _steps(dataset, results, tables)
    shares = _shares([steps[key]["agreement"] for key in _CHAIN])
    details = {
        "preprocessing": {
            **{key: float(np.mean([row[key] for row in inputs])) for key in inputs[0]},
            "differs": _differences(a.manifest.input, b.manifest.input),
        },
        "engine": {"sqnr_db": {role: float(np.mean(values)) for role, values in outputs.items()}},
        "decode": {"differs": _decoder_differences(a, b)},
        "thresholds": {"differs": _threshold_differences(a, b)},
    }
    return {
        "format": 1,
        "a": f"{a.name} ({a.target})",
        "b": f"{b.name} ({b.target})",
        "pictures": len(dataset.samples),
        "agreement": steps["BBBB"]["agreement"],
        "steps": [{"stages": key, **steps[key]} for key in _CHAIN],
        "shares": dict(zip(STAGES, shares, strict=True)),
        "details": details,
        **_verdict(shares, details),
    }


def _steps(dataset: Dataset, results: dict[str, list[Seen]], tables: list[list[int]]) -> dict[str, dict[str, Any]]:
    """For each mixture: agreement with A, quality against the truth, and how many detections."""
    steps = {}
    if dataset.kind == "classification":
        first = {k: first_categories(seen, tables["AB".index(k[2])]) for k, seen in results.items()}
        truth = [int(sample.category[0]) for sample in dataset.samples]
        for key, best in first.items():
            steps[key] = {
                "agreement": float(np.mean(np.equal(best, first["AAAA"]))),
                "quality": float(np.mean(np.equal(best, truth))),
                "found": int(np.sum(np.array(best) >= -1)),
            }
        return steps
    truths = truths_of(dataset, results["AAAA"])
    found = {k: predictions(seen, tables["AB".index(k[2])]) for k, seen in results.items()}
    for key, side in found.items():
        steps[key] = {
            "agreement": float(np.mean([agreement(p, q) for p, q in zip(found["AAAA"], side, strict=True)])),
            "quality": float(np.mean([picture_quality(t, p) for t, p in zip(truths, side, strict=True)])),
            "found": sum(len(p.scores) for p in side),
        }
    return steps


def _shares(agreements: list[float]) -> list[float]:
    """The loss of each stage, mean of both orders of exchange."""
    forward = [agreements[i] for i in _FORWARD]
    backward = [agreements[i] for i in _BACKWARD]
    losses = []
    for stage in range(4):
        front = forward[stage] - forward[stage + 1]
        back = backward[3 - stage] - backward[4 - stage]
        losses.append((front + back) / 2)
    return losses


def _input_difference(a: Hybrid, b: Hybrid) -> dict[str, float]:
    """How B's input differs from A's, and whether reversed channels or a scale and an offset would explain it."""
    x, y = (real_image(h.bridge.input_specs[0], h.bridge.inputs[0]) for h in (a, b))
    flat_x, flat_y = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
    spread = float(np.var(flat_y))
    factor = float(np.mean((flat_x - flat_x.mean()) * (flat_y - flat_y.mean()))) / spread if spread > 0 else 0.0
    fitted = (flat_y - flat_y.mean()) * factor + flat_x.mean()
    return {
        "sqnr_db": sqnr_db(x, y),
        "largest": float(np.abs(x - y).max()),
        "sqnr_db_channels_reversed": sqnr_db(x, y[..., ::-1]),
        "sqnr_db_rescaled": sqnr_db(flat_x, fitted),
    }


def _output_difference(a: Model, own: Hybrid, other: Hybrid) -> dict[str, float]:
    """SQNR in dB by role of B's engine on A's input."""
    specs, names = own.bridge.output_specs, [spec.name for spec in own.bridge.output_specs]
    roles = {name: role for role, name in a.manifest.targets[a.target].outputs.items()}
    return {
        roles.get(name, name): sqnr_db(_real(spec, x), _real(spec, y))
        for name, spec, x, y in zip(names, specs, own.bridge.outputs, other.bridge.outputs, strict=True)
        if name in roles
    }


def _real(spec: TensorSpec, stored: np.ndarray) -> np.ndarray:
    real = np.zeros(stored.shape, np.float32)
    move(spec.dequantize(stored), TensorSpec("", stored.shape, np.dtype(np.float32)), real)
    return real


def _differences(a: msgspec.Struct, b: msgspec.Struct) -> list[str]:
    fields = [(name, getattr(a, name), getattr(b, name)) for name in a.__struct_fields__]
    return [f"{name}: {x} in A, {y} in B" for name, x, y in fields if x != y]


def _decoder_differences(a: Model, b: Model) -> list[str]:
    x, y = a.manifest.decoder, b.manifest.decoder
    said = [] if x.family == y.family else [f"family: {x.family} in A, {y.family} in B"]
    keys = sorted({*x.params, *y.params})
    missing = "the default"
    said += [
        f"params.{k}: {x.params.get(k, missing)} in A, {y.params.get(k, missing)} in B"
        for k in keys
        if x.params.get(k) != y.params.get(k)
    ]
    return said if a.labels == b.labels else [*said, "labels differ"]


def _threshold_differences(a: Model, b: Model) -> list[str]:
    x, y = a.manifest.decoder, b.manifest.decoder
    names = ("score_threshold", "iou_threshold", "nms")
    return [f"{n}: {getattr(x, n)} in A, {getattr(y, n)} in B" for n in names if getattr(x, n) != getattr(y, n)]


def _verdict(shares: list[float], details: dict[str, Any]) -> dict[str, Any]:
    worst = int(np.argmax(shares))
    stage = STAGES[worst]
    if shares[worst] < _SMALL:
        differ = [name for name in STAGES if details[name].get("differs")]
        said = f"nothing here, but what differs in {' and '.join(differ)} may show on other pictures" if differ else ""
        return {"stage": None, "verdict": "B does what A does on these pictures", "cure": said or "nothing to do"}
    total = sum(share for share in shares if share > 0)
    said = f"{stage} causes {100 * shares[worst] / total:.0f} % of the difference"
    return {"stage": stage, "verdict": said, "cure": _cure(stage, details[stage])}


def _cure(stage: str, detail: dict[str, Any]) -> str:
    if stage == "preprocessing":
        hint = ""
        if detail["sqnr_db_channels_reversed"] > detail["sqnr_db"] + 6:
            hint = "B's channels look reversed; "
        elif detail["sqnr_db_rescaled"] > detail["sqnr_db"] + 6:
            hint = "B's pixels look scaled or shifted; "
        named = ", ".join(entry.partition(":")[0] for entry in detail["differs"])
        return f"{hint}correct [input] of B's manifest" + (f": {named}" if named else "")
    if stage == "engine":
        role, value = min(detail["sqnr_db"].items(), key=lambda entry: entry[1])
        return (
            f"output '{role}' has {value:.0f} dB only: convert B again, with --precision mixed (the worst layers in "
            "float), --observer percentile:99.99 (other ranges) or --precision fp16"
        )
    named = ", ".join(entry.partition(":")[0] for entry in detail["differs"])
    return f"correct [decoder] of B's manifest: {named or 'compare it with A'}"
