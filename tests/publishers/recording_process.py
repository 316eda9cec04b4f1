"""Records as fast as it may until it is killed; tells on standard output what is acknowledged.

python recording_process.py PLACE OPTIONS [SCORE]; with the score the settings in force are known.
"""

import sys
import time

from recorded import HELLO, detections, frame

from edge.config import RunConfig, Thresholds
from edge.manifest import DecoderSection
from edge.publishers.mcap import McapPublisher
from edge.run_settings import settings_in_force
from edge.uri import parse_uri


def main() -> None:
    publisher = McapPublisher(parse_uri(f"mcap://{sys.argv[1]}?{sys.argv[2]}"))
    if len(sys.argv) > 3:
        config = RunConfig(thresholds=Thresholds(score=float(sys.argv[3])))
        settings = settings_in_force(config, DecoderSection(family="yolo"))
        publisher.settings = lambda: settings
    publisher.send(HELLO)
    pictures = [frame(i, (64, 48)) for i in range(4)]
    seq = 0
    while True:
        message = detections(seq, [])
        publisher.send(message)
        publisher.show(pictures[seq % 4], message)
        seq += 1
        print(time.monotonic(), seq, publisher.sent, flush=True)
        time.sleep(0.002)


main()
