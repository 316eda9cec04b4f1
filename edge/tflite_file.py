"""What is read from a .tflite file without an interpreter: operators, input levels, metadata, zip tail.

Field numbers are those of TensorFlow Lite's schema.fbs. Nothing here needs an interpreter's own schema
module, so it works beside any of them.
"""

import math
import mmap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edge.flatbuffer import Table, root
from edge.zips import DAMAGED_ZIP

__all__ = [
    "MAX_TEXT_BYTES",
    "InputLevels",
    "custom_ops",
    "input_levels",
    "input_shape",
    "is_tflite",
    "mapped_model",
    "metadata_table",
    "zip_tail",
]

MAX_TEXT_BYTES = 4 << 20
MAX_FILES = 64

_BAD_ZIP = (OSError, ValueError, *DAMAGED_ZIP)
_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _METADATA = 1, 2, 4, 6
_PIXEL_OFFSETS = {3: 0, 9: -128}  # TensorType UINT8, INT8: stored value of a pixel minus the pixel


class InputLevels(NamedTuple):
    """How a quantized image input stores real values, and a pixel: stored = pixel + pixel_offset."""

    scale: float
    zero_point: int
    pixel_offset: int


@contextmanager
def mapped_model(path: Path) -> Iterator[Table]:
    """Lend the root table of a .tflite file, mapped: only the pages that are looked at are read.

    Raises: OSError for an unreadable file, ValueError for one that is no .tflite file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield root(data, b"TFL3")


def is_tflite(path: Path) -> bool:
    """Return whether the file can be read and carries the identifier of a .tflite file."""
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == b"TFL3"
    except OSError:
        return False


def custom_ops(model: Table) -> list[str]:
    """Return the names of the custom operators, in the file's order.

    Raises: ValueError when the model is damaged.
    """
    return [name for code in model.items(_OPERATOR_CODES) if (name := code.text(1))]


def metadata_table(model: Table) -> Table | None:
    """Return the root of the TFLITE_METADATA buffer (metadata_schema.fbs), None when there is none.

    Raises: ValueError when it is damaged.
    """
    for entry in model.items(_METADATA):
        if entry.text(0) == "TFLITE_METADATA":
            return root(model.item(_BUFFERS, entry.scalar(1, "I")).blob(0), b"M001")
    return None


def input_levels(model: Table) -> InputLevels | None:
    """Return the levels of the first input when it is uint8 or int8, None for any other.

    Raises: ValueError when the model is damaged.
    """
    tensor = _first_input(model)
    if tensor is None:
        return None
    quantization = tensor.table(4)
    offset = _PIXEL_OFFSETS.get(tensor.scalar(1, "b"))
    if quantization is None or offset is None:
        return None
    scales, zero_points = quantization.numbers(2, "f"), quantization.numbers(3, "q")
    if len(scales) != 1 or len(zero_points) != 1 or not 0 < scales[0] < math.inf:
        return None
    return InputLevels(scales[0], zero_points[0], offset)


def input_shape(model: Table) -> list[int]:
    """Return the shape of the first input, [] when there is none.

    Raises: ValueError when the model is damaged.
    """
    tensor = _first_input(model)
    return tensor.numbers(0, "i") if tensor else []


def _first_input(model: Table) -> Table | None:
    subgraph = model.item(_SUBGRAPHS, 0)
    inputs = subgraph.numbers(1, "i")
    return subgraph.item(0, inputs[0]) if inputs else None


def zip_tail(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the small files in the zip behind a .tflite file by name, and what went wrong with them."""
    if not is_tflite(path):
        return {}, []
    files: dict[str, bytes] = {}
    try:
        if not zipfile.is_zipfile(path):
            return {}, []
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist()[:MAX_FILES]:
                if info.file_size <= MAX_TEXT_BYTES:  # ZipFile reads no more than this size says
                    files[info.filename] = archive.read(info)
    except _BAD_ZIP as exc:
        return files, [f"the zip behind the model is damaged ({exc}): labels may be missing"]
    return files, []
