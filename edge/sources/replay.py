"""`replay://`: the pictures of a recording with their timing, Harrier's own or a camera's of Foxglove or ROS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceOpenError
from edge.recording import Recorded, Recording, has_pictures, picture_in
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions
from edge.sources.stamps import Pacer
from edge.uri import Uri

__all__ = ["ReplayOptions", "ReplaySource"]


class ReplayOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """speed: 2 plays twice as fast; 0 hands over every picture as fast as it is taken. loop: begin again at the end.

    topic: which pictures, where there are several cameras; else those of the first topic that has any.
    """

    speed: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    loop: bool = False
    topic: str = ""


class ReplaySource:
    """The pictures of an MCAP file; frame_ref is a picture's number in the recording, and so is its `seq`.

    Frames come as far apart as they were taken; what was dropped while recording is missing in `seq` here, too.
    """

    def __init__(self, uri: Uri) -> None:
        self.options: ReplayOptions = uri.options(ReplayOptions)
        self.live = self.options.speed > 0
        self.note = ""
        path = Path(uri.rest).expanduser()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise SourceOpenError(f"{path} {what}", "give an .mcap file")
        self._recording = Recording(path)
        self._pictures: Iterator[Recorded] = iter(())
        self._pacer = Pacer()
        self._count = 0  # of this pass
        self._bad = 0
        self._t_last_ns = 0
        self._gap_ns = 0
        self._seq = -1
        self._ahead = 0  # what later passes add to the recorded numbers
        self._told = False

    def open(self) -> None:
        """Begin at the start."""
        self._pictures = self._of_one_topic()
        self._count = self._bad = 0
        self._ahead = self._seq + 1 if self._seq >= 0 else 0

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Return the next picture, stamped with when it is due, in an array of its own.

        Raises: BadFrameError for one that cannot be decoded, and once where a file is damaged; EndOfStreamError after
        the last; SourceOpenError for a file without pictures.
        """
        recorded = self._next()
        image = picture_in(recorded.data)
        if image is None:
            self._bad += 1
            raise BadFrameError(f"picture {recorded.sequence} cannot be decoded", "record it again")
        t_ns = recorded.t_publish_ns or recorded.t_log_ns
        if self._count:
            self._gap_ns = max(0, t_ns - self._t_last_ns)
        self._t_last_ns = t_ns
        self._count += 1
        self._seq = max(self._seq + 1, self._ahead + recorded.sequence)
        due_ns = self._pacer.due_ns(int(self._gap_ns / self.options.speed)) if self.live else monotonic_ns()
        return Grabbed(image, due_ns, "generated", str(recorded.sequence), self._seq)

    def close(self) -> None:
        """Close the file."""
        self._pictures = iter(())

    def interrupt(self) -> None:
        """Do nothing: reading a file does not block for long."""

    def _next(self) -> Recorded:
        try:
            recorded = next(self._pictures, None)
            if recorded is None:
                self._end_pass()
                recorded = next(self._pictures, None)
        except ConfigError as exc:
            raise SourceOpenError(exc.cause, exc.cure) from exc
        if recorded is None:
            raise SourceOpenError(f"{self._recording.path} cannot be read again", "check the disk")
        return recorded

    def _end_pass(self) -> None:
        path, recording = self._recording.path, self._recording
        if not self._count:
            why = f" that can be decoded ({self._bad} cannot)" if self._bad else ""
            topic = f" on {self.options.topic}" if self.options.topic else ""
            raise SourceOpenError(
                f"{path} has no CompressedImage{topic}{why}", "`harrier replay FILE.mcap` lists what is in it"
            )
        if (recording.cut or recording.damaged) and not self._told:
            self._told = True
            what = f"{recording.damaged} damaged chunks" if recording.damaged else "no end, as after a crash"
            raise BadFrameError(f"{path} has {what}: {self._count} pictures were whole", "the rest is played")
        if not self.options.loop:
            raise EndOfStreamError(f"{path} ended after {self._count} pictures", "loop=on repeats it")
        self.open()

    def _of_one_topic(self) -> Iterator[Recorded]:
        topic = self.options.topic
        for recorded in self._recording:
            if has_pictures(recorded) and topic in ("", recorded.topic):
                topic = recorded.topic
                yield recorded
