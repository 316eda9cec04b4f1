"""What a conversion found out, as one table for JSON, and as text for a terminal. Schema: docs/convert.md."""

from collections.abc import Sequence
from typing import Any

from edge import __version__

__all__ = ["TargetReport", "report_of", "size_text", "text_of", "verdict_text"]

TargetReport = dict[str, Any]


def report_of(
    source: dict[str, Any],
    targets: Sequence[TargetReport],
    calibration: dict[str, Any] | None,
    evaluation: dict[str, Any] | None,
    notes: Sequence[str],
    warnings: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Return the report, ready for JSON."""
    return {
        "format": 1,
        "harrier": __version__,
        "source": source,
        "calibration": calibration,
        "evaluation": evaluation,
        "targets": list(targets),
        "notes": list(notes),
        "warnings": list(warnings),
        "seconds": round(seconds, 1),
    }


def text_of(report: dict[str, Any]) -> str:
    """Return the report as lines for a terminal."""
    metric = {"map": "mAP50-95", "top1": "top-1"}.get((report["evaluation"] or {}).get("metric", ""), "accuracy")
    head = ["target", "size", "latency", f"{metric} (95 %)", "drop (95 %)", "max error", ""]
    rows = [head, *(_row(target) for target in report["targets"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for target in report["targets"]:
        lines += [f"  {target['name']}: {said}" for said in target["notes"]]
        if target["passed"] is False:
            lines += _causes(target)
    calibration = report["calibration"]
    if calibration:
        lines.append(
            f"calibrated on {calibration['images']} pictures of {calibration['source']}, "
            f"ranges by {calibration['observer']}"
        )
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def _row(target: TargetReport) -> list[str]:
    latency = "-" if target["latency_ms"] is None else f"{target['latency_ms']:.2f} ms"
    error = "-" if target["float_error"] is None else f"{target['float_error']:.1e}"
    return [
        target["name"],
        size_text(target["bytes"]),
        latency,
        _interval(target["accuracy"]),
        _interval(target["drop"], "+"),
        error,
        verdict_text(target),
    ]


def size_text(size: int | None) -> str:
    """Return a number of bytes for people; `-` for None."""
    if size is None:
        return "-"
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def verdict_text(target: TargetReport) -> str:
    """Return one word on a target, or why it is not there."""
    if target["missing"]:
        return "not made"
    if target["passed"] is False:
        return "FAILS the gate" + ("" if target["written"] else ": not written")
    if target["passed"]:
        return "passes"
    return "reference" if target["reference"] else ("" if target["accuracy"] else "not measured")


def _interval(entry: dict[str, float] | None, sign: str = "") -> str:
    if entry is None:
        return "-"
    return f"{entry['value']:{sign}.4f} ({entry['low']:{sign}.3f} to {entry['high']:{sign}.3f})"


def _causes(target: TargetReport) -> list[str]:
    lines = []
    if target["outputs_sqnr_db"]:
        worst = sorted(target["outputs_sqnr_db"].items(), key=lambda item: item[1])
        lines.append(f"  {target['name']}: outputs " + ", ".join(f"{name} {value:.1f} dB" for name, value in worst))
    if target["layers"]:
        worst = sorted(target["layers"], key=lambda row: row["sqnr_db"])[:5]
        lines.append(
            f"  {target['name']}: worst layers " + ", ".join(f"{row['name']} {row['sqnr_db']:.1f} dB" for row in worst)
        )
    return lines
