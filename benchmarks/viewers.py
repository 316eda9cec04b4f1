"""What the live page costs the loop: a turn of it at 60 frames/s without the page, with it, and with five who look.

The three take turns of some seconds, and a second run without the page tells how much is noise. Viewers are a process
of their own, of lower priority where this one is preferred, since on a robot they are other machines; it does what five
browsers do: ask for each picture when the one before has come, and hear the state. A turn is all that the loop does for
a frame: the step without the wait for its frame, and what comes after the result was published. On a machine that does
other work, `chrt -r 1` in front keeps that out.
"""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import aiohttp
import numpy as np

from edge import catalogue
from edge.bench.intervals import Interval, paired_ratio
from edge.config import EngineSection, RunConfig, WebSection
from edge.health import Health
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.registry import resolve
from edge.sources.base import open_source
from edge.stage_watch import StageWatch
from edge.testing import MemoryPublisher
from edge.throttle_watch import ThrottleWatch
from edge.timings import Stage, StageTimings

VIEWERS, FPS, TURNS, TURN_S, SETTLE_S = 5, 60, 20, 3.0, 0.7
TARGET_CHANGE = 0.05
NAMES = ("no page", "no page, again", "page, nobody looks", f"page, {VIEWERS} viewers")


def measure() -> bool:
    """Measure; return whether the 99th percentile of a turn changed by less than the target, with 0 and 5 viewers."""
    catalogue.pull("face")
    config = RunConfig(engine=EngineSection(threads=1), web=WebSection(listen="127.0.0.1:0"))
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        if len(cores) > 2:
            os.sched_setaffinity(0, cores[:-1])
            stack.callback(os.sched_setaffinity, 0, cores)
        model = open_model("face", config.engine)
        stack.callback(model.close)
        source = open_source(f"synthetic://?fps={FPS}&size=1280x720")
        stack.callback(source.close)
        pipeline = Pipeline(source, model, [MemoryPublisher()], config)
        throttle = stack.enter_context(ThrottleWatch())
        health = Health(pipeline, throttle, StageWatch(pipeline.timings))
        lookers = _lookers(stack, cores[-1])
        source.start()
        turns_ms: list[list[np.ndarray]] = [[] for _ in NAMES]
        random = np.random.default_rng(5)
        for _ in range(TURNS):
            for which in random.permutation(len(NAMES)):
                with ExitStack() as turn:
                    if which >= 2:
                        page = turn.enter_context(resolve("pages", "live")(config.web, pipeline, health, None))
                    if which == 3:
                        _tell(lookers, page.address)
                        turn.callback(_tell, lookers, "nobody")
                    turns_ms[which].append(_turn(pipeline))
        pictures = _tell(lookers, "nobody")
    return _report(turns_ms, pictures)


def _turn(pipeline: Pipeline) -> np.ndarray:
    """Time of each turn of the loop in ms, (N,) float64."""
    pipeline.timings = timings = StageTimings()
    start = time.monotonic()
    took: list[float] = []
    while time.monotonic() < start + SETTLE_S + TURN_S:
        before = time.perf_counter()
        pipeline.do_asked()
        pipeline.step()
        wait_ms = timings.newest_ns[Stage.WAIT] / 1e6
        if time.monotonic() > start + SETTLE_S:
            took.append((time.perf_counter() - before) * 1e3 - wait_ms)
    return np.array(took)


def _report(turns_ms: list[list[np.ndarray]], pictures: int) -> bool:
    steps = sum(len(turn) for turn in turns_ms[0])
    size = f"{TURNS} turns of {TURN_S:g} s each, {steps} steps"
    print(f"\na turn of the loop, face model, {FPS} frames/s of 1280x720, {size}")
    for name, turns in zip(NAMES, turns_ms, strict=True):
        p50, p90, p99 = np.percentile(np.concatenate(turns), (50, 90, 99))
        print(f"  {name:20} p50 {p50:7.3f}  p90 {p90:7.3f}  p99 {p99:7.3f} ms")
    print(f"  the viewers got {pictures / VIEWERS / TURNS / (SETTLE_S + TURN_S):.1f} pictures a second each")
    noise = _change(turns_ms[:1], turns_ms[1])
    print(f"  noise: p99 changed by {_text(noise)} between the two runs without the page")
    kept = True
    for name, turns in zip(NAMES[2:], turns_ms[2:], strict=True):
        change = _change(turns_ms[:2], turns)
        kept &= change.value < TARGET_CHANGE
        said = "kept" if change.value < TARGET_CHANGE else "MISSED"
        print(f"  {name}: p99 changed by {_text(change)}, target under {TARGET_CHANGE:.0%}: {said}")
    return kept


def _change(before: list[list[np.ndarray]], after: list[np.ndarray]) -> Interval:
    """How much the p99 of a turn changed, round by round, so that what all suffer cancels; the mean of `before`."""
    first = np.mean([[np.percentile(turn, 99) for turn in turns] for turns in before], axis=0)
    ratio = paired_ratio(first.tolist(), [float(np.percentile(turn, 99)) for turn in after])
    if ratio.low is None or ratio.high is None:
        return Interval(ratio.value - 1)
    return Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1)


def _text(change: Interval) -> str:
    bounds = f" (95 % interval {change.low:+.1%} to {change.high:+.1%})" if change.known else ""
    return f"{change.value:+.1%}{bounds}"


def _lookers(stack: ExitStack, core: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.viewers", str(core)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _tell(lookers: subprocess.Popen, address: str) -> int:
    """Have five look there from now on, or "nobody"; return how many pictures they have got in all."""
    assert lookers.stdin is not None
    assert lookers.stdout is not None
    lookers.stdin.write(f"{address}\n")
    lookers.stdin.flush()
    return int(lookers.stdout.readline())


async def look() -> None:
    """Be the viewers, of the address that each line on standard input names."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    got = [0]
    tasks: list[asyncio.Task] = []
    async with aiohttp.ClientSession() as http:
        while line := await lines.readline():
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            address = line.decode().strip()
            tasks = [asyncio.create_task(_one(http, address, got)) for _ in range(VIEWERS) if address != "nobody"]
            print(got[0], flush=True)


async def _one(http: aiohttp.ClientSession, address: str, got: list[int]) -> None:
    async with http.ws_connect(f"{address}/live") as ws:
        await ws.send_str('{"picture":true}')
        async for message in ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                got[0] += 1
                await ws.send_str('{"picture":true}')


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    asyncio.run(look())
