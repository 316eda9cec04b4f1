"""The conversion as one self-contained page: the targets, accuracy with intervals, the frontier, the worst pictures."""

from collections.abc import Sequence
from html import escape
from typing import Any

from convert.edgetpu.placement import placement_text
from convert.report import size_text, verdict_text
from edge.evaluation.charts import bar_chart
from edge.evaluation.report_html import figure_of, page_shell, table_of

__all__ = ["frontier_chart", "page_of"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 620, 300, 54, 42, 14


def page_of(report: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """Return the page. pictures: a caption and a JPEG each."""
    source = report["source"]
    metric = {"map": "mAP50-95", "top1": "top-1"}.get((report["evaluation"] or {}).get("metric", ""), "accuracy")
    body = [
        f"<h1>{escape(source['name'])}</h1>",
        f'<p class="note">{escape(source["file"])} &middot; {escape(source["kind"])} &middot; '
        f"{size_text(source['bytes'])} &middot; Harrier {escape(report['harrier'])} &middot; "
        f"{report['seconds']:.0f} s</p>",
    ]
    failed = [target for target in report["targets"] if target["passed"] is False]
    if failed:
        names = ", ".join(target["name"] for target in failed)
        body.append(f'<p class="warn">The gate refuses {escape(names)}: see the causes below.</p>')
    body += [f'<p class="warn">{escape(warning)}</p>' for warning in report["warnings"]]
    body.append("<h2>Targets</h2>" + _targets(report["targets"], metric))
    bars = [
        (target["name"], [(target["accuracy"]["value"], target["accuracy"]["low"], target["accuracy"]["high"])])
        for target in report["targets"]
        if target["accuracy"]
    ]
    if bars:
        body.append(f"<h2>{metric}, with 95 % intervals</h2>" + bar_chart(bars))
    for target in report["targets"]:
        if target["frontier"]:
            cost = "latency" if target["frontier"][0]["latency_ms"] is not None else "layers in float"
            body.append(f"<h2>Fidelity against {cost}: {escape(target['name'])}</h2>" + frontier_chart(target))
    body += [_causes(target) for target in report["targets"] if target["layers"] or target["outputs_sqnr_db"]]
    for target in report["targets"]:
        if "placement" in target["details"]:
            text = escape(placement_text(target["details"]["placement"]))
            body.append(f"<h2>Where operators run: {escape(target['name'])}</h2><pre>{text}</pre>")
    if pictures:
        body.append('<h2>Where float and quantized differ most</h2><div class="pictures">')
        body += [figure_of(caption, jpeg) for caption, jpeg in pictures]
        body.append("</div>")
    body.append("<h2>How it was made</h2>" + _facts(report))
    return page_shell(f"harrier convert: {source['name']}", "".join(body))


def _targets(targets: Sequence[dict[str, Any]], metric: str) -> str:
    rows, notes = [], []
    for target in targets:
        latency = "-" if target["latency_ms"] is None else f"{target['latency_ms']:.2f} ms"
        error = "-" if target["float_error"] is None else f"{target['float_error']:.1e}"
        notes += [f"<li>{escape(target['name'])}: {escape(note)}</li>" for note in target["notes"]]
        rows.append(
            [
                escape(target["name"]),
                size_text(target["bytes"]),
                latency,
                _interval(target["accuracy"]),
                _interval(target["drop"], "+"),
                error,
                escape(verdict_text(target)),
            ]
        )
    table = table_of(["target", "size", "latency", f"{metric} (95 %)", "drop (95 %)", "max error", "verdict"], rows)
    said = "Latency: the engine alone, on the machine that converted. Max error: of float files, against the original."
    return f'{table}<p class="note">{said}</p>' + (f'<ul class="note">{"".join(notes)}</ul>' if notes else "")


def frontier_chart(target: dict[str, Any]) -> str:
    """Return fidelity over cost of every mixture on the frontier as SVG; of one alone, a sentence."""
    points = target["frontier"]
    if len(points) == 1:
        kept, fidelity = points[0]["kept"], points[0]["fidelity"]
        return f'<p class="note">One mixture only: {kept} layers in float, fidelity {fidelity:.3f}.</p>'
    timed = all(point["latency_ms"] is not None for point in points)
    xs = [point["latency_ms"] if timed else float(point["kept"]) for point in points]
    low, high = min(xs), max(xs)
    span = (high - low) or 1.0
    plot_w, plot_h = _WIDTH - _LEFT - 16, _HEIGHT - _BOTTOM - _TOP
    parts = []
    for step in range(0, 11, 2):
        y = _TOP + plot_h * (1 - step / 10)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + plot_w}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{step / 10:g}</text>')
    for step in range(5):
        x = _LEFT + plot_w * step / 4
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{low + span * step / 4:.3g}</text>'
        )
    title = "ms, engine alone on this machine" if timed else "layers in float"
    parts.append(f'<text x="{_LEFT + plot_w / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{title}</text>')
    middle = _TOP + plot_h / 2
    parts.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">fidelity</text>')
    for x_value, point in zip(xs, points, strict=True):
        x, y = _LEFT + plot_w * (x_value - low) / span, _TOP + plot_h * (1 - point["fidelity"])
        fill = "#d1570a" if point["chosen"] else "#ffffff"
        said = f"{point['kept']} layers in float, fidelity {point['fidelity']:.3f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="#1f6feb" stroke-width="2">'
            f"<title>{said}</title></circle>"
        )
    legend = '<p class="note">Fidelity: agreement with the float model on held-out calibration pictures. Filled: taken.'
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">{"".join(parts)}</svg>'
    return svg + legend + "</p>"


def _causes(target: dict[str, Any]) -> str:
    parts = [f"<h2>What quantization cost: {escape(target['name'])}</h2>"]
    if target["outputs_sqnr_db"]:
        rows = [[escape(name), f"{value:.1f} dB"] for name, value in target["outputs_sqnr_db"].items()]
        parts.append(table_of(["output", "signal to noise"], rows))
    if target["layers"]:
        worst = sorted(target["layers"], key=lambda row: row["sqnr_db"])[:12]
        rows = [[escape(row["name"]), f"{row['sqnr_db']:.1f} dB"] for row in worst]
        parts.append(table_of(["worst layers", "signal to noise"], rows))
    return "".join(parts)


def _facts(report: dict[str, Any]) -> str:
    rows = [["source, SHA-256", escape(report["source"]["sha256"])]]
    for title in ("calibration", "evaluation"):
        for key, value in (report[title] or {}).items():
            rows.append([f"{title}: {escape(key)}", escape(str(value))])
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    return table_of(["", ""], rows) + f"<ul>{notes}</ul>"


def _interval(entry: dict[str, float] | None, sign: str = "") -> str:
    if entry is None:
        return "-"
    low, high = f"{entry['low']:{sign}.3f}", f"{entry['high']:{sign}.3f}"
    return f'{entry["value"]:{sign}.4f} <span class="note">{low} to {high}</span>'
