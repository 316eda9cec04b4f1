"""Regions of the picture: what is looked at, and what is told of tracks that enter, leave, stay or cross."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edge.detections import Detections
from edge.errors import ConfigError
from edge.events import Direction, RegionEvent
from edge.geometry.polygons import Lines, Polygons, with_one
from edge.geometry.region_tracks import Change, RegionTracks
from edge.geometry_config import RegionSection
from edge.structs import did_you_mean

__all__ = ["Regions", "open_regions"]

_NO_POINTS = np.empty((0, 0, 2))


def open_regions(sections: Sequence[RegionSection], labels: Sequence[str], tracked: bool) -> "Regions | None":
    """Return the regions of a configuration, None where it has none; tracked: whether detections will have tracks.

    Raises: ConfigError for a zone or line without tracks, and as `Regions` does.
    """
    for section in sections:
        if section.kind in ("zone", "line") and not tracked:
            cause = f"the {section.kind} '{section.name}' needs tracks, and nothing is tracked"
            raise ConfigError(cause, "add [tracking] to the configuration, or run with --track")
    return Regions(sections, labels) if sections else None


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
        self._exclude = None if self._include.all() else ~self._include
        self._everywhere = ~(self._filter_classes & self._include).any(axis=1)  # classes without include regions
        times = np.array([[s.settle_s, s.dwell_s, s.lost_s] for s in self._watched]).reshape(-1, 3)
        settle_ns, dwell_ns, lost_ns = (times.T * 1e9).astype(np.int64)
        self._tracks = RegionTracks(settle_ns, dwell_ns, lost_ns, tracks, len(self._zones))
        self._most_tracks = tracks
        self._frame_wh = (0, 0)
        self._boxes = np.zeros((tracks, 5))
        self._indices = [list(sections).index(section) for section in self._watched]
        self._others = ~self._watched_classes
        self._picky = bool(self._others[:-1].any())
        self._nowhere = np.array([-1] * len(self._zones) + [0] * len(self._lines), np.int8)

    def kept(self, detections: Detections, frame_wh: tuple[int, int]) -> np.ndarray:
        """Return (N,) bool, N = count: which detections (xyxy in px of a frame of frame_wh) no region drops.

        A class for which there are include regions is kept inside of them only, any other everywhere.
        """
        n = detections.count
        if not self._filters or not n:
            return np.ones(n, bool)
        if frame_wh != self._frame_wh:
            self._fit(frame_wh)
        if n > len(self._boxes):
            self._boxes = np.zeros((detections.capacity, 5))
        inside = self._filter_shapes.inside(with_one(detections.xyxy[:n], self._boxes))
        class_ids = detections.class_ids[:n]
        inside &= self._filter_classes.take(class_ids, axis=0, mode="clip")
        kept = np.dot(inside, self._include)  # of bools: whether any is True in both
        kept |= self._everywhere.take(class_ids, mode="clip")
        if self._exclude is not None:
            kept &= ~np.dot(inside, self._exclude)
        return kept

    def events(self, detections: Detections, frame_wh: tuple[int, int], t_capture_ns: int) -> list[RegionEvent]:
        """Return what the tracks of a frame, captured at t_capture_ns (CLOCK_MONOTONIC), did; those without id did not.

        xyxy in px of a frame of frame_wh.
        """
        if not self._watched:
            return []
        if frame_wh != self._frame_wh:
            self._fit(frame_wh)
        n = detections.count
        ids, classes, boxes = detections.track_ids[:n].tolist(), detections.class_ids[:n], detections.xyxy[:n]
        if n > self._most_tracks or (ids and min(ids) < 0):
            chosen = [i for i, track_id in enumerate(ids) if track_id >= 0][: self._most_tracks]
            ids, classes, boxes = [ids[i] for i in chosen], classes[chosen], boxes[chosen]
        sides, points = self._sides(with_one(boxes, self._boxes))
        if self._picky:
            others = self._others.take(classes, axis=0, mode="clip")
            np.copyto(sides, self._nowhere, where=others)
        changes = self._tracks.update(ids, classes.tolist(), sides, points, t_capture_ns)
        return [event for event in map(self._event, changes) if event] if changes else []

    def leave_all(self) -> list[RegionEvent]:
        """Forget every track, and return who left with that: whoever counts who is inside stays right."""
        return [event for event in map(self._event, self._tracks.drop_all()) if event]

    def _sides(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, watched) int8, 1 and -1 beyond the margin on either side, 0 between; and (N, lines, 2) float64, px."""
        zones = len(self._zones)
        within = np.empty((len(self._watched), len(boxes)))  # how far inside or to the right; of zones in px^2
        points = _NO_POINTS
        if zones:
            inside, squared = self._zone_shapes.squared(boxes)
            np.copysign(squared.T, inside.T - 0.5, out=within[:zones])
        if self._lines:
            right, points = self._line_shapes.side(boxes)
            within[zones:] = right.T
        sides = (within > self._margins).view(np.int8)
        sides -= within < -self._margins
        return sides.T, points

    def _fit(self, frame_wh: tuple[int, int]) -> None:
        self._frame_wh = frame_wh
        self._margins = _margins_px(self._watched, frame_wh)[:, None]
        self._margins[: len(self._zones)] **= 2
        if self._filters:
            self._filter_shapes = Polygons([_pixels(s, frame_wh) for s in self._filters], _up(self._filters))
        if self._zones:
            self._zone_shapes = Polygons([_pixels(s, frame_wh) for s in self._zones], _up(self._zones))
        if self._lines:
            self._line_shapes = Lines(np.stack([_pixels(s, frame_wh) for s in self._lines]), _up(self._lines))

    def _event(self, change: Change) -> RegionEvent | None:
        section, zones = self._watched[change.region], len(self._zones)
        kind: Literal["enter", "leave", "cross", "dwell"] = "cross"
        direction: Direction = ""
        seconds = 0.0
        if change.region >= zones:
            crossed = change.before and not change.lost
            if not crossed or not self._line_shapes.crossed(change.region - zones, *change.way):
                return None
            direction = "left_to_right" if change.side > 0 else "right_to_left"
        elif change.side < 0 and change.before <= 0:
            return None  # it was never inside
        else:
            kind = "dwell" if change.stays else "enter" if change.side > 0 else "leave"
            seconds = 0.0 if kind == "enter" else (change.t_ns - change.t_before_ns) / 1e9
        return RegionEvent(
            section.name,
            kind,
            change.track_id,
            change.class_id,
            change.t_ns,
            direction,
            seconds,
            change.lost and kind == "leave",
            index=self._indices[change.region],
            inside=self._tracks.inside(change.region) if change.region < zones else None,
        )


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


def _up(sections: Sequence[RegionSection]) -> np.ndarray:
    """(sections,) float64: the point of a box that counts, in heights of the box above its lower edge."""
    return np.array([0.5 if s.anchor == "center" else 0.0 for s in sections])


def _margins_px(sections: Sequence[RegionSection], frame_wh: tuple[int, int]) -> np.ndarray:
    return np.array([s.margin_fraction * frame_wh[1] for s in sections])
