"""What the keys of Ultralytics' exporter metadata mean for us.

The exporter writes them as text (ONNX), JSON or a Python dict (behind a .tflite file): description, author,
version, license, stride, task, batch, imgsz, names, and by version args, channels, end2end, kpt_shape. The
preprocessing is not among them: it is that of Ultralytics' own predictors, one for all models of a task.
"""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from edge.tflite_file import MAX_TEXT_BYTES

__all__ = ["UNREADABLE", "contract_of", "family_of", "labels_of", "literal", "yolo_params"]

UNREADABLE = (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError)
MAX_LABELS = 100_000

_FAMILIES = {"detect": "yolo", "pose": "yolo", "segment": "yolo", "classify": "classification"}


def family_of(task: str, description: str) -> str | None:
    """Return the decoder family of a model, None for a task without one."""
    if re.search(r"rt-?detr", description, re.IGNORECASE):
        return "detr"
    return _FAMILIES.get(task)


def contract_of(properties: Mapping[str, Any], task: str, family: str | None, notes: list[str]) -> dict[str, Any]:
    """Return the keys of InputContract; what cannot be read is added to `notes`."""
    contract: dict[str, Any] = {"channel_order": "rgb", "scale": 1 / 255, "interpolation": "linear"}
    contract |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if task == "classify":
        contract |= {"resize": "crop", "crop_fraction": 1.0}
    elif family == "detr":
        contract |= {"resize": "stretch"}
    else:
        contract |= {"resize": "letterbox", "placement": "center", "pad_value": 114}
    channels = _value(properties, "channels")
    if channels == 1:
        contract["channel_order"] = "gray"
    elif channels not in (None, 3):
        notes.append(f"the file states {channels} input channels, which is no camera image")
    size = _value(properties, "imgsz")
    size = [size, size] if isinstance(size, int) else size
    if isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and 0 < n < 65536 for n in size):
        contract["size_wh"] = (size[1], size[0])  # imgsz is height, width
    elif "imgsz" in properties:
        notes.append("the image size inside the file is unreadable and was ignored")
    return contract


def yolo_params(properties: Mapping[str, Any], task: str, tflite_shape: list[int] | None) -> dict[str, Any]:
    """Return parameters of the decoder family yolo; tflite_shape: a .tflite file's input, None for ONNX.

    .tflite files hold coordinates in 0..1, except end-to-end heads with an NCHW input (litert-torch).
    """
    arguments = _value(properties, "args")
    with_nms = isinstance(arguments, dict) and arguments.get("nms") is True
    end_to_end = _value(properties, "end2end") is True or with_nms
    is_nchw = tflite_shape is not None and len(tflite_shape) == 4 and tflite_shape[3] not in (1, 3)
    params: dict[str, Any] = {"normalized": tflite_shape is not None and not (end_to_end and is_nchw)}
    if end_to_end:
        params["end_to_end"] = True
    points = _value(properties, "kpt_shape")
    if task == "pose" and isinstance(points, list | tuple) and len(points) == 2:
        count, dims = points
        if type(count) is int and 0 < count < 1000 and dims in (2, 3):
            params |= {"keypoints": count, "keypoint_dims": dims}
    return params


def labels_of(properties: Mapping[str, Any]) -> list[str]:
    """Return the class names in class order, [] when they cannot be read."""
    names = _value(properties, "names")
    if isinstance(names, list | tuple):
        return [str(name) for name in names]
    try:
        by_id = {int(class_id): str(name) for class_id, name in names.items()}
    except (AttributeError, ValueError, TypeError):
        return []
    if not by_id or min(by_id) < 0 or max(by_id) >= MAX_LABELS:
        return []
    return [by_id.get(class_id, f"class {class_id}") for class_id in range(max(by_id) + 1)]


def literal(text: str) -> Any:
    """Return the value of JSON, or of a Python literal.

    Raises: one of UNREADABLE.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("too long")
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text.strip())


def _value(properties: Mapping[str, Any], key: str) -> Any:
    """A value, read when it is text; None for an absent or unreadable one."""
    value = properties.get(key)
    if not isinstance(value, str):
        return value
    try:
        return literal(value)
    except UNREADABLE:
        return None
