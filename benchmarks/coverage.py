"""How often the 95 % interval of mAP holds the value on a large set, on simulated sets of few pictures."""

import numpy as np

from edge.evaluation.bootstrap import mean_interval, resample
from edge.evaluation.matching import Matches, Predicted, Truth, average_precision, match

SETS, ROUNDS = 100, 200
LARGE = 4000  # pictures of the set whose mAP stands for the truth
CASES = ((1, 80), (5, 80), (20, 80), (20, 300), (60, 80))  # classes, pictures; the last: each in 3 pictures
TARGET = 0.85


def measure() -> bool:
    """Print the coverage of each case, beside that of the plain percentile bootstrap; return whether all reach it."""
    kept = []
    print(f"\nmAP's 95 % interval held the value on {LARGE} pictures, in % of {SETS} simulated sets")
    print("classes  pictures   plain bootstrap   harrier eval")
    for classes, pictures in CASES:
        rng = np.random.default_rng(classes)
        true = _map(_simulated(rng, LARGE, classes))
        held = np.array([_holds(_simulated(rng, pictures, classes), true, seed) for seed in range(SETS)])
        plain, ours = held.mean(axis=0)
        print(f"{classes:>7}{pictures:>10}{100 * plain:>18.0f}{100 * ours:>15.0f}", flush=True)
        kept.append(bool(ours >= TARGET))
    return all(kept)


def _simulated(rng: np.random.Generator, pictures: int, classes: int) -> Matches:
    """Pictures of differing difficulty; the detector misses, places boxes loosely and sees what is not there."""
    truths, found = [], []
    for _ in range(pictures):
        n, hardness = int(rng.integers(1, 5)), rng.random()
        xywh = np.concatenate([rng.uniform(0, 300, (n, 2)), rng.uniform(40, 80, (n, 2))], axis=1)
        ids = rng.integers(0, classes, n)
        truths.append(Truth(xywh, ids, np.zeros(n, bool), xywh[:, 2] * xywh[:, 3]))
        seen = rng.random(n) > 0.3 * hardness
        false = np.concatenate([rng.uniform(0, 300, (1, 2)), rng.uniform(40, 80, (1, 2))], axis=1)
        boxes = np.concatenate([xywh[seen] + rng.normal(0, 1 + 4 * hardness, (int(seen.sum()), 4)), false])
        scores = np.append(rng.beta(5, 2, len(boxes) - 1), rng.beta(2, 5))
        found.append(Predicted(boxes, np.append(ids[seen], rng.integers(0, classes)), scores))
    return match(truths, found, classes)


def _holds(matches: Matches, true: float, seed: int) -> tuple[bool, bool]:
    """Whether the plain percentile bootstrap's interval holds the truth, and whether ours does."""
    pictures, rng = len(matches.objects), np.random.default_rng(seed)
    drawn = [_map(matches, np.bincount(rng.integers(0, pictures, pictures), minlength=pictures)) for _ in range(ROUNDS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    halves = resample(lambda weights: _ap(matches, weights), pictures, matches.hit.size, ROUNDS, seed)
    ours = mean_interval(_ap(matches), halves, np.count_nonzero(matches.objects, axis=0))
    return bool(low <= true <= high), bool(ours.low <= true <= ours.high)


def _map(matches: Matches, weights: np.ndarray | None = None) -> float:
    return float(np.nanmean(_ap(matches, weights)))


def _ap(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    return average_precision(matches, weights).mean(axis=0)
