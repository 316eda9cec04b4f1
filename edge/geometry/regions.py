"""Regions of the picture: what is looked at, and what is told of tracks that enter, leave, stay or cross."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.detections import Detections
from edge.errors import ConfigError
from edge.geometry.polygons import Lines, Polygons
from edge.geometry.region_tracks import Change, RegionTracks
from edge.geometry_config import RegionSection
from edge.structs import did_you_mean

__all__ = ["Direction", "RegionEvent", "Regions"]

Direction = Literal["", "left_to_right", "right_to_left"]


@dataclass(frozen=True, slots=True)
class RegionEvent:
    """What a track did to a region.

    t_capture_ns (CLOCK_MONOTONIC) is of the frame on which it was first seen to have done so. direction: of a crossing,
    looking from the line's first point to its second. dwell_s: how long it had been inside, for leave and dwell.
    lost: it did not leave, it was not seen any more since t_capture_ns.
    """

    region: str
    kind: Literal["enter", "leave", "cross", "dwell"]
    track_id: int
    class_id: int
    t_capture_ns: int
    direction: Direction = ""
    dwell_s: float = 0.0
    lost: bool = False


class Regions:
    """All regions of a configuration; `tracks` bounds how many tracks are remembered at a time.

    `kept` is for every detection, before tracking; `events` for those with a track, after it, once a frame.
    """

    def __init__(self, sections: Sequence[RegionSection], labels: Sequence[str], tracks: int = 256) -> None:
        """Make the tables.

        Raises: ConfigError for a name given twice and for a class that is not among the labels.
        """
        names = [section.name for section in sections]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two regions are named '{name}'", "give each a name of its own")
        self._filters = [s for s in sections if s.kind in ("include", "exclude")]
        self._zones = [s for s in sections if s.kind == "zone"]
        self._lines = [s for s in sections if s.kind == "line"]
        self._watched = self._zones + self._lines
        self._filter_classes = _class_table(self._filters, labels)
        self._watched_classes = _class_table(self._watched, labels)
        self._include = np.array([s.kind == "include" for s in self._filters], bool)
        times = np.array([[s.settle_s, s.dwell_s, s.lost_s] for s in self._watched]).reshape(-1, 3)
        settle_ns, dwell_ns, lost_ns = (times.T * 1e9).astype(np.int64)
        self._tracks = RegionTracks(settle_ns, dwell_ns, lost_ns, tracks)
        self._most_tracks = tracks
        self._frame_wh = (0, 0)

    def kept(self, detections: Detections, frame_wh: tuple[int, int]) -> np.ndarray:
        """Return (N,) bool, N = count: which detections (xyxy in px of a frame of frame_wh) no region drops.

        A class for which there are include regions is kept inside of them only, any other everywhere.
        """
        n = detections.count
        if not self._filters or not n:
            return np.ones(n, bool)
        self._fit(frame_wh)
        applies = self._filter_classes.take(detections.class_ids[:n], axis=0, mode="clip")
        inside = self._filter_shapes.inside(_anchors(detections.xyxy[:n], self._filters)) & applies
        needed = applies & self._include
        excluded = (inside & ~self._include).any(axis=1)
        return ((inside & self._include).any(axis=1) | ~needed.any(axis=1)) & ~excluded

    def events(self, detections: Detections, frame_wh: tuple[int, int], t_capture_ns: int) -> list[RegionEvent]:
        """Return what the tracks of a frame, captured at t_capture_ns (CLOCK_MONOTONIC), did; those without id did not.

        xyxy in px of a frame of frame_wh.
        """
        if not self._watched:
            return []
        self._fit(frame_wh)
        chosen = np.flatnonzero(detections.track_ids[: detections.count] >= 0)[: self._most_tracks]
        classes = detections.class_ids[chosen]
        points = _anchors(detections.xyxy[chosen], self._watched)
        zones = len(self._zones)
        sides = np.zeros(points.shape[:2], np.int8)
        if zones:
            sides[:, :zones] = _sides(self._zone_shapes.depth(points[:, :zones]), self._margins_px[:zones])
        if self._lines:
            sides[:, zones:] = _sides(self._line_shapes.side(points[:, zones:]), self._margins_px[zones:])
        others = ~self._watched_classes.take(classes, axis=0, mode="clip")
        sides[:, :zones][others[:, :zones]] = -1
        sides[:, zones:][others[:, zones:]] = 0
        changes = self._tracks.update(detections.track_ids[chosen].tolist(), classes, sides, points, t_capture_ns)
        return [event for event in map(self._event, changes) if event]

    def _fit(self, frame_wh: tuple[int, int]) -> None:
        if frame_wh == self._frame_wh:
            return
        self._frame_wh = frame_wh
        if self._filters:
            self._filter_shapes = Polygons([_pixels(s, frame_wh) for s in self._filters])
        if self._zones:
            self._zone_shapes = Polygons([_pixels(s, frame_wh) for s in self._zones])
        if self._lines:
            self._line_shapes = Lines(np.stack([_pixels(s, frame_wh) for s in self._lines]))
        self._margins_px = np.array([s.margin_fraction * frame_wh[1] for s in self._watched])

    def _event(self, change: Change) -> RegionEvent | None:
        section, track_id, class_id = self._watched[change.region], change.track_id, change.class_id
        if section.kind == "line":
            line = change.region - len(self._zones)
            if change.lost or not change.before or not self._line_shapes.crossed(line, *change.way):
                return None
            direction: Direction = "left_to_right" if change.side > 0 else "right_to_left"
            return RegionEvent(section.name, "cross", track_id, class_id, change.t_ns, direction)
        if change.side < 0 and change.before <= 0:
            return None  # it was never inside
        seconds = (change.t_ns - change.t_before_ns) / 1e9
        if change.stays:
            return RegionEvent(section.name, "dwell", track_id, class_id, change.t_ns, dwell_s=seconds)
        if change.side > 0:
            return RegionEvent(section.name, "enter", track_id, class_id, change.t_ns)
        return RegionEvent(section.name, "leave", track_id, class_id, change.t_ns, dwell_s=seconds, lost=change.lost)


def _class_table(sections: Sequence[RegionSection], labels: Sequence[str]) -> np.ndarray:
    """(classes + 1, sections) bool: which classes each region is for; the last is any class without a label."""
    found = np.zeros((len(labels) + 1, len(sections)), bool)
    for i, section in enumerate(sections):
        found[:, i] = not section.labels
        for label in section.labels:
            if label not in labels:
                raise ConfigError(
                    f"region '{section.name}' names the class '{label}'", did_you_mean(label, list(labels))
                )
            found[list(labels).index(label), i] = True
    return found


def _pixels(section: RegionSection, frame_wh: tuple[int, int]) -> np.ndarray:
    points = np.array(section.points, np.float64)
    return points * frame_wh if section.unit == "fraction" else points


def _anchors(boxes: np.ndarray, sections: Sequence[RegionSection]) -> np.ndarray:
    """(N, sections, 2) float64: the point of each box that counts for each region."""
    up = np.array([0.5 if s.anchor == "center" else 0.0 for s in sections])
    x1, y1, x2, y2 = boxes.T.astype(np.float64)[:, :, None]
    found = np.empty((len(boxes), len(sections), 2))
    found[:, :, 0] = (x1 + x2) / 2
    found[:, :, 1] = y2 - up * (y2 - y1)
    return found


def _sides(distances: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """1 and -1 beyond the margin on either side, 0 between."""
    return (distances > margins).astype(np.int8) - (distances < -margins).astype(np.int8)
