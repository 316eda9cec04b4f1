"""The evaluation as one self-contained page: tables, curves, the confusion matrix and the pictures."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from edge.evaluation.charts import SERIES_COLORS, bar_chart, pr_chart
from edge.evaluation.report_text import confusions, split_of

__all__ = ["figure_of", "page_of", "page_shell", "table_of"]

_MOST_CLASSES, _MOST_CONFUSED = 20, 16
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#24292f;background:#fff;max-width:1120px;margin:24px auto;padding:0 16px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 8px;border-bottom:1px solid #d0d7de;padding-bottom:4px}
p{margin:6px 0}.note{color:#57606a}.warn{background:#fff8c5;border-left:4px solid #bf8700;padding:6px 10px;margin:6px 0}
.verdict{background:#ddf4ff;border-left:4px solid #0969da;padding:8px 12px;font-size:15px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:3px 10px;text-align:right;border-bottom:1px solid #eaeef2;white-space:nowrap}
th{color:#57606a;font-weight:600}th:first-child,td:first-child{text-align:left}
.row{display:flex;flex-wrap:wrap;gap:28px;align-items:flex-start}
svg{font:11px system-ui,sans-serif;fill:#24292f;max-width:100%}svg .grid{stroke:#eaeef2}
.matrix{font-size:11px}.matrix td{padding:2px 4px;min-width:24px;text-align:center;border:1px solid #fff}
.matrix th{padding:2px 4px;font-weight:400;border:0}.matrix thead th{height:92px;vertical-align:bottom}
.matrix thead th span{writing-mode:vertical-rl;transform:rotate(180deg);display:inline-block}
.matrix tbody th{text-align:right}
.scroll{overflow-x:auto;scrollbar-width:thin;scrollbar-color:#8c959f #eaeef2}
.scroll::-webkit-scrollbar{height:10px;background:#eaeef2}.scroll::-webkit-scrollbar-thumb{background:#8c959f}
.pair{display:flex;flex-wrap:wrap;gap:0 28px}.pair>div{flex:1 1 600px;min-width:0}
.pair .matrix td{min-width:18px;padding:2px}.pair .matrix th{padding:2px}.ends{margin-left:8px}
@media(min-width:1300px){.pair{margin:0 calc((1120px - min(100vw - 64px,1500px))/2)}}
@media(max-width:700px){td .note{display:block;margin:0}th,td{padding:3px 4px}.scroll th{white-space:normal}
td:first-child{white-space:normal}}
.pictures img{width:100%;display:block;margin:10px 0 0}.pictures p{margin:2px 0 12px}
"""


