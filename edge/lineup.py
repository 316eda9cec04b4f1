"""The models that may run a frame, the best first: who runs it now, who takes over, and when another try is due."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.config import EngineSection, RunConfig
from edge.engines.gpu_preprocess import GpuPreprocessor
from edge.errors import ConfigError, DeviceError, EdgeError, EngineError, EngineLostError
from edge.model import Model, open_model
from edge.preprocess.letterbox import Geometry, plan_geometry
from edge.preprocess.pixels import Preprocessor, pixel_tables
from edge.timings import Stage, StageTimings
from edge.uri import mask_secrets

__all__ = ["Lineup", "Member", "lineup_of", "open_lineup"]

log = logging.getLogger("harrier")

_LONGEST_REST_S = 300.0


class Member:
    """A model of the line-up, the preprocessing that fills its input, and how it has been doing.

    model: None while it could not be opened; it is then tried again in the background. reason: why it is passed over,
    "" while it is not. frames, failures: inferences that came to an end, and those that did not.
    """

    def __init__(self, target: str, options: EngineSection, model: Model | None, opener: Callable[[], Model]) -> None:
        self.target = target
        self.model: Model | None = None
        self.reason = ""
        self.frames = 0
        self.failures = 0
        self._options = options
        self._opener = opener
        self._opening: threading.Thread | None = None
        self._arrived: Model | None = None
        self._in_a_row = 0
        self._rests = 0
        self._t_failed_ns = 0
        self._t_rest_end_ns = 0
        self._preprocess: Preprocessor | GpuPreprocessor[Geometry] | None = None
        if model:
            self._take(model)

    def ready(self, now_ns: int) -> bool:
        """Whether a frame may be given to it now (CLOCK_MONOTONIC ns)."""
        if now_ns < self._t_rest_end_ns:
            return False
        if self.model is None:
            if self._arrived is None:
                self._open_in_background()
                return False
            model, self._arrived, self._opening = self._arrived, None, None
            try:
                self._take(model)
            except EdgeError as exc:  # the run goes on with the others
                self.reason = exc.cause
                return False
            log.info("target %s could be opened", self.target)
        if self.model and self.model.engine.lost:
            self.reason = self.model.engine.lost
            return False
        return True

    def infer(self, image: np.ndarray, laps: StageTimings) -> tuple[Model, Geometry]:
        """Run `image` (H, W, 3) uint8 BGR through preprocessing and engine; return the model and where pixels went.

        Raises: EngineError, EngineLostError.
        """
        assert self.model is not None, "ask ready() first"
        assert self._preprocess is not None
        geometry = self._preprocess(image)
        laps.lap(Stage.PREPROCESS)
        try:
            self.model.engine.run()
        finally:
            laps.lap(Stage.INFER)
        self.frames += 1
        self.reason = ""
        if self._in_a_row and monotonic_ns() - self._t_failed_ns > self._options.retry_s * 1e9:
            self._in_a_row = self._rests = 0
        return self.model, geometry

    def failed(self, cause: str) -> None:
        """Take note of a failure: after `max_failures` of them within retry_s of each other it is left alone."""
        self.failures += 1
        self._in_a_row += 1
        self._t_failed_ns = monotonic_ns()
        self.reason = cause
        if self._in_a_row >= self._options.max_failures:
            rest_s = min(self._options.retry_s * 2**self._rests, _LONGEST_REST_S)
            self._rests += 1
            self._t_rest_end_ns = self._t_failed_ns + int(rest_s * 1e9)
            log.warning("target %s failed %d times (%s); next try in %.0f s", self.target, self.failures, cause, rest_s)

    def close(self) -> None:
        """Release the model; one that is just being opened is waited for."""
        if self._opening:
            self._opening.join(self._options.start_s)
        if isinstance(self._preprocess, GpuPreprocessor):
            self._preprocess.close()
        for model in (self.model, self._arrived):
            if model:
                model.close()
        self._arrived = None  # the model stays, closed: reports name it

    def _take(self, model: Model) -> None:
        try:
            self._preprocess = _preprocessor(model, self._options)
        except BaseException:
            model.close()
            raise
        self.model = model

    def _open_in_background(self) -> None:
        if self._opening and self._opening.is_alive():
            return
        self._t_rest_end_ns = monotonic_ns() + int(min(self._options.retry_s * 2**self._rests, _LONGEST_REST_S) * 1e9)
        self._rests += 1
        self._opening = threading.Thread(target=self._open, name=f"open {self.target}", daemon=True)
        self._opening.start()

    def _open(self) -> None:
        try:
            self._arrived = self._opener()
        except EdgeError as exc:
            self.reason = exc.cause


class Lineup:
    """Members in the order of preference, of one model: the first that is ready runs the frame.

    active: who ran the last frame, or will run the first. Use it from one thread; `close` ends all members.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.active = next(member for member in self.members if member.model)
        self._threshold: float | None = None

    @property
    def model(self) -> Model:
        """The model of the active member."""
        assert self.active.model is not None
        return self.active.model

    @property
    def reason(self) -> str:
        """Why the first member does not run, "" while it does."""
        first = self.members[0]
        return f"{first.target}: {first.reason}" if first.reason else ""

    @property
    def fallback(self) -> str:
        """The target that runs in place of the first, "" while that one does."""
        return "" if self.active is self.members[0] else self.active.target

    def infer(self, image: np.ndarray, laps: StageTimings) -> tuple[Model, Geometry]:
        """Return the model that ran `image` (H, W, 3) uint8 BGR and where its pixels went; its outputs are fresh.

        A member that fails is passed over, and the next one gets the same frame.
        Raises: EngineLostError when nobody could run it just now, EngineError from the only member there is.
        """
        trouble: EngineError | None = None
        for member in self.members:
            if not member.ready(monotonic_ns()):
                continue
            try:
                done = member.infer(image, laps)
            except EngineError as exc:
                trouble = exc
                if len(self.members) > 1:
                    member.failed(exc.cause)
                else:
                    member.failures, member.reason = member.failures + 1, exc.cause
                continue
            if member is not self.active:
                self.active = member
                if self._threshold is not None:  # it may have been opened since
                    done[0].decoder.score_threshold = self._threshold
            return done
        raise trouble or EngineLostError(self.reason or "no engine runs", "it is tried again")

    def accept_from(self, score: float) -> None:
        """Let every decoder pass results from this score (0 to 1) on."""
        self._threshold = score
        for member in self.members:
            if member.model:
                member.model.decoder.score_threshold = score

    def close(self) -> None:
        """Release every model."""
        for member in self.members:
            member.close()


