"""Which custom operators a .tflite file uses, read in the board's own Python, before any interpreter fails over them.

`edge.tflite_file` reads more of such files, but another interpreter cannot import it (see `edge.engines.portable`).
Field numbers: `schema.fbs` of TensorFlow Lite, and `executable.fbs` of libedgetpu for what the Edge TPU compiler wrote.
"""

import mmap
import struct
from collections import namedtuple

__all__ = ["EDGE_TPU_OP", "Ops", "read_ops"]

EDGE_TPU_OP = "edgetpu-custom-op"

Ops = namedtuple("Ops", ("custom", "edgetpu_runtime"))
Ops.__doc__ = """What a file needs.

custom: names of the custom operators, in the file's order. edgetpu_runtime: the version of the Edge TPU's runtime that
a compiled file needs at least, 0 where it says nothing.
"""

_OPERATOR_CODES, _SUBGRAPHS, _CUSTOM_CODE, _OPERATORS, _CODE_INDEX, _CUSTOM_OPTIONS = 1, 2, 1, 3, 0, 5
_PACKAGE, _MIN_RUNTIME_VERSION = b"DWN1", 0
_MAX_ITEMS = 1 << 16  # no list in a model is longer; a garbled length may be


def read_ops(path: str) -> Ops:
    """Return what a file says; nothing of a file that is no readable .tflite file, which the interpreter explains."""
    custom = []  # type: list[str]
    runtime = 0
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != b"TFL3":
                return Ops([], 0)
            model = _number(data, 0, "I")
            codes = [_text(data, code, _CUSTOM_CODE) for code in _tables(data, model, _OPERATOR_CODES)]
            custom = [code for code in codes if code]
            if EDGE_TPU_OP in custom:
                runtime = _runtime(data, model, codes.index(EDGE_TPU_OP))
    except (OSError, ValueError, struct.error):
        pass
    return Ops(custom, runtime)


def _runtime(data, model, wanted):  # type: ignore[no-untyped-def]
    """The highest that any Edge TPU operator needs; its package lies whole within the operator's options."""
    found = 0
    for graph in _tables(data, model, _SUBGRAPHS):
        for operator in _tables(data, graph, _OPERATORS):
            at = _field(data, operator, _CODE_INDEX)
            if (_number(data, at, "I") if at else 0) != wanted:
                continue
            start, count = _vector(data, operator, _CUSTOM_OPTIONS)
            package = data.find(_PACKAGE, start, start + count) - 4  # a flatbuffer's name follows its first offset
            if package >= start:
                at = _field(data, package + _number(data, package, "I"), _MIN_RUNTIME_VERSION)
                found = max(found, _number(data, at, "i") if at else 0)
    return found


def _number(data, at, code):  # type: ignore[no-untyped-def]
    if at < 0:  # struct would count it from the end
        raise ValueError("a position before the data")
    return struct.unpack_from("<" + code, data, at)[0]


def _field(data, table, number):  # type: ignore[no-untyped-def]
    """Where a field of a table lies, None when it is absent."""
    vtable = table - _number(data, table, "i")
    if 4 + 2 * number >= _number(data, vtable, "H"):
        return None
    offset = _number(data, vtable + 4 + 2 * number, "H")
    return table + offset if offset else None


def _vector(data, table, number):  # type: ignore[no-untyped-def]
    """Where a vector's items begin, and how many there are."""
    at = _field(data, table, number)
    if at is None:
        return 0, 0
    start = at + _number(data, at, "I")
    return start + 4, _number(data, start, "I")


def _tables(data, table, number):  # type: ignore[no-untyped-def]
    start, count = _vector(data, table, number)
    if count > _MAX_ITEMS:
        raise ValueError("a list without end")
    for at in range(start, start + 4 * count, 4):
        yield at + _number(data, at, "I")


def _text(data, table, number):  # type: ignore[no-untyped-def]
    start, count = _vector(data, table, number)
    return data[start : start + count].decode("utf-8", "replace")