def page_of(report: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """Return the page. pictures: a caption and a JPEG each."""
    data, models = report["data"], report["models"]
    detector = report["kind"] == "detection"
    titles = [f"{'AB'[i]}: " if len(models) > 1 else "" for i in range(len(models))]
    names = [f"{title}{model['name']} ({model['target']})" for title, model in zip(titles, models, strict=True)]
    body = [
        f"<h1>{escape(' against '.join(names))}</h1>",
        f'<p class="note">{escape(data["path"])} &middot; {escape(data["form"] + split_of(data))} &middot; '
        f"{data['pictures']} pictures &middot; Harrier {escape(report['harrier'])}</p>",
    ]
    if "comparison" in report:
        body.append(f'<p class="verdict">{escape(report["comparison"]["verdict"])}</p>')
    body += [f'<p class="warn">{escape(said)}</p>' for said in report["warnings"]]
    body.append("<h2>Figures, with 95 % intervals</h2>" + _figures(report, names))
    body.append(_classes(report, names, detector))
    matrices = [
        f"<div><h2>Confusion matrix, {escape(name)}</h2>{_matrix(model['figures'], detector)}</div>"
        for name, model in zip(names, models, strict=True)
    ]
    body.append(f'<div class="pair">{"".join(matrices)}</div>' if len(matrices) > 1 else matrices[0])
    if pictures:
        body.append("<h2>" + ("Where they differ most" if "comparison" in report else "The worst pictures") + "</h2>")
        body.append('<div class="pictures">' + "".join(figure_of(*entry) for entry in pictures) + "</div>")
    body.append("<h2>What was run</h2>" + _identities(models, names))
    return page_shell("harrier eval", "".join(body))


def page_shell(title: str, body: str) -> str:
    """Return a whole page in the reports' style; body is HTML."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    return page.encode(errors="backslashreplace").decode()  # file names need not be UTF-8


def _figures(report: dict[str, Any], names: Sequence[str]) -> str:
    models = report["models"]
    rows: list[list[str]] = []
    keys = [("map", "mAP50-95"), ("map50", "mAP50"), ("map75", "mAP75"), ("top1", "top-1"), ("top5", "top-5")]
    for key, title in keys:
        if key in models[0]["figures"]:
            rows.append([title, *(_interval(model["figures"][key]) for model in models)])
    for size, entry in models[0]["figures"].get("sizes", {}).items():
        values = [_figure(model["figures"]["sizes"][size]["map"]) for model in models]
        rows.append([f"mAP {size} ({entry['objects']} objects)", *values])
    if models[0]["figures"].get("coco"):
        rows.append(["AR, 100 detections", *(_figure(model["figures"]["coco"]["ar100"]) for model in models)])
    if "comparison" in report:
        comparison = report["comparison"]
        drop = [_interval(comparison["drop"]), ""]
        rows.append(["drop, A minus B (paired)", *drop])
        rows.append(["agreement of A and B", f"{100 * comparison['agreement']:.1f} %", ""])
    return table_of(["", *names], rows)


def _classes(report: dict[str, Any], names: Sequence[str], detector: bool) -> str:
    tables = [model["figures"]["classes"] for model in report["models"]]
    size, key = ("objects", "ap") if detector else ("pictures", "recall")
    order = sorted((i for i, row in enumerate(tables[0]) if row[size]), key=lambda i: -tables[0][i][size])
    bars = [(tables[0][i]["name"], [_ends(table[i][key]) for table in tables]) for i in order[:_MOST_CLASSES]]
    title = "AP" if detector else "Recall"
    legend = "".join(
        f'<span style="color:{SERIES_COLORS[i]}">&#9632;</span> {escape(name)} &nbsp; ' for i, name in enumerate(names)
    )
    left = f"<div><p>{title} of the {len(bars)} commonest classes: {legend}</p>{bar_chart(bars)}</div>"
    right = ""
    if detector:
        curves = [model["figures"]["pr_curves"] for model in report["models"]]
        if len(names) == 1:
            named = [tables[0][i]["name"] for i in order[:5]]
            series = [("all classes", curves[0]["all"]), *((name, curves[0][name]) for name in named)]
        else:  # the colours are those of the bars beside it
            series = [(f"{'AB'[i]}: {model['target']}", curves[i]["all"]) for i, model in enumerate(report["models"])]
        right = f"<div><p>Precision over recall, IoU 0.5</p>{pr_chart(series)}</div>"
    return f'<h2>Classes</h2><div class="row">{left}{right}</div>' + _class_table(tables, order, detector)


def _class_table(tables: list[list[dict]], order: list[int], detector: bool) -> str:
    fields = ("ap50", "ap75", "precision", "recall") if detector else ("precision",)
    size, key = ("objects", "ap") if detector else ("pictures", "recall")
    head = ["class", size]
    for side in range(len(tables)):
        mark = f" {'AB'[side]}" if len(tables) > 1 else ""
        head += [key.upper() + mark if detector else key + mark, *(name.replace("ap", "AP") + mark for name in fields)]
    rows = []
    for i in order:
        row = [escape(tables[0][i]["name"]), str(tables[0][i][size])]
        for table in tables:
            row += [_figure(table[i][key]["value"] if table[i][key] else None), *(_figure(table[i][f]) for f in fields)]
        rows.append(row)
    return f"<details><summary>All {len(rows)} classes</summary>{table_of(head, rows)}</details>"


def _matrix(figures: dict[str, Any], detector: bool) -> str:
    names, counts = figures["confusion"]["names"], figures["confusion"]["counts"]
    last = len(names) - 1
    weight = [sum(counts[i]) + sum(row[i] for row in counts) for i in range(last)]
    shown = sorted((i for i in range(last) if weight[i]), key=lambda i: -weight[i])[:_MOST_CONFUSED]
    rest = [i for i in range(last) if i not in shown]
    groups = [[i] for i in shown] + ([rest] if rest else []) + [[last]]
    titles = [names[i] for i in shown] + ([f"{len(rest)} others"] if rest else []) + [names[last]]
    head = "".join(f"<th><span>{escape(title[:16])}</span></th>" for title in titles)
    rows = []
    for truth, title in zip(groups, titles, strict=True):
        values = [sum(counts[t][f] for t in truth for f in found) for found in groups]
        total = max(1, sum(values))
        cells = "".join(
            _cell(value, value / total, found is truth) for value, found in zip(values, groups, strict=True)
        )
        rows.append(f"<tr><th>{escape(title[:16])}</th>{cells}</tr>")
    said = "IoU at least 0.5, score at least " + f"{figures['operating_score']:g}. " if detector else ""
    pairs = ", ".join(f"{escape(t)} as {escape(f)} ({n})" for t, f, n in confusions(figures["confusion"]))
    return (
        f'<p class="note">Rows: truth. Columns: found. {said}Shaded by the share of its row.</p>'
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>" + (f"<p>Most confused: {pairs}</p>" if pairs else "")
    )


def _cell(value: int, share: float, same: bool) -> str:
    color = "45,164,78" if same else "209,87,10"
    return f'<td style="background:rgba({color},{0.05 + 0.85 * share if value else 0:.2f})">{value or ""}</td>'


def _identities(models: list[dict], names: Sequence[str]) -> str:
    fields = ("file", "sha256", "decoder", "contract")
    rows = [[field, *(escape(str(model[field])[-80:]) for model in models)] for field in fields]
    return table_of(["", *names], rows)


def figure_of(caption: str, jpeg: bytes) -> str:
    """Return a picture and its caption as HTML."""
    return (
        f'<img alt="{escape(caption)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        f'<p class="note">{escape(caption)}</p>'
    )


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML; head is text, the cells of rows are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _interval(entry: dict[str, Any]) -> str:
    return f'{entry["value"]:.4f}<span class="note ends">{entry["low"]:.4f} to {entry["high"]:.4f}</span>'


def _ends(entry: dict[str, Any] | None) -> tuple[float, float, float] | None:
    if entry and entry["high"] - entry["low"] == 1:
        return entry["value"], entry["value"], entry["value"]  # nothing is known: no whiskers
    return (entry["value"], entry["low"], entry["high"]) if entry else None


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
