"""The grid of pictures where two models differ most: truth, A and B side by side, in the colours of edge.draw."""

import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

from edge.draw import class_color
from edge.evaluation.datasets import Sample, read_picture
from edge.evaluation.evaluate import Evaluation, Side

__all__ = ["draw_boxes", "names_to_show", "picture_grid", "picture_row"]

_WIDTH, _HEIGHT, _BAR, _GAP = 400, 300, 24, 6
_PAPER, _INK = (250, 250, 250), (40, 40, 40)


def picture_grid(evaluation: Evaluation, most: int = 8) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR: a row for each of the most different pictures, or of the worst of one model.

    Raises: ConfigError when a picture is gone.
    """
    rows = [picture_row(evaluation, name) for name in names_to_show(evaluation, most)]
    return np.concatenate(rows) if rows else np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)


def names_to_show(evaluation: Evaluation, most: int) -> list[str]:
    """Return the names of the pictures worth looking at, most telling first."""
    comparison = evaluation.report.get("comparison")
    rows = comparison["pictures"] if comparison else evaluation.report["models"][0].get("worst", [])
    return [row["picture"] for row in rows[:most]]


def picture_row(evaluation: Evaluation, name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR: truth, then each model's result on one picture, each under its caption."""
    position = next(i for i, sample in enumerate(evaluation.dataset.samples) if sample.name == name)
    sample = evaluation.dataset.samples[position]
    image = read_picture(sample.path, sample.size_wh)
    detector = evaluation.dataset.kind == "detection"
    panels = [_truth_panel(evaluation, sample, image, detector)]
    panels += [_side_panel(evaluation, side, position, image, detector) for side in evaluation.sides]
    row = np.concatenate(panels, axis=1)
    return np.concatenate([row, np.full((_GAP, row.shape[1], 3), _PAPER, np.uint8)])


def draw_boxes(
    image: np.ndarray, xywh: np.ndarray, class_ids: np.ndarray, texts: Sequence[str], dim: np.ndarray | None = None
) -> np.ndarray:
    """Return a panel (300, 400, 3) uint8 BGR of `image` (H, W, 3) uint8 with (N, 4) float64 xywh boxes in its px.

    class_ids (N,) give the colours; dim (N,) bool boxes, such as ignored regions, are grey.
    """
    ratio = min(_WIDTH / image.shape[1], _HEIGHT / image.shape[0])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    panel = np.full((_HEIGHT, _WIDTH, 3), _PAPER, np.uint8)
    left, top = (_WIDTH - size[0]) // 2, (_HEIGHT - size[1]) // 2
    panel[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for i, (x, y, w, h) in enumerate(xywh * ratio):
        color = (150, 150, 150) if dim is not None and dim[i] else class_color(int(class_ids[i]))
        corner = round(x) + left, round(y) + top
        cv2.rectangle(panel, corner, (round(x + w) + left, round(y + h) + top), color, 2, cv2.LINE_AA)
        at = (corner[0] + 2, corner[1] - 4 if corner[1] > 14 else corner[1] + 12)
        _text(panel, texts[i], at, (0, 0, 0), 3)
        _text(panel, texts[i], at, color, 1)
    return panel


def _truth_panel(evaluation: Evaluation, sample: Sample, image: np.ndarray, detector: bool) -> np.ndarray:
    names = evaluation.names
    if not detector:
        return _captioned(draw_boxes(image, np.zeros((0, 4)), np.zeros(0), []), names[int(sample.category[0])])
    scale = np.tile(image.shape[1::-1], 2) if evaluation.dataset.relative else 1.0
    texts = [names[c] for c in sample.category]
    panel = draw_boxes(image, sample.xywh * scale, sample.category, texts, sample.ignore)
    return _captioned(panel, f"truth: {len(texts)}   {sample.name[-34:]}")


def _side_panel(evaluation: Evaluation, side: Side, position: int, image: np.ndarray, detector: bool) -> np.ndarray:
    names = evaluation.names
    title = f"{side.title} {side.identity['name']} ({side.identity['target']})".strip()
    if not detector:
        seen = side.seen[position]
        known = {**dict(enumerate(side.labels)), **{c: names[i] for i, c in enumerate(side.classes)}}
        best = [f"{known.get(int(c), f'class {c}')} {s:.2f}" for c, s in zip(seen.class_ids, seen.scores, strict=True)]
        return _captioned(draw_boxes(image, np.zeros((0, 4)), np.zeros(0), []), f"{title}: {', '.join(best[:2])}")
    found = side.found[position]
    keep = found.scores >= side.operating
    texts = [f"{names[c]} {s:.2f}" for c, s in zip(found.class_ids[keep], found.scores[keep], strict=True)]
    return _captioned(draw_boxes(image, found.xywh[keep], found.class_ids[keep], texts), f"{title}: {len(texts)}")


def _captioned(panel: np.ndarray, caption: str) -> np.ndarray:
    bar = np.full((_BAR, panel.shape[1], 3), _PAPER, np.uint8)
    _text(bar, caption[:58], (6, 16), _INK, 1)
    column = np.concatenate([bar, panel])
    return np.concatenate([column, np.full((len(column), _GAP, 3), _PAPER, np.uint8)], axis=1)


def _text(image: np.ndarray, text: str, at: tuple[int, int], color: tuple[int, int, int], thickness: int) -> None:
    plain = _transliterated(text)  # OpenCV's fonts have ASCII only
    cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, thickness, cv2.LINE_AA)


def _transliterated(text: str) -> str:
    """Letters without their marks, and `?` for those that ASCII has nothing like."""
    apart = unicodedata.normalize("NFKD", text.replace("\u00df", "ss"))
    return "".join(c for c in apart if not unicodedata.combining(c)).encode("ascii", "replace").decode()
