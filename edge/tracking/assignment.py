"""Which track gets which detection: the pairs whose gains add up to the most.

Nearly every frame is settled by looking at what each row wants most; where several want the same, shortest augmenting
paths decide (Jonker and Volgenant, 1987; rectangular as in Crouse, 2016), or, where many do and it is installed, `lap`.
Both find the optimum. SciPy's solver is not used: importing it takes 50 MB and 0.4 s.
"""

import math
from collections.abc import Callable

import numpy as np

try:
    from lap import lapjv
except ImportError:
    lapjv = None

__all__ = ["Solver", "assign", "default_solver", "shortest_augmenting_paths"]

Pairs = tuple[np.ndarray, np.ndarray]
Solver = Callable[[np.ndarray], Pairs]
"""Takes gains (N, M) float64, all >= 0; returns rows (K,) and columns (K,) int64 of an assignment of most gain."""

SMALL = 30  # gains; up to that plain Python is quicker than numpy's calls
FEW = 150  # gains; below that the call of `lap` costs more than it saves


def assign(gain: np.ndarray, solver: Solver, least: float = 0.0) -> tuple[list[int], list[int]]:
    """Return rows and columns of the pairs of (N, M) float32 or float64 `gain` that add up to the most above `least`.

    No row and no column is in two pairs, and a pair with a gain of `least` or less is never made.
    """
    if not gain.size:
        return [], []
    wanted, most = _wishes(gain)
    rows = [row for row, value in enumerate(most) if value > least]
    columns = [wanted[row] for row in rows]
    if len(set(columns)) == len(rows):  # each has what it wants most: no other assignment has more
        return rows, columns
    return _settled(gain, rows, columns, solver, least)


def _wishes(gain: np.ndarray) -> tuple[list[int], list[float]]:
    """Of each row the column of most gain, and that gain."""
    if gain.size <= SMALL:
        values = gain.tolist()
        most = [max(row) for row in values]
        return [row.index(value) for row, value in zip(values, most, strict=True)], most
    best = gain.argmax(axis=1)
    return best.tolist(), gain.ravel().take(best + np.arange(0, gain.size, gain.shape[1])).tolist()


def _settled(
    gain: np.ndarray, rows: list[int], columns: list[int], solver: Solver, least: float
) -> tuple[list[int], list[int]]:
    """The pairs of `assign` where some of `rows` want the same of `columns` most."""
    wanted = {column for column in columns if columns.count(column) > 1}
    disputed: set[int] = set()
    # whoever has what a disputing row may fall back on is in it as well; the others have their best
    while drawn_in := [i for i, column in enumerate(columns) if column in wanted and i not in disputed]:
        disputed.update(drawn_in)
        for i in drawn_in:
            wanted.update(column for column, value in enumerate(gain[rows[i]].tolist()) if value > least)
    theirs, those = [rows[i] for i in sorted(disputed)], sorted(wanted)
    part = np.maximum(gain.take(theirs, axis=0).take(those, axis=1) - least, 0, dtype=np.float64)
    some, chosen = solver(part)
    made = [(i, j) for i, j in zip(some.tolist(), chosen.tolist(), strict=True) if part[i, j] > 0]
    settled = [i for i in range(len(rows)) if i not in disputed]
    return (
        [rows[i] for i in settled] + [theirs[i] for i, _ in made],
        [columns[i] for i in settled] + [those[j] for _, j in made],
    )


def default_solver() -> Solver:
    """Return the quickest solver that can be had here."""
    return shortest_augmenting_paths if lapjv is None else _lap


def _lap(gain: np.ndarray) -> Pairs:
    if gain.size <= FEW:
        return shortest_augmenting_paths(gain)
    _, column_of, _ = lapjv(-gain, extend_cost=True)
    rows = (column_of >= 0).nonzero()[0]
    return rows, column_of[rows].astype(np.int64)


def shortest_augmenting_paths(gain: np.ndarray) -> Pairs:
    """Return rows (K,) and columns (K,) int64 of an assignment of most gain, K = min(N, M), of (N, M) float64 gains.

    At most K^2 steps over the longer side. In plain Python: disputes are small, and there numpy's calls cost more.
    """
    if 1 in gain.shape:
        row, column = divmod(int(gain.argmax()), gain.shape[1])
        return np.array([row]), np.array([column])
    if gain.shape[0] > gain.shape[1]:
        columns, rows = shortest_augmenting_paths(gain.T)
        return rows, columns
    cost = (gain.max() - gain).tolist()
    width = gain.shape[1]
    row_price, column_price = [0.0] * len(cost), [0.0] * width
    row_of = [-1] * width
    for row in range(len(cost)):
        _augment(cost, row, row_price, column_price, row_of)
    columns = np.array([column for column in range(width) if row_of[column] >= 0])
    return np.array([row for row in row_of if row >= 0]), columns


def _augment(
    cost: list[list[float]], start: int, row_price: list[float], column_price: list[float], row_of: list[int]
) -> None:
    """Give row `start` a column along the cheapest path of changes (Dijkstra), with prices by which it is cheapest."""
    open_columns = list(range(len(row_of)))
    distance, came_from = [math.inf] * len(row_of), [-1] * len(row_of)
    visited: list[int] = []
    held_by: dict[int, int] = {}
    row, low = start, 0.0
    while True:
        costs, base = cost[row], low - row_price[row]
        nearest, column = math.inf, -1
        for j in open_columns:
            reduced = base + costs[j] - column_price[j]
            if reduced < distance[j]:
                distance[j], came_from[j] = reduced, row
            if distance[j] < nearest:
                nearest, column = distance[j], j
        low = nearest
        if row_of[column] < 0:
            break
        open_columns.remove(column)
        visited.append(column)
        row = row_of[column]
        held_by[row] = column
    row_price[start] += low
    for j in visited:
        row_price[row_of[j]] += low - distance[j]
        column_price[j] -= low - distance[j]
    while True:  # along the path, each row gives its column to the row before
        row = came_from[column]
        row_of[column] = row
        if row == start:
            return
        column = held_by[row]
