"""Ten detections as ROS 2's bytes: Harrier's serializer beside rosbags' and Cyclone DDS's, in one interleaved run."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edge.publishers import ros2_cdr
from edge.publishers.ros2_idl import Detection2DArray
from edge.wire.messages import DetectionRecord, DetectionsMessage

ROUNDS, CALLS = 200, 10
KIND = "vision_msgs/msg/Detection2DArray"
DEFINITIONS = Path(__file__).parents[1] / "tests" / "publishers" / "ros2_msgs" / "msg"


def measure() -> bool:
    """Print medians; return whether Harrier's is at least as quick as either of the others.

    The others begin with an object of their own, Harrier with the message that goes to every publisher.
    """
    records = [
        DetectionRecord(f"class {i}", i, 0.9, (10.0 * i, 5.0, 10.0 * i + 8.0, 55.5), track_id=i) for i in range(10)
    ]
    message = DetectionsMessage(
        source="cam", seq=1, t_publish_ns=1, t_capture_ns=1_700_000_000_123_456_789, age_ms=0.0, detections=records
    )
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in DEFINITIONS.glob("*.msg"):
        store.register(get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}"))
    cdr = ros2_cdr.detection_array(message, "camera")
    theirs = store.deserialize_cdr(cdr, KIND)
    cyclone = Detection2DArray.deserialize(cdr)
    ways: dict[str, Callable[[], object]] = {
        "harrier": lambda: ros2_cdr.detection_array(message, "camera"),
        "rosbags": lambda: store.serialize_cdr(theirs, KIND),
        "cyclonedds": lambda: cyclone.serialize(use_version_2=False),
    }
    took_us: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        assert bytes(way()) == cdr, f"{name} writes other bytes"
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                way()
            took_us[name].append((time.perf_counter() - start) / CALLS * 1e6)
    medians = {name: statistics.median(values) for name, values in took_us.items()}
    print(f"\n10 detections as {KIND}, {len(cdr)} bytes, median of {ROUNDS} rounds of {CALLS}")
    for name, value in medians.items():
        print(f"  {name:<12}{value:8.1f} us   {value / medians['harrier']:5.1f} x")
    kept = medians["harrier"] <= min(medians["rosbags"], medians["cyclonedds"])
    print(f"  harrier is the quickest: {'kept' if kept else 'MISSED'}")
    return kept
