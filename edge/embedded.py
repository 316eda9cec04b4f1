"""What a bare model file says about itself: Ultralytics properties and TensorFlow Lite metadata.

Both are optional and written by others, so nothing here raises over their content: what cannot be read
becomes a note. The formats are those of Ultralytics' exporter (ONNX metadata properties; metadata.json or
temp_meta.txt in a zip behind a .tflite file) and of TensorFlow Lite's metadata_schema.fbs 1.1 (a buffer
named TFLITE_METADATA, label files in the zip).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import ultralytics
from edge.flatbuffer import Table
from edge.tflite_file import (
    InputLevels,
    custom_ops,
    input_levels,
    input_shape,
    is_tflite,
    mapped_model,
    metadata_table,
    zip_tail,
)

__all__ = ["Embedded", "from_onnx_properties", "from_tflite", "tflite_custom_ops"]

_ULTRALYTICS_FILES = ("metadata.json", "TFLITE_ULTRALYTICS_METADATA.json", "temp_meta.txt")

# Numbers of fields in metadata_schema.fbs
_META_NAME, _META_DESCRIPTION, _META_SUBGRAPHS, _META_LICENCE, _META_FILES = 0, 1, 3, 5, 6
_META_INPUTS, _META_OUTPUTS, _META_SUBGRAPH_FILES = 2, 3, 4
_META_CONTENT, _META_PROCESS_UNITS, _META_TENSOR_FILES = 3, 4, 6
_NORMALIZATION, _SCORE_THRESHOLD, _IMAGE = 1, 3, 2  # members of their unions
_LABEL_FILE_TYPES = (2, 3)  # TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a model file states. Empty values are not stated.

    origin: where it stands, for people. contract: keys of InputContract that the file states or that its
    exporter always uses. family, params: the decoder's. labels: in class order. notes: what was left out
    and why.
    """

    origin: str
    contract: dict[str, Any] = field(default_factory=dict)
    family: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    name: str = ""
    description: str = ""
    licence: str = ""
    notes: list[str] = field(default_factory=list)


def from_onnx_properties(properties: Mapping[str, str]) -> Embedded | None:
    """Return what Ultralytics wrote into an ONNX file's metadata properties, None without its keys."""
    return _ultralytics(properties, "Ultralytics metadata inside the ONNX file", None)


def from_tflite(path: Path) -> Embedded | None:
    """Return what a .tflite file states: Ultralytics' metadata where there is some, else TensorFlow Lite's.

    None when it has neither, or is no .tflite file.
    """
    files, notes = zip_tail(path)
    for name in _ULTRALYTICS_FILES:
        if name in files:
            said = _ultralytics_file(files[name], name, _shape(path))
            if said:
                return said
            notes.append(f"{name} inside the file is unreadable and was ignored")
    try:
        with mapped_model(path) as model:
            found = metadata_table(model)
            if found is None:
                return Embedded(f"the end of {path.name}", notes=notes) if notes else None
            return _tflite_metadata(found, input_levels(model), files, notes)
    except (OSError, ValueError) as exc:
        notes.append(f"the metadata inside the file is unreadable and was ignored ({exc})")
        return Embedded("unreadable TensorFlow Lite metadata", notes=notes) if is_tflite(path) else None


def tflite_custom_ops(path: Path) -> list[str]:
    """Return the names of the custom operators a .tflite file uses, in its order; [] when it is unreadable.

    A file for the Edge TPU has "edgetpu-custom-op". What is wrong with an unreadable file, the engine says.
    """
    try:
        with mapped_model(path) as model:
            return custom_ops(model)
    except (OSError, ValueError):
        return []


def _ultralytics_file(content: bytes, name: str, shape: list[int]) -> Embedded | None:
    try:
        properties = ultralytics.literal(content.decode("utf-8"))
    except ultralytics.UNREADABLE:
        return None
    if not isinstance(properties, dict):
        return None
    origin = f"Ultralytics metadata ({name}) inside the TensorFlow Lite file"
    return _ultralytics(properties, origin, shape)


def _ultralytics(properties: Mapping[str, Any], origin: str, tflite_shape: list[int] | None) -> Embedded | None:
    """Read the exporter's keys, whose values are text (ONNX) or as they were (JSON, a Python dict)."""
    if "names" not in properties or not properties.keys() & {"stride", "task", "imgsz"}:
        return None
    notes: list[str] = []
    description = str(properties.get("description", ""))
    task = str(properties.get("task", "detect"))  # YOLOv5 wrote only stride and names
    family = ultralytics.family_of(task, description)
    labels = ultralytics.labels_of(properties)
    if not labels:
        notes.append("the class names inside the file are unreadable and were ignored")
    if family is None:
        notes.append(f"the file says its task is '{task}', which no decoder here knows")
    if task == "segment":
        notes.append("this is a segmentation model: boxes are decoded, masks are not")
    named = re.match(r"Ultralytics (\S+) model", description)
    return Embedded(
        origin,
        contract=ultralytics.contract_of(properties, task, family, notes),
        family=family,
        params=ultralytics.yolo_params(properties, task, tflite_shape) if family == "yolo" else {},
        labels=labels,
        name=named[1] if named else "",
        description=description,
        licence=str(properties.get("license", "")),
        notes=notes,
    )


