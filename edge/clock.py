"""Time. Inside the process everything is CLOCK_MONOTONIC nanoseconds; on the wire it is Unix nanoseconds."""

import time

__all__ = ["monotonic_ns", "unix_ns_from_monotonic_ns"]

monotonic_ns = time.monotonic_ns


def unix_ns_from_monotonic_ns(t_ns: int) -> int:
    """Return the Unix time in ns of a CLOCK_MONOTONIC stamp, with the wall clock as it is set right now."""
    return t_ns + time.time_ns() - time.monotonic_ns()
