"""The report as one self-contained HTML page: no script, no font, no picture from anywhere else."""

from html import escape

from edge.bench.charts import Line, cdf_chart, histogram_chart, line_chart, waterfall_chart
from edge.bench.report_text import (
    AGE_NEEDS,
    NOT_AVAILABLE,
    SOAK_NOTE,
    detections_text,
    machine_lines,
    soak_all_clear,
    soak_lines,
    soak_title,
    too_few_frames,
)
from edge.bench.results import Distribution, Estimate, Report, Setup
from edge.bench.waterfall import drawn_stages, end_ms

__all__ = ["page_of"]

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2329;--soft:#667078;--line:#e2e5e8;--ok:#1a7f4b;
--bad:#b3261e;--warn:#9a6700;--c0:#8a97a3;--c1:#2f6fb5;--c2:#d9822b;--c3:#2a9d8f;--c4:#8f5fbf;--c5:#c0504d;
--c6:#4c9a2a;--c7:#b07d2b}
@media(prefers-color-scheme:dark){:root{--bg:#14181c;--card:#1b2126;--ink:#e4e8eb;--soft:#98a3ac;--line:#323a41;
--ok:#58c08a;--bad:#ff8a80;--warn:#e0b050;--c0:#8896a2;--c1:#6ba6e8;--c2:#f0a35a;--c3:#54c7b8;--c4:#b893e0;
--c5:#e88b88;--c6:#86cc62;--c7:#d9ae66}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}h1{font-size:27px;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:36px 0 10px}p{margin:6px 0}.sub{color:var(--soft)}
section{background:linear-gradient(90deg,var(--card) 12px,transparent) 0 0/32px 100% no-repeat local,
linear-gradient(270deg,var(--card) 12px,transparent) 100% 0/32px 100% no-repeat local,
linear-gradient(90deg,var(--line),transparent) 0 0/14px 100% no-repeat scroll,
linear-gradient(270deg,var(--line),transparent) 100% 0/14px 100% no-repeat scroll,var(--card);
border:1px solid var(--line);border-radius:8px;padding:16px 20px;overflow-x:auto}
section::-webkit-scrollbar{height:10px}section::-webkit-scrollbar-thumb{background:var(--soft);border-radius:5px}
section::-webkit-scrollbar-track{background:var(--line);border-radius:5px}section>p{position:sticky;left:0}
.verdict{display:inline-block;margin:14px 0 0;padding:4px 12px;border-radius:5px;border:1px solid;font-weight:600}
.ok{color:var(--ok)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin-top:18px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 16px}
.card b{display:block;font-size:23px;font-weight:600;font-variant-numeric:tabular-nums}.card span{color:var(--soft);
font-size:13px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500;font-size:13px}th:first-child,td:first-child{text-align:left;padding-left:0}
tr:last-child td{border-bottom:0}td.ci{color:var(--soft)}table.facts td{text-align:left;white-space:normal;
overflow-wrap:anywhere}
table.facts td:first-child{color:var(--soft);width:190px;white-space:nowrap}
svg{display:block;width:100%;min-width:760px;height:auto;font-size:13px}
text{fill:var(--ink)}.tick{fill:var(--soft);font-size:12px}
.value tspan{fill:var(--soft)}.strong{font-weight:600}.grid{stroke:var(--line);stroke-width:1;fill:none}
.whisker{stroke:var(--ink);stroke-width:1.3;fill:none;opacity:.65}.line{fill:none;stroke-width:2;
stroke-linejoin:round;stroke-linecap:round}.line.thin{stroke-width:1;opacity:.75}
.legend{color:var(--soft);font-size:13px}.legend span{margin-right:20px}
.legend i{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:6px;vertical-align:middle}
.legend i.thin{height:1px;opacity:.75}
.absent{color:var(--soft);font-style:italic;margin:8px 0}footer{color:var(--soft);font-size:13px;margin-top:32px}
ul{margin:8px 0;padding-left:20px}@media print{body{background:#fff}section,.card{break-inside:avoid}}
""" + "".join(
    f".fill.c{i}{{fill:var(--c{i})}}.line.c{i}{{stroke:var(--c{i})}}i.c{i}{{background:var(--c{i})}}" for i in range(8)
)


def page_of(report: Report) -> str:
    """Return the page as text."""
    several = len(report.setups) > 1
    title = " against ".join(setup.name if several else setup.model for setup in report.setups)
    body = [_head(report, title), _cards(report), _comparison(report), _soak(report)]
    waterfalls = drawn_stages(report.setups)
    for setup, stages in zip(report.setups, waterfalls, strict=True):
        body.append(_setup(report, setup, stages, end_ms(waterfalls)))
    body += [_too_few(report), _cdf(report), _time_series(report), _photon(report), _budget(report)]
    body.append(f"<h2>Machine</h2><section>{_facts(machine_lines(report))}</section>")
    body.append(
        "<footer>Intervals are 95 %: percentiles by order statistics, widened where neighbours are alike, ratios of "
        "interleaved pairs by the exact signed-rank bounds. "
        f"Written by harrier bench, {escape(report.schema)}.</footer>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>harrier bench: {escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(report: Report, title: str) -> str:
    where = report.machine.get("board") or report.machine.get("cpu") or "a machine without a name"
    verdict = '<span class="verdict ok">This run counts</span>'
    if not report.valid:
        verdict = '<span class="verdict bad">This run does not count</span>'
    items = "".join(f'<li class="{"bad" if f.invalidates else "warn"}">{escape(f.text)}</li>' for f in report.findings)
    notes = f"<ul>{items}</ul>" if items else ""
    return (
        f'<h1>{escape(title)}</h1><p class="sub">harrier bench on {escape(where)}, {escape(report.created)}</p>'
        f"{verdict}{notes}"
    )


def _cards(report: Report) -> str:
    setup, own = report.setups[0], report.resources
    age = setup.capture_to_publish
    ages = [(age.p50.value, "p50"), (age.p99.value, "p99")]
    if report.soak:
        ages = [(max(report.soak.p99_ms), "p99, worst window"), (max(report.soak.max_ms), "max, whole run")]
    cards = [
        *((f"{value:.2f} ms", f"capture to publish, {point}") for value, point in ages),
        (f"{setup.throughput_fps.value:.1f} /s", "frames published"),
        (f"{own.rss_peak_mb:.0f} MB", "memory at its peak"),
        (f"{own.cpu_cores:.2f}", "CPU cores busy"),
    ]
    if setup.power:
        cards.append((f"{setup.power.energy_mj_per_frame:.1f} mJ", f"per frame, {setup.power.scope}"))
    if report.startup:
        cards.append((f"{report.startup.median_s:.2f} s", "process start to first message"))
    inner = "".join(f'<div class="card"><b>{big}</b><span>{escape(small)}</span></div>' for big, small in cards)
    return "" if len(report.setups) > 1 else f'<div class="cards">{inner}</div>'


def _setup(report: Report, setup: Setup, stages: dict[str, Distribution], axis_end_ms: float) -> str:
    several = len(report.setups) > 1
    heading = f"Where the time of a frame goes{': ' + escape(setup.name) if several else ''}"
    rows = [(name, d.p50.value, d.p99.value) for name, d in stages.items()]
    table = [*setup.stages.items(), ("step (wall clock)", setup.step), ("capture to publish", setup.capture_to_publish)]
    if setup.age_of_information:
        table.append(("age at subscriber", setup.age_of_information))
    drops, fps = setup.drops, setup.throughput_fps
    bounds = "" if fps.low is None else f" {_ci(fps, 2)}"
    share = f"The stages add up to {100 * setup.stages_over_wall:.2f} % of the wall clock."
    if "wait" in setup.stages and "wait" not in stages:
        share += f" Not drawn: {setup.stages['wait'].p50.value:.2f} ms of waiting for the next frame (median)."
    facts = [
        ("model", f"{setup.model} ({setup.target}), threads: {setup.threads or 'default'}"),
        ("source", f"{setup.source}, time stamps: {setup.timestamp_quality}"),
        ("publishers", ", ".join(setup.publish)),
        ("throughput", f"{fps.value:.2f} frames/s{bounds} over {setup.frames} frames, {setup.elapsed_s:.1f} s"),
        ("detections per frame", detections_text(setup).partition(": ")[2] or "the model finds none"),
        (
            "dropped",
            f"{drops.replaced_by_newer} of {drops.captured} captured, replaced by a newer frame before the pipeline "
            f"was free; {drops.corrupt} corrupt; {drops.engine_lost} that no engine could run; {drops.read_timeouts} "
            f"read timeouts; {drops.reconnects} reconnects; {drops.publisher} messages a reader was too slow for",
        ),
    ]
    power = setup.power
    energy = f"{power.mean_w:.2f} W, {power.energy_mj_per_frame:.2f} mJ per frame" if power else NOT_AVAILABLE
    facts.append(("power", f"{energy} ({power.sensor}: {power.scope})" if power else energy))
    facts += [("source event", event) for event in drops.events[:10]]
    age = "" if setup.age_of_information else f'<p class="absent">age at a subscriber: {NOT_AVAILABLE}, {AGE_NEEDS}</p>'
    window = f": last window, {setup.step.count} frames" if report.soak else ""
    return (
        f"<h2>{heading}{window}</h2><section>{waterfall_chart(rows, heading, axis_end_ms)}"
        f'<p class="legend">Bars: median of each stage, in order. Whisker: its p99. {share}</p></section>'
        f"<h2>Latency{': ' + escape(setup.name) if several else window}</h2><section>{_table(table)}{age}</section>"
        f'<section style="margin-top:12px">{_facts(facts)}</section>'
    )


def _too_few(report: Report) -> str:
    text = too_few_frames(report)
    return f'<p class="legend">{escape(text[0].upper() + text[1:])}.</p>' if text else ""


def _table(rows: list[tuple[str, Distribution]]) -> str:
    heads = ("ms", "p50", "95 % interval", "p90", "p99", "95 % interval", "max", "jitter")
    cells = []
    for name, d in rows:
        values: tuple[str, ...] = (
            f"{d.p50.value:.3f}",
            _ci(d.p50, 3),
            f"{d.p90.value:.3f}",
            f"{d.p99.value:.3f}",
            _ci(d.p99, 3),
        )
        values += (f"{d.max:.3f}", f"{d.jitter:.3f}")
        row = "".join(f"<td{' class=ci' if v.startswith(('[', 'too')) else ''}>{v}</td>" for v in values)
        cells.append(f"<tr><td>{escape(name)}</td>{row}</tr>")
    head = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{''.join(cells)}</table>"


def _cdf(report: Report) -> str:
    lines: list[Line] = []
    ends: list[float] = []
    several = len(report.setups) > 1
    for i, setup in enumerate(report.setups):
        curves = [("capture to publish", setup.capture_to_publish), ("step (wall clock)", setup.step)]
        if setup.age_of_information:
            curves.append(("age at subscriber", setup.age_of_information))
        for name, d in curves[:1] if several else curves:
            label = f"{setup.name}: {name}" if several else name
            lines.append(Line(label, d.cdf_ms, list(range(101)), _colour_of(i if several else len(lines))))
            ends.append(d.cdf_ms[99])
    chart = cdf_chart(lines, "latency, cumulative distribution", max(ends) * 1.08)
    page = f"<h2>Latency, cumulative distribution</h2><section>{chart}</section>"
    for i, setup in enumerate(report.setups):
        d = setup.capture_to_publish
        heading = f"Capture to publish, histogram{': ' + escape(setup.name) if several else ''}"
        bars = histogram_chart(d.histogram_edges_ms, d.histogram_counts, heading, _colour_of(i))
        page += f'<h2>{heading}</h2><section>{bars}<p class="legend">The last bar holds everything above.</p></section>'
    return page


def _comparison(report: Report) -> str:
    if not report.comparison:
        return ""
    rows = ""
    for name, verdict in report.comparison.verdicts.items():
        r = report.comparison.ratios.get(name)
        numbers = f"<td>{r.value:.4f}</td><td class=ci>{_ci(r, 4)}</td>" if r else "<td></td><td></td>"
        rows += f"<tr><td>{escape(name.replace('_', ' '))}</td>{numbers}<td>{escape(verdict)}</td></tr>"
    return (
        f"<h2>Second over first, {report.comparison.pairs} interleaved pairs</h2><section><table><tr><th></th>"
        f"<th>ratio</th><th>95 % interval</th><th>verdict</th></tr>{rows}</table></section>"
    )


def _time_series(report: Report) -> str:
    s = report.series
    end = max([*s.t_s, *(t for each in s.latency for t in each.t_s)], default=1.0)
    several = len(s.latency) > 1
    latency: list[Line] = []
    for i, each in enumerate(s.latency):
        who = f"{each.name}: " if several else ""
        thin = f"{_colour_of(i)} thin" if several else _colour_of(1)
        latency.append(Line(f"{who}p50", each.t_s, each.p50_ms, _colour_of(i)))
        latency.append(Line(f"{who}max", each.t_s, each.max_ms, thin))
    charts = [
        line_chart(latency, "Capture to publish", "ms", end, 170, from_zero=True),
        line_chart([Line("temperature", s.t_s, s.temperature_c, "c5")], "Temperature, hottest sensor", "°C", end),
        line_chart([Line("power", s.t_s, s.power_w, "c4")], "Power", "W", end),
        line_chart([Line("clock", s.t_s, s.clock_mhz, "c6")], "Clock, fastest core", "MHz", end),
        line_chart([Line("RSS", s.t_s, s.rss_mb, "c3")], "Resident memory", "MB", end),
    ]  # fmt: skip
    return f"<h2>Over time</h2><section>{''.join(charts)}</section>"


def _soak(report: Report) -> str:
    soak = report.soak
    if not soak:
        return ""
    end = soak.t_s[-1] + soak.window_s / 2
    found = "".join(f'<p class="bad">{escape(problem)}</p>' for problem in soak.problems)
    verdict = found or f'<p class="ok">{escape(soak_all_clear(soak))}</p>'
    charts = [
        line_chart([Line("p50", soak.t_s, soak.p50_ms, "c1"), Line("p99", soak.t_s, soak.p99_ms, "c2")],
                   "Capture to publish per window", "ms", end, from_zero=True),
        line_chart([Line("RSS", soak.t_s, soak.rss_mb, "c3")], "Resident memory per window", "MB", end),
    ]  # fmt: skip
    lines = "".join(f"<p>{escape(line)}</p>" for line in soak_lines(soak))
    note = f'<p class="legend">Below, {SOAK_NOTE}.</p>'
    return f"<h2>{soak_title(soak).capitalize()}</h2><section>{verdict}{lines}{note}{''.join(charts)}</section>"


def _photon(report: Report) -> str:
    photon = report.photon
    if not photon:
        return ""
    note = (
        f"{photon.flashes} flashes of {escape(photon.light)}, {photon.missed} missed. The capture stamp comes "
        f"{photon.light_to_capture_stamp_p50_ms:.2f} ms after the light (median)."
    )
    table = _table([("light to message", photon.light_to_message)])
    return f"<h2>Light to message</h2><section>{table}<p>{note}</p></section>"


def _budget(report: Report) -> str:
    if report.budget is None:
        return ""
    rows = []
    for line in report.budget:
        measured = NOT_AVAILABLE if line.measured is None else f"{line.measured:.3f}"
        word = '<td class="ok">kept</td>' if line.kept else '<td class="bad">not kept</td>'
        rows.append(f"<tr><td>{escape(line.limit_name)}</td><td>{measured}</td><td>{line.limit:g}</td>{word}</tr>")
    head = "<tr><th></th><th>measured</th><th>limit</th><th></th></tr>"
    return (
        f"<h2>Budget: {escape(report.budget_board or '')}</h2><section><table>{head}{''.join(rows)}</table></section>"
    )


def _facts(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f'<table class="facts">{cells}</table>'


def _colour_of(i: int) -> str:
    """The class of a set-up, or of one of several curves."""
    return f"c{i + 1}"


def _ci(estimate: Estimate, digits: int) -> str:
    if estimate.low is None or estimate.high is None:
        return "too few to tell"
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
