"""Records as fast as it may until it is killed; tells on standard output what is acknowledged.

python recording_process.py PLACE OPTIONS
"""

import sys
import time

from recorded import HELLO, detections, frame

from edge.publishers.mcap import McapPublisher
from edge.uri import parse_uri


def main() -> None:
    publisher = McapPublisher(parse_uri(f"mcap://{sys.argv[1]}?{sys.argv[2]}"))
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
