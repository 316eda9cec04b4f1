"""Time. Inside the process everything is CLOCK_MONOTONIC nanoseconds; on the wire it is Unix nanoseconds."""

import time

__all__ = ["monotonic_ns", "unix_ns_from_monotonic_ns"]

_TOGETHER_NS = 2_000
_TRIES = 4

monotonic_ns = time.monotonic_ns


def unix_ns_from_monotonic_ns(t_ns: int) -> int:
    """Return the Unix time in ns of a CLOCK_MONOTONIC stamp, with the wall clock as it is set right now.

    The clocks are read again where the process lost the processor between the two, which would shift the result by ms.
    """
    offset_ns, least_ns = 0, None
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        unix = time.time_ns()
        gap_ns = time.monotonic_ns() - before
        if least_ns is None or gap_ns < least_ns:
            offset_ns, least_ns = unix - before - gap_ns // 2, gap_ns
        if gap_ns <= _TOGETHER_NS:
            break
    return t_ns + offset_ns
