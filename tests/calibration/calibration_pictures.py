"""Pictures made here that are like photographs, pages and nights to the measures used."""

import cv2
import numpy as np


def scene(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """Large coloured shapes over a smooth background, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(
        rng.integers(30, 226, (4, 5, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(8):
        colour = [int(n) for n in rng.integers(0, 256, 3)]
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        axes = int(rng.integers(5, width // 4)), int(rng.integers(5, height // 4))
        cv2.ellipse(picture, centre, axes, float(rng.integers(0, 180)), 0, 360, colour, -1)
    return picture


def page(seed: int) -> np.ndarray:
    """A page of text, black on white, (800, 600, 3) uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((800, 600, 3), 255, np.uint8)
    letters = list("abcdefghijklmnopqrstuvwxyz     ,.")
    for top in range(40, 780, 20):
        text = "".join(rng.choice(letters, 60))
        cv2.putText(picture, text, (30, top), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def noisy_night(picture: np.ndarray, seed: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 with a fortieth of its light and a sensor's noise."""
    rng = np.random.default_rng(seed)
    light = rng.poisson(np.maximum(picture / 40, 0.05)) + rng.normal(0, 2, picture.shape)
    return np.clip(light, 0, 255).astype(np.uint8)
