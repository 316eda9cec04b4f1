"""The evaluation as lines for a terminal."""

from typing import Any

__all__ = ["confusions", "split_of", "text_of"]

_MOST_CLASSES = 20


def text_of(report: dict[str, Any]) -> str:
    """Return a report of `edge.evaluation.evaluate` as text."""
    data = report["data"]
    lines = [f"{data['path']}: {data['pictures']} pictures, {data['form']}{split_of(data)}"]
    for i, model in enumerate(report["models"]):
        title = f"{'AB'[i]}  " if len(report["models"]) > 1 else ""
        lines += ["", f"{title}{model['name']} ({model['target']}, {model['decoder']})"]
        detector = report["kind"] == "detection"
        lines += _detector(model["figures"]) if detector else _classifier(model["figures"])
    comparison = report.get("comparison")
    if comparison:
        lines += ["", f"A - B  {_interval(comparison['drop'])}", f"       {comparison['verdict']}"]
        lines.append(f"       they agree on {100 * comparison['agreement']:.1f} % of what they say")
        lines.append(f"{'most different pictures':<40}{'A':>8}{'B':>8}{'agree':>8}")
        lines += [
            f"  {row['picture'][:37]:<38}{row['quality_a']:>8.3f}{row['quality_b']:>8.3f}{row['agreement']:>8.3f}"
            for row in comparison["pictures"][:8]
        ]
    if report["warnings"]:
        lines += ["", *(f"warning: {said}" for said in report["warnings"])]
    return "\n".join(lines)


def split_of(data: dict[str, Any]) -> str:
    """Return ", split NAME" where only one split was evaluated, else ""."""
    return f", split {data['split']}" if data.get("split") else ""


def confusions(confusion: dict[str, Any], most: int = 10) -> list[tuple[str, str, int]]:
    """Return the commonest (truth, found, how often) off the diagonal, background aside."""
    names, counts = confusion["names"], confusion["counts"]
    pairs = [
        (names[t], names[f], counts[t][f])
        for t in range(len(names) - 1)
        for f in range(len(names) - 1)
        if t != f and counts[t][f]
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def _detector(figures: dict[str, Any]) -> list[str]:
    lines = [
        f"  {title:<12} {_interval(figures[key])}"
        for key, title in (("map", "mAP50-95"), ("map50", "mAP50"), ("map75", "mAP75"))
    ]
    for size, entry in figures["sizes"].items():
        lines.append(f"  mAP {size:<8} {_figure(entry['map'])}  {entry['objects']} objects")
    if figures.get("coco"):
        lines.append(f"  AR100        {_figure(figures['coco']['ar100'])}")
    shown = sorted((row for row in figures["classes"] if row["objects"]), key=lambda row: -row["objects"])
    lines.append(
        f"  {'class':<20}{'objects':>8}{'AP':>8}  {'95 %':<15}{'AP50':>7}{'prec.':>8}{'recall':>8}"
        f"   (score >= {figures['operating_score']:g})"
    )
    for row in shown[:_MOST_CLASSES]:
        ap = row["ap"]
        ends = f"{ap['low']:.3f}..{ap['high']:.3f}" if ap["resamples"] else "too few"
        lines.append(
            f"  {row['name'][:19]:<20}{row['objects']:>8}{ap['value']:>8.3f}  {ends:<15}{row['ap50']:>7.3f}"
            f"{_figure(row['precision']):>8}{_figure(row['recall']):>8}"
        )
    if len(shown) > _MOST_CLASSES:
        lines.append(f"  ... {len(shown) - _MOST_CLASSES} more classes: --json or --html")
    return lines + _confused(figures["confusion"])


def _classifier(figures: dict[str, Any]) -> list[str]:
    lines = [f"  top-1        {_interval(figures['top1'])}", f"  top-5        {_interval(figures['top5'])}"]
    shown = [row for row in figures["classes"] if row["pictures"]]
    lines.append(f"  {'class':<28}{'pictures':>9}{'recall':>8}  {'95 %':<15}{'prec.':>7}")
    for row in sorted(shown, key=lambda row: row["recall"]["value"])[:_MOST_CLASSES]:
        recall = row["recall"]
        ends = f"{recall['low']:.3f}..{recall['high']:.3f}"
        lines.append(
            f"  {row['name'][:27]:<28}{row['pictures']:>9}{recall['value']:>8.3f}  {ends:<15}"
            f"{_figure(row['precision']):>7}"
        )
    if len(shown) > _MOST_CLASSES:
        lines.append(f"  ... {len(shown) - _MOST_CLASSES} more classes, all better: --json or --html")
    return lines + _confused(figures["confusion"])


def _confused(confusion: dict[str, Any]) -> list[str]:
    pairs = confusions(confusion, 5)
    if not pairs:
        return []
    return ["  most confused: " + ", ".join(f"{truth} as {found} ({n})" for truth, found, n in pairs)]


def _interval(entry: dict[str, Any]) -> str:
    return f"{entry['value']:>7.4f}  95 % {entry['low']:.4f} .. {entry['high']:.4f}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
