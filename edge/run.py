"""`harrier run`: open the parts, step until told to stop, close the parts."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge.config import RunConfig
from edge.errors import ConfigError, EndOfStreamError, SourceTimeoutError
from edge.model import Model, open_model
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.publishers.base import Publisher, PublisherOptions
from edge.registry import resolve
from edge.sources.base import open_source
from edge.stats import collect
from edge.uri import parse_uri
from edge.wire.jsonl import Message

__all__ = ["check_parts", "open_pipeline", "run"]

log = logging.getLogger("harrier")


@contextmanager
def open_pipeline(config: RunConfig) -> Iterator[Pipeline]:
    """Open model, publishers and source, yield their pipeline, and close them all whatever happens.

    Raises: EdgeError from whichever part cannot open.
    """
    if not config.model:
        raise ConfigError("no model is given", "add --model BUNDLE_OR_FILE or model = ... to the configuration")
    if not config.source:
        raise ConfigError("no source is given", "add --source URI or source = ... to the configuration")
    with ExitStack() as stack:
        model = open_model(config.model, config.engine, config.labels, config.thresholds.score)
        stack.callback(model.close)
        publishers: list[Publisher] = []
        for text in config.publish or ["stdout://"]:
            uri = parse_uri(text)
            publisher = resolve("publishers", uri.scheme)(uri)
            stack.callback(publisher.close)
            resolve("formats", publisher.format)
            publishers.append(publisher)
            log.info("publishing to %s", publisher.address)
        source = open_source(config.source)
        stack.callback(source.close)
        pipeline = Pipeline(source, model, publishers, config)
        _say_what_runs(model)
        source.start()
        yield pipeline


def run(config: RunConfig, frames: int | None = None, seconds: float | None = None, stats: Path | None = None) -> None:
    """Run until the source ends, a limit is reached, SIGINT or SIGTERM arrives, or every publisher has failed.

    Raises: EdgeError when a part cannot open or the engine fails.
    """
    stop = threading.Event()
    with _signals(stop), open_pipeline(config) as pipeline:
        start = time.monotonic()
        deadline = start + seconds if seconds else None
        progress = Progress("harrier run", frames)
        while not stop.is_set() and (deadline is None or time.monotonic() < deadline):
            try:
                message = pipeline.step()
                if progress.due:
                    progress.update(pipeline.timings.count, _live_line(message, pipeline))
            except SourceTimeoutError as exc:
                log.warning("%s", exc)
            except EndOfStreamError:
                break
            finally:
                _relay_events(pipeline)
            if frames and pipeline.timings.count >= frames:
                break
            if all(p.failure for p in pipeline.publishers):
                log.warning("nobody is left to publish to: %s", pipeline.publishers[0].failure)
                break
        _relay_events(pipeline)
        report = collect(pipeline, time.monotonic() - start)
        progress.finish(pipeline.timings.count, f"{report['fps']} frames/s")
        if stats:
            _write_stats(stats, report)


def check_parts(config: RunConfig) -> list[str]:
    """Open the model and parse every URI without starting anything; return a line for each part that is right.

    Raises: EdgeError from the first part that is wrong.
    """
    lines = []
    if config.model:
        model = open_model(config.model, config.engine, config.labels, config.thresholds.score)
        lines.append(f"model   {model.name} ({model.target}, {model.manifest.decoder.family})")
        model.close()
    if config.source:
        lines.append(f"source  {open_source(config.source).source_id}")
    for text in config.publish:
        uri = parse_uri(text)
        publisher = resolve("publishers", uri.scheme)
        publisher.check(uri)
        resolve("formats", uri.options(PublisherOptions).format)
        lines.append(f"publish {uri.safe_text}")
    return lines


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


def _relay_events(pipeline: Pipeline) -> None:
    for event in pipeline.source.poll_events():
        log.info("source %s: %s %s", pipeline.source.source_id, event.state, event.reason)
        pipeline.publish_status(str(event.state), event.reason)


def _say_what_runs(model: Model) -> None:
    log.info("model %s (%s), decoder %s", model.name, model.target, model.origins["decoder"])
    if model.origins["contract"].startswith("a guess"):
        log.warning("pixel contract is %s; see `harrier inspect`", model.origins["contract"])
    for note in model.notes:
        log.warning("%s", note)


def _live_line(message: Message, pipeline: Pipeline) -> str:
    found = message.detections if message.detections is not None else message.classes or []
    return f"{len(found)} found, age {message.age_ms:.0f} ms, {pipeline.source.stats.dropped} frames dropped"


def _write_stats(path: Path, report: dict) -> None:
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {path} ({exc.strerror})", "check the folder") from exc
