"""The options of `harrier bench`. Importing it loads nothing: the work is in edge.bench.session."""

import argparse
import re
from importlib import import_module
from pathlib import Path

from edge.arguments import count, positive, seconds

__all__ = ["add_arguments", "duration_s", "execute"]

_UNITS_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `harrier bench` to its parser."""
    what = parser.add_argument_group("what is measured")
    what.add_argument("config", nargs="?", metavar="CONFIG.toml", help="configuration of harrier run")
    what.add_argument("--model", metavar="BUNDLE_OR_FILE", help="bundle, model file or catalogue name")
    what.add_argument("--labels", metavar="FILE", help="class names, one a line, for a bare model file")
    what.add_argument("--target", metavar="NAME", help="which of a bundle's targets")
    what.add_argument("--source", metavar="URI", help="default: synthetic://?size=1280x720&fps=30")
    what.add_argument("--publish", metavar="URI", action="append", help="default: tcp://127.0.0.1:0 with a subscriber")
    what.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two configurations or models, measured in turns in one run"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--frames", metavar="N", type=positive, help="frames per repeat (default 100)")
    how.add_argument("--seconds", metavar="S", type=seconds, help="seconds per repeat, instead of --frames")
    how.add_argument("--warm-up", metavar="N", type=count, default=30, help="frames before anything is measured")
    how.add_argument("--repeats", metavar="N", type=positive, help="blocks (default 10, with --compare 12 pairs)")
    how.add_argument(
        "--soak",
        metavar="DURATION",
        type=duration_s,
        help="a long run: 8h, 30m, 90 (s); exit code 6 for a leak or drift",
    )
    how.add_argument("--photon", metavar="LIGHT", help="terminal, or a LED's file under /sys/class/leds/")
    how.add_argument("--startup", action="store_true", help="time process start to first message too")
    how.add_argument("--budget", metavar="BOARD.toml", type=Path, help="limits per board; exit code 6 if not kept")
    how.add_argument("--strict", action="store_true", help="refuse a run on a busy or throttled machine (exit code 4)")
    out = parser.add_argument_group("what is written")
    out.add_argument("--json", metavar="FILE", type=Path, help="everything, in the documented schema")
    out.add_argument("--html", metavar="FILE", type=Path, help="one self-contained page with plots")
    out.add_argument("--plot", metavar="FOLDER", type=Path, help="the plots as PNG files (extra: report)")


def execute(arguments: argparse.Namespace) -> int:
    """Run the benchmark, print the table, write what was asked for, and return the exit code.

    0 ok, 4 a run that does not count with --strict, 6 a budget that was not kept or a soak that found a problem.
    Raises: EdgeError from whichever part cannot open.
    """
    return import_module("edge.bench.session").execute(arguments)


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as 8h, 30m, 1min, 10s or 1h30m; a bare number is in s.

    Raises: ArgumentTypeError for anything else, as argparse wants it.
    """
    stated = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)(sec|s|min|m|h|d|$)", stated)
    total = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    bare = len(parts) > 1 and not parts[-1][1]  # 1h30 may be minutes or seconds
    if "".join(number + unit for number, unit in parts) != stated or total <= 0 or bare:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 8h, 30m, 10s or 90 (seconds)")
    return total
