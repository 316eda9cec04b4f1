"""The assignment is the best there is: against every possible one, and against SciPy's."""

from itertools import permutations

import numpy as np
import pytest

from edge.tracking import assignment
from edge.tracking.assignment import assign, default_solver, shortest_augmenting_paths


def refuse(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError(f"the solver was asked for {gain.shape}")


HAS_LAP = pytest.mark.skipif(assignment.lapjv is None, reason="lap is not installed: pip install lap")
SOLVERS = [
    pytest.param(shortest_augmenting_paths, id="own"),
    pytest.param(assignment._lap, id="lap", marks=HAS_LAP),
]


def random_gains(rng: np.random.Generator, most: int) -> np.ndarray:
    """From full of conflicts to nearly empty; every third with many ties."""
    n, m = rng.integers(1, most + 1, 2)
    gain = rng.uniform(-0.5, 1, (n, m))
    gain[rng.random((n, m)) < rng.random()] = -1
    return np.round(gain, 1) if rng.random() < 0.33 else gain


def check(gain: np.ndarray, rows: list[int], columns: list[int], best: float) -> None:
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert (gain[rows, columns] > 0).all()
    assert gain[rows, columns].sum() == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_against_every_possible_one(solver):
    rng = np.random.default_rng(1)
    for _ in range(300):
        gain = random_gains(rng, 5)
        wide = gain if gain.shape[0] <= gain.shape[1] else gain.T
        rows = np.arange(len(wide))
        gains = np.maximum(wide, 0)
        best = max(gains[rows, list(order)].sum() for order in permutations(range(wide.shape[1]), len(wide)))
        check(gain, *assign(gain, solver), best)


@pytest.mark.parametrize("solver", SOLVERS)
def test_against_scipy(solver):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed: nothing to compare with")
    rng = np.random.default_rng(2)
    for _ in range(400):
        gain = random_gains(rng, 40)
        rows, columns = optimize.linear_sum_assignment(np.maximum(gain, 0), maximize=True)
        check(gain, *assign(gain, solver), np.maximum(gain, 0)[rows, columns].sum())


def test_a_frame_without_conflict_needs_no_solver():
    gain = np.array([[0.9, 0.1, -1.0], [-1.0, 0.2, 0.3], [-1.0, -1.0, -1.0]])
    rows, columns = assign(gain, refuse)
    assert (rows, columns) == ([0, 1], [0, 2])
    assert all(len(part) == 0 for part in assign(np.empty((0, 3)), refuse))
    assert all(len(part) == 0 for part in assign(np.empty((3, 0)), refuse))


def test_who_is_alone_is_settled_before_the_solver():
    """Rows 0 and 1 want the same; rows 2 to 9 want what nobody else does."""
    gain = np.full((10, 10), -1.0)
    gain[0, :2] = 0.9, 0.8
    gain[1, :2] = 0.8, 0.1
    gain[range(2, 10), range(2, 10)] = 0.5
    asked = []

    def solver(part):
        asked.append(part.shape)
        return shortest_augmenting_paths(part)

    rows, columns = assign(gain, solver)
    assert asked == [(2, 2)]
    assert dict(zip(rows, columns, strict=True)) == {0: 1, 1: 0, **{i: i for i in range(2, 10)}}


def test_the_quickest_solver_there_is(monkeypatch):
    monkeypatch.setattr(assignment, "lapjv", None)
    assert default_solver() is shortest_augmenting_paths
    monkeypatch.setattr(assignment, "lapjv", object())
    assert default_solver() is assignment._lap


@HAS_LAP
def test_lap_decides_where_many_compete_and_only_there(monkeypatch):
    asked = []
    lapjv = assignment.lapjv

    def noted(cost: np.ndarray, extend_cost: bool) -> tuple:
        asked.append(cost.shape)
        return lapjv(cost, extend_cost=extend_cost)

    monkeypatch.setattr(assignment, "lapjv", noted)
    rng = np.random.default_rng(3)
    for shape, calls in (((10, 15), 0), ((10, 16), 1), ((40, 20), 2)):
        gain = rng.uniform(0.1, 1, shape)
        gain[:, 0] += 1  # all want the same, so that none is settled before
        rows, columns = assign(gain, default_solver())
        own_rows, own_columns = assign(gain, shortest_augmenting_paths)
        assert len(asked) == calls
        assert gain[rows, columns].sum() == pytest.approx(gain[own_rows, own_columns].sum())
