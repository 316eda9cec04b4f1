"""The findings of `harrier explain` as lines for a terminal."""

from typing import Any

__all__ = ["explanation_text"]


def explanation_text(findings: dict[str, Any]) -> str:
    """Return the findings of `edge.evaluation.explain` as text."""
    details = findings["details"]
    lines = [
        f"A  {findings['a']}",
        f"B  {findings['b']}",
        f"{findings['pictures']} pictures, A and B agree on {100 * findings['agreement']:.1f} %",
        "",
        f"{'stage':<16}{'lost agreement':>15}   what differs",
    ]
    pixels = details["preprocessing"]
    said = {
        "preprocessing": [f"input SQNR {pixels['sqnr_db']:.1f} dB", *pixels["differs"]],
        "engine": [f"{role} {value:.1f} dB" for role, value in details["engine"]["sqnr_db"].items()],
        "decode": details["decode"]["differs"],
        "thresholds": details["thresholds"]["differs"],
    }
    for stage, share in findings["shares"].items():
        lines.append(f"{stage:<16}{100 * share:>13.1f} %   {'; '.join(said[stage]) or 'nothing'}")
    lines += ["", f"{'stages (in order)':<20}{'agreement':>10}{'quality':>9}{'found':>7}"]
    for step in findings["steps"]:
        lines.append(
            f"  {' '.join(step['stages']):<18}{step['agreement']:>10.3f}{step['quality']:>9.3f}{step['found']:>7}"
        )
    return "\n".join([*lines, "", findings["verdict"], f"cure: {findings['cure']}"])
