"""The parts of a run: opened from a configuration, or only checked."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from edge.config import RunConfig, require_no_boxes
from edge.errors import ConfigError
from edge.geometry.locator import open_locator
from edge.geometry.regions import open_regions
from edge.lineup import Lineup, open_lineup
from edge.model import Model
from edge.pipeline import Pipeline
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.run_settings import RunSettings, settings_in_force
from edge.sources.base import open_source
from edge.uri import parse_uri

__all__ = ["check_parts", "open_pipeline"]

log = logging.getLogger("harrier")


@contextmanager
def open_pipeline(config: RunConfig) -> Iterator[Pipeline]:
    """Open model, publishers and source, yield their pipeline, and close them all whatever happens.

    Raises: EdgeError from whichever part cannot open.
    """
    _, source_text = _required(config)
    with ExitStack() as stack:
        lineup = open_lineup(config)
        stack.callback(lambda: (pipeline.lineup if pipeline else lineup).close())
        pipeline: Pipeline | None = None
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
        settings = _settings_of(pipeline)
        for publisher in publishers:
            publisher.timings, publisher.settings = pipeline.timings, settings
        for member in lineup.members:
            if member.model:
                _say_what_runs(member.model)
        pipeline.greet()
        source.start()
        yield pipeline


def check_parts(config: RunConfig, running: Lineup | None = None) -> list[str]:
    """Open the model and parse every URI without starting anything; return a line for each part that is right.

    running: the line-up of that model where it is open already.
    Raises: EdgeError from the first part that is wrong.
    """
    _, source_text = _required(config)
    lineup = running or open_lineup(config)
    try:
        model = lineup.model
        lines = [f"model   {model.name} ({model.target}, {model.manifest.decoder.family})"]
        lines += [f"fallback {member.target}" for member in lineup.members[1:] if member.model]
        lines += [f"note    {note}" for member in lineup.members if member.model for note in member.model.notes]
        if model.decoder.kind != "detections":
            require_no_boxes(config, model.name)
        if config.tracking:
            resolve("trackers", config.tracking.tracker)
        open_locator(config.geometry, model.labels, config.thresholds.max_detections)
        open_regions(config.region, model.labels, tracked=config.tracking is not None)
    finally:
        if lineup is not running:
            lineup.close()
    lines.append(f"source  {open_source(source_text).source_id}")
    for text in config.publish:
        uri = parse_uri(text)
        publisher = resolve("publishers", uri.scheme)
        publisher.check(uri)
        lines.append(f"publish {uri.safe_text}")
    if config.web:
        resolve("pages", "live").check(config.web)
        lines.append(f"page    {config.web.listen}")
    return lines


def _required(config: RunConfig) -> tuple[str, str]:
    if not config.model:
        raise ConfigError("no model is given", "add --model BUNDLE_OR_FILE or model = ... to the configuration")
    if not config.source:
        raise ConfigError("no source is given", "add --source URI or source = ... to the configuration")
    return config.model, config.source


def _settings_of(pipeline: Pipeline) -> Callable[[], RunSettings]:
    """What gives the settings in force: the same object until they change, or all is made anew and tracks begin."""
    known: tuple[object, ...] = ()
    settings: RunSettings | None = None

    def now() -> RunSettings:
        nonlocal known, settings
        config, model, result = pipeline.config, pipeline.model, pipeline.result
        if settings is None or any(one is not other for one, other in zip(known, (config, model, result), strict=True)):
            fits = 0 if settings is None else settings.fits + (result is not known[-1])
            found = settings_in_force(config, model.manifest.decoder, model.name, model.target, fits)
            known, settings = (config, model, result), settings if found == settings else found
        return settings

    return now


def _say_what_runs(model: Model) -> None:
    origin = model.origins["decoder"].partition(":")[0]
    log.info("model %s (%s), decoder %s (%s)", model.name, model.target, model.manifest.decoder.family, origin)
    if model.origins["contract"].startswith("a guess"):
        log.warning("pixel contract is %s; see `harrier inspect`", model.origins["contract"])
    for note in model.notes:
        log.warning("%s", note)
