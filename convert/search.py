"""Which layers to keep in float: the fewest milliseconds that bring a quantized model back to a goal.

Layers are tried in blocks, alone and as prefixes of the graph, ranked by what they give back per unit of cost; the
cheapest set that meets the goal is then thinned out by delta debugging (Zeller and Hildebrandt, 2002).
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from edge.files import write_atomically
from edge.progress import Progress

__all__ = ["GOAL", "SEARCH_S", "Candidate", "goal_for", "search"]

GOAL = 0.92
"""Fidelity a mixed file is to reach on held-out calibration pictures for a drop of 0.01; the gate judges on --eval's.

Int8 weights alone come to about 0.97 on a detector.
"""
_GOAL_DROP = 0.01
_MISSING_PER_DROP = 5.0  # fidelity that may be missing for each mAP of drop beyond
_HIGHEST_GOAL, _LOWEST_GOAL = 0.99, 0.5
SEARCH_S = 600.0
"""How long --precision mixed searches where --search does not say."""

BLOCKS = 16
FINALISTS = 3  # are timed twice
LEAST_COST_SHARE = 0.02  # of the all-integer cost: a difference below it is noise of the clock

_Build = Callable[[frozenset[str]], Path]
_Measure = Callable[[Path], float]
_Tools = tuple[_Build, _Measure, _Measure | None]


def goal_for(max_drop: float | None) -> float:
    """Return the fidelity to ask for where accuracy may drop by max_drop, None: by as much as usual.

    Below the usual drop what may be missing to 1 is in proportion to it; beyond, it grows as it did on annotated
    calibration pictures (docs/calibration.md).
    """
    drop = _GOAL_DROP if max_drop is None else max_drop
    missing = (1 - GOAL) * min(drop / _GOAL_DROP, 1.0) + _MISSING_PER_DROP * max(drop - _GOAL_DROP, 0.0)
    return min(_HIGHEST_GOAL, max(_LOWEST_GOAL, 1 - missing))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One mixture. kept: layers in float. fidelity in [0, 1]. latency_ms: None where no clock was given."""

    kept: frozenset[str]
    fidelity: float
    latency_ms: float | None
    chosen: bool = False

    @property
    def cost(self) -> float:
        """What choosing it costs: ms, or the number of layers in float where there is no clock."""
        return float(len(self.kept)) if self.latency_ms is None else self.latency_ms


class _State(msgspec.Struct, forbid_unknown_fields=True):
    """What an interrupted search knows. trials: layers kept (as bits of a hexadecimal number) -> fidelity, ms."""

    key: str
    trials: dict[str, tuple[float, float | None]] = {}
    timed_again: list[str] = []


class _OutOfTimeError(Exception):
    """The budget is spent: what is known must do."""


class _Trials:
    """Measures mixtures, each once, and remembers them in the state file."""

    def __init__(
        self,
        layers: Sequence[str],
        tools: tuple[_Build, _Measure, _Measure | None],
        budget_s: float,
        path: Path,
        key: str,
        unit: str,
    ) -> None:
        self.layers = list(layers)
        self._bit = {name: 1 << i for i, name in enumerate(layers)}
        self._build, self._measure, self._time_ms = tools
        self._started_s, self._budget_s = time.monotonic(), budget_s
        self._path, self._state, self._unit = path, _read_state(path, key), unit
        self._progress = Progress("searching", math.ceil(budget_s))

    def of(self, kept: Sequence[str]) -> Candidate:
        """Return the mixture that keeps these layers in float, measured now or before."""
        bits = sum({self._bit[name] for name in kept})
        known = self._state.trials.get(f"{bits:x}")
        if known is None:
            spent_s = time.monotonic() - self._started_s
            if self._state.trials and spent_s > self._budget_s:
                raise _OutOfTimeError
            self._progress.update(int(spent_s), f"{len(self._state.trials)} mixtures, {len(kept)} layers in float")
            file = self._build(frozenset(kept))
            known = self._measure(file), None if self._time_ms is None else self._time_ms(file)
            self._state.trials[f"{bits:x}"] = known
            self._save()
        return Candidate(frozenset(kept), *known)

    def time_again(self, one: Candidate) -> None:
        """Take the mean of a mixture's latency and a second one: a chance that favoured it will not come twice."""
        if self._time_ms is None or one.latency_ms is None:
            return
        key = f"{sum({self._bit[name] for name in one.kept}):x}"
        if key not in self._state.timed_again:
            second_ms = self._time_ms(self._build(one.kept))
            self._state.trials[key] = (one.fidelity, (one.latency_ms + second_ms) / 2)
            self._state.timed_again.append(key)
            self._save()

    def all(self) -> list[Candidate]:
        """Return every mixture measured so far."""
        return [
            Candidate(frozenset(name for name in self.layers if self._bit[name] & int(bits, 16)), *known)
            for bits, known in self._state.trials.items()
        ]

    def finish(self, chosen: Candidate) -> None:
        """Say how it ended."""
        latency = "" if chosen.latency_ms is None else f", {chosen.latency_ms:.2f} {self._unit}"
        detail = f"{len(chosen.kept)} of {len(self.layers)} layers in float, fidelity {chosen.fidelity:.3f}{latency}"
        self._progress.finish(math.ceil(self._budget_s), detail)

    def _save(self) -> None:
        write_atomically(self._path, msgspec.json.encode(self._state))


