"""The figures of a classifier: top-1, top-5, recall per class and the confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.evaluation.bootstrap import wilson_interval
from edge.evaluation.datasets import Dataset
from edge.evaluation.store import Seen

__all__ = ["first_categories", "hits_of", "score_classifier"]


def first_categories(seen: Sequence[Seen], classes: Sequence[int]) -> list[int]:
    """Return the category of each first class: -2 and less for the model's other classes, -2 ** 40 for none.

    Models may number their classes differently; classes: the model's class of each category.
    """
    known = {c: i for i, c in enumerate(classes)}
    first = [int(s.class_ids[0]) if len(s.class_ids) else None for s in seen]
    return [-(2**40) if c is None else known.get(c, -2 - c) for c in first]


def hits_of(dataset: Dataset, seen: Sequence[Seen], classes: Sequence[int]) -> np.ndarray:
    """Return (N, 2) bool: whether the true class is the first, and whether it is among the first five."""
    wanted = [classes[int(sample.category[0])] for sample in dataset.samples]
    return np.array(
        [
            [result.class_ids[:1].tolist() == [c], c in result.class_ids[:5].tolist()]
            for c, result in zip(wanted, seen, strict=True)
        ],
        bool,
    ).reshape(-1, 2)


def score_classifier(
    dataset: Dataset, seen: Sequence[Seen], classes: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Return every figure, ready for JSON. classes: the model's class of each category; names: of the categories.

    The confusion matrix has one more column, "other": classes of the model that the data set lacks.
    """
    hits = hits_of(dataset, seen, classes)
    count = len(classes)
    category_of = {c: i for i, c in enumerate(classes)}
    counts = np.zeros((count + 1, count + 1), np.int64)
    for sample, result in zip(dataset.samples, seen, strict=True):
        best = int(result.class_ids[0]) if len(result.class_ids) else -1
        counts[int(sample.category[0]), category_of.get(best, count)] += 1
    right, total = np.diag(counts)[:count], counts.sum(axis=1)[:count]
    found = counts.sum(axis=0)[:count]
    return {
        "pictures": len(seen),
        "top1": wilson_interval(int(hits[:, 0].sum()), len(hits)).as_dict(),
        "top5": wilson_interval(int(hits[:, 1].sum()), len(hits)).as_dict(),
        "classes": [
            {
                "name": names[c],
                "pictures": int(total[c]),
                "recall": wilson_interval(int(right[c]), int(total[c])).as_dict() if total[c] else None,
                "precision": float(right[c] / found[c]) if found[c] else None,
            }
            for c in range(count)
        ],
        "confusion": {"names": [*names, "other"], "counts": counts.tolist()},
    }
