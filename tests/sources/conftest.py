"""What the source tests share: waiting for a condition, and a video to read."""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SourceTimeoutError
from edge.sources.base import FrameSource, SourceEvent


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition, with a deadline generous enough for a busy machine."""

    def wait(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        t_end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < t_end_s, "the condition did not come true in time"
            time.sleep(0.005)

    return wait


@pytest.fixture
def events_until() -> Callable[..., list[SourceEvent]]:
    """Read on until the source reports a state; return the events up to that one, the rest next time."""
    waiting: deque[SourceEvent] = deque()

    def collect(source: FrameSource, state: str, timeout_s: float = 10.0) -> list[SourceEvent]:
        t_end_s = time.monotonic() + timeout_s
        events: list[SourceEvent] = []
        while True:
            waiting.extend(source.poll_events())
            while waiting:
                events.append(waiting.popleft())
                if events[-1].state == state:
                    return events
            assert time.monotonic() < t_end_s, f"no '{state}' among {events}"
            with contextlib.suppress(SourceTimeoutError):
                source.read(0.05)

    return collect


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """60 frames, 160x120 at 30 Hz; frame i is grey 4 * i."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 120))
    assert writer.isOpened()
    for i in range(60):
        writer.write(np.full((120, 160, 3), 4 * i, np.uint8))
    writer.release()
    return path
