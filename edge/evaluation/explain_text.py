"""The findings of `harrier explain` as lines for a terminal."""

from typing import Any

__all__ = ["explanation_text"]

_IDENTICAL_DB = 150.0  # the most that explain.sqnr_db gives


def explanation_text(findings: dict[str, Any]) -> str:
    """Return the findings of `edge.evaluation.explain` as text."""
    details = findings["details"]
    chosen = findings.get("selection")
    lines = [
        f"A  {findings['a']}",
        f"B  {findings['b']}",
        f"{findings['pictures']} pictures{f' ({chosen})' if chosen else ''}, A and B agree on "
        f"{100 * findings['agreement']:.1f} % of what they say there",
        "",
        f"{'stage':<16}{'lost agreement':>15}   what differs",
    ]
    pixels = details["preprocessing"]
    said = {
        "preprocessing": [f"input {_sqnr(pixels['sqnr_db'])}", *pixels["differs"]],
        "engine": [f"{role} {_sqnr(value)}" for role, value in details["engine"]["sqnr_db"].items()],
        "decode": details["decode"]["differs"],
        "thresholds": details["thresholds"]["differs"],
    }
    for stage, share in findings["shares"].items():
        lines.append(f"{stage:<16}{100 * share:>13.1f} %   {'; '.join(said[stage]) or 'nothing'}")
    lines += ["", f"{'pre':<6}{'engine':<8}{'decode':<8}{'thresholds':<12}{'agreement':>10}{'quality':>9}{'found':>7}"]
    for step in findings["steps"]:
        pre, engine, decode, thresholds = step["stages"]
        lines.append(
            f"{pre:<6}{engine:<8}{decode:<8}{thresholds:<12}{step['agreement']:>10.3f}{step['quality']:>9.3f}{step['found']:>7}"
        )
    return "\n".join([*lines, "", findings["verdict"], f"cure: {findings['cure']}"])


def _sqnr(value: float) -> str:
    return "identical" if value >= _IDENTICAL_DB else f"SQNR {value:.1f} dB"
