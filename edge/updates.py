"""Brings another model, or another configuration, into a run that goes on, watches it, and takes it back when it fails.

A version that `harrier model install` put in place is opened beside the one that runs, sees the same frames (shadow),
takes over between two frames, and is watched; what fails in that time goes, and the version before runs again. All of
it happens in one thread of its own; the swap itself in the loop's.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge import slots
from edge.config import RunConfig
from edge.errors import ConfigError, EdgeError, EngineError, ManifestError
from edge.health import Health
from edge.lineup import Lineup, open_lineup
from edge.parts import check_parts
from edge.pipeline import Pipeline
from edge.shadow import Shadow

__all__ = ["Updater", "begin_version"]

log = logging.getLogger("harrier")

_LOOK_S = 0.5
_SWAP_PATIENCE_S = 30.0
_SHADOW_PATIENCE_S = 120.0
_STUCK_S = 1.0
_MOST_HANGS = 3


def begin_version(config: RunConfig) -> None:
    """Count the start of an installed version on trial, and take one back that never gets through its time."""
    name = _slot_of(config)
    if name:
        slots.begin(name)


class Updater:
    """Looks for an installed version while a run goes on; a context manager that ends its thread.

    pipeline, health: of the run. config: its own; config.model may be the name of an installed model.
    restart: set to a configuration that needs the parts to be opened anew; the loop then ends, and begins with it.
    """

    def __init__(self, pipeline: Pipeline, health: Health, config: RunConfig) -> None:
        self.restart: RunConfig | None = None
        self._pipeline, self._health, self._config = pipeline, health, config
        self._name = _slot_of(config)
        self._running = slots.current(self._name) if self._name else None
        self._refused: Path | None = None
        self._before: Lineup | None = None
        self._t_trial_end_s = 0.0
        self._stuck_before = 0
        self._wake, self._ended = threading.Event(), False
        self._reread: tuple[Callable[[], RunConfig], Callable[[str], None] | None] | None = None
        self._thread = threading.Thread(target=self._work, name="updates", daemon=True)

    def __enter__(self) -> "Updater":
        if self._name and slots.on_trial(self._name):
            self._t_trial_end_s = time.monotonic() + self._config.update.watch_s
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended = True
        self._wake.set()
        self._pipeline.do_asked()  # it may wait for a swap
        self._thread.join(5.0)
        if self._before:
            self._before.close()

    @property
    def on_trial(self) -> bool:
        """Whether a new version is being watched, which may yet be taken back."""
        return self._t_trial_end_s > 0

    def reload(self, reread: Callable[[], RunConfig], told: Callable[[str], None] | None = None) -> None:
        """Read the configuration again and go on with it, where it is right; returns at once, from any thread.

        told: is called when that is done, in another thread, with "" or with why all is as before.
        """
        self._reread = reread, told
        self._wake.set()

    def take_back(self, trouble: EngineError) -> bool:
        """From the loop, whose engine failed: go on with the version before where the failed one is on trial."""
        if self._before is None:
            return False
        failed = self._pipeline.use(self._before)
        self._before = None
        failed.close()
        self._fail(f"it failed: {trouble.cause}")
        return True

    def _work(self) -> None:
        while not self._ended:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            told, trouble = None, ""
            try:
                if self._reread:
                    (reread, told), self._reread = self._reread, None
                    self._take_configuration(reread)
                elif self._t_trial_end_s:
                    self._watch()
                elif self._name:
                    self._look(self._name)
            except EdgeError as exc:
                trouble = str(exc)
                log.warning("update: %s", exc)
            except Exception as exc:  # a defect here must not end the watch over a version that is on trial
                trouble = f"{type(exc).__name__}: {exc}"
                log.exception("update: a defect")
            if told:
                told(trouble)

    def _look(self, name: str) -> None:
        found = slots.current(name)
        if found is None or found in (self._running, self._refused):
            return
        log.info("model %s: version %s is installed; it runs beside the present one first", name, found.name)
        candidate: Lineup | None = None
        try:
            candidate = open_lineup(msgspec.structs.replace(self._config, model=str(found)))
            self._try(candidate)
            self._swap(candidate)
        except EdgeError as exc:
            if candidate and candidate is not self._pipeline.lineup:
                candidate.close()
            self._running = found
            self._fail(str(exc))
            return
        self._running = found
        self._stuck_before = self._health.report().stuck
        self._t_trial_end_s = time.monotonic() + self._config.update.watch_s

    def _try(self, candidate: Lineup) -> None:
        """Let the candidate see what the model that runs sees.

        Raises: ManifestError when they see too different things, EngineError when it fails.
        """
        settings = self._config.update
        if not settings.shadow_frames:
            return
        shadow = Shadow(candidate, self._config)
        self._pipeline.viewers.append(shadow)
        try:
            report = shadow.run(settings.shadow_frames, _SHADOW_PATIENCE_S)
        finally:
            self._pipeline.viewers.remove(shadow)
        if not report.frames:
            log.warning("no frame came to try the new model on; it takes over untried, and is watched")
            return
        said = f"on {report.frames} frames it agrees to {100 * report.agreement:.0f} %, {report.step_ms:.1f} ms a frame"
        if report.agreement < settings.min_agreement:
            raise ManifestError(
                f"{said}; asked for are {100 * settings.min_agreement:.0f} %",
                "look at it with `harrier eval --compare`, or lower [update] min_agreement",
            )
        log.info("shadow run: %s", said)

    def _swap(self, candidate: Lineup, config: RunConfig | None = None) -> None:
        """Have the loop run the candidate from its next frame on; the line-up before stays open beside it.

        Raises: EdgeError, as `Pipeline.use` does.
        """
        trouble: list[EdgeError] = []
        answered, deciding = threading.Event(), threading.Lock()

        def swap(pipeline: Pipeline) -> None:
            with deciding:
                if answered.is_set():  # given up: the candidate may be closed by now
                    return
                try:
                    self._before = pipeline.use(candidate, config)
                except EdgeError as exc:
                    trouble.append(exc)
                answered.set()

        self._pipeline.ask(swap)
        if not answered.wait(_SWAP_PATIENCE_S):
            with deciding:
                if not answered.is_set():
                    answered.set()
                    trouble.append(EngineError("the loop did not take the model", "look at its state"))
        if trouble:
            raise trouble[0]
        log.info("model %s runs from frame %d on", candidate.model.name, self._pipeline.timings.count)

    def _watch(self) -> None:
        """While the version is on trial: take it back when it fails, keep it when its time is over."""
        report = self._health.report()
        streams = self._pipeline.state == "streaming"
        late = report.state == "stale" and streams and (report.age_ms or 0.0) > _STUCK_S * 1e3
        hangs = report.stuck - self._stuck_before
        if report.state == "stuck" or late:
            self._back("; ".join(report.reasons))
        elif hangs >= _MOST_HANGS:
            self._back(f"a stage was stuck {hangs} times")
        elif self._pipeline.lineup.reason:
            self._back(self._pipeline.lineup.reason)
        elif time.monotonic() > self._t_trial_end_s:
            self._t_trial_end_s = 0.0
            if self._before:
                self._before.close()
                self._before = None
            if self._name and slots.current(self._name) == self._running:  # else a newer one is on trial already
                slots.confirm(self._name)
                log.info("model %s: version %s has proved itself", self._name, self._running and self._running.name)

    def _back(self, reason: str) -> None:
        before = self._before
        if before is None and self._name:  # it was started with the version on trial
            path = _previous(self._name)
            before = open_lineup(msgspec.structs.replace(self._config, model=str(path))) if path else None
        if before is None:
            self._t_trial_end_s = 0.0
            return
        self._swap(before)
        failed, self._before = self._before, None
        if failed:
            failed.close()
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._t_trial_end_s = 0.0
        self._refused, name = self._running, self._name
        if not name:
            log.warning("the new model was taken back: %s", reason)
            return
        log.warning("model %s: version %s was taken back (%s)", name, self._refused and self._refused.name, reason)
        if slots.current(name) != self._refused:  # a newer one was installed meanwhile: it is looked at next
            self._running = None
            return
        try:
            self._running = slots.roll_back(name) or self._running
        except ConfigError as exc:  # the one before runs all the same; the next start tries the new one again
            log.warning("update: %s", exc)

    def _take_configuration(self, reread: Callable[[], RunConfig]) -> None:
        """Check the configuration that was read again, then go on with it.

        Raises: EdgeError when it is wrong; the run goes on as before.
        """
        if self.on_trial:
            raise ConfigError("a new version of the model is on trial", "reload when it has proved itself")
        config = reread()
        old = self._config
        is_same_model = (config.model, config.labels, config.engine) == (old.model, old.labels, old.engine)
        if _outside(config) != _outside(old):
            check_parts(config, self._pipeline.lineup if is_same_model else None)
            self.restart = config
            return
        if is_same_model:
            self._swap_configuration(self._pipeline.lineup, config)
            return
        candidate = open_lineup(config)
        try:
            self._swap_configuration(candidate, config)
        except EdgeError:
            candidate.close()
            raise

    def _swap_configuration(self, lineup: Lineup, config: RunConfig) -> None:
        self._swap(lineup, config)
        before, self._before = self._before, None
        if before and before is not lineup:
            before.close()
        self._config = config
        self._name = _slot_of(config)
        self._running = slots.current(self._name) if self._name else None
        log.info("the configuration was read again and holds from frame %d on", self._pipeline.timings.count)


def _slot_of(config: RunConfig) -> str:
    """The name of the installed model a configuration runs, "" where it runs a path or a catalogue entry."""
    name = config.model or ""
    return name if name and not Path(name).expanduser().exists() and slots.current(name) else ""


def _previous(name: str) -> Path | None:
    current = slots.current(name)
    marks = {mark: version for version, mark in slots.versions(name).items()}
    return current.with_name(marks["previous"]) if current and "previous" in marks else None


def _outside(config: RunConfig) -> tuple[object, ...]:
    """What cannot change while the parts stay open."""
    return config.source, config.publish, config.frame_timeout_s, config.web
