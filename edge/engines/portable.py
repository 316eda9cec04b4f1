"""What an engine needs to run without Harrier around it: in the board's own Python, from 3.6 on.

A runner is a module of this folder with `open_runner(path, options)`, written in the syntax of Python 3.6. It imports
numpy, the accelerator's library and other portable modules of this folder (relatively), nothing else of Harrier. In
this process `edge.engines.adapted` makes an `Engine` of it; in another interpreter `worker_child.py` loads it by path.
"""

from collections import namedtuple

__all__ = ["KINDS", "RunnerError", "Tensor"]

KINDS = ("engine", "accelerator", "missing", "config", "lost")
"""What went wrong: with the model file; the device is not there; a package is not there; an option is wrong; the device
or its driver stopped working after it had worked."""

Tensor = namedtuple("Tensor", ("name", "shape", "dtype", "layout", "scale", "zero_point"))
Tensor.__doc__ = """One tensor in words JSON can carry: shape a list of int, dtype numpy's name, layout "NHWC", "NCHW"
or None, scale a float or None where it is not quantized, zero_point an int."""


class RunnerError(Exception):
    """What a person can act on: the cause, the cure, and one of `KINDS`."""

    def __init__(self, cause, cure, kind="engine"):  # type: ignore[no-untyped-def]
        super().__init__("%s: %s" % (cause, cure))  # noqa: UP031
        self.cause = cause
        self.cure = cure
        self.kind = kind
