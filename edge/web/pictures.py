"""Pictures of what the model sees, drawn in a thread of their own, and only while somebody looks.

A frame is the source's until the next one is read. A loop that waits for its next frame leaves the drawing thread time
to copy the last one, and spends nothing on pictures; one that never waits copies it itself, which is little beside work
that fills all its time.
"""

import contextlib
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import cv2
import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.config import WebSection
from edge.draw import annotate
from edge.frame import Frame
from edge.geometry_config import RegionSection
from edge.pipeline import Pipeline
from edge.wire.building import region_of
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage, RegionMessage

__all__ = ["Pictures", "scaled", "shrunk"]

log = logging.getLogger("harrier")

ResultMessage = DetectionsMessage | ClassificationMessage
Taken = tuple[np.ndarray, ResultMessage]
Lent = tuple[np.ndarray, ResultMessage, int]

_NICENESS = 5  # the loop comes first; not much: this thread, too, holds the GIL now and then
_QUALITY = 80
_KEPT_EVENTS = 50
_COPIES = 50  # so many pictures the loop copies itself, once it was too quick for the drawing thread
_LARGEST_DENOMINATOR = 8
_SERIAL_PX = 90_000  # OpenCV resizes less than 1.5 * 2^16 px in the calling thread, and leaves its others to the loop


class Pictures:
    """One of `pipeline.viewers`. wanted: whether a viewer waits for a picture; set it from any thread.

    on_picture: gets each JPEG, in the drawing thread. newest: the newest result. events: the last region events, with
    their numbers. drawn: how many pictures were.
    """

    wants_frames = True  # for results and events; a frame is copied only where a picture is wanted

    def __init__(self, pipeline: Pipeline, section: WebSection, on_picture: Callable[[bytes], None]) -> None:
        self.wanted = False
        self.newest: ResultMessage | None = None
        self.events: deque[tuple[int, RegionMessage]] = deque(maxlen=_KEPT_EVENTS)
        self.drawn = 0
        self._pipeline, self._on_picture = pipeline, on_picture
        self._most_px = section.picture_width
        self._period_ns, self._t_due_ns = int(1e9 / section.picture_hz), 0
        self._buffer = np.empty((0, 0, 3), np.uint8)
        self._busy = False
        self._copies = 0
        self._event_count = 0
        self._snapshots: SimpleQueue[Future[Taken]] = SimpleQueue()
        self._handed: SimpleQueue[Lent | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._draw_all, name="live pictures", daemon=True)
        self._thread.start()

    def show(self, frame: Frame, message: ResultMessage) -> None:
        """From the loop: note the result, and lend the frame where a picture is due."""
        self.newest = message
        if self._pipeline.region_events:
            self._note_events(frame)
        while not self._snapshots.empty():
            taken = self._snapshots.get()
            if taken.set_running_or_notify_cancel():
                taken.set_result((frame.image.copy(), message))
        now = monotonic_ns()
        if not self.wanted or self._busy or now < self._t_due_ns:
            return
        self._t_due_ns = max(self._t_due_ns + self._period_ns, now + self._period_ns // 2)
        self._busy = True
        if self._copies:
            self._copies -= 1
            self._copy(frame.image)
            self._handed.put((self._buffer, message, -1))
        else:
            self._handed.put((frame.image, message, self._pipeline.source.stats.delivered))

    def snapshot(self) -> "Future[Taken]":
        """Return a copy of the next frame, (H, W, 3) uint8 BGR, with its result, as soon as there is one."""
        future: Future[Taken] = Future()
        self._snapshots.put(future)
        return future

    def close(self) -> None:
        """End the thread."""
        self._handed.put(None)
        self._thread.join(2.0)

    def _note_events(self, frame: Frame) -> None:
        pipeline = self._pipeline
        for event in pipeline.region_events:
            self._event_count += 1
            self.events.append((self._event_count, region_of(event, frame.info, pipeline.stream)))

    def _draw_all(self) -> None:
        with contextlib.suppress(OSError):
            os.nice(_NICENESS)  # on Linux of this thread alone
        while (lent := self._handed.get()) is not None:
            image, message, delivered = lent
            if delivered >= 0:
                self._copy(image)
                if self._pipeline.source.stats.delivered != delivered:  # the source may have been refilling it
                    self._copies, self._t_due_ns, self._busy = _COPIES, 0, False
                    continue
            try:
                jpeg = self._drawn(self._buffer, message)
            except Exception as exc:  # a defect: the run goes on without pictures, and says so
                log.warning("live page: no picture can be drawn (%r): report this as a defect", exc)
                return  # busy for good: no frame is copied any more
            self._busy = False
            self.drawn += 1
            self._on_picture(jpeg)

    def _copy(self, image: np.ndarray) -> None:
        if self._buffer.shape != image.shape:
            self._buffer = np.empty_like(image)
        np.copyto(self._buffer, image)

    def _drawn(self, image: np.ndarray, message: ResultMessage) -> bytes:
        picture, scale = shrunk(image, self._most_px)
        height, width = image.shape[:2]
        regions = [_in_fractions(region, (width, height)) for region in self._pipeline.config.region]
        annotate(picture, scaled(message, scale), caption=False, regions=regions)
        _, jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        return jpeg.tobytes()


def shrunk(image: np.ndarray, most_px: int) -> tuple[np.ndarray, float]:
    """Return `image` (H, W, 3) uint8 at most so many px wide, and by which factor it was scaled.

    The factor is a fraction of small numbers, so that it can be done in strips: a large picture would be resized by
    OpenCV's pool of threads, which serves one at a time, and the loop would have to do without it.
    """
    height, width = image.shape[:2]
    if width <= most_px:
        return image, 1.0
    fractions = [(most_px * q // width, q) for q in range(2, _LARGEST_DENOMINATOR + 1) if most_px * q // width]
    p, q = max(fractions, key=lambda f: f[0] / f[1]) if fractions else (1, math.ceil(width / most_px))
    out = np.empty((height // q * p, width // q * p, 3), np.uint8)
    rows = max(p, _SERIAL_PX // out.shape[1] // p * p)
    cut = image[: height // q * q, : width // q * q]
    for top in range(0, out.shape[0], rows):
        part = out[top : top + rows]
        source = cut[top // p * q : (top + len(part)) // p * q]
        cv2.resize(source, (part.shape[1], len(part)), dst=part, interpolation=cv2.INTER_AREA)
    return out, p / q


def scaled(message: ResultMessage, scale: float) -> ResultMessage:
    """Return the message with its boxes and points as they are on a picture scaled by `scale`."""
    if scale == 1 or isinstance(message, ClassificationMessage):
        return message
    return msgspec.structs.replace(message, detections=[_scaled(record, scale) for record in message.detections])


def _scaled(record: DetectionRecord, scale: float) -> DetectionRecord:
    def times(values: Sequence[float] | None) -> tuple | None:
        return None if values is None else tuple(value * scale for value in values)

    return msgspec.structs.replace(
        record,
        box=times(record.box),
        predicted_box=times(record.predicted_box),
        predicted_sigma_px=None if record.predicted_sigma_px is None else record.predicted_sigma_px * scale,
        keypoints=None if record.keypoints is None else [times(point) for point in record.keypoints],
    )


def _in_fractions(region: RegionSection, frame_wh: tuple[int, int]) -> RegionSection:
    """The region in parts of the frame, which fit a picture of any size."""
    if region.unit == "fraction":
        return region
    points = [(min(max(x / frame_wh[0], 0), 1), min(max(y / frame_wh[1], 0), 1)) for x, y in region.points]
    return msgspec.structs.replace(region, unit="fraction", points=points)
