"""Diverse frames from a video or a folder: near copies, blur and darkness left out, in one pass and bounded memory.

A frame becomes a candidate when it is farther from all candidates than a distance that grows until there are few
enough (after Charikar, Chekuri, Feder and Motwani, "Incremental clustering and dynamic information retrieval", 1997).
From the candidates the frames are taken one by one, each the farthest from those taken (Gonzalez, 1985).
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calibration.frames import frames_of, list_pictures, read_picture_file
from calibration.sheets import contact_sheet
from edge.errors import ConfigError, SourceError

__all__ = ["Picked", "descriptor_of", "pick"]

_CANDIDATES = 4  # times the wanted number, at most
_DARK_LEVEL = 32  # a frame whose 99th percentile is below shows nothing
_SEEN = 61  # frames whose sharpness is remembered: about two seconds, in which scenes seldom change
_BLUR_SHARE = {True: 0.3, False: 0.05}  # of the median sharpness; a folder's scenes differ more than a video's
_CELLS = 4  # of the layout, along each side
_WORK_WIDTH = 320  # px


@dataclass(frozen=True, slots=True)
class Picked:
    """What was picked: the files written, and of how many frames; how many of these were dark, blurred, unreadable."""

    files: tuple[Path, ...]
    frames: int
    dark: int
    blurred: int
    unreadable: int


@dataclass(slots=True)
class _Candidate:
    number: int
    name: str
    look: np.ndarray
    file: Path


def pick(
    reference: str, count: int, folder: Path, sheet: Path | None = None, progress: Callable[[int], None] | None = None
) -> Picked:
    """Write `count` frames of a video or folder as PNG into `folder`, named after their source, and return them.

    Fewer are written when fewer differ at all. sheet: a PNG or JPEG that shows all of them side by side.
    progress: called with the number of frames seen. The same frames give the same choice.
    Raises: ConfigError when nothing is left to choose from, or the folder holds files or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already", "choose a new folder, or empty it")
    work = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        candidates, picked = _candidates(reference, count, work, progress)
        chosen = sorted(_farthest(candidates, count), key=lambda candidate: candidate.number)
        for candidate in candidates:
            if candidate not in chosen:
                candidate.file.unlink()
        if sheet:
            contact_sheet([(c.name, c.file) for c in chosen], sheet)
        if folder.exists():
            folder.rmdir()
        work.replace(folder)
    except OSError as exc:
        raise ConfigError(
            f"cannot write {folder} ({exc.strerror})", "free some space or choose another folder"
        ) from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Picked(tuple(folder / c.file.name for c in chosen), *picked)


def descriptor_of(picture: np.ndarray) -> np.ndarray:
    """Return what a picture, (H, W, 3) uint8 BGR, looks like: (240,) float32, its colours, their layout, its edges.

    Distances are Euclidean. Colours count wherever they are, so that a pan over one scene is nearer to itself than
    to another scene; the layout is coarse for the same reason.
    """
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)
    colours = cv2.calcHist([lab], [0, 1, 2], None, [4, 6, 6], [0, 256, 64, 192, 64, 192]).ravel()
    layout = cv2.resize(lab.astype(np.float32) / 128, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel()
    across, down = (cv2.Sobel(lab[..., 0], cv2.CV_32F, *axes) / 256 for axes in ((1, 0), (0, 1)))
    direction = (np.arctan2(down, across) % np.pi * (3 / np.pi)).astype(int) % 3
    planes = np.stack([np.where(direction == d, np.hypot(across, down), 0) for d in range(3)], axis=2)
    edges = cv2.resize(planes, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel()
    return np.concatenate([np.sqrt(colours / lab[..., 0].size), layout / 8, edges / 8])


def _candidates(
    reference: str, count: int, work: Path, progress: Callable[[int], None] | None
) -> tuple[list[_Candidate], tuple[int, int, int, int]]:
    kept: list[_Candidate] = []
    sharpness: deque[float] = deque(maxlen=_SEEN)
    is_video = bool(list_pictures(reference).video)
    apart, seen, dark, blurred, unreadable = 0.0, 0, 0, 0, 0
    for name, picture in _frames(reference):
        seen += 1
        if progress:
            progress(seen)
        if picture is None:
            unreadable += 1
            continue
        gray = _gray(picture)
        if np.percentile(gray, 99) < _DARK_LEVEL:
            dark += 1
            continue
        sharp = float(cv2.Laplacian(gray, cv2.CV_32F).var() / max(float(gray.var()), 1.0))
        sharpness.append(sharp)
        if sharp < _BLUR_SHARE[is_video] * float(np.median(sharpness)):
            blurred += 1
            continue
        look = descriptor_of(picture)
        if kept and min(_distances(kept, look)) <= apart:
            continue
        kept.append(_Candidate(seen, name, look, work / f"{name}.png"))
        _write_picture(kept[-1].file, picture)
        if len(kept) > _CANDIDATES * count:
            kept, apart = _thinned(kept, _CANDIDATES * count // 2)
    if not kept:
        raise ConfigError(
            f"none of the {seen} frames of {reference} will do ({dark} dark, {blurred} blurred, "
            f"{unreadable} unreadable)",
            "record it again with more light",
        )
    return kept, (seen, dark, blurred, unreadable)


def _frames(reference: str) -> Iterator[tuple[str, np.ndarray | None]]:
    listing = list_pictures(reference)
    if listing.video:
        for number, picture in enumerate(frames_of(listing.video)):
            yield f"{listing.video.stem}_frame{number:06d}", picture
        return
    for name, path in zip(listing.names, listing.paths, strict=True):
        try:
            picture = read_picture_file(path)
        except SourceError:
            yield name, None
            continue
        yield str(Path(name).with_suffix("")).replace("/", "_") + path.suffix.lower().replace(".", "_"), picture


def _gray(picture: np.ndarray) -> np.ndarray:
    """At one width, so that sharpness does not depend on resolution."""
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    if gray.shape[1] <= _WORK_WIDTH:
        return gray
    height = max(1, round(gray.shape[0] * _WORK_WIDTH / gray.shape[1]))
    return cv2.resize(gray, (_WORK_WIDTH, height), interpolation=cv2.INTER_AREA)


def _distances(kept: list[_Candidate], look: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.array([candidate.look for candidate in kept]) - look, axis=1)


def _thinned(kept: list[_Candidate], most: int) -> tuple[list[_Candidate], float]:
    """At most so many candidates, all farther apart than the distance that is returned with them."""
    chosen = _farthest(kept, most + 1)
    apart = min(float(_distances(chosen[:i], chosen[i].look).min()) for i in range(1, len(chosen)))
    chosen = chosen[:most]
    for candidate in kept:
        if candidate not in chosen:
            candidate.file.unlink()
    return sorted(chosen, key=lambda candidate: candidate.number), apart


def _farthest(kept: list[_Candidate], count: int) -> list[_Candidate]:
    """Candidates in the order in which each is the farthest from those before it, the first frame first."""
    chosen = [kept[0]]
    nearest = _distances(kept, kept[0].look)
    while len(chosen) < min(count, len(kept)):
        place = int(np.argmax(nearest))
        if nearest[place] <= 0:
            break
        chosen.append(kept[place])
        nearest = np.minimum(nearest, _distances(kept, kept[place].look))
    return chosen


def _write_picture(path: Path, picture: np.ndarray) -> None:
    """Raise OSError itself, where cv2.imwrite would only say False."""
    path.write_bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
