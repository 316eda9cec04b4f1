"""Drives the robot's own pipeline in blocks of steps and keeps every step's times."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import ConfigError, EndOfStreamError, SourceError, SourceTimeoutError
from edge.lineup import open_lineup
from edge.parts import open_pipeline
from edge.pipeline import Pipeline
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.sources.state import SourceStats
from edge.timings import StageTimings
from edge.uri import parse_uri

__all__ = ["Block", "Recording", "Totals", "measure_block", "open_second", "warm_up"]

_CHUNK = 4096
_SETTLE_STEPS = 2  # the first frame after a pause is as old as the pause
_MOST_TIMEOUTS = 30  # in a row, before a source that still calls itself alive counts as silent
_MOST_EVENTS = 100


@dataclass(slots=True)
class Block:
    """One uninterrupted measurement of N steps: stages_ns (N, S), wall_ns (N,), age_ns (N,), t_ns (N,), int64.

    t_ns is when each step ended; the counts are those of this block alone. events: when, CLOCK_MONOTONIC ns, and what.
    """

    stages_ns: np.ndarray
    wall_ns: np.ndarray
    age_ns: np.ndarray
    t_ns: np.ndarray
    t_start_ns: int
    t_end_ns: int
    captured: int = 0
    replaced: int = 0
    corrupt: int = 0
    reconnects: int = 0
    timeouts: int = 0
    timeout_ns: int = 0
    publisher_dropped: int = 0
    events: list[tuple[int, str]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were measured."""
        return len(self.wall_ns)

    @property
    def elapsed_s(self) -> float:
        """The block's wall clock in s, measured apart from the steps; reads that ended without a frame included."""
        return (self.t_end_ns - self.t_start_ns) / 1e9

    @property
    def stepping_s(self) -> float:
        """The part of elapsed_s in which steps were made: without the silent reads after its last frame."""
        return self.elapsed_s - self.timeout_ns / 1e9


