"""The files an evaluation leaves: JSON, the page and the picture grid."""

import json
from pathlib import Path

import cv2

from edge.evaluation.evaluate import Evaluation
from edge.evaluation.pictures import names_to_show, picture_grid, picture_row
from edge.evaluation.report_html import page_of
from edge.files import write_atomically

__all__ = ["write_files"]

_MOST_PICTURES = 8


def write_files(evaluation: Evaluation, json_file: Path | None, html: Path | None, grid: Path | None) -> None:
    """Write what is asked for.

    Raises: ConfigError when a file cannot be written.
    """
    if json_file:
        write_atomically(json_file, json.dumps(evaluation.report, indent=2) + "\n")
    if html:
        write_atomically(html, page_of(evaluation.report, _pictures(evaluation)))
    if grid:
        done, data = cv2.imencode(".png", picture_grid(evaluation, _MOST_PICTURES))
        if done:
            write_atomically(grid, data.tobytes())


def _pictures(evaluation: Evaluation) -> list[tuple[str, bytes]]:
    report = evaluation.report
    rows = report["comparison"]["pictures"] if "comparison" in report else report["models"][0]["worst"]
    said = {row["picture"]: row for row in rows}
    found = []
    for name in names_to_show(evaluation, _MOST_PICTURES):
        done, data = cv2.imencode(".jpg", picture_row(evaluation, name), [cv2.IMWRITE_JPEG_QUALITY, 85])
        row = said[name]
        caption = f"{name}: A {row['quality_a']:.2f}, B {row['quality_b']:.2f}" if "quality_b" in row else name
        if "quality" in row:
            caption = f"{name}: quality {row['quality']:.2f}"
        if done:
            found.append((caption, data.tobytes()))
    return found
