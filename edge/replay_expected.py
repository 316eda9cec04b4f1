"""A recording's pictures through a model once more, each result beside the one that was recorded."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig, with_thresholds
from edge.errors import ConfigError, EndOfStreamError
from edge.frame import Frame, FrameInfo
from edge.lineup import Lineup, lineup_of
from edge.model import Model, open_model
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.recording import Recorded, Recording, has_pictures, picture_in
from edge.replay_compare import Difference, Limits, Result, compare
from edge.replay_settings import differences, with_recorded, with_settings
from edge.replay_survey import Survey, result_in, survey
from edge.run_settings import RunSettings, settings_in_force
from edge.sources.base import FrameSource, SourceEvent
from edge.wire.messages import HelloMessage

__all__ = ["Outcome", "expect", "frames_of", "opened_lineups"]

log = logging.getLogger("harrier")

_WAITING = 4096  # results whose picture has not come yet


@dataclass(slots=True)
class Outcome:
    """Every frame that was compared, what ran, and how many were passed over.

    Those had no result, or one of another model, or were the first, in which the tracker of now has no tracks yet.
    notes: what differs between the settings of then and now, and how often they changed while it was recorded.
    """

    survey: Survey
    model: str
    target: str
    limits: Limits
    differences: list[Difference]
    passed_over: int
    notes: list[str]


@contextmanager
def opened_lineups(config: RunConfig) -> Iterator[Callable[[str], Lineup]]:
    """Yield what opens a model by its name, once for all that ask for it; close them all in the end."""
    with ExitStack() as stack:

        @cache
        def opened(name: str) -> Lineup:
            lineup = lineup_of(_open(name, config, given=config.model is not None))
            stack.callback(lineup.close)
            return lineup

        yield opened


def expect(
    path: Path, config: RunConfig, limits: Limits, opened: Callable[[str], Lineup], use_recorded: bool = True
) -> Outcome:
    """Run a recording's pictures through config's model, or else the recorded one, and compare the results.

    config: as for a run; its source and publishers are not used, and with use_recorded neither are thresholds, tracking
    and regions where the recording has its own, but for a score that is given. opened: as of `opened_lineups`. The
    score that counts is config's or the recorded one, else the model's, or, of a recording without settings and tracks,
    the least that was recorded, if that is lower.
    Raises: ConfigError for a recording without pictures or results of Harrier, and whatever the model raises.
    """
    found = survey(path)
    if not found.results:
        raise ConfigError(f"{path} holds no results of Harrier", "record one with --publish mcap://FILE.mcap")
    name = config.model or found.models.most_common(1)[0][0]
    again = _Again(config, opened(name), limits, found, use_recorded)
    progress = Progress(f"replaying {path.name}", found.results)
    differences, passed_over, t_first_ns = [], 0, None
    for recorded, then, settings in frames_of(path):
        is_wanted = then is not None and (config.model is not None or then.model == name)
        image = picture_in(recorded.data) if is_wanted else None
        if then is None or image is None:
            passed_over += 1
            continue
        t_first_ns = recorded.t_publish_ns if t_first_ns is None else t_first_ns
        now = again.see(image, then.seq, recorded.t_publish_ns - t_first_ns, settings)
        if again.has_no_tracks_yet:
            passed_over += 1  # a piece of a longer run begins with tracks that went before it
            continue
        if type(now) is not type(then):
            raise ConfigError(
                f"{again.model.name} gives {now.kind}, but {then.kind} were recorded", "give another --model"
            )
        differences.append(compare(then, now, (recorded.t_publish_ns - t_first_ns) / 1e9, again.limits))
        progress.update(len(differences), f"{sum(bool(one.size) for one in differences)} differ")
    progress.finish(len(differences), f"{len(differences)} frames")
    if not differences:
        raise ConfigError(
            f"{path} holds no picture with a result of {name}", "record with pictures=jpeg, or give --model"
        )
    model = again.model
    return Outcome(found, model.name, model.target, again.limits, differences, passed_over, again.notes)


def frames_of(path: Path) -> Iterator[tuple[Recorded, Result | None, RunSettings | None]]:
    """Yield every picture of a recording with the result of that frame and its settings, None where there is none.

    Raises: ConfigError for a file that cannot be read.
    """
    results: dict[int, tuple[Result, RunSettings | None]] = {}
    for recorded, settings in with_settings(Recording(path)):
        message = result_in(recorded)
        if message is not None and not isinstance(message, HelloMessage):
            results[message.seq & 0xFFFFFFFF] = message, settings
            if len(results) > _WAITING:
                del results[next(iter(results))]
        elif has_pictures(recorded):
            yield recorded, *results.pop(recorded.sequence, (None, None))


def _open(name: str, config: RunConfig, given: bool) -> Model:
    try:
        return open_model(name, config.engine, config.labels)
    except ConfigError:
        raise
    except Exception as exc:
        cause, cure = getattr(exc, "cause", None), getattr(exc, "cure", "")
        if given or cause is None:
            raise
        raise ConfigError(f"the recorded model '{name}' is not here ({cause})", f"give --model; {cure}") from exc


class _Again:
    """The pipeline of now: it sees recorded pictures with the settings that each had, where those are to be used.

    limits: of the newest picture. notes: as an Outcome has them.
    """

    def __init__(self, config: RunConfig, lineup: Lineup, limits: Limits, found: Survey, use_recorded: bool) -> None:
        self.limits = limits
        self.notes: list[str] = []
        self._config, self._lineup, self._found, self._use_recorded = config, lineup, found, use_recorded
        self._source = _RecordedFrames()
        self._pipeline: Pipeline | None = None
        self._settings: RunSettings | None = None
        changes = len(found.settings) - 1
        if changes > 0:
            times = "once" if changes == 1 else f"{changes} times"
            self.notes.append(f"settings changed {times} while it was recorded: each result has its own")
        if found.unread:
            self.notes.append(found.unread)

    @property
    def model(self) -> Model:
        """What runs."""
        return self._lineup.model

    @property
    def has_no_tracks_yet(self) -> bool:
        """Whether tracks that were there before the first picture cannot be there again."""
        pipeline = self._pipeline
        tracking = pipeline.config.tracking if pipeline else None
        return bool(pipeline and tracking and pipeline.timings.count < tracking.min_hits)

    def see(self, image: np.ndarray, seq: int, t_ns: int, settings: RunSettings | None) -> Result:
        """Return the result of `image` (H, W, 3) uint8 BGR, taken t_ns after the first; settings: its recorded ones."""
        pipeline = self._pipeline
        if pipeline is None or settings is not self._settings:
            pipeline = self._pipeline = self._prepared(settings)
            self._settings = settings
        self._source.put(image, seq, t_ns)
        return pipeline.step()

    def _prepared(self, settings: RunSettings | None) -> Pipeline:
        """The pipeline with other settings; where tracks went on then, they do so now."""
        config = with_recorded(self._config, settings) if settings and self._use_recorded else self._config
        if settings:
            decoder = self.model.manifest.decoder
            note = differences(settings, settings_in_force(config, decoder))
            if note and note not in self.notes:
                self.notes.append(note)
        elif self._found.tracked and not config.tracking and self._pipeline is None:
            log.warning("it was recorded with tracking: give the configuration it ran with (--config)")
        least = 1.0 if settings or self._found.tracked else self._found.least_score  # a track lives on weaker ones
        self.limits, config = _with_slack(config, self.model, self.limits, least)
        pipeline, before = self._pipeline, self._settings
        if pipeline is None:
            return Pipeline(cast(FrameSource, self._source), self._lineup, [], config)
        is_anew = bool(settings and before and settings.fits != before.fits)
        old, new = pipeline.config.thresholds, config.thresholds
        score = new.score if new.score != old.score else None
        if is_anew or with_thresholds(pipeline.config, score, new.iou) != config:
            pipeline.use(self._lineup, config)
        elif new != old:
            pipeline.set_thresholds(score, new.iou)
        return pipeline


def _with_slack(config: RunConfig, model: Model, limits: Limits, least: float) -> tuple[Limits, RunConfig]:
    """Look a little below the threshold, so that what was recorded just above it can be found just below."""
    threshold = config.thresholds.score
    if threshold is None:
        threshold = min(model.manifest.decoder.score_threshold, least)
    # a tracker is shown weak ones anyway
    low = threshold if config.tracking else max(0.0, threshold - limits.score)
    thresholds = msgspec.structs.replace(config.thresholds, score=low)
    return Limits(limits.iou, limits.score, threshold), msgspec.structs.replace(config, thresholds=thresholds)


class _RecordedFrames:
    """Gives the picture that was put into it, once, with the time it was taken at."""

    def __init__(self) -> None:
        self.source_id = "recording"
        self.picture_fault = ""
        self._t_start_ns = monotonic_ns()
        self._frame: Frame | None = None

    def put(self, image: np.ndarray, seq: int, t_ns: int) -> None:
        """Give `image` (H, W, 3) uint8 BGR at the next read; t_ns: since the first one was taken."""
        height, width = image.shape[:2]
        t_capture_ns = self._t_start_ns + t_ns
        self._frame = Frame(image, FrameInfo(seq, self.source_id, t_capture_ns, width, height, "bgr8", "generated"))

    def read(self, timeout_s: float) -> Frame:
        """Return the picture.

        Raises: EndOfStreamError when there is none.
        """
        if self._frame is None:
            raise EndOfStreamError("no picture is left", "nothing to do")
        frame, self._frame = self._frame, None
        return frame

    def poll_events(self) -> list[SourceEvent]:
        """Return no events."""
        return []
