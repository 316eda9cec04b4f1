"""Fakes for tests, and the checks every plug must pass: third parties call the same ones."""

from collections.abc import Sequence

import numpy as np

from edge.clock import monotonic_ns
from edge.decoders.base import Decoder
from edge.detections import Classification, Detections
from edge.engines.base import Engine
from edge.errors import EndOfStreamError, SourceTimeoutError
from edge.frame import Frame, FrameInfo
from edge.publishers.base import Publisher, PublisherBase
from edge.sources.base import FrameSource, SourceEvent, SourceStats
from edge.tracking.base import Tracker
from edge.uri import Uri
from edge.wire.messages import DetectionsMessage, Message

__all__ = [
    "MemoryPublisher",
    "MemorySource",
    "check_decoder",
    "check_engine",
    "check_publisher",
    "check_source",
    "check_tracker",
]


class MemorySource:
    """Hands out the same pictures over and over, at once: a source without a device, a thread or a wait.

    images: (H, W, 3) uint8 BGR each. frames: how many to give before the end, None for no end.
    """

    def __init__(self, images: Sequence[np.ndarray], frames: int | None = None) -> None:
        self.source_id = "memory"
        self.picture_fault = ""
        self.state = "streaming"
        self._images = list(images)
        self._frames = frames
        self._seq = 0

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        return SourceStats(self._seq, self._seq, dropped=0, corrupt=0, reconnects=0, abandoned=0)

    def start(self) -> None:
        """Do nothing: the pictures are here."""

    def read(self, timeout_s: float) -> Frame:
        """Return the next picture, stamped now.

        Raises: EndOfStreamError after the last one.
        """
        seq = self._seq
        if seq == self._frames:
            raise EndOfStreamError("memory has no more frames", "nothing to do")
        self._seq += 1
        image = self._images[seq % len(self._images)]
        height, width = image.shape[:2]
        info = FrameInfo(seq, self.source_id, monotonic_ns(), width, height, timestamp_quality="generated")
        return Frame(image, info)

    def poll_events(self) -> list[SourceEvent]:
        """Return no events."""
        return []

    def close(self) -> None:
        """Do nothing."""


class MemoryPublisher(PublisherBase):
    """Keeps every message in a list."""

    def __init__(self) -> None:
        super().__init__("memory", "json")
        self.messages: list[Message] = []

    @staticmethod
    def check(uri: Uri) -> None:
        """Accept any address."""

    def send(self, message: Message) -> None:
        """Keep one message."""
        self.messages.append(message)
        self.sent += 1

    def close(self, drain_s: float = 0.5) -> None:
        """Do nothing."""


def check_engine(engine: Engine) -> None:
    """Check that an engine keeps its contract; closes it.

    Raises: AssertionError naming what it breaks.
    """
    assert engine.input_specs, "an engine has at least one input"
    inputs = list(engine.inputs)
    for spec, array in zip(engine.input_specs, inputs, strict=True):
        assert array.shape == spec.shape, f"input {spec.name}: {array.shape} is not {spec.shape}"
        assert array.dtype == spec.dtype, f"input {spec.name}: {array.dtype} is not {spec.dtype}"
        assert array.flags.writeable, f"input {spec.name} must be writable"
        assert array.flags.c_contiguous, f"input {spec.name} must be C-contiguous"
        array[...] = 1
    engine.run()
    first = [np.copy(output) for output in engine.outputs]
    for i, array in enumerate(inputs):
        assert engine.inputs[i] is array, "inputs must stay the same objects"
        assert (array == 1).all(), "run() must leave the inputs as they are, padding included"
    engine.run()
    for spec, before, output in zip(engine.output_specs, first, engine.outputs, strict=True):
        assert output.dtype == spec.dtype, f"output {spec.name}: {output.dtype} is not {spec.dtype}"
        assert np.array_equal(before, output), f"output {spec.name} differs between two runs on the same input"
    engine.close()
    engine.close()
    assert not len(engine.inputs), "inputs must be empty after close()"
    assert not len(engine.outputs), "outputs must be empty after close()"


def check_source(source: FrameSource, frames: int = 3, timeout_s: float = 10.0) -> None:
    """Check that a started source gives fresh, numbered, honestly stamped frames and stops quickly; closes it.

    Raises: AssertionError naming what it breaks.
    """
    last_seq, last_capture = -1, 0
    for _ in range(frames):
        try:
            frame = source.read(timeout_s)
        except SourceTimeoutError as exc:
            raise AssertionError(f"no frame within {timeout_s} s: {exc}") from exc
        assert frame.image.dtype == np.uint8, f"pixels are {frame.image.dtype}, not uint8"
        assert frame.image.ndim == 3, f"the image has {frame.image.ndim} axes, not 3"
        assert frame.image.shape == (frame.info.height_px, frame.info.width_px, 3), "image and info disagree"
        assert frame.info.seq > last_seq, f"sequence went from {last_seq} to {frame.info.seq}"
        assert frame.info.t_capture_ns >= last_capture, "capture times must not go back"
        assert frame.info.t_capture_ns <= monotonic_ns(), "a frame must not be from the future"
        last_seq, last_capture = frame.info.seq, frame.info.t_capture_ns
    before = monotonic_ns()
    source.close()
    assert monotonic_ns() - before < 1_000_000_000, "close() took over a second"


