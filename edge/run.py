"""`harrier run`: open the parts, step until told to stop, close the parts."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import ConfigError, EndOfStreamError, EngineLostError, SourceTimeoutError
from edge.files import write_atomically
from edge.geometry.locator import open_locator
from edge.geometry.regions import Regions
from edge.lineup import open_lineup
from edge.model import Model
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.sources.base import open_source
from edge.stats import collect
from edge.throttle_watch import ThrottleWatch
from edge.uri import parse_uri
from edge.wire.messages import ClassificationMessage, DetectionsMessage, SourceState

__all__ = ["check_parts", "open_pipeline", "run"]

log = logging.getLogger("harrier")

_SLICE_S = 0.05  # news of the source and signs of life are sent this often while no frame comes
_REPEAT_S = 60.0


@contextmanager
def open_pipeline(config: RunConfig) -> Iterator[Pipeline]:
    """Open model, publishers and source, yield their pipeline, and close them all whatever happens.

    Raises: EdgeError from whichever part cannot open.
    """
    _, source_text = _required(config)
    with ExitStack() as stack:
        lineup = open_lineup(config)
        stack.callback(lineup.close)
        publishers: list[Publisher] = []
        for text in config.publish:
            uri = parse_uri(text)
            publisher = resolve("publishers", uri.scheme)(uri)
            stack.callback(publisher.close)
            publishers.append(publisher)
            log.info("publishing to %s", publisher.address)
        source = open_source(source_text)
        stack.callback(source.close)
        pipeline = Pipeline(source, lineup, publishers, config)
        for member in lineup.members:
            if member.model:
                _say_what_runs(member.model)
        pipeline.greet()
        source.start()
        yield pipeline


def run(config: RunConfig, frames: int | None = None, seconds: float | None = None, stats: Path | None = None) -> None:
    """Run until the source ends, a limit is reached, SIGINT or SIGTERM arrives, or the last reader hangs up.

    Raises: EdgeError when a part cannot open or the engine fails, SourceTimeoutError when no frame came at all.
    """
    stop = threading.Event()
    with _signals(stop), open_pipeline(config) as pipeline, ThrottleWatch() as throttle:
        start = time.monotonic()
        deadline = start + seconds if seconds else None
        progress = Progress("harrier run", frames, live=not _prints_on_terminal(config))
        watch = _Watch(config.frame_timeout_s)
        reason = "stopped"
        resting_from: SourceState | None = None
        while not stop.is_set() and (deadline is None or time.monotonic() < deadline):
            pipeline.do_asked()
            pipeline.set_condition("throttled", throttle.reason)
            resting_from = _obey(pipeline, resting_from)
            if resting_from is not None:
                pipeline.relay_events()
                stop.wait(_SLICE_S)
                continue
            try:
                message = pipeline.step(min(_SLICE_S, config.frame_timeout_s))
                watch.frame()
                if progress.due:
                    progress.update(pipeline.timings.count, _live_line(message, pipeline))
            except SourceTimeoutError as exc:
                pipeline.relay_events()
                watch.silence(exc)
            except EngineLostError:  # said already; it is being started again
                pipeline.relay_events()
                stop.wait(_SLICE_S)
            except EndOfStreamError:
                reason = ""
                break
            watch.publishers(pipeline.publishers)
            if frames and pipeline.timings.count >= frames:
                break
            if pipeline.publishers and all(p.reader_gone for p in pipeline.publishers):
                break
        pipeline.relay_events(at_end=True)
        pipeline.publish_status("closed", reason, monotonic_ns())
        report = collect(pipeline, time.monotonic() - start)
        progress.finish(pipeline.timings.count, f"{report['fps']} frames/s")
        if stats:
            write_atomically(stats, json.dumps(report, indent=2) + "\n")
        if watch.trouble and not pipeline.timings.count and not stop.is_set():
            raise watch.trouble


def _obey(pipeline: Pipeline, resting_from: SourceState | None) -> SourceState | None:
    """Do what a reader has asked for, where its publisher allows that.

    Returns what the source was doing when the loop was told to rest, None where it is not to rest.
    """
    for publisher in pipeline.publishers:
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


def check_parts(config: RunConfig) -> list[str]:
    """Open the model and parse every URI without starting anything; return a line for each part that is right.

    Raises: EdgeError from the first part that is wrong.
    """
    _, source_text = _required(config)
    lineup = open_lineup(config)
    try:
        model = lineup.model
        lines = [f"model   {model.name} ({model.target}, {model.manifest.decoder.family})"]
        lines += [f"fallback {member.target}" for member in lineup.members[1:] if member.model]
        if config.tracking:
            resolve("trackers", config.tracking.tracker)
        open_locator(config.geometry, model.labels, config.thresholds.max_detections)
        Regions(config.region, model.labels)
    finally:
        lineup.close()
    lines.append(f"source  {open_source(source_text).source_id}")
    for text in config.publish:
        uri = parse_uri(text)
        publisher = resolve("publishers", uri.scheme)
        publisher.check(uri)
        lines.append(f"publish {uri.safe_text}")
    return lines


def _required(config: RunConfig) -> tuple[str, str]:
    if not config.model:
        raise ConfigError("no model is given", "add --model BUNDLE_OR_FILE or model = ... to the configuration")
    if not config.source:
        raise ConfigError("no source is given", "add --source URI or source = ... to the configuration")
    return config.model, config.source


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the loop after the current step; a second one ends the process at once."""

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say_what_runs(model: Model) -> None:
    origin = model.origins["decoder"].partition(":")[0]
    log.info("model %s (%s), decoder %s (%s)", model.name, model.target, model.manifest.decoder.family, origin)
    if model.origins["contract"].startswith("a guess"):
        log.warning("pixel contract is %s; see `harrier inspect`", model.origins["contract"])
    for note in model.notes:
        log.warning("%s", note)


def _prints_on_terminal(config: RunConfig) -> bool:
    return any(text.startswith("stdout:") for text in config.publish) and sys.stdout.isatty()


def _live_line(message: DetectionsMessage | ClassificationMessage, pipeline: Pipeline) -> str:
    found = message.detections if isinstance(message, DetectionsMessage) else message.classes
    return f"{len(found)} found, age {message.age_ms:.0f} ms, {pipeline.source.stats.dropped} frames dropped"
