"""Representative data: pictures to calibrate with, looked at before they are believed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from calibration.frames import Frames, Listing, frames_of, list_pictures, read_picture_file
from calibration.plausibility import MIN_PICTURES, Look, are_grey, check_looks, look_at
from edge.errors import ConfigError, SourceError

__all__ = ["VIDEO_FRAMES", "CalibrationSet", "read_pictures"]

VIDEO_FRAMES = 256
"""How many frames of a video are taken, evenly spaced, where no limit is given."""

_NAMED = 3  # unreadable pictures named in a note


@dataclass(frozen=True)
class CalibrationSet:
    """Pictures by number. names: one a picture. notes: what people should know about them.

    paths: the files, in the order of names; empty for a video, whose frame numbers are in `frames`.
    grey: none of them has a colour.
    """

    reference: str
    names: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    frames: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    grey: bool = False
    video: Frames | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.picture(i) for i in range(len(self)))

    @property
    def identity(self) -> str:
        """What tells these pictures from all others: names, files, their sizes and times, as a hash."""
        files = list(self.paths) or [Path(self.reference)]
        states = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files if path.exists()]
        return sha256("\n".join([self.reference, *self.names, *states]).encode()).hexdigest()

    def picture(self, i: int) -> np.ndarray:
        """Return picture i, (H, W, 3) uint8 BGR, read anew each time; a video is quickest in rising order.

        Raises: SourceError when it cannot be read any more.
        """
        if self.video is not None:
            return self.video.frame(self.frames[i])
        return read_picture_file(self.paths[i])

    def chosen(self, numbers: Sequence[int]) -> "CalibrationSet":
        """Return the set of some of the pictures, in the order of `numbers`."""
        return replace(
            self,
            names=tuple(self.names[i] for i in numbers),
            paths=tuple(self.paths[i] for i in numbers) if self.paths else (),
            frames=tuple(self.frames[i] for i in numbers) if self.frames else (),
        )


def read_pictures(
    reference: str,
    limit: int | None = None,
    allow_few: bool = False,
    wants_colour: bool = False,
    progress: Callable[[int], None] | None = None,
) -> CalibrationSet:
    """Return the pictures of a folder, video, list file (.txt) or COCO JSON, each read and looked at once.

    limit: at most so many, evenly spaced. wants_colour: the model takes colour, so grey pictures will not do.
    progress: called with the number of pictures looked at. Unreadable pictures are left out with a note.
    Raises: ConfigError when there are none, fewer than 50 (unless allow_few), or when they are noise, copies of each
    other, of a single colour, or grey for a model that takes colour.
    """
    listing = list_pictures(reference)
    if listing.video:
        found, looks = _from_video(reference, listing.video, limit or VIDEO_FRAMES, progress)
    else:
        found, looks = _from_files(reference, listing, limit, progress)
    if not looks:
        raise ConfigError(f"no picture of {reference} can be read", "check the files")
    if len(looks) < MIN_PICTURES and not allow_few:
        raise ConfigError(
            f"{reference} has {len(looks)} readable pictures, fewer than {MIN_PICTURES}",
            "give more (a few hundred are best), or --allow-few",
        )
    few = [f"{len(looks)} pictures are few to calibrate with: ranges may miss what the robot will see"]
    notes = (*found.notes, *(few if len(looks) < MIN_PICTURES else ()), *check_looks(looks, wants_colour))
    return replace(found, notes=notes, grey=are_grey(looks))


def _from_files(
    reference: str, listing: Listing, limit: int | None, progress: Callable[[int], None] | None
) -> tuple[CalibrationSet, list[Look]]:
    numbers: Iterable[int] = range(len(listing.paths))
    if limit and limit < len(listing.paths):
        numbers = np.linspace(0, len(listing.paths) - 1, limit).round().astype(int).tolist()
    kept, looks, bad = [], [], []
    for done, i in enumerate(numbers, 1):
        try:
            looks.append(look_at(read_picture_file(listing.paths[i])))
            kept.append(i)
        except SourceError as exc:
            bad.append(exc.cause)
        if progress:
            progress(done)
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    notes = (f"left out: {'; '.join(bad[:_NAMED])}{more}",) if bad else ()
    return CalibrationSet(reference, listing.names, listing.paths, notes=notes).chosen(kept), looks


def _from_video(
    reference: str, path: Path, wanted: int, progress: Callable[[int], None] | None
) -> tuple[CalibrationSet, list[Look]]:
    """One pass: every frame is kept until there are twice too many, then every second, and so on."""
    video, stride = frames_of(path), 1
    kept: list[tuple[int, Look]] = []
    for number, picture in enumerate(video):
        if progress:
            progress(number + 1)
        if number % stride:
            continue
        kept.append((number, look_at(picture)))
        if len(kept) >= 2 * wanted:
            kept, stride = kept[::2], 2 * stride
    if len(kept) > wanted:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, wanted).round().astype(int)]
    frames = tuple(number for number, _ in kept)
    names = tuple(f"{path.stem}_frame{number:06d}" for number in frames)
    return CalibrationSet(reference, names, frames=frames, video=video), [look for _, look in kept]