def check_decoder(decoder: Decoder, outputs: Sequence[np.ndarray], size: int = 16) -> None:
    """Check that a decoder fills what it is given within its bounds and is deterministic.

    Raises: AssertionError naming what it breaks.
    """
    results: list[Detections | Classification] = []
    for _ in range(2):
        if decoder.kind == "detections":
            results.append(Detections(size, decoder.keypoint_count))
        else:
            results.append(Classification(size))
        decoder.decode(outputs, results[-1])
    for result in results:
        n = result.count
        assert 0 <= n <= size, f"count {n} is outside 0..{size}"
        scores = result.scores[:n]
        assert np.isfinite(scores).all(), "scores must be finite"
        assert ((scores >= 0) & (scores <= 1)).all(), "scores must lie in [0, 1]"
        assert (scores >= decoder.score_threshold - 1e-6).all(), "a score under the threshold was kept"
        assert (result.class_ids[:n] >= 0).all(), "class ids must not be negative"
        if isinstance(result, Detections):
            assert np.isfinite(result.xyxy[:n]).all(), "boxes must be finite"
    n = results[0].count
    assert n == results[1].count, "two decodes of the same outputs differ"
    assert np.array_equal(results[0].scores[:n], results[1].scores[:n]), "two decodes of the same outputs differ"


def check_publisher(publisher: Publisher) -> None:
    """Check that a publisher never blocks nor raises without readers and closes quickly; closes it.

    Raises: AssertionError naming what it breaks.
    """
    assert publisher.address, "a publisher says where its readers find it"
    before = monotonic_ns()
    for i in range(1000):
        publisher.send(
            DetectionsMessage(source="check", seq=i, t_publish_ns=i, t_capture_ns=i, age_ms=0.0, detections=[])
        )
    assert monotonic_ns() - before < 2_000_000_000, "1,000 sends took over two seconds"
    before = monotonic_ns()
    publisher.close(0.2)
    publisher.close(0.2)
    assert monotonic_ns() - before < 2_000_000_000, "close() took over two seconds"


def check_tracker(tracker: Tracker, capacity: int = 16) -> None:
    """Check that a tracker keeps two objects apart, fills what it is given within its bounds, and forgets on reset.

    tracker: as built for `capacity` detections a frame, with min_hits of at most 3.
    Raises: AssertionError naming what it breaks.
    """
    assert 0 <= tracker.low_score <= 1, "low_score must lie in [0, 1]"
    before = _tracked(tracker, capacity, t_first_ns=1)
    assert len(before) == 2, f"two objects that move apart have the numbers {sorted(before)}"
    tracker.reset()
    after = _tracked(tracker, capacity, t_first_ns=10**9)
    assert len(after) == 2, f"two objects have the numbers {sorted(after)} after a reset"
    assert not before & after, "a number was given again after a reset"
    tracker.next_id = next_id = max(before | after) + 1000
    assert min(_tracked(tracker, capacity, t_first_ns=10**11)) >= next_id, "next_id must be where numbers go on"
    tracker.reset()
    tracker.set_high_score(0.85)
    assert len(_tracked(tracker, capacity, t_first_ns=2 * 10**11)) == 1, "what has 0.8 does not begin a track now"
    tracker.set_high_score(0.5)
    assert len(_tracked(tracker, capacity, t_first_ns=3 * 10**11)) == 2, "what has 0.8 begins a track again"
    empty, into = Detections(capacity), Detections(capacity, moving=tracker.predicts)
    tracker.update(empty, into, 10**12)
    assert into.count == 0, f"{into.count} objects long after the last was seen"
    tracker.update(empty, into, 10**12)


def _tracked(tracker: Tracker, capacity: int, t_first_ns: int) -> set[int]:
    """The numbers a tracker gives on the last of 12 frames, 33 ms apart, with two objects and one that flickers."""
    found, into = Detections(capacity), Detections(capacity, moving=tracker.predicts)
    for i in range(12):
        found.count = 2 + (i == 5)
        found.xyxy[:3] = (100 + 3 * i, 100, 160 + 3 * i, 220), (400 - 3 * i, 90, 450 - 3 * i, 200), (5, 5, 5, 5)
        found.scores[:3] = 0.9, 0.8, 0.7
        kept = found.xyxy[: found.count].copy()
        tracker.update(found, into, t_first_ns + i * 33_000_000)
        n = into.count
        assert 0 <= n <= capacity, f"count {n} is outside 0..{capacity}"
        assert np.array_equal(kept, found.xyxy[: found.count]), "update() must leave the detections as they are"
        assert np.isfinite(into.xyxy[:n]).all(), "boxes must be finite"
        assert (into.track_ids[:n] >= 0).all(), "everything tracked has a number"
        assert len(set(into.track_ids[:n].tolist())) == n, "two objects of one frame have the same number"
        if into.motion is not None:
            assert np.isfinite(into.motion.rates[:n]).all(), "rates must be finite"
            assert (into.motion.variances[:n, 0] > 0).all(), "nothing is known without doubt"
    return set(into.track_ids[: into.count].tolist())
