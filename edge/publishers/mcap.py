"""`mcap://`: pictures, results and events as a recording that opens in Foxglove and can be replayed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
import numpy as np

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import EdgeError
from edge.frame import Frame
from edge.publishers import mcap_encoding as encoding
from edge.publishers.base import PublisherBase, options_of
from edge.publishers.mcap_disk import DiskWriter, WritingOptions
from edge.publishers.mcap_folder import RecordingFolder
from edge.publishers.mcap_options import McapOptions, check_recording, file_mb, make_folder
from edge.publishers.mcap_schemas import (
    ANNOTATIONS,
    CALIBRATION,
    IMAGE,
    LOG,
    OWN,
    SETTINGS,
    STAGES,
    TRIGGER,
    Entry,
    TriggerRecord,
)
from edge.publishers.mcap_triggers import conditions_of
from edge.run_settings import RunSettings, metadata_of
from edge.uri import Uri
from edge.wire.messages import (
    ClassificationMessage,
    DetectionsMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    ResultMessage,
    StatusMessage,
)

__all__ = ["McapPublisher"]

log = logging.getLogger("harrier")

_MB = 1_000_000
_MESSAGES, _PICTURES = 4096, 6  # that may wait to be encoded
_Item = tuple[Message, int, np.ndarray | None, np.ndarray | None]
"""A message, when it was sent; or (0) one that was sent before, its picture, the times of its step's stages."""

_RECORDED = ("detections", "classification", "heartbeat", "status", "hello", "labels", "region")
_LOOK_S = 0.25
_JITTER_NS = 2_000_000  # a camera that is this early skips no picture


