"""`replay://`: the pictures of a recording with their timing, Harrier's own or a camera's of Foxglove or ROS."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import median_low
from typing import Annotated

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceOpenError
from edge.recording import Recorded, Recording, has_pictures, picture_in, recordings_in
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions
from edge.sources.stamps import Pacer
from edge.uri import Uri

__all__ = ["ReplayOptions", "ReplaySource"]

_GAPS = 31  # of a file, the last ones: the usual time between two frames is their median
_USUAL_NS = 33_333_333  # where no two frames were seen yet


class ReplayOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """speed: 2 plays twice as fast; 0 hands over every picture as fast as it is taken. loop: begin again at the end.

    topic: which pictures, where there are several cameras; else those of the first topic of a file that has any.
    """

    speed: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    loop: bool = False
    topic: str = ""


class ReplaySource:
    """The pictures of an MCAP file, or of all files of a folder by name; frame_ref is a picture's number in its file.

    Frames come as far apart as they were taken; what was dropped while recording is missing in `seq` here, too. From
    one file to the next, and to the first again, it goes on after the usual time between two frames, or less where less
    has passed; `seq` goes on as well: with the recorded numbers where those do.
    """

    def __init__(self, uri: Uri) -> None:
        self.options: ReplayOptions = uri.options(ReplayOptions)
        self.live = self.options.speed > 0
        self.note = ""
        self._path = path = Path(uri.rest).expanduser()
        self._files = recordings_in(path) if path.is_dir() else [path]
        if not (path.is_dir() or path.is_file()):
            raise SourceOpenError(f"{path} does not exist", "give an .mcap file, or a folder of them")
        if not self._files:
            raise SourceOpenError(f"there is no .mcap file in {path}", "give a recording, or a folder of them")
        self._left: deque[Path] = deque()  # of this pass
        self._recording: Recording | None = None
        self._pictures: Iterator[Recorded] = iter(())
        self._in_file = self._bad = 0
        self._count = 0  # of this pass
        self._troubles: dict[Path, str] = {}
        self._pacer = Pacer()
        self._gaps_ns: deque[int] = deque(maxlen=_GAPS)
        self._t_last_ns: int | None = None
        self._seq = -1
        self._ahead = 0  # of the recorded numbers

    def open(self) -> None:
        """Begin at the start."""
        self._left = deque(self._files)
        self._recording = None
        self._t_last_ns = None
        self._count = 0

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Return the next picture, stamped with when it is due, in an array of its own.

        Raises: BadFrameError for one that cannot be decoded, and once for a file that is damaged or, in a folder, of no
        use; EndOfStreamError after the last; SourceOpenError where no file has pictures.
        """
        recorded = self._next()
        image = picture_in(recorded.data)
        if image is None:
            self._bad += 1
            raise BadFrameError(f"picture {recorded.sequence} cannot be decoded", "record it again")
        gap_ns = self._gap_ns(recorded.t_publish_ns or recorded.t_log_ns)
        if not self._in_file and self._ahead + recorded.sequence <= self._seq:  # of another run, or this one anew
            self._ahead = self._seq + 1 - recorded.sequence
        self._in_file += 1
        self._count += 1
        self._seq = max(self._seq + 1, self._ahead + recorded.sequence)
        due_ns = self._pacer.due_ns(int(gap_ns / self.options.speed)) if self.live else monotonic_ns()
        return Grabbed(image, due_ns, "generated", str(recorded.sequence), self._seq)

    def close(self) -> None:
        """Close the file."""
        self._pictures = iter(())

    def interrupt(self) -> None:
        """Do nothing: reading a file does not block for long."""

    def _gap_ns(self, t_ns: int) -> int:
        """How long after the last picture one that was taken at t_ns is shown."""
        t_last_ns, self._t_last_ns = self._t_last_ns, t_ns
        if self._in_file and t_last_ns is not None:
            gap_ns = max(0, t_ns - t_last_ns)
            if self._in_file == 1:
                self._gaps_ns.clear()
            self._gaps_ns.append(gap_ns)
            return gap_ns
        usual_ns = median_low(self._gaps_ns) if self._gaps_ns else _USUAL_NS
        return min(t_ns - t_last_ns, usual_ns) if t_last_ns is not None and t_ns >= t_last_ns else usual_ns

    def _next(self) -> Recorded:
        while True:
            recording = self._recording or self._begin_file()
            trouble: SourceOpenError | BadFrameError | None = None
            try:
                recorded = next(self._pictures, None)
            except ConfigError as exc:
                recorded, trouble = None, SourceOpenError(exc.cause, exc.cure)
            if recorded:
                return recorded
            self._recording = None
            trouble = trouble or self._trouble_of(recording)
            told = self._troubles.get(recording.path, "")
            self._troubles[recording.path] = trouble.cause if trouble else ""
            if not trouble or trouble.cause == told:
                continue
            if len(self._files) > 1 or isinstance(trouble, BadFrameError):
                raise BadFrameError(trouble.cause, "the rest is played")
            raise trouble

    def _begin_file(self) -> Recording:
        if not self._left:
            self._end_pass()
        self._recording = recording = Recording(self._left.popleft())
        self._pictures = self._of_one_topic(recording)
        self._in_file = self._bad = 0
        return recording

    def _end_pass(self) -> None:
        if not self._count:
            why = next(filter(None, self._troubles.values()))
            raise SourceOpenError(
                f"no recording in {self._path} can be played ({why})", "`harrier replay FOLDER` lists what is in them"
            )
        if not self.options.loop:
            raise EndOfStreamError(f"{self._path} ended after {self._count} pictures", "loop=on repeats it")
        self.open()

    def _trouble_of(self, recording: Recording) -> SourceOpenError | BadFrameError | None:
        """What is wrong with a file that was read to its end."""
        path = recording.path
        if not self._in_file:
            why = f" that can be decoded ({self._bad} cannot)" if self._bad else ""
            topic = f" on {self.options.topic}" if self.options.topic else ""
            return SourceOpenError(
                f"{path} has no CompressedImage{topic}{why}", "`harrier replay FILE.mcap` lists what is in it"
            )
        if recording.cut or recording.damaged:
            what = f"{recording.damaged} damaged chunks" if recording.damaged else "no end, as after a crash"
            return BadFrameError(f"{path} has {what}: {self._in_file} pictures were whole", "the rest is played")
        return None

    def _of_one_topic(self, recording: Recording) -> Iterator[Recorded]:
        topic = self.options.topic
        for recorded in recording:
            if has_pictures(recorded) and topic in ("", recorded.topic):
                topic = recorded.topic
                yield recorded
