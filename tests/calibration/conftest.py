"""Folders and videos of pictures, and a network small enough to follow by hand."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes pictures as PNG into a new folder."""

    def write(pictures: list[np.ndarray], name: str = "pictures") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for i, picture in enumerate(pictures):
            assert cv2.imwrite(str(folder / f"{i:04d}.png"), picture)
        return folder

    return write


@pytest.fixture
def video_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes frames as a video that OpenCV can read."""

    def write(frames: list[np.ndarray], name: str = "clip.avi") -> Path:
        path = tmp_path / name
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (width, height))
        assert writer.isOpened()
        for frame in frames:
            writer.write(frame)
        writer.release()
        return path

    return write


@pytest.fixture
def small_onnx(tmp_path: Path) -> Path:
    """x (1, 3, 8, 8) -> y = x * 2 - 1 -> z = max(y, 0) -> out, its channel means; a constant nobody computes."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no model can be made")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Constant", [], ["two"], value=helper.make_tensor("v", kind, [1], [2.0])),
        helper.make_node("Mul", ["x", "two"], ["double"]),
        helper.make_node("Sub", ["double", "one"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Shape", ["z"], ["sizes"]),
        helper.make_node("GlobalAveragePool", ["z"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", kind, [1, 3, 1, 1])],
        [helper.make_tensor("one", kind, [1], [1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    return path
