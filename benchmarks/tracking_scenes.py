"""Made-up scenes with truth, and what a middling detector would see of them; nothing in them knows any tracker.

Objects walk with changing velocity, hide behind each other and behind pillars, leave and are followed by others. The
detector misses some, places boxes with noise in proportion to their size, is less sure of what is half hidden, and sees
things that are not there.
"""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["SCENES", "Scene", "Shot", "make"]

SIZE_WH = (1280, 720)
PAN_S = 1.5
LEAST_VISIBLE = 0.25  # objects of which less is to be seen are not in the truth


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens: objects at a time, seconds, frames a second, and what makes it hard.

    wander: change of velocity, in sizes per s^1.5. pillars: x ranges in px behind which nothing is seen. pan_px_s:
    how fast the camera turns at most, there and back every 1.5 s. drop: part of the frames that never arrive.
    """

    name: str
    objects: int = 12
    seconds: float = 20.0
    fps: float = 30.0
    speed: float = 1.2
    wander: float = 0.5
    jitter: float = 0.03
    miss: float = 0.05
    clutter: float = 0.5
    pillars: tuple[tuple[int, int], ...] = ()
    pan_px_s: float = 0.0
    drop: float = 0.0
    classes: int = 1


SCENES = (
    Scene("street"),
    Scene("pillars", pillars=((400, 480), (850, 960))),
    Scene("noisy", jitter=0.06, miss=0.15, clutter=2.0),
    Scene("turning camera", pan_px_s=600.0),
    Scene("dropped frames", drop=0.4),
    Scene("crowd", objects=40),
    Scene("swerving", wander=2.0, speed=2.0),
)


@dataclass(slots=True)
class Shot:
    """One frame: truth boxes (N, 4) float32 xyxy px and ids (N,), and what was detected, best first.

    current_from_previous: (3, 3) float64 homography of the camera's motion since the shot before.
    """

    t_ns: int
    boxes: np.ndarray
    ids: np.ndarray
    xyxy: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    current_from_previous: np.ndarray = field(default_factory=lambda: np.eye(3))


def make(scene: Scene, seed: int) -> list[Shot]:
    """Return the shots of one take of the scene."""
    rng = np.random.default_rng(seed)
    crew = _Crew(scene, rng)
    shots, pan_before = [], 0.0
    for i in range(int(scene.seconds * scene.fps)):
        t_s = i / scene.fps
        crew.move(1 / scene.fps)
        if scene.drop and rng.random() < scene.drop:
            continue
        pan = scene.pan_px_s * PAN_S / (2 * np.pi) * (1 - np.cos(2 * np.pi * t_s / PAN_S))
        boxes, ids, visible, classes = crew.seen_from(pan)
        shot = _detected(scene, rng, boxes, visible, classes)
        truth = visible >= LEAST_VISIBLE
        shift = np.eye(3)
        shift[0, 2] = pan_before - pan
        pan_before = pan
        shots.append(Shot(int(t_s * 1e9), boxes[truth].astype(np.float32), ids[truth], *shot, shift))
    return shots


class _Crew:
    """The objects in a world that is wider than the picture where the camera pans."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        n = scene.objects
        self._scene, self._rng = scene, rng
        self._width = SIZE_WH[0] + PAN_S / np.pi * scene.pan_px_s
        self._xy, self._velocity, self._wish = np.zeros((3, n, 2))
        self._wh = np.zeros((n, 2))
        self._ids = np.zeros(n, np.int64)
        self._classes = np.zeros(n, np.int32)
        self._next_id = 0
        for i in range(n):
            self._enter(i, anywhere=True)

    def _enter(self, i: int, anywhere: bool = False) -> None:
        rng, scene = self._rng, self._scene
        depth = rng.uniform(0, 1)  # far and small at the top, near and large at the bottom
        height = 50 + 170 * depth
        self._wh[i] = height * rng.uniform(0.35, 0.55), height
        direction = rng.choice((-1, 1))
        x = rng.uniform(0, self._width) if anywhere else (-0.4 * self._wh[i, 0], self._width)[int(direction < 0)]
        self._xy[i] = x, 200 + 400 * depth
        speed = scene.speed * self._wh[i].mean() * rng.uniform(0.4, 1.6)
        self._wish[i] = direction * speed, rng.normal() * 0.1 * speed
        self._velocity[i] = self._wish[i]
        self._ids[i], self._classes[i] = self._next_id, rng.integers(scene.classes)
        self._next_id += 1

    def move(self, dt_s: float) -> None:
        """Let dt_s seconds pass."""
        push = self._rng.normal(size=self._xy.shape) * self._scene.wander * self._wh.mean(axis=1, keepdims=True)
        self._velocity += push * np.sqrt(dt_s) + (self._wish - self._velocity) * dt_s
        self._velocity[:, 1] -= (self._xy[:, 1] - np.clip(self._xy[:, 1], 150, 650)) * dt_s
        self._xy += self._velocity * dt_s
        for i in range(len(self._xy)):
            if not -self._wh[i, 0] < self._xy[i, 0] < self._width + self._wh[i, 0]:
                self._enter(i)

    def seen_from(self, pan_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Boxes clipped to the picture, ids, how much of each is to be seen, and classes."""
        whole = np.concatenate([self._xy - self._wh / 2, self._xy + self._wh / 2], axis=1)
        whole[:, (0, 2)] -= pan_px
        boxes = whole.copy()
        boxes[:, (0, 2)] = boxes[:, (0, 2)].clip(0, SIZE_WH[0])
        boxes[:, (1, 3)] = boxes[:, (1, 3)].clip(0, SIZE_WH[1])
        visible = _area(boxes) / _area(whole)
        nearer = self._xy[:, None, 1] + self._wh[:, None, 1] / 2 < self._xy[None, :, 1] + self._wh[None, :, 1] / 2
        hidden = np.where(nearer, _covered(boxes, boxes), 0).max(axis=1)
        for left, right in self._scene.pillars:
            pillar = np.array([[left, 0, right, SIZE_WH[1]]], float)
            hidden = np.maximum(hidden, _covered(boxes, pillar)[:, 0])
        inside = visible > 0
        return boxes[inside], self._ids[inside], (visible * (1 - hidden))[inside], self._classes[inside]


def _detected(
    scene: Scene, rng: np.random.Generator, boxes: np.ndarray, visible: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the detector says: boxes, scores and class ids, best first."""
    n, false = len(boxes), rng.poisson(scene.clutter)
    size = (boxes[:, 2:] - boxes[:, :2]).mean(axis=1, keepdims=True)
    noisy = boxes + rng.normal(size=(n, 4)) * scene.jitter * size / (0.3 + 0.7 * visible[:, None])
    scores = (0.95 * visible**0.7 + rng.normal(size=n) * 0.08).clip(0.01, 0.99)
    found = (rng.random(n) > scene.miss) & (visible > 0.15) & (scores > 0.05)
    wh = rng.uniform(40, 160, (false, 2))
    corner = rng.uniform(0, 1, (false, 2)) * (np.array(SIZE_WH) - wh)
    xyxy = np.concatenate([noisy[found], np.concatenate([corner, corner + wh], axis=1)])
    xyxy[:, (0, 2)] = xyxy[:, (0, 2)].clip(0, SIZE_WH[0])
    xyxy[:, (1, 3)] = xyxy[:, (1, 3)].clip(0, SIZE_WH[1])
    scores = np.concatenate([scores[found], rng.beta(2, 4, false)])
    class_ids = np.concatenate([classes[found], rng.integers(scene.classes, size=false)]).astype(np.int32)
    order = np.argsort(-scores, kind="stable")
    order = order[(xyxy[order, 2:] - xyxy[order, :2] > 2).all(axis=1)]  # some peers take no empty boxes
    return xyxy[order].astype(np.float32), scores[order].astype(np.float32), class_ids[order]


def _area(xyxy: np.ndarray) -> np.ndarray:
    return np.maximum(xyxy[..., 2] - xyxy[..., 0], 0) * np.maximum(xyxy[..., 3] - xyxy[..., 1], 0)


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M): the part of each box that lies in each of the others."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.maximum(high - low, 0).prod(axis=2)
    return inter / np.maximum(_area(boxes)[:, None], 1e-9)