@dataclass(slots=True)
class Totals:
    """What the blocks of a set-up come to, those that were not kept included; of the events the last 100."""

    steps: int = 0
    captured: int = 0
    replaced: int = 0
    corrupt: int = 0
    reconnects: int = 0
    timeouts: int = 0
    publisher_dropped: int = 0
    stages_ns: int = 0
    stepping_s: float = 0.0
    elapsed_s: float = 0.0
    spans_ns: list[tuple[int, int]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Count one block."""
        self.steps += block.steps
        self.captured += block.captured
        self.replaced += block.replaced
        self.corrupt += block.corrupt
        self.reconnects += block.reconnects
        self.timeouts += block.timeouts
        self.publisher_dropped += block.publisher_dropped
        self.stages_ns += int(block.stages_ns.sum())
        self.stepping_s += block.stepping_s
        self.elapsed_s += block.elapsed_s
        self.spans_ns.append((block.t_start_ns, block.t_end_ns))
        self.events = [*self.events, *block.events][-_MOST_EVENTS:]


@dataclass(slots=True)
class Recording:
    """The blocks of one set-up, and what all of them come to."""

    name: str
    pipeline: Pipeline
    threads: int | None = None
    blocks: list[Block] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    def add(self, block: Block, keep_earlier: bool = True) -> None:
        """Take one more block; without keep_earlier it replaces those before, which stay in the totals."""
        self.blocks = [*self.blocks, block] if keep_earlier else [block]
        self.totals.add(block)

    @property
    def whole(self) -> bool:
        """Whether every block is still here."""
        return sum(block.steps for block in self.blocks) == self.totals.steps

    def joined(self, what: str) -> np.ndarray:
        """Return stages_ns (N, S), wall_ns, age_ns or t_ns (N,) int64 of all blocks, in the order of time."""
        return np.concatenate([getattr(block, what) for block in self.blocks])


def warm_up(pipeline: Pipeline, steps: int) -> None:
    """Take `steps` steps that nobody measures.

    Raises: ConfigError when the source ends before, SourceTimeoutError when it is gone or stays silent.
    """
    done = timeouts = 0
    while done < steps:
        try:
            pipeline.step()
            done, timeouts = done + 1, 0
        except SourceTimeoutError:
            timeouts += 1
            if pipeline.source.state in ("lost", "ended", "closed") or timeouts > _MOST_TIMEOUTS:
                raise
        except EndOfStreamError as exc:
            raise _too_short(exc) from exc


def measure_block(
    pipeline: Pipeline,
    frames: int | None,
    seconds: float | None,
    after_step: Callable[[Pipeline], None] | None = None,
) -> Block:
    """Measure until `frames` steps are done, `seconds` are over or the source ends, whichever is first.

    Raises: ConfigError when the source had no frame left, SourceTimeoutError when it was silent all the time.
    """
    warm_up(pipeline, _SETTLE_STEPS)
    pipeline.source.poll_events()
    before, dropped_before = pipeline.source.stats, sum(p.dropped for p in pipeline.publishers)
    parts: list[tuple[np.ndarray, ...]] = []
    ends = np.zeros(_CHUNK, np.int64)
    steps = timeouts = timeout_ns = 0
    laps = pipeline.timings = StageTimings(_CHUNK)
    t_start_ns = monotonic_ns()
    deadline_ns = t_start_ns + int(seconds * 1e9) if seconds else None
    ended: SourceError | None = None
    while (frames is None or steps < frames) and (deadline_ns is None or monotonic_ns() < deadline_ns):
        t_step_ns = monotonic_ns()
        try:
            pipeline.step()
        except SourceTimeoutError as exc:
            timeouts, ended, timeout_ns = timeouts + 1, exc, timeout_ns + monotonic_ns() - t_step_ns
            if pipeline.source.state in ("lost", "closed") or timeouts > _MOST_TIMEOUTS:
                break
            continue
        except EndOfStreamError as exc:
            ended = exc
            break
        ends[laps.count - 1] = monotonic_ns()
        steps += 1
        timeout_ns = 0  # the waiting that led to this frame is in its WAIT; only what follows the last is apart
        if after_step:
            after_step(pipeline)
        if laps.count == _CHUNK:
            parts.append((laps.stages_ns, laps.wall_ns, laps.age_ns, ends.copy()))
            laps = pipeline.timings = StageTimings(_CHUNK)
    t_end_ns = monotonic_ns()
    if not steps:
        raise _too_short(ended)
    parts.append((laps.stages_ns, laps.wall_ns, laps.age_ns, ends[: laps.count].copy()))
    stages, wall, age, t_ns = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    block = Block(stages, wall, age, t_ns, t_start_ns, t_end_ns)
    block.timeouts, block.timeout_ns = timeouts, timeout_ns
    _count(block, pipeline, before, dropped_before)
    return block


@contextmanager
def open_second(config: RunConfig, first: Pipeline, first_config: RunConfig) -> Iterator[Pipeline]:
    """Yield the second pipeline of a comparison; it shares the first one's source and publishers where both ask
    for the same, since a camera or a port can be opened only once.

    Raises: EdgeError from whichever part cannot open.
    """
    if config.source != first_config.source:
        with open_pipeline(config) as pipeline:
            yield pipeline
        return
    with ExitStack() as stack:
        lineup = open_lineup(config)
        stack.callback(lineup.close)
        publishers: list[Publisher] = list(first.publishers)
        if config.publish != first_config.publish:
            publishers = []
            for uri in map(parse_uri, config.publish):
                publishers.append(resolve("publishers", uri.scheme)(uri))
                stack.callback(publishers[-1].close)
        yield Pipeline(first.source, lineup, publishers, config)


def _count(block: Block, pipeline: Pipeline, before: SourceStats, dropped_before: int) -> None:
    after = pipeline.source.stats
    block.captured = after.captured - before.captured
    block.replaced = after.dropped - before.dropped
    block.corrupt = after.corrupt - before.corrupt
    block.reconnects = after.reconnects - before.reconnects
    block.publisher_dropped = sum(p.dropped for p in pipeline.publishers) - dropped_before
    block.events = [(event.t_ns, f"{event.state} {event.reason}".strip()) for event in pipeline.source.poll_events()]


def _too_short(exc: SourceError | None) -> SourceError | ConfigError:
    if isinstance(exc, SourceTimeoutError):
        return exc
    cause = f" ({exc.cause})" if exc else ""
    return ConfigError(
        f"the source ended before anything was measured{cause}", "use a longer one, or ?loop=yes where it has that"
    )