class McapPublisher(PublisherBase):
    """`mcap://FOLDER`, in which files rotate, or `mcap://FILE.mcap`; what is there already is never written over.

    A thread encodes what a bounded queue holds, another writes. sent: messages that are on the disk.
    dropped: messages and pictures for which there was no room. recording: whether what comes now will be on the disk.
    file: the one that grows now, or None.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check names, options and the camera file.

        Raises: ConfigError, PublishError when the place cannot be written.
        """
        check_recording(uri)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        options = options_of(uri, McapOptions)
        path = Path(uri.rest).expanduser()
        super().__init__(str(path), "json")
        self.format = "mcap"
        self._options = options
        self._conditions = conditions_of(options.trigger, uri.safe_text)
        single = path.suffix == ".mcap"
        place = path if single else RecordingFolder(path, options.name, options.total_mb, options.min_free_mb)
        writing = WritingOptions(
            max_bytes=0 if single else file_mb(options) * _MB,
            max_s=0 if single else options.max_s,
            flush_s=options.flush_s,
            sync=options.sync,
            compression=options.compression,
            memory_bytes=options.memory_mb * _MB,
            ring_s=options.ring_s,
        )
        if not single:
            make_folder(path)
        self._disk = DiskWriter(place, writing, on=options.start and not options.ring_s)
        if options.camera:
            data = encoding.calibration_of(Path(options.camera), unix_ns_from_monotonic_ns(monotonic_ns()))
            self._disk.keep("camera", Entry(CALIBRATION, 0, 0, 0, data))
        self._frame_id = "camera"
        self._waiting: deque[_Item | Callable[[], None]] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()  # False to end
        self._free: SimpleQueue[np.ndarray] = SimpleQueue()
        self._made = self._shown = self._missed = 0
        self._failed = ""
        self._asked: bool | None = None  # whether to record, until that is done
        self._t_due_ns = 0
        self._told: RunSettings | None = None
        self.wants_frames = bool(options.ring_s) or options.start
        self._thread = threading.Thread(target=self._run, name=f"encode {path}", daemon=True)
        self._thread.start()

    @property
    def recording(self) -> bool:
        """Whether what comes now will be on the disk."""
        return self._disk.active if self._asked is None else self._asked

    @property
    def file(self) -> Path | None:
        """The file that is being written, None while there is none."""
        return self._disk.file

    def send(self, message: Message) -> None:
        """Queue one message; of results there is none too many, so that events still have room."""
        if message.kind not in _RECORDED:
            return
        settings = self.settings() if self.settings else None
        if settings is not self._told and settings:
            self._told = settings
            self._waiting.append(partial(self._take_settings, settings, monotonic_ns()))
        most = _MESSAGES if isinstance(message, ResultMessage) else 2 * _MESSAGES
        if len(self._waiting) >= most:
            self._missed += 1
            return
        self._waiting.append((message, monotonic_ns(), None, None))
        if not self.wants_frames or not isinstance(message, ResultMessage):
            self._wake.put(True)  # else the picture comes at once, and the thread would take its time from the loop

    def show(self, frame: Frame, message: DetectionsMessage | ClassificationMessage) -> None:
        """Copy the picture where it is to be recorded, and the times of the step's stages."""
        newest_ns = self.timings.newest_ns if self.timings and self.timings.count else None
        buffer = None
        if self._is_due(frame.info.t_capture_ns):
            buffer = self._buffer(frame.image.shape)
            if buffer is None:
                self._missed += 1
            else:
                np.copyto(buffer, frame.image)
        if buffer is not None or newest_ns is not None:
            self._waiting.append((message, 0, buffer, newest_ns))
        self._wake.put(True)

    def trigger(self, reason: str) -> None:
        """Keep what the ring holds and what comes in the next after_s; without a ring: mark this moment."""
        self._do(partial(self._keep, reason))

    def record(self, on: bool) -> None:
        """Record all that comes, or stop doing so; with a ring, go back to it."""
        self._asked = on
        self.wants_frames = on or bool(self._options.ring_s)
        self._do(partial(self._record, on))

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued and finish the file; calling it twice is allowed."""
        deadline = time.monotonic() + drain_s
        self._wake.put(False)
        self._thread.join(drain_s)
        self._disk.close(max(0.0, deadline - time.monotonic()) + 1.0)
        self._tell()

    def _do(self, action: Callable[[], None]) -> None:
        """Have it done behind what was sent before."""
        self._waiting.append(action)
        self._wake.put(True)

    # On the thread.

    def _keep(self, reason: str) -> None:
        now = monotonic_ns()
        reason = reason.encode("utf-8", "replace").decode()  # protobuf and JSON take nothing else
        record = TriggerRecord(reason=reason, t_event_ns=unix_ns_from_monotonic_ns(now))
        self._disk.put(Entry(TRIGGER, now, now, 0, msgspec.json.encode(record)))
        self._disk.put(Entry(LOG, now, now, 0, encoding.log_of(f"kept: {reason}", False, record.t_event_ns)))
        if self._options.ring_s:
            log.info("recording %s: kept for %s", self.address, reason)
            self._disk.save(reason, self._options.after_s)

    def _record(self, on: bool) -> None:
        self._disk.record(on)
        self._asked = None

    def _run(self) -> None:
        try:
            going_on = True
            while going_on:
                try:
                    going_on = self._wake.get(timeout=_LOOK_S)
                except Empty:
                    pass
                while self._waiting:
                    item = self._waiting.popleft()
                    if isinstance(item, tuple):
                        self._take(*item)
                    else:
                        item()
                self._tell()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nothing is recorded
            self.failure = f"stopped recording ({exc!r}): report this as a defect"
            self.wants_frames = False

    def _tell(self) -> None:
        self.sent, self.dropped = self._disk.written, self._disk.dropped + self._missed
        self.failure = self._disk.failure or self._failed

    def _take(self, message: Message, t_sent_ns: int, buffer: np.ndarray | None, newest_ns: np.ndarray | None) -> None:
        t_log_ns, t_publish_ns = encoding.times_of(message, t_sent_ns or monotonic_ns())
        if t_sent_ns:
            self._take_message(message, t_log_ns, t_publish_ns)
            return
        assert isinstance(message, DetectionsMessage | ClassificationMessage)
        if newest_ns is not None:
            stages = encoding.stages_of(message, newest_ns)
            self._disk.put(Entry(STAGES, t_log_ns, t_publish_ns, message.seq, stages))
        if buffer is None:
            return
        options = self._options
        try:
            picture = encoding.picture_of(
                buffer, message.t_capture_ns, self._frame_id, options.pictures, options.quality
            )
            self._disk.put(Entry(IMAGE, t_log_ns, t_publish_ns, message.seq, picture))
            self._failed = ""
        except EdgeError as exc:
            self._failed = exc.cause
            self._missed += 1
        self._free.put(buffer)

    def _take_settings(self, settings: RunSettings, t_ns: int) -> None:
        self._disk.put(Entry(SETTINGS, t_ns, t_ns, 0, msgspec.json.encode(metadata_of(settings))))

    def _take_message(self, message: Message, t_log_ns: int, t_publish_ns: int) -> None:
        topic = OWN.format(message.kind)
        entry = Entry(topic, t_log_ns, t_publish_ns, message.seq, encoding.json_of(message))
        if isinstance(message, HelloMessage):
            self._frame_id = message.frame_id or "camera"
            self._disk.forget("labels")  # of another model perhaps
            self._disk.keep("hello", entry)
            return
        if isinstance(message, LabelsMessage):
            self._disk.keep(f"labels {message.first}", entry)
            return
        self._disk.put(entry)
        if isinstance(message, DetectionsMessage | ClassificationMessage):
            shown = encoding.annotations_of(message)
            self._disk.put(Entry(ANNOTATIONS, t_log_ns, t_publish_ns, message.seq, shown))
        elif isinstance(message, StatusMessage):
            text = f"{message.state} {message.reason}".strip()
            said = encoding.log_of(text, message.state in ("stalled", "lost"), message.t_event_ns)
            self._disk.put(Entry(LOG, t_log_ns, t_publish_ns, 0, said))
        elif isinstance(message, RegionMessage):
            text = f"region {message.region}: {message.event}, {message.label} #{message.track_id}"
            self._disk.put(Entry(LOG, t_log_ns, t_publish_ns, 0, encoding.log_of(text, False, message.t_event_ns)))
        self._look_for_triggers(message)

    def _look_for_triggers(self, message: Message) -> None:
        for condition in self._conditions:
            reason = condition(message)
            if reason and not self._disk.extend(self._options.after_s):
                self._keep(reason)

    # On the loop's thread.

    def _is_due(self, t_capture_ns: int) -> bool:
        options = self._options
        if options.pictures == "none":
            return False
        self._shown += 1
        if (self._shown - 1) % options.every:
            return False
        if options.max_hz:
            gap_ns = int(1e9 / options.max_hz)
            late_ns = t_capture_ns - self._t_due_ns
            if late_ns < -min(_JITTER_NS, gap_ns // 4):
                return False
            self._t_due_ns = self._t_due_ns + gap_ns if late_ns < gap_ns // 2 else t_capture_ns + gap_ns
        return True

    def _buffer(self, shape: tuple[int, ...]) -> np.ndarray | None:
        try:
            buffer = self._free.get_nowait()
        except Empty:
            if self._made == _PICTURES:
                return None
            self._made += 1
            return np.empty(shape, np.uint8)
        return buffer if buffer.shape == shape else np.empty(shape, np.uint8)
