"""`harrier run`: step until told to stop; meanwhile obey readers, watch the parts, take updates."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import EdgeError, EndOfStreamError, EngineError, EngineLostError, SourceTimeoutError
from edge.files import write_atomically
from edge.health import Health
from edge.parts import open_pipeline
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.sd_notify import ServiceState
from edge.stage_watch import StageWatch
from edge.stats import collect
from edge.throttle_watch import ThrottleWatch
from edge.updates import Updater, begin_version
from edge.wire.messages import ClassificationMessage, DetectionsMessage, SourceState

__all__ = ["run"]

log = logging.getLogger("harrier")

_SLICE_S = 0.05  # news of the source and signs of life are sent this often while no frame comes
_REPEAT_S = 60.0


def run(
    config: RunConfig,
    frames: int | None = None,
    seconds: float | None = None,
    stats: Path | None = None,
    reread: Callable[[], RunConfig] | None = None,
) -> None:
    """Run until the source ends, a limit is reached, SIGINT or SIGTERM arrives, or the last reader hangs up.

    reread: gives the configuration anew, for SIGHUP; without it the signal ends the process, as it does others.
    Raises: EdgeError when a part cannot open or the engine fails, SourceTimeoutError when no frame came at all.
    """
    stop, hangup = threading.Event(), threading.Event()
    deadline = time.monotonic() + seconds if seconds else None
    with _signals(stop, hangup if reread else None), ServiceState(config) as service:
        following: RunConfig | None = config
        before: RunConfig | None = None
        while following:
            begin_version(following)
            with (
                _opened(following, before) as (pipeline, config),
                _keeping(pipeline),
                ThrottleWatch() as throttle,
                StageWatch(pipeline.timings) as stages,
                Updater(pipeline, health := Health(pipeline, throttle, stages), config) as updater,
                _live_page(config, pipeline, health, updater, is_again=before is not None) as page,
            ):
                service.describe = health.line
                loop = _Loop(pipeline, config, service, throttle, updater, page, frames)
                start = time.monotonic()
                while not stop.is_set() and (deadline is None or time.monotonic() < deadline) and not updater.restart:
                    if reread and hangup.is_set():
                        hangup.clear()
                        service.reloading()
                        updater.reload(reread, service.reloaded)
                    if not loop.turn(stop) or (frames and pipeline.timings.count >= frames):
                        break
                following, before = None if stop.is_set() else updater.restart, config
                if following:
                    service.reopening(following)
                else:
                    service.stopping()
                loop.end(time.monotonic() - start, stats)
                if loop.watch.trouble and not pipeline.timings.count and not stop.is_set() and not following:
                    raise loop.watch.trouble


class _Loop:
    """One turn after the other: what was asked for, a frame, and a look at the parts."""

    def __init__(
        self,
        pipeline: Pipeline,
        config: RunConfig,
        service: ServiceState,
        throttle: ThrottleWatch,
        updater: Updater,
        page: Any,
        frames: int | None,
    ) -> None:
        self.watch = _Watch(config.frame_timeout_s)
        self._pipeline, self._service, self._throttle, self._updater = pipeline, service, throttle, updater
        self._askers = [*pipeline.publishers, *([page] if page else [])]
        self._wait_s = min(_SLICE_S, config.frame_timeout_s)
        self._progress = Progress("harrier run", frames, live=not _prints_on_terminal(config))
        self._resting_from: SourceState | None = None
        self._ended = False

    def turn(self, stop: threading.Event) -> bool:
        """Do one turn; False when the source has ended or the last reader has gone.

        Raises: EngineError when the engine fails for good.
        """
        pipeline = self._pipeline
        pipeline.do_asked()
        pipeline.set_condition("throttled", self._throttle.reason)
        self._resting_from = _obey(pipeline, self._askers, self._resting_from)
        if self._resting_from is not None:
            pipeline.relay_events()
            self._service.resting()
            stop.wait(_SLICE_S)
            return True
        try:
            message = pipeline.step(self._wait_s)
            self.watch.frame()
            self._service.result(message.age_ms)
            if self._progress.due:
                self._progress.update(pipeline.timings.count, _live_line(message, pipeline))
        except SourceTimeoutError as exc:
            pipeline.relay_events()
            self.watch.silence(exc)
            self._service.waiting()
        except EngineLostError:  # said already; it is being started again
            pipeline.relay_events()
            self._service.waiting()
            stop.wait(_SLICE_S)
        except EngineError as exc:
            if not self._updater.take_back(exc):
                raise
        except EndOfStreamError:
            self._ended = True
            return False
        self.watch.publishers(pipeline.publishers)
        return not (pipeline.publishers and all(p.reader_gone for p in pipeline.publishers))

    def end(self, elapsed_s: float, stats: Path | None) -> None:
        """Tell the readers that it is over, and write what was measured."""
        pipeline = self._pipeline
        pipeline.relay_events(at_end=True)
        pipeline.publish_status("closed", "" if self._ended else "stopped", monotonic_ns())
        report = collect(pipeline, elapsed_s)
        self._progress.finish(pipeline.timings.count, f"{report['fps']} frames/s")
        if stats:
            write_atomically(stats, json.dumps(report, indent=2) + "\n")


@contextmanager
def _opened(config: RunConfig, before: RunConfig | None) -> Iterator[tuple[Pipeline, RunConfig]]:
    """Open the parts of a configuration, or of the one that ran before where those cannot be opened.

    Raises: EdgeError from whichever part cannot open.
    """
    with ExitStack() as stack:
        try:
            pipeline = stack.enter_context(open_pipeline(config))
        except EdgeError as exc:
            if before is None:
                raise
            log.warning("update: %s; the run goes on with the configuration before", exc)
            config = before
            pipeline = stack.enter_context(open_pipeline(config))
        yield pipeline, config


@contextmanager
def _live_page(
    config: RunConfig, pipeline: Pipeline, health: Health, updater: Updater, is_again: bool
) -> Iterator[Any]:
    """What [web] asks for: with it, the page that is served, else None.

    is_again: the parts were opened anew on a run that goes on, without its page where that cannot be opened.
    Raises: EdgeError when it cannot be opened.
    """
    with ExitStack() as stack:
        page = None
        if config.web:
            try:
                page = stack.enter_context(resolve("pages", "live")(config.web, pipeline, health, updater))
            except EdgeError as exc:
                if not is_again:
                    raise
                log.warning("update: %s; the run goes on without its page", exc)
        yield page


def _obey(pipeline: Pipeline, askers: Sequence[Publisher], resting_from: SourceState | None) -> SourceState | None:
    """Do what a reader has asked for, where its publisher allows that; askers: publishers, and the page.

    Returns what the source was doing when the loop was told to rest, None where it is not to rest.
    """
    for publisher in askers:
        command, publisher.command = publisher.command, ""
        if not command or (command == "stop") == (resting_from is not None):
            continue
        log.warning("%s: asked to %s", publisher.address, command)
        state: SourceState = "paused"
        if resting_from is None:
            resting_from = pipeline.state
        else:  # the source may have told something else meanwhile
            state, resting_from = resting_from if pipeline.state == "paused" else pipeline.state, None
        pipeline.publish_status(state, f"asked to {command}", monotonic_ns())
    return resting_from


class _Watch:
    """Says what goes wrong once, when it begins, and again only when it changes or lasts."""

    def __init__(self, patience_s: float) -> None:
        self.trouble: SourceTimeoutError | None = None
        self._patience_s = patience_s
        self._last_frame = time.monotonic()
        self._said, self._said_at = "", 0.0
        self._failures: dict[str, str] = {}

    def frame(self) -> None:
        """A frame came."""
        self._last_frame = time.monotonic()
        self._said = ""

    def silence(self, trouble: SourceTimeoutError) -> None:
        """No frame came; warn when that has lasted."""
        self.trouble = trouble
        now = time.monotonic()
        if now - self._last_frame < self._patience_s:
            return
        if trouble.cure != self._said or now - self._said_at > _REPEAT_S:
            self._said, self._said_at = trouble.cure, now
            log.warning("%s", trouble)

    def publishers(self, publishers: Sequence[Publisher]) -> None:
        """Warn when a publisher begins to fail, and tell when it works again."""
        for publisher in publishers:
            if publisher.failure != self._failures.get(publisher.address, ""):
                self._failures[publisher.address] = publisher.failure
                log.warning("publisher %s: %s", publisher.address, publisher.failure or "works again")


@contextmanager
def _signals(stop: threading.Event, hangup: threading.Event | None) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the loop after the current step; a second one ends the process at once.

    hangup: is set by SIGHUP, where it is given.
    """

    def handle(number: int, _frame: object) -> None:
        if number == signal.SIGHUP and hangup:
            hangup.set()
            return
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangup else [])]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _keeping(pipeline: Pipeline) -> Iterator[None]:
    """Let SIGUSR1 make recordings keep what was just seen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGUSR1, lambda *_: pipeline.ask(_keep))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def _keep(pipeline: Pipeline) -> None:
    for publisher in pipeline.publishers:
        publisher.trigger("SIGUSR1")


def _prints_on_terminal(config: RunConfig) -> bool:
    return any(text.startswith("stdout:") for text in config.publish) and sys.stdout.isatty()


def _live_line(message: DetectionsMessage | ClassificationMessage, pipeline: Pipeline) -> str:
    found = message.detections if isinstance(message, DetectionsMessage) else message.classes
    return f"{len(found)} found, age {message.age_ms:.0f} ms, {pipeline.source.stats.dropped} frames dropped"
