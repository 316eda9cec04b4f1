"""What `harrier replay --expect` found: as text, JSON, a page, or a grid of the frames that differ most."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.evaluation.pictures import draw_boxes
from edge.evaluation.report_html import figure_of, page_shell, table_of
from edge.files import write_atomically
from edge.recording import picture_in
from edge.replay_compare import Difference, totals
from edge.replay_expected import Outcome, frames_of

__all__ = ["all_as_dict", "all_text", "as_dict", "outcome_text", "share_of", "worst_of", "write_report"]

_WORST, _WORST_OF_MANY, _MOST_PICTURES = 10, 3, 24
_KEYS = ("recorded", "found", "missing", "extra", "off")
_ROW = ("frames", "differing", "missing", "extra", "off")  # of a recording among several
_THEN, _NOW = 11, 58  # numbers of classes whose colours are far apart: blue and yellow


def worst_of(outcome: Outcome, most: int = _WORST) -> list[Difference]:
    """Return the frames that differ, the most different first."""
    differing = [one for one in outcome.differences if one.size]
    differing.sort(key=lambda one: (-one.size, -max((abs(change) for _, change in one.off), default=0.0), one.seq))
    return differing[:most]


def share_of(outcome: Outcome) -> float:
    """Return which share of the frames differs, 0 to 1."""
    return sum(bool(one.size) for one in outcome.differences) / len(outcome.differences)


def all_as_dict(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return several of them for JSON, with the sums over all."""
    sums = totals([one for outcome in outcomes for one in outcome.differences])
    return {**{key: sums[key] for key in (*_ROW, "share")}, "recordings": [as_dict(outcome) for outcome in outcomes]}


def all_text(outcomes: Sequence[Outcome]) -> str:
    """Return what was found in several, for people: a row for each, and its worst frames."""
    rows = [["", *_ROW, "passed over"], *_rows(outcomes)]
    width = max(len(name) for name, *_ in rows)
    lines = [f"{name:<{width}}" + "".join(f"{value:>12}" for value in values) for name, *values in rows]
    notes = Counter(note for outcome in outcomes for note in outcome.notes)
    lines += [f"{note} ({count} recordings)" if count > 1 else note for note, count in notes.items()]
    for outcome in outcomes:
        worst = worst_of(outcome, _WORST_OF_MANY)
        lines += [f"  {outcome.survey.path} frame {one.seq} at {one.t_s:.2f} s: {one.text}" for one in worst]
    return "\n".join(lines)


def _rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A name and _ROW for each, and for all, and how many pictures were passed over."""
    named = [(str(outcome.survey.path), outcome.differences, outcome.passed_over) for outcome in outcomes]
    every = [one for _, differences, _ in named for one in differences]
    named.append(("all", every, sum(passed for *_, passed in named)))
    sums = [(name, totals(differences), passed) for name, differences, passed in named]
    return [[name, *(str(one[key]) for key in _ROW), str(passed)] for name, one, passed in sums]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Return all of it for JSON."""
    limits = outcome.limits
    return {
        **outcome.survey.as_dict(),
        "model": outcome.model,
        "target": outcome.target,
        "limits": {"iou": limits.iou, "score": limits.score, "threshold": limits.threshold},
        "passed_over": outcome.passed_over,
        "notes": outcome.notes,
        **totals(outcome.differences),
        "worst": [
            {"seq": one.seq, "t_s": round(one.t_s, 3), "differ": one.size, "what": one.text}
            for one in worst_of(outcome)
        ],
    }


def outcome_text(outcome: Outcome) -> str:
    """Return what was found, for people."""
    sums = totals(outcome.differences)
    limits = outcome.limits
    lines = [
        f"{outcome.survey.path}: {sums['frames']} frames, recorded with {', '.join(outcome.survey.models)}",
        f"now {outcome.model} ({outcome.target}); the same: overlap {limits.iou:g} and more, scores within "
        f"{limits.score:g}, from score {limits.threshold:g} on",
    ]
    lines += outcome.notes
    if outcome.passed_over:
        lines.append(
            f"{outcome.passed_over} pictures were passed over: without a result to compare with, or where tracks begin"
        )
    width = max((len(row["label"]) for row in sums["classes"]), default=3)
    lines.append(f"{'':<{width}}" + "".join(f"{key:>10}" for key in _KEYS))
    rows = [*sums["classes"], {"label": "all", **sums}]
    lines += [f"{row['label']:<{width}}" + "".join(f"{row[key]:>10}" for key in _KEYS) for row in rows]
    if sums["iou_mean"] is not None:
        lines.append(
            f"overlaps: mean {sums['iou_mean']:.3f}, least {sums['iou_least']:.3f}; scores differ by "
            f"{sums['score_change_mean']:.4f}, at most {sums['score_change_most']:.4f}"
        )
    lines += [f"  frame {one.seq:>6} at {one.t_s:7.2f} s: {one.text}" for one in worst_of(outcome)]
    least = outcome.survey.least_score
    extra = [record.score for one in outcome.differences for record in one.extra]
    if extra and max(extra) < least < 1 and not any(one for one, _ in outcome.survey.settings):
        lines.append(f"all extra ones score less than any recorded: was it recorded with --threshold {least:.2g}?")
    lines.append(f"{sums['differing']} of {sums['frames']} frames differ ({100 * sums['share']:.1f} %)")
    return "\n".join(lines)


