"""Prometheus' text format 0.0.4, as https://prometheus.io/docs/instrumenting/exposition_formats/ has it."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

__all__ = ["CONTENT_TYPE", "Exposition", "Histogram"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Histogram:
    """Counts of durations by upper bounds in s, from the start on."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = tuple(bounds_s)
        self._bounds_ns = np.array([round(bound * 1e9) for bound in bounds_s], np.int64)
        self._counts = np.zeros(len(bounds_s) + 1, np.int64)
        self._sum_ns = 0

    def add(self, values_ns: np.ndarray) -> None:
        """Count (N,) int64 ns."""
        places = np.searchsorted(self._bounds_ns, values_ns)  # what equals a bound counts below it
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum_ns += int(values_ns.sum())

    @property
    def cumulative(self) -> list[int]:
        """How many were at most as long as each bound, and last how many there were."""
        return np.cumsum(self._counts).tolist()

    @property
    def sum_s(self) -> float:
        """All durations together, in s."""
        return self._sum_ns / 1e9


class Exposition:
    """Collects families of metrics, each with its help and samples, into the text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(
        self, name: str, kind: Literal["counter", "gauge"], help: str, samples: Sequence[tuple[Labels, float | None]]
    ) -> None:
        """Add a family; a sample that is None is left out, and a family without samples, too."""
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            self._head(name, kind, help)
            self._lines += [_sample(name, labels, value) for labels, value in known]

    def add_histograms(self, name: str, help: str, histograms: Sequence[tuple[Labels, Histogram]]) -> None:
        """Add a family of histograms."""
        self._head(name, "histogram", help)
        for labels, histogram in histograms:
            counts = histogram.cumulative
            for bound, count in zip((*histogram.bounds_s, math.inf), counts, strict=True):
                self._lines.append(_sample(f"{name}_bucket", {**labels, "le": _number(bound)}, count))
            self._lines.append(_sample(f"{name}_sum", labels, histogram.sum_s))
            self._lines.append(_sample(f"{name}_count", labels, counts[-1]))

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines) + "\n"

    def _head(self, name: str, kind: str, help: str) -> None:
        escaped = help.replace("\\", r"\\").replace("\n", r"\n")
        self._lines += [f"# HELP {name} {escaped}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: Labels, value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {_number(value)}" if told else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # the name of a file need not be UTF-8
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
