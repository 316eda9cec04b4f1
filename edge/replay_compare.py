"""Recorded results against those of now: which detections are the same, and how far a recording as a whole differs."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.evaluation.matching import iou_matrix
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

__all__ = ["Difference", "Limits", "compare", "totals"]

Result = DetectionsMessage | ClassificationMessage


@dataclass(frozen=True, slots=True)
class Limits:
    """Two boxes of a class that overlap by `iou` are the same; their scores may differ by `score`.

    threshold: what scores less than this and `score` may also be missing: it may have been just below it.
    """

    iou: float = 0.5
    score: float = 0.05
    threshold: float = 0.0


@dataclass(slots=True)
class Difference:
    """One frame, recorded and now. pairs: what is the same, with overlap (1 for classes) and difference of scores.

    missing was recorded and is not found now, extra the other way round; off are pairs whose scores differ too much.
    """

    seq: int
    t_s: float
    recorded: int
    found: int
    missing: list[DetectionRecord] = field(default_factory=list)
    extra: list[DetectionRecord] = field(default_factory=list)
    pairs: list[tuple[DetectionRecord, float, float]] = field(default_factory=list)
    off: list[tuple[DetectionRecord, float]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many detections differ."""
        return len(self.missing) + len(self.extra) + len(self.off)

    @property
    def text(self) -> str:
        """What differs, in words."""
        said = [f"missing {record.label} {record.score:.2f}" for record in self.missing]
        said += [f"extra {record.label} {record.score:.2f}" for record in self.extra]
        said += [f"{record.label} {record.score:.2f} is {record.score + change:.2f} now" for record, change in self.off]
        return ", ".join(said)


def compare(then: Result, now: Result, t_s: float, limits: Limits) -> Difference:
    """Return how the result of now differs from the recorded one; t_s: since the recording began."""
    if isinstance(then, ClassificationMessage) and isinstance(now, ClassificationMessage):
        return _compare_classes(then, now, t_s, limits)
    old, new = _detected(then), _detected(now)
    overlaps = iou_matrix(_xywh(old), _xywh(new), np.zeros(len(new), bool))
    classes = np.array([r.class_id for r in old])[:, None] != np.array([r.class_id for r in new])[None]
    overlaps[classes.reshape(overlaps.shape)] = 0
    found = Difference(then.seq, t_s, len(old), len(new))
    left_old, left_new = set(range(len(old))), set(range(len(new)))
    for at in np.argsort(-overlaps, axis=None, kind="stable"):
        i, j = divmod(int(at), len(new))
        if overlaps[i, j] < max(limits.iou, 1e-9):
            break
        if i in left_old and j in left_new:
            left_old.remove(i)
            left_new.remove(j)
            _pair(found, old[i], float(overlaps[i, j]), new[j].score - old[i].score, limits)
    found.missing = [old[i] for i in sorted(left_old)]
    extra = [new[j] for j in sorted(left_new)]
    found.extra = [record for record in extra if record.score >= limits.threshold + limits.score]
    found.found -= len(extra) - len(found.extra)
    return found


def totals(differences: Sequence[Difference]) -> dict[str, Any]:
    """Return the sums over all frames, and those of each class, for JSON."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for one in differences:
        for record, _, _ in one.pairs:
            rows[record.label].update(recorded=1, found=1)
        for record in one.missing:
            rows[record.label].update(recorded=1, missing=1)
        for record in one.extra:
            rows[record.label].update(found=1, extra=1)
        for record, _ in one.off:
            rows[record.label].update(off=1)
    keys = ("recorded", "found", "missing", "extra", "off")
    overlaps = [overlap for one in differences for _, overlap, _ in one.pairs]
    changes = [abs(change) for one in differences for _, _, change in one.pairs]
    differing = sum(bool(one.size) for one in differences)
    return {
        "frames": len(differences),
        "differing": differing,
        "share": differing / len(differences) if differences else 0.0,
        **{key: sum(row[key] for row in rows.values()) for key in keys},
        "iou_mean": float(np.mean(overlaps)) if overlaps else None,
        "iou_least": min(overlaps, default=None),
        "score_change_mean": float(np.mean(changes)) if changes else None,
        "score_change_most": max(changes, default=None),
        "classes": [{"label": label, **{key: rows[label][key] for key in keys}} for label in sorted(rows)],
    }


def _compare_classes(then: ClassificationMessage, now: ClassificationMessage, t_s: float, limits: Limits) -> Difference:
    """The best class of the recording has about the same score now, whatever else is a little better or worse."""
    found = Difference(then.seq, t_s, len(then.classes[:1]), len(now.classes[:1]))
    scores = {record.class_id: record.score for record in now.classes}
    for record in then.classes[:1]:
        if record.class_id in scores:
            _pair(found, record, 1.0, scores[record.class_id] - record.score, limits)
        else:
            found.missing, found.extra = [record], now.classes[:1]
    return found


def _pair(found: Difference, record: DetectionRecord, overlap: float, change: float, limits: Limits) -> None:
    found.pairs.append((record, overlap, change))
    if abs(change) > limits.score + 1e-9:
        found.off.append((record, change))


def _detected(message: Result) -> list[DetectionRecord]:
    """What was seen on the frame, without what a tracker only expects there."""
    if isinstance(message, ClassificationMessage):
        return []
    return [record for record in message.detections if record.box and not record.unseen_ms]


def _xywh(records: Sequence[DetectionRecord]) -> np.ndarray:
    boxes = np.array([record.box for record in records], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