def _shape(path: Path) -> list[int]:
    try:
        with mapped_model(path) as model:
            return input_shape(model)
    except (OSError, ValueError):
        return []


def _tflite_metadata(
    metadata: Table, levels: InputLevels | None, files: Mapping[str, bytes], notes: list[str]
) -> Embedded:
    contract: dict[str, Any] = {}
    labels: list[str] = []
    for subgraph in list(metadata.items(_META_SUBGRAPHS))[:1]:
        for tensor in list(subgraph.items(_META_INPUTS))[:1]:
            contract = _tflite_contract(tensor, levels, notes)
        outputs = list(subgraph.items(_META_OUTPUTS))
        declared = [file for tensor in outputs for file in tensor.items(_META_TENSOR_FILES)]
        declared += [*subgraph.items(_META_SUBGRAPH_FILES), *metadata.items(_META_FILES)]
        labels = _declared_labels(declared, files, notes)
        found = (value for tensor in outputs for value in _thresholds(tensor))
        notes += [f"the file recommends a score threshold of {value:g}" for value in found]
    return Embedded(
        "TensorFlow Lite metadata inside the file",
        contract=contract,
        labels=labels,
        name=metadata.text(_META_NAME),
        description=metadata.text(_META_DESCRIPTION),
        licence=metadata.text(_META_LICENCE),
        notes=notes,
    )


def _tflite_contract(tensor: Table, levels: InputLevels | None, notes: list[str]) -> dict[str, Any]:
    contract: dict[str, Any] = {}
    content = tensor.table(_META_CONTENT)
    image = content.table(1) if content and content.scalar(0, "B") == _IMAGE else None
    colour = image.scalar(0, "b") if image else 0
    if colour in (1, 2):
        contract["channel_order"] = "rgb" if colour == 1 else "gray"
    for unit in tensor.items(_META_PROCESS_UNITS):
        options = unit.table(1)
        if unit.scalar(0, "B") != _NORMALIZATION or options is None:
            continue
        mean, std = options.numbers(0, "f"), options.numbers(1, "f")
        usable = {len(mean), len(std)} <= {1, 3} and all(map(math.isfinite, mean + std)) and 0 not in std
        if not usable:
            notes.append("the normalization inside the file is not usable and was ignored")
            continue
        mean, std = (values * 3 if len(values) == 1 else values for values in (mean, std))
        contract |= {"scale": 1.0, "mean": tuple(mean), "std": tuple(std)}
        if levels and _nearly_identity(mean, std, levels):
            contract |= _identity(levels)
            notes.append("pixels enter the quantized input unchanged, within rounding of the stated normalization")
    return contract


def _nearly_identity(mean: list[float], std: list[float], levels: InputLevels) -> bool:
    scale, zero_point, offset = levels
    stored = [((pixel - m) / s) / scale + zero_point for m, s in zip(mean, std, strict=True) for pixel in (0, 255)]
    return all(abs(value - (pixel + offset)) <= 1.5 for value, pixel in zip(stored, (0, 255) * 3, strict=True))


def _identity(levels: InputLevels) -> dict[str, Any]:
    """The normalization whose quantized result is the pixel itself (less 128 for int8).

    The schema says so of quantized inputs ("scaled back to [0, 255]"), while the stated mean and std, put
    through the tensor's own scale and zero point, would move many pixels by one level.
    """
    scale, zero_point, offset = levels
    return {"mean": (float(zero_point - offset),) * 3, "std": (1 / scale,) * 3}


def _thresholds(tensor: Table) -> list[float]:
    units = [unit for unit in tensor.items(_META_PROCESS_UNITS) if unit.scalar(0, "B") == _SCORE_THRESHOLD]
    return [options.scalar(0, "f") for unit in units if (options := unit.table(1))]


def _declared_labels(declared: list[Table], files: Mapping[str, bytes], notes: list[str]) -> list[str]:
    """The first label file, an English or unlocalized one before others."""
    found = [file for file in declared if file.scalar(2, "b") in _LABEL_FILE_TYPES]
    found.sort(key=lambda file: not file.text(3).lower().startswith("en") and bool(file.text(3)))
    for file in found[:1]:
        name = file.text(0)
        if name not in files:
            notes.append(f"the file names its labels '{name}', but does not hold them")
            continue
        return files[name].decode("utf-8", "replace").rstrip("\r\n").splitlines()
    return []