def lineup_of(model: Model) -> Lineup:
    """Return the line-up of one model that is open."""
    return Lineup([Member(model.target, EngineSection(), model, lambda: model)])


def open_lineup(config: RunConfig) -> Lineup:
    """Open the model of a configuration and, where [engine] fallback names some, the targets that take over.

    A target whose device is not there, or hangs, is tried again later when another one runs.
    Raises: EdgeError from a fallback that cannot open, or from the first when nothing can.
    """
    engine = config.engine
    targets = [engine.target or "", *engine.fallback]
    if not config.model:
        raise ConfigError("no model is given", "add --model BUNDLE_OR_FILE or model = ... to the configuration")
    if len(set(targets)) < len(targets):
        raise ConfigError("[engine] fallback names a target twice", "name each target once, the target itself not")
    members: list[Member] = []
    trouble: EdgeError | None = None
    try:
        for target in targets:
            first = members[0].model if members else None
            if first and target == first.target and not (engine.isolate or engine.python):
                continue  # "auto" has chosen it; the same engine twice would fail twice
            options = _options_of(engine, target, is_first=not members)
            opener = _opener(config, options)
            name, model, reason = mask_secrets(target), None, ""
            try:
                model = opener()
            except (DeviceError, EngineLostError) as exc:
                if not engine.fallback:
                    raise
                trouble, reason = trouble or exc, exc.cause
                log.warning("target %s cannot run now: %s", name or "(the first)", exc)
            name = name or (model.target if model else "the first")
            members.append(Member(name, options, model, opener))
            members[-1].reason = reason
        _check_alike([member.model for member in members if member.model])
        if not any(member.model for member in members):
            raise trouble or ConfigError("no target can run", "see the messages before")
    except BaseException:
        for member in members:
            member.close()
        raise
    return Lineup(members)


def _options_of(engine: EngineSection, target: str, is_first: bool) -> EngineSection:
    """How a target runs; a fallback does in this process, in which nothing can be restarted and nothing is late."""
    options = msgspec.structs.replace(engine, target=target or None)
    return options if is_first else msgspec.structs.replace(options, isolate=False, python=None, preprocess="cpu")


def _opener(config: RunConfig, options: EngineSection) -> Callable[[], Model]:
    """What opens a target."""
    name, labels, score = config.model or "", config.labels, config.thresholds.score
    return lambda: open_model(name, options, labels, score)


def _preprocessor(model: Model, options: EngineSection) -> Preprocessor | GpuPreprocessor[Geometry]:
    contract, spec = model.manifest.input, model.engine.input_specs[0]
    if options.preprocess == "cpu":
        return Preprocessor(contract, spec, model.engine.inputs[0])
    runner: Any = getattr(model.engine, "runner", None)
    if not hasattr(runner, "input_pointer"):
        cure = "remove preprocess; it is for TensorRT, and not in a process of its own (isolate, python)"
        raise ConfigError(f"the engine of {model.target} cannot fill its input on the GPU", cure)
    Preprocessor(contract, spec, model.engine.inputs[0])  # refuses what does not fit
    plan = partial(plan_geometry, contract, tensor_wh=spec.size_wh)
    return GpuPreprocessor(runner, contract, spec, pixel_tables(contract, spec), plan)


def _check_alike(models: Sequence[Model]) -> None:
    kinds = {(model.decoder.kind, model.decoder.keypoint_count, tuple(model.labels)) for model in models}
    if len(kinds) > 1:
        raise ConfigError(
            "the targets of [engine] give different kinds of results", "name targets of one and the same model"
        )
