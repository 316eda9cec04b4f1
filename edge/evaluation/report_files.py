"""The files an evaluation leaves: JSON, the page and the picture grid."""

import json
import os
from pathlib import Path

import cv2

from edge.errors import ConfigError
from edge.evaluation.evaluate import Evaluation
from edge.evaluation.pictures import names_to_show, picture_grid, picture_row
from edge.evaluation.report_html import page_of

__all__ = ["check_writable", "write_files", "write_text"]

_MOST_PICTURES = 8


def check_writable(files: list[Path]) -> None:
    """Find out, before the work, that a file cannot be written; write nothing.

    Raises: ConfigError naming the file.
    """
    for path in files:
        if path.is_dir():
            raise ConfigError(f"cannot write {path} (it is a folder)", "give the name of a file")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            reason = "no permission" if path.parent.is_dir() else "there is no such folder"
            raise ConfigError(f"cannot write {path} ({reason})", "check the folder")


def write_files(evaluation: Evaluation, json_file: Path | None, html: Path | None, grid: Path | None) -> None:
    """Write what is asked for.

    Raises: ConfigError when a file cannot be written.
    """
    if json_file:
        write_text(json_file, json.dumps(evaluation.report, indent=2) + "\n")
    if html:
        write_text(html, page_of(evaluation.report, _pictures(evaluation)))
    if grid:
        done, data = cv2.imencode(".png", picture_grid(evaluation, _MOST_PICTURES))
        if done:
            _write(grid, data.tobytes())


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file.

    Raises: ConfigError when it cannot be written.
    """
    _write(path, text.encode())


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


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise ConfigError(f"cannot write {path} ({exc.strerror})", "check the folder") from exc
