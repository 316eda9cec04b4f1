"""Run by the Python that has ROS: publish through the way the URI names, until standard input is closed.

    python ros2_publish.py URI

Prints the publisher's address first, then at the end how much was sent and dropped, and what failed.
"""

import select
import sys
import time

from edge.publishers.ros2 import Ros2Publisher
from edge.uri import parse_uri
from edge.wire.messages import DetectionRecord, DetectionsMessage, StatusMessage


def main(uri: str, seconds: float = 30.0) -> None:
    """Publish 50 messages a second."""
    publisher = Ros2Publisher(parse_uri(uri))
    print(publisher.address, flush=True)
    publisher.send(StatusMessage(source="cam", seq=1, t_publish_ns=0, t_event_ns=0, state="streaming"))
    record = DetectionRecord("cat", 3, 0.5, (10.0, 20.0, 30.0, 60.0), track_id=9)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not select.select([sys.stdin], [], [], 0.02)[0]:
        publisher.send(
            DetectionsMessage(
                source="cam",
                seq=1,
                t_publish_ns=0,
                t_capture_ns=1_700_000_000_123_456_789,
                age_ms=0.0,
                detections=[record],
            )
        )
    publisher.close()
    print(publisher.sent, publisher.dropped, repr(publisher.failure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