def search(
    layers: Sequence[str],
    build: _Build,
    measure: _Measure,
    time_ms: _Measure | None,
    goal: float,
    budget_s: float,
    state: Path,
    key: str = "",
    unit: str = "ms",
) -> list[Candidate]:
    """Return the mixtures none of the others beats, cheapest first, with the all-integer one and the chosen one.

    layers: names in graph order. build(kept) writes the file that keeps these in float, measure(file) its fidelity,
    time_ms(file) its latency, or another cost in `unit`. The chosen one is the cheapest that meets the goal, else the
    most faithful.
    state: file of an interrupted search, used again when the layers and `key` (whatever else the figures depend on:
    hashes of the model, the ranges, the pictures) are the same. No new mixture is begun after budget_s.
    Raises: ConfigError when the state cannot be written; whatever build, measure and time_ms raise.
    """
    identity = sha256("\n".join([key, *layers]).encode()).hexdigest()
    trials = _Trials(layers, (build, measure, time_ms), budget_s, state, identity, unit)
    all_integer = trials.of([])
    if all_integer.fidelity < goal and layers:
        try:
            _explore(trials, all_integer, goal)
        except _OutOfTimeError:
            pass
        good = [one for one in trials.all() if one.fidelity >= goal]
        for one in sorted(good, key=lambda one: one.cost)[:FINALISTS]:
            trials.time_again(one)
    chosen = _best(trials.all(), goal)
    trials.finish(chosen)
    return _frontier(trials.all(), all_integer, chosen)


def _read_state(path: Path, identity: str) -> _State:
    try:
        state = msgspec.json.decode(path.read_bytes(), type=_State)
    except (OSError, msgspec.DecodeError):  # none, or cut short: begin again
        return _State(identity)
    return state if state.key == identity else _State(identity)


def _explore(trials: _Trials, all_integer: Candidate, goal: float) -> None:
    count = min(BLOCKS, len(trials.layers))
    edges = [round(i * len(trials.layers) / count) for i in range(count + 1)]
    blocks = [trials.layers[a:b] for a, b in itertools.pairwise(edges)]
    alone = [trials.of(block) for block in blocks]
    least = LEAST_COST_SHARE * all_integer.cost or 1.0

    def merit(i: int) -> tuple[float, int]:
        gain, cost = alone[i].fidelity - all_integer.fidelity, alone[i].cost - all_integer.cost
        return (gain / max(cost, least) if gain > 0 else gain), -i

    _least_prefix(trials, sorted(range(count), key=merit, reverse=True), blocks, goal)
    _least_prefix(trials, range(count), blocks, goal)  # a stem's damage shows only when all of it is spared
    _thin(trials, _best(trials.all(), goal), goal)


def _least_prefix(trials: _Trials, order: Sequence[int], blocks: list[list[str]], goal: float) -> None:
    """Bisect for the fewest first blocks of an order that meet the goal."""
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        if trials.of([name for i in order[:middle] for name in blocks[i]]).fidelity >= goal:
            high = middle
        else:
            low = middle
    trials.of([name for i in order[:high] for name in blocks[i]])


def _thin(trials: _Trials, best: Candidate, goal: float) -> None:
    """Take parts out of the best mixture, halves first, single layers last, while it stays good and gets cheaper."""
    parts = 2
    while best.fidelity >= goal and len(best.kept) > 1 and parts <= 2 * len(best.kept):
        kept = [name for name in trials.layers if name in best.kept]
        size = math.ceil(len(kept) / min(parts, len(kept)))
        for start in range(0, len(kept), size):
            rest = trials.of(kept[:start] + kept[start + size :])
            if rest.fidelity >= goal and rest.cost < best.cost:
                best, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                return
            parts *= 2


def _best(candidates: list[Candidate], goal: float) -> Candidate:
    """The cheapest that meets the goal, else the most faithful."""
    good = [candidate for candidate in candidates if candidate.fidelity >= goal]
    if good:
        return min(good, key=lambda c: (c.cost, -c.fidelity, len(c.kept), sorted(c.kept)))
    return max(candidates, key=lambda c: (c.fidelity, -c.cost))


def _frontier(candidates: list[Candidate], all_integer: Candidate, chosen: Candidate) -> list[Candidate]:
    highest, frontier = -1.0, []
    for candidate in sorted(candidates, key=lambda c: (c.cost, -c.fidelity)):
        if candidate.fidelity > highest or candidate.kept in (all_integer.kept, chosen.kept):
            frontier.append(replace(candidate, chosen=candidate.kept == chosen.kept))
            highest = max(highest, candidate.fidelity)
    return frontier
