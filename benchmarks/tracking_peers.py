"""Harrier's trackers and those of others behind one face: `prepare` a shot, `step` (timed), `tracked` as arrays.

Each peer is entered with several settings, its defaults among them; the table shows the one with the best HOTA. All of
them see the same detections, weak ones included, at the 30 frames/s they take for granted. Only Harrier's are told
capture times and, in an entry of its own, the camera's motion (norfair could be told it, too).
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from benchmarks.tracking_scenes import Shot
from edge.config import TrackingSection
from edge.detections import Detections
from edge.registry import resolve

__all__ = ["OURS", "Contestant", "contestants"]

CAPACITY = 128
OURS = "Harrier bytetrack"


class Contestant:
    """One of Harrier's own trackers; the others' classes keep the same three methods."""

    def __init__(self, name: str = "bytetrack", camera: bool = False, coast_s: float = 0.1) -> None:
        self._tracker = resolve("trackers", name)(TrackingSection(coast_s=coast_s), CAPACITY)
        self._found, self._into = Detections(CAPACITY), Detections(CAPACITY, moving=True)
        self._camera = camera

    def prepare(self, shot: Shot) -> None:
        """Put the shot's detections into the form the tracker takes."""
        n = self._found.count = len(shot.scores)
        self._found.xyxy[:n], self._found.scores[:n] = shot.xyxy, shot.scores
        self._found.class_ids[:n] = shot.class_ids
        self._t_ns = shot.t_ns
        self._moved = shot.current_from_previous if self._camera else None

    def step(self) -> None:
        """Track; this is what is timed."""
        self._tracker.update(self._found, self._into, self._t_ns, self._moved)

    def tracked(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) and ids (N,) of this frame."""
        n = self._into.count
        return self._into.xyxy[:n].copy(), self._into.track_ids[:n].copy()


class _Supervision(Contestant):
    def __init__(self, tracker) -> None:
        self._tracker = tracker

    def prepare(self, shot: Shot) -> None:
        import supervision

        self._found = supervision.Detections(
            xyxy=shot.xyxy.copy(), confidence=shot.scores.copy(), class_id=shot.class_ids.copy()
        )

    def step(self) -> None:
        self._into = self._tracker.update_with_detections(self._found)

    def tracked(self) -> tuple[np.ndarray, np.ndarray]:
        ids = np.asarray(self._into.tracker_id, np.int64)
        return self._into.xyxy[ids >= 0], ids[ids >= 0]


class _Trackers(_Supervision):
    def step(self) -> None:
        self._into = self._tracker.update(self._found)


class _Norfair(Contestant):
    def __init__(self, score: float, distance: float) -> None:
        import norfair

        self._detection = norfair.Detection
        self._tracker = norfair.Tracker(distance_function="iou", distance_threshold=distance)
        self._score = score

    def prepare(self, shot: Shot) -> None:
        strong = shot.scores >= self._score
        self._found = [
            self._detection(points=box.reshape(2, 2).astype(float), scores=np.array([score, score]))
            for box, score in zip(shot.xyxy[strong], shot.scores[strong], strict=True)
        ]

    def step(self) -> None:
        self._into = self._tracker.update(self._found)

    def tracked(self) -> tuple[np.ndarray, np.ndarray]:
        live = [one for one in self._into if one.live_points.any()]
        return np.array([one.estimate.ravel() for one in live]).reshape(-1, 4), np.array([one.id for one in live], int)


def _supervision_entries() -> list[Callable[[], Contestant]]:
    from supervision.tracker.byte_tracker.core import ByteTrack

    return [
        lambda: _Supervision(ByteTrack()),
        lambda: _Supervision(ByteTrack(track_activation_threshold=0.5)),
        lambda: _Supervision(ByteTrack(track_activation_threshold=0.5, minimum_consecutive_frames=2)),
    ]


def _trackers_entries() -> list[Callable[[], Contestant]]:
    from trackers import ByteTrackTracker

    return [
        lambda: _Trackers(ByteTrackTracker()),
        lambda: _Trackers(ByteTrackTracker(track_activation_threshold=0.5, high_conf_det_threshold=0.5)),
        lambda: _Trackers(
            ByteTrackTracker(
                lost_track_buffer=45,
                track_activation_threshold=0.5,
                high_conf_det_threshold=0.5,
                minimum_iou_threshold=0.2,
            )
        ),
    ]


def _norfair_entries() -> list[Callable[[], Contestant]]:
    import norfair  # noqa: F401  absent: no entries

    return [lambda: _Norfair(0.5, 0.7), lambda: _Norfair(0.35, 0.7), lambda: _Norfair(0.5, 0.9)]


def contestants() -> dict[str, list[Callable[[], Contestant]]]:
    """Return name -> settings, of all that are installed; a line says which are not."""
    found: dict[str, list[Callable[[], Contestant]]] = {
        OURS: [Contestant],
        f"{OURS}, told the camera's motion": [lambda: Contestant(camera=True)],
        f"{OURS}, coast_s = 0": [lambda: Contestant(coast_s=0.0)],
        "Harrier iou": [lambda: Contestant("iou")],
    }
    peers = {
        "supervision": ("ByteTrack of supervision", _supervision_entries),
        "trackers": ("ByteTrack of trackers", _trackers_entries),
        "norfair": ("norfair", _norfair_entries),
    }
    for package, (title, entries) in peers.items():
        try:
            found[f"{title} {version(package)}"] = entries()
        except (PackageNotFoundError, ImportError) as exc:
            print(f"{package} is not measured: {exc}")
    return found
