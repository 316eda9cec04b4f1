"""Whether pictures can represent what a camera sees: noise, single colours and copies are found by measurement."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.errors import ConfigError

__all__ = ["MIN_PICTURES", "Look", "are_grey", "check_looks", "count_distinct", "grey_error", "look_at"]

MIN_PICTURES = 50

_NOISE_CORRELATION = 0.3  # neighbours in coarse pictures: noise at most 0.24, real ones at least 0.38 (docs)
_COARSE_PX = 24  # the shorter side of the coarsest picture looked at
_HASH_SIDE = 16
_HASH_STEP = 0.05  # in standard deviations of the thumbnail: a smaller difference is none
_SAME_SHARE = 0.2  # of the marks of a hash: copies differ in at most 0.12, other pictures from 0.26 on (docs)
_FLAT_SIDE = 32
_FLAT_LEVELS = 4
_GRAY_LEVELS = 4.0  # mean difference of the colour channels that chroma coding of a grey picture leaves, at most
_DARK, _BRIGHT = 30, 225  # mean levels between which a lack of colour means something
_MOST_BAD = 0.5
_MOST_COPIES = 0.3

_SET_BITS = np.array([number.bit_count() for number in range(256)], np.uint16)


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured of one picture. colour: None where it is too dark or bright (a page) to tell.

    marks: (1024,) bool, where a thumbnail of it rises and falls."""

    noise: bool
    flat: bool
    colour: bool | None
    marks: np.ndarray


def look_at(picture: np.ndarray) -> Look:
    """Return what there is to say about one picture, (H, W, 3) uint8 BGR."""
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    flat = _is_flat(picture)
    return Look(not flat and _is_noise(gray), flat, _colour(picture, float(gray.mean())), _marks(gray))


def are_grey(looks: Sequence[Look]) -> bool:
    """Return whether no picture has a colour, though most could show one."""
    return sum(look.colour is False for look in looks) > _MOST_BAD * len(looks) and not any(
        look.colour for look in looks
    )


def grey_error(count: int) -> ConfigError:
    """Return the error of grey pictures for a model that takes colour."""
    return ConfigError(
        f"all {count} pictures are grey, but the model takes colour",
        "give frames of the real camera, or --allow-grey if that is what it sees",
    )


def check_looks(looks: Sequence[Look], wants_colour: bool) -> list[str]:
    """Return remarks on a set of pictures that will do, for people.

    Raises: ConfigError naming what is wrong with a set that will not do.
    """
    count = len(looks)
    notes = []
    for name, what, cure in (
        ("noise", "random noise, in which no activation is what a camera causes", "give frames of the real camera"),
        ("flat", "of a single colour", "give frames of the real camera, with light and the lens cap off"),
    ):
        bad = sum(getattr(look, name) for look in looks)
        if bad > _MOST_BAD * count:
            raise ConfigError(f"{bad} of {count} pictures are {what}", cure)
        if bad:
            notes.append(f"{bad} of {count} pictures are {what.partition(',')[0]}")
    if wants_colour and are_grey(looks):
        raise grey_error(count)
    distinct = count_distinct([look.marks for look in looks])
    if count - distinct > _MOST_COPIES * count:
        raise ConfigError(
            f"only {distinct} of {count} pictures are distinct, the others nearly repeat them",
            "choose diverse ones: harrier calibrate pick",
        )
    if distinct < count:
        notes.append(f"{count - distinct} of {count} pictures nearly repeat others")
    return notes


def count_distinct(marks: Sequence[np.ndarray]) -> int:
    """Return how many pictures are left when near copies, by their (1024,) bool marks, count once."""
    kept = np.zeros((len(marks), 4 * _HASH_SIDE**2 // 8), np.uint8)
    sizes = np.zeros(len(marks))
    distinct = 0
    for mark in marks:
        packed, size = np.packbits(mark), int(mark.sum())
        differing = _SET_BITS[kept[:distinct] ^ packed].sum(axis=1)
        longest = np.maximum(np.maximum(sizes[:distinct], size), 1)
        if (differing < _SAME_SHARE * longest).any():
            continue
        kept[distinct], sizes[distinct] = packed, size
        distinct += 1
    return distinct


def _colour(picture: np.ndarray, brightness: float) -> bool | None:
    if not _DARK < brightness < _BRIGHT:
        return None
    spread = cv2.absdiff(picture.max(axis=2), picture.min(axis=2))
    return float(spread.mean()) >= _GRAY_LEVELS


def _is_flat(picture: np.ndarray) -> bool:
    """Whether no part differs from another once the pixels' noise is averaged away; a night picture's parts do."""
    side = min(_FLAT_SIDE, *picture.shape[:2])
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    return int((small.max(axis=0).astype(int) - small.min(axis=0)).max()) < _FLAT_LEVELS


def _is_noise(gray: np.ndarray) -> bool:
    """Whether neighbours do not resemble each other even where 2x2 and 4x4 pixels are averaged.

    Averaging brings out the picture under a dark sensor's noise; JPEG and enlarging leave noise looking smooth at
    full size. Noise enlarged more than twice is not told from texture.
    """
    sides = [(gray.shape[1] // n, gray.shape[0] // n) for n in (1, 2, 4)]
    sides = [side for side in sides if min(side) >= _COARSE_PX] or sides[:1]
    return max(_correlation(gray, side) for side in (sides[1:] or sides)) < _NOISE_CORRELATION


def _correlation(gray: np.ndarray, size_wh: tuple[int, int]) -> float:
    coarse = cv2.resize(gray, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    found = []
    for a, b in ((coarse[:, 1:], coarse[:, :-1]), (coarse[1:], coarse[:-1])):
        if not a.size:
            continue
        a, b = a - a.mean(), b - b.mean()
        power = float(np.sqrt((a * a).sum() * (b * b).sum()))
        found.append(float((a * b).sum()) / power if power else 1.0)
    return max(found, default=1.0)


def _marks(gray: np.ndarray) -> np.ndarray:
    side = _HASH_SIDE + 1
    thumbnail = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    thumbnail /= max(float(thumbnail.std()), 1.0)
    across = thumbnail[:-1, 1:] - thumbnail[:-1, :-1]
    down = thumbnail[1:, :-1] - thumbnail[:-1, :-1]
    return np.concatenate([(change * sign > _HASH_STEP).ravel() for change in (across, down) for sign in (1, -1)])
