"""./run bench [NAME ...]: measure and print. Exits with 6 when a figure misses its target."""

import argparse
import sys

from benchmarks import (
    clients,
    coverage,
    geometry,
    memory,
    overhead,
    preprocess,
    quantization,
    record,
    remote,
    robot,
    ros2,
    serial,
    tracking,
    transport,
    viewers,
    worker,
)

BENCHES = {
    "overhead": overhead.measure,
    "memory": memory.measure,
    "preprocess": preprocess.measure,
    "coverage": coverage.measure,
    "quantization": quantization.measure,
    "transport": transport.measure,
    "serial": serial.measure,
    "clients": clients.measure,
    "ros2": ros2.measure,
    "tracking": tracking.measure,
    "geometry": geometry.measure,
    "robot": robot.measure,
    "record": record.measure,
    "remote": remote.measure,
    "worker": worker.measure,
    "viewers": viewers.measure,
}


def main() -> int:
    """Run the benches named, or all."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; all when none is named")
    names = parser.parse_args().names or list(BENCHES)
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        parser.error(f"there is no bench '{unknown[0]}'; use one of {', '.join(BENCHES)}")
    kept = [BENCHES[name]() for name in names]  # all of them, also after one has missed
    return 0 if all(kept) else 6


if __name__ == "__main__":
    sys.exit(main())
