"""Drives the robot's own pipeline in blocks of steps and keeps every step's times."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import ConfigError, EdgeError, EndOfStreamError, EngineLostError, SourceTimeoutError
from edge.lineup import open_lineup
from edge.parts import open_pipeline
from edge.pipeline import Pipeline
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.sources.state import SourceStats
from edge.timings import StageTimings
from edge.uri import parse_uri
from edge.wire.messages import DetectionsMessage

__all__ = ["Block", "Recording", "Totals", "measure_block", "open_second", "warm_up"]

_CHUNK = 4096
_SETTLE_STEPS = 2  # the first frame after a pause is as old as the pause
_MOST_TIMEOUTS = 30  # in a row, before a source that still calls itself alive counts as silent
_LOST_PAUSE_S, _MOST_LOST_NS = 0.1, 120 * 10**9  # while an engine is started again
_MOST_EVENTS = 100


@dataclass(slots=True)
class Block:
    """One uninterrupted measurement of N steps: stages_ns (N, S), wall_ns (N,), age_ns (N,), t_ns (N,), int64.

    t_ns is when each step ended; the counts are those of this block alone. events: when, CLOCK_MONOTONIC ns, and what.
    ran: how many frames each target ran, the preferred one first. engine_lost: frames that no engine could run.
    held: on how many frames so many detections were found; empty for a classifier.
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
    engine_lost: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    held: Counter[int] = field(default_factory=Counter)
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
    engine_lost: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    held: Counter[int] = field(default_factory=Counter)
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
        self.engine_lost += block.engine_lost
        for target, frames in block.ran.items():
            self.ran[target] = self.ran.get(target, 0) + frames
        self.held.update(block.held)
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


@dataclass(slots=True)
class _Misses:
    """Steps that came to nothing. waited_ns: how long those since the last frame took."""

    timeouts: int = 0
    engine_lost: int = 0
    waited_ns: int = 0
    last: EdgeError | None = None
    _in_a_row: int = 0

    def succeed(self) -> None:
        """A frame came through: the waiting that led to it is in its WAIT."""
        self.waited_ns = self._in_a_row = 0

    def note(self, exc: SourceTimeoutError | EngineLostError, t_step_ns: int, state: str) -> bool:
        """Count one that began at t_step_ns, source in `state`; return whether to wait for no more."""
        self.last, self._in_a_row = exc, self._in_a_row + 1
        if isinstance(exc, EngineLostError):  # said already; it is being started again
            self.engine_lost += 1
            time.sleep(_LOST_PAUSE_S)
            final = self.waited_ns > _MOST_LOST_NS
        else:
            self.timeouts += 1
            final = state in ("lost", "closed") or self._in_a_row > _MOST_TIMEOUTS
        self.waited_ns += monotonic_ns() - t_step_ns
        return final


def warm_up(pipeline: Pipeline, steps: int) -> None:
    """Take `steps` steps that nobody measures.

    Raises: ConfigError when the source ends before, SourceTimeoutError when it is gone or stays silent,
    EngineLostError when the engine stays lost.
    """
    done, misses = 0, _Misses()
    while done < steps:
        t_step_ns = monotonic_ns()
        try:
            pipeline.step()
            done += 1
            misses.succeed()
        except (SourceTimeoutError, EngineLostError) as exc:
            state = pipeline.source.state
            if misses.note(exc, t_step_ns, "closed" if state == "ended" else state):
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

    Raises: ConfigError when the source had no frame left, SourceTimeoutError when it was silent all the time,
    EngineLostError when no engine ran.
    """
    warm_up(pipeline, _SETTLE_STEPS)
    pipeline.source.poll_events()
    before, counts_before, misses = pipeline.source.stats, _counts(pipeline), _Misses()
    parts: list[tuple[np.ndarray, ...]] = []
    ends = np.zeros(_CHUNK, np.int64)
    steps, held = 0, Counter[int]()
    laps = pipeline.timings = StageTimings(_CHUNK)
    t_start_ns = monotonic_ns()
    deadline_ns = t_start_ns + int(seconds * 1e9) if seconds else None
    while (frames is None or steps < frames) and (deadline_ns is None or monotonic_ns() < deadline_ns):
        t_step_ns = monotonic_ns()
        try:
            message = pipeline.step()
        except (SourceTimeoutError, EngineLostError) as exc:
            if misses.note(exc, t_step_ns, pipeline.source.state):
                break
            continue
        except EndOfStreamError as exc:
            misses.last = exc
            break
        ends[laps.count - 1] = monotonic_ns()
        steps += 1
        misses.succeed()
        if isinstance(message, DetectionsMessage):
            held[len(message.detections)] += 1
        if after_step:
            after_step(pipeline)
        if laps.count == _CHUNK:
            parts.append((laps.stages_ns, laps.wall_ns, laps.age_ns, ends.copy()))
            laps = pipeline.timings = StageTimings(_CHUNK)
    t_end_ns = monotonic_ns()
    if not steps:
        raise _too_short(misses.last)
    parts.append((laps.stages_ns, laps.wall_ns, laps.age_ns, ends[: laps.count].copy()))
    stages, wall, age, t_ns = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    block = Block(stages, wall, age, t_ns, t_start_ns, t_end_ns, held=held)
    block.timeouts, block.engine_lost, block.timeout_ns = misses.timeouts, misses.engine_lost, misses.waited_ns
    _count(block, pipeline, before, counts_before)
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


def _counts(pipeline: Pipeline) -> tuple[int, dict[str, int]]:
    """How many messages were dropped so far, and how many frames each target ran."""
    members = pipeline.lineup.members
    return sum(p.dropped for p in pipeline.publishers), {member.target: member.frames for member in members}


def _count(block: Block, pipeline: Pipeline, before: SourceStats, counts_before: tuple[int, dict[str, int]]) -> None:
    dropped, ran = _counts(pipeline)
    after = pipeline.source.stats
    block.captured = after.captured - before.captured
    block.replaced = after.dropped - before.dropped
    block.corrupt = after.corrupt - before.corrupt
    block.reconnects = after.reconnects - before.reconnects
    block.publisher_dropped = dropped - counts_before[0]
    block.ran = {target: frames - counts_before[1].get(target, 0) for target, frames in ran.items()}
    block.events = [(event.t_ns, f"{event.state} {event.reason}".strip()) for event in pipeline.source.poll_events()]


def _too_short(exc: EdgeError | None) -> EdgeError:
    if isinstance(exc, (SourceTimeoutError, EngineLostError)):
        return exc
    cause = f" ({exc.cause})" if exc else ""
    return ConfigError(
        f"the source ended before anything was measured{cause}", "use a longer one, or ?loop=yes where it has that"
    )
