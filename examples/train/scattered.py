"""Pictures with boxes known by construction: digits on cards, in any colours and sizes, over real backgrounds."""

import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 96  # px of a scene
SIZES = 18, 56  # px of a card
MARGIN = 0.1  # of a card, on each side of its digit
MOST_CARDS = 3


class Scene(NamedTuple):
    """image (SIDE, SIDE, 3) uint8 BGR, xyxy (n, 4) float32 px, labels (n,) int64."""

    image: np.ndarray
    xyxy: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    """images (N, H, W) float32, 0 paper to 1 ink, labels (N,) int64."""

    images: np.ndarray
    labels: np.ndarray


def digits(file: Path | None) -> tuple[Digits, Digits, list[str]]:
    """Return those to learn from, those to test with, and the names: scikit-learn's, or an .npz file's."""
    if file:
        with np.load(file) as stored:
            images, labels = stored["images"] / np.float32(255), stored["labels"].astype(np.int64)
            names = [str(name) for name in stored["class_names"]]
    else:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            sys.exit("the digits come with scikit-learn: pip install scikit-learn, or give --digits FILE.npz")
        stored = load_digits()
        images, labels = np.float32(stored.images / 16), stored.target.astype(np.int64)
        names = [str(name) for name in range(10)]
    order = np.random.default_rng(0).permutation(len(images))
    learnt, tested = order[len(order) // 5 :], order[: len(order) // 5]
    return Digits(images[learnt], labels[learnt]), Digits(images[tested], labels[tested]), names


def backgrounds(folder: Path | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return pictures (H, W, 3) uint8 BGR to learn with and, others, to test with; smooth noise without a folder."""
    if folder is None:
        rng = np.random.default_rng(0)
        small = [rng.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in range(100)]
        found = [cv2.resize(patches, (256, 256), interpolation=cv2.INTER_CUBIC) for patches in small]
    else:
        found = [shrunk(image) for path in sorted(folder.rglob("*")) if (image := cv2.imread(str(path))) is not None]
    if len(found) < 5:
        sys.exit(f"{folder} has {len(found)} pictures: give a folder of 5 at least")
    return found[len(found) // 5 :], found[: len(found) // 5]


def shrunk(image: np.ndarray) -> np.ndarray:
    """Return the picture with its shorter side at 2 * SIDE px."""
    scale = 2 * SIDE / min(image.shape[:2])
    size_wh = max(round(image.shape[1] * scale), 2 * SIDE), max(round(image.shape[0] * scale), 2 * SIDE)
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def scenes(rng: np.random.Generator, count: int, ink: Digits, behind: list[np.ndarray]) -> list[Scene]:
    """Return so many scenes of cards with these digits before pieces of these pictures."""
    return [_scene(rng, ink, behind[rng.integers(len(behind))]) for _ in range(count)]


def _scene(rng: np.random.Generator, ink: Digits, behind: np.ndarray) -> Scene:
    picture = _piece(rng, behind)
    boxes: list[tuple[float, ...]] = []
    kinds = []
    wanted = rng.integers(1, MOST_CARDS + 1)
    for _ in range(4 * wanted):  # not every place is free
        which = rng.integers(len(ink.labels))
        size = int(np.exp(rng.uniform(*np.log(SIZES))))
        x1, y1 = rng.integers(0, SIDE - size + 1, 2)
        x2, y2 = x1 + size, y1 + size
        if any(x1 < b[2] and b[0] < x2 and y1 < b[3] and b[1] < y2 for b in boxes):
            continue
        picture[y1:y2, x1:x2] = _card(rng, ink.images[which], size)
        boxes.append((x1, y1, x2, y2))
        kinds.append(ink.labels[which])
        if len(boxes) == wanted:
            break
    return Scene(picture, np.array(boxes, np.float32).reshape(-1, 4), np.array(kinds, np.int64))


def _card(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    """Return a light card with the image (H, W) float32 as dark ink on it, (size, size, 3) uint8 BGR."""
    margin = round(size * MARGIN)
    inside = size - 2 * margin
    tone = np.zeros((size, size, 1), np.float32)
    ink = cv2.resize(image, (inside, inside), interpolation=cv2.INTER_LINEAR)
    tone[margin : margin + inside, margin : margin + inside, 0] = ink
    paper, colour = rng.uniform(170, 255, 3), rng.uniform(0, 90, 3)
    return np.uint8(paper + (colour - paper) * tone)


def _piece(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    side = rng.integers(SIDE, min(behind.shape[:2]) + 1)
    y, x = (rng.integers(0, n - side + 1) for n in behind.shape[:2])
    piece = cv2.resize(behind[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(piece[:, ::-1] if rng.random() < 0.5 else piece)
