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
    from onnx_models import node, save

    two = onnx.numpy_helper.from_array(np.array([2], np.float32))
    nodes = [
        node("Constant", "", "two", {"value": two}),
        node("Mul", "x two", "double"),
        node("Sub", "double one", "y"),
        node("Relu", "y", "z"),
        node("Shape", "z", "sizes"),
        node("GlobalAveragePool", "z", "out"),
    ]
    one = {"one": np.array([1], np.float32)}
    path = save(tmp_path / "small.onnx", nodes, {"x": [1, 3, 8, 8]}, {"out": [1, 3, 1, 1]}, one)
    onnx.checker.check_model(str(path))
    return path