def write_report(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the frames that differ most, recorded left and now right: a page, or a grid where the name ends in .png.

    Raises: ConfigError when the file cannot be written.
    """
    most = max(_WORST_OF_MANY, _MOST_PICTURES // max(1, sum(share_of(outcome) > 0 for outcome in outcomes)))
    if path.suffix.lower() == ".png":
        rows = [picture for outcome in outcomes for _, picture in _pictures(outcome, most)]
        done, data = cv2.imencode(".png", np.concatenate(rows or [np.full((300, 800, 3), 255, np.uint8)]))
        if done:
            write_atomically(path, data.tobytes())
        return
    body = []
    if len(outcomes) > 1:
        body.append(f"<h1>{len(outcomes)} recordings</h1>")
        body.append(
            table_of(
                ["recording", *_ROW, "passed over"], [[escape(name), *values] for name, *values in _rows(outcomes)]
            )
        )
    for outcome in outcomes:
        body += _section(outcome, most)
    write_atomically(path, page_shell("harrier replay", "".join(body)))


def _section(outcome: Outcome, most: int) -> list[str]:
    """The part of the page that a recording has, with at most so many pictures."""
    sums = totals(outcome.differences)
    rows = [
        [escape(row["label"]), *(str(row[key]) for key in _KEYS)]
        for row in (*sums["classes"], {"label": "all", **sums})
    ]
    pictures = _pictures(outcome, most)
    body = [
        f'<h1 style="margin-top:32px">{escape(outcome.survey.path.name)} '
        f"against {escape(outcome.model)} ({escape(outcome.target)})</h1>",
        f'<p class="verdict">{sums["differing"]} of {sums["frames"]} frames differ ({100 * sums["share"]:.1f} %)</p>',
        *(f"<p>{escape(note)}</p>" for note in outcome.notes),
        table_of(["class", *_KEYS], rows),
        "<h2>Recorded (left) and now (right)</h2>" if pictures else "",
    ]
    for one, picture in pictures:
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        if done:
            body.append(figure_of(f"frame {one.seq} at {one.t_s:.2f} s: {one.text}", data.tobytes()))
    return body


def _pictures(outcome: Outcome, most: int) -> list[tuple[Difference, np.ndarray]]:
    """The most different frames, each (300, 800, 3) uint8 BGR: what is missing is drawn left, what is new right."""
    wanted = {one.seq: one for one in worst_of(outcome, most)}
    if not wanted:
        return []
    drawn: dict[int, np.ndarray] = {}
    for recorded, then, _ in frames_of(outcome.survey.path):
        one = wanted.get(then.seq) if then else None
        image = picture_in(recorded.data) if one else None
        if one and image is not None:
            drawn[one.seq] = np.concatenate([_panel(image, one, now) for now in (False, True)], axis=1)
    return [(one, drawn[seq]) for seq, one in wanted.items() if seq in drawn]


def _panel(image: np.ndarray, one: Difference, now: bool) -> np.ndarray:
    """One side, (300, 400, 3) uint8 BGR: what both have is grey."""
    alone = one.extra if now else one.missing
    records = [record for record, _, _ in one.pairs] + alone
    boxes = np.array([record.box or (0, 0, 0, 0) for record in records], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    changed = {id(record): change for record, change in one.off}
    texts = [
        f"{record.label} {record.score + (changed.get(id(record), 0.0) if now else 0.0):.2f}"
        if id(record) in changed or i >= len(one.pairs)
        else ""
        for i, record in enumerate(records)
    ]
    same = np.array([i < len(one.pairs) and id(record) not in changed for i, record in enumerate(records)], bool)
    return draw_boxes(image, boxes, np.full(len(records), _NOW if now else _THEN), texts, same)
