"""The plots of the report as PNG files, for documents that take no HTML. Needs matplotlib: the extra `report`."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from edge.bench.results import Report
from edge.bench.waterfall import drawn_stages, end_ms
from edge.errors import ConfigError, MissingBackendError

__all__ = ["check_plots", "write_plots"]

_DPI = 150


def check_plots(folder: Path) -> None:
    """Find out, before the work, that plots cannot be drawn or kept in `folder`; write nothing.

    Raises: ConfigError when it is a file or nobody may write there, MissingBackendError without matplotlib.
    """
    _figure_class()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"cannot write into {folder} (it is a file)", "give a folder")
    first = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(first, os.W_OK):
        raise ConfigError(f"cannot write into {folder} (no permission)", "choose another folder")


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write waterfall.png, cdf.png and series.png into a folder and return their paths.

    Raises: MissingBackendError without matplotlib, ConfigError when the folder cannot be written.
    """
    figure_class = _figure_class()
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw, height_in in (("waterfall", _waterfall, 3.0), ("cdf", _cdf, 4.0), ("series", _series, 6.0)):
            figure = figure_class(figsize=(9, height_in * (len(report.setups) if name == "waterfall" else 1)))
            draw(figure, report)
            figure.tight_layout()
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=_DPI)
    except OSError as exc:
        raise ConfigError(f"cannot write into {folder} ({exc.strerror})", "check the folder") from exc
    return paths


def _figure_class() -> Any:
    """matplotlib's Figure."""
    try:
        return import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingBackendError(
            "--plot needs matplotlib, which is not installed", "pip install 'harrier-edge[report]'"
        ) from exc


def _waterfall(figure: Any, report: Report) -> None:
    all_axes = figure.subplots(len(report.setups), 1, squeeze=False)[:, 0]
    waterfalls = drawn_stages(report.setups)
    for axes, setup, stages in zip(all_axes, report.setups, waterfalls, strict=True):
        start = 0.0
        for i, (name, values) in enumerate(stages.items()):
            p50, p99 = values.p50.value, values.p99.value
            axes.barh(name, p50, left=start, color=f"C{i}", height=0.6)
            axes.plot([start + p50, start + p99], [i, i], color="0.3", linewidth=1, marker="|")
            axes.annotate(f"{p50:.3f}", (start + max(p50, p99), i), xytext=(4, -3), textcoords="offset points")
            start += p50
        axes.invert_yaxis()
        axes.set_xlim(0, 1.1 * end_ms(waterfalls) or 1.0)
        waits = "" if "wait" in stages else "; waiting for frames not drawn"
        axes.set_xlabel(f"ms: bar p50, whisker p99{waits}")
        axes.set_title(f"{setup.name}: {setup.model}, {100 * setup.stages_over_wall:.2f} % of the wall clock")
        axes.spines[["top", "right"]].set_visible(False)


def _cdf(figure: Any, report: Report) -> None:
    axes = figure.subplots()
    ends = []
    for i, setup in enumerate(report.setups):
        for name, values, style in (("capture to publish", setup.capture_to_publish, "-"), ("step", setup.step, "--")):
            axes.plot(values.cdf_ms, range(101), style, color=f"C{i}", label=f"{setup.name}: {name}")
            ends.append(values.cdf_ms[99])
    axes.set(xlabel="ms", ylabel="% of frames", xlim=(0, 1.08 * max(ends)), title="Latency, cumulative distribution")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncol=2, frameon=False)  # below, to cover no curve


def _series(figure: Any, report: Report) -> None:
    s = report.series
    rows: list[tuple[str, list[float], list]] = [
        ("temperature, °C", s.t_s, s.temperature_c),
        ("power, W", s.t_s, s.power_w),
        ("clock, MHz", s.t_s, s.clock_mhz),
        ("RSS, MB", s.t_s, s.rss_mb),
    ]
    rows = [row for row in rows if any(value is not None for value in row[2])]
    figure.set_figheight(1.6 * (1 + len(rows)))
    all_axes = figure.subplots(1 + len(rows), 1, sharex=True, squeeze=False)[:, 0]
    several = len(s.latency) > 1
    for i, each in enumerate(s.latency):
        who = f"{each.name}: " if several else ""
        for name, values, colour, width in (
            ("p50", each.p50_ms, f"C{i}", 1.5),
            ("max", each.max_ms, f"C{i}" if several else "C1", 0.7),
        ):
            all_axes[0].plot(
                each.t_s, _gapped(values), ".-", color=colour, linewidth=width, markersize=2 * width, label=who + name
            )
    all_axes[0].set_ylabel("capture to\npublish, ms")
    all_axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=4, frameon=False)  # above, to cover no line
    for axes, (name, t_s, values) in zip(all_axes[1:], rows, strict=True):
        axes.plot(t_s, _gapped(values), color="0.4")
        axes.set_ylabel(name)
    for axes in all_axes:
        axes.grid(alpha=0.3)
    all_axes[-1].set_xlabel("s")


def _gapped(values: list) -> list[float]:
    return [float("nan") if value is None else value for value in values]
