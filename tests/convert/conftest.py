"""Smooth colour pictures and a small classifier, sorted into class folders by what the float model says of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

COUNT = 64


def smooth_picture(seed: int) -> np.ndarray:
    """A colour picture with the neighbourly pixels of a photo."""
    noise = np.random.default_rng(seed)
    coarse = noise.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC)
    grain = noise.normal(0, 4, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        cv2.imwrite(str(folder / f"{i:03d}.png"), smooth_picture(i))
    return folder


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx", reason="the converter needs onnx")
    from networks import classifier

    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture(scope="session")
def class_folders(classifier_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are not the calibration's, under the class the float model gives them."""
    from edge.golden import see

    root, loose = tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("loose")
    for i in range(40):
        picture = smooth_picture(1000 + i)
        path = loose / f"{i:03d}.png"
        cv2.imwrite(str(path), picture)
        best = see(str(classifier_file), None, path)["class_ids"][0]
        (root / str(best)).mkdir(exist_ok=True)
        path.rename(root / str(best) / path.name)
    return root
