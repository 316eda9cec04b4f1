"""One benchmark from its options to its report: open, warm up, measure in blocks, judge the machine, write."""

import argparse
import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge.bench.budgets import EXIT_CODE, Limits, check_budget, limits_for, read_budgets
from edge.bench.files import check_writable, write_text
from edge.bench.fingerprint import fingerprint
from edge.bench.health import Snapshot, findings, snapshot
from edge.bench.measure import Recording, measure_block, open_second, warm_up
from edge.bench.photon import measure_photon, open_light
from edge.bench.plots import write_plots
from edge.bench.report_html import page_of
from edge.bench.report_text import text_of
from edge.bench.results import SCHEMA, Finding, Photon, Report, Soak
from edge.bench.sensors import Sampler
from edge.bench.soak import WINDOWS, SoakLog
from edge.bench.startup import measure_startup
from edge.bench.subscriber import Subscriber
from edge.bench.summaries import comparison_of, power_of, resources_of, series_of, setup_of
from edge.config import RunConfig, read_config
from edge.errors import ConfigError, DeviceError
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.run import open_pipeline

__all__ = ["DEFAULT_PUBLISH", "DEFAULT_SOURCE", "Measured", "configurations", "execute", "measure", "report_of"]

DEFAULT_SOURCE = "synthetic://?size=1280x720&fps=30"
DEFAULT_PUBLISH = "tcp://127.0.0.1:0"

_FRAMES, _REPEATS = 100, 5
_PAIR_FRAMES, _PAIRS = 50, 12


@dataclass(slots=True)
class Measured:
    """What one run recorded, before anything is computed from it."""

    recordings: list[Recording]
    stamps: list[array | None]
    sampler: Sampler
    before: Snapshot
    after: Snapshot
    elapsed_s: float
    cpu_s: float
    soak: Soak | None = None
    photon: Photon | None = None


def execute(arguments: argparse.Namespace, root: Path = Path("/")) -> int:
    """Run what the options say, print the table, write the files and return the exit code.

    root: where the machine's own files are looked for.

    Raises: EdgeError from whichever part cannot open, DeviceError for a run that --strict refuses or Ctrl-C ended.
    """
    named = configurations(arguments)
    check_writable([path for path in (arguments.json, arguments.html) if path], arguments.plot)
    machine = fingerprint(root)
    budget = None
    if arguments.budget:
        budget = limits_for(read_budgets(arguments.budget), machine["board"], machine["cpu"])
    try:
        report = report_of(arguments, named, machine, measure(arguments, named, root), budget)
    except KeyboardInterrupt as exc:  # exit code 0 would look like a budget that was kept
        raise DeviceError("the run was stopped, nothing was written", "let it run to its end") from exc
    print(text_of(report))
    if arguments.strict and not report.valid:
        marks = "; ".join(finding.text for finding in report.findings if finding.invalidates)
        raise DeviceError(f"--strict refuses this run, nothing was written: {marks}", "quiet the machine and repeat")
    if arguments.json:
        write_text(arguments.json, msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    if arguments.html:
        write_text(arguments.html, page_of(report))
    if arguments.plot:
        write_plots(report, arguments.plot)
    kept = all(line.kept for line in report.budget or []) and not (report.soak and report.soak.problems)
    return 0 if kept else EXIT_CODE


def configurations(arguments: argparse.Namespace) -> list[tuple[str, RunConfig]]:
    """Return one or two named configurations: what the files say, then the options, then the defaults.

    Raises: ConfigError.
    """
    if arguments.compare and (arguments.soak or arguments.photon or arguments.startup):
        raise ConfigError("--compare measures two set-ups", "leave out --soak, --photon and --startup")
    if arguments.soak and (arguments.frames or arguments.seconds or arguments.repeats):
        raise ConfigError("--soak has windows of its own", "leave out --frames, --seconds and --repeats")
    texts = arguments.compare or [None]
    named = []
    for letter, text in zip("AB", texts, strict=False):
        base = arguments.config if text is None or not text.endswith(".toml") else text
        config = read_config(Path(base)) if base else RunConfig()
        config.model = arguments.model or config.model
        if text and not text.endswith(".toml"):
            config.model = text
        config.labels = arguments.labels or config.labels
        config.engine.target = arguments.target or config.engine.target
        config.source = arguments.source or config.source or DEFAULT_SOURCE
        config.publish = arguments.publish or config.publish or [DEFAULT_PUBLISH]
        if any(uri.startswith("stdout:") for uri in config.publish):
            raise ConfigError("the table goes to standard output, so messages cannot", f"use {DEFAULT_PUBLISH}")
        named.append((f"{letter} {Path(text).stem}" if text else "run", config))
    return named


def measure(arguments: argparse.Namespace, named: list[tuple[str, RunConfig]], root: Path = Path("/")) -> Measured:
    """Open the set-ups, warm them up and measure them in turns.

    Raises: EdgeError from whichever part cannot open or fails.
    """
    light = open_light(arguments.photon) if arguments.photon else None
    subscribers: dict[str, Subscriber] = {}
    with ExitStack() as stack:
        first = stack.enter_context(open_pipeline(named[0][1]))
        recordings = [Recording(named[0][0], first, named[0][1].engine.threads)]
        if len(named) > 1:
            second = stack.enter_context(open_second(named[1][1], first, named[0][1]))
            recordings.append(Recording(named[1][0], second, named[1][1].engine.threads))
        addresses = [_subscribable(recording.pipeline) for recording in recordings]
        for address in dict.fromkeys(a for a in addresses if a):
            subscribers[address] = Subscriber(address)
            stack.push(subscribers[address].end_on_error)
        for recording in recordings:
            warm_up(recording.pipeline, arguments.warm_up)
        # first, so that a camera that sees no flash does not cost a night's numbers
        photon = measure_photon(first, light) if light else None
        measured = _blocks(arguments, recordings, tuple(s.pid for s in subscribers.values()), root)
        measured.photon = photon
    notes = {address: subscriber.stamps_ns() for address, subscriber in subscribers.items()}
    measured.stamps = [notes[address] if address else None for address in addresses]
    return measured


def _blocks(
    arguments: argparse.Namespace, recordings: list[Recording], own_pids: tuple[int, ...], root: Path
) -> Measured:
    interval_s = 0.25 if not arguments.soak else min(10.0, max(0.05, arguments.soak / 2000))
    before, t_start, cpu_start = snapshot(root, own_pids=own_pids), time.monotonic(), time.process_time()
    soak = None
    with Sampler(interval_s, root) as sampler:
        if arguments.soak:
            soak = _soak_blocks(arguments.soak, recordings[0])
        else:
            _repeat(arguments, recordings)
    elapsed_s, cpu_s = time.monotonic() - t_start, time.process_time() - cpu_start
    after = snapshot(root, own_pids=own_pids)
    result = Measured(recordings, [], sampler, before, after, elapsed_s, cpu_s)
    result.soak = soak.conclude(sampler.samples) if soak else None
    return result


def _repeat(arguments: argparse.Namespace, recordings: list[Recording]) -> None:
    """A B, B A, A B, ...: turns, in changing order, so that a slow drift of the machine falls on both alike."""
    repeats = arguments.repeats or (_PAIRS if len(recordings) > 1 else _REPEATS)
    frames = arguments.frames or (None if arguments.seconds else _FRAMES if len(recordings) == 1 else _PAIR_FRAMES)
    progress = Progress("harrier bench", repeats)
    for turn in range(repeats):
        for recording in recordings if turn % 2 == 0 else reversed(recordings):
            recording.blocks.append(measure_block(recording.pipeline, frames, arguments.seconds))
        progress.update(turn + 1, f"{recordings[0].blocks[-1].steps} frames a block")


def _soak_blocks(duration_s: float, recording: Recording) -> SoakLog:
    """Windows until the time is over or Ctrl-C; only the last stays in the recording.

    Raises: DeviceError when Ctrl-C came before there was one.
    """
    log = SoakLog(duration_s / WINDOWS)
    progress = Progress("harrier bench --soak", WINDOWS)
    for window in range(WINDOWS):
        try:
            block = measure_block(recording.pipeline, None, log.window_s)
        except KeyboardInterrupt as exc:
            if recording.blocks:
                break
            text = f"the soak was stopped before its first window of {log.window_s:.3g} s was over"
            raise DeviceError(f"{text}, nothing was written", "let it run longer, or give a shorter --soak") from exc
        log.add(block)
        recording.blocks = [block]
        progress.update(window + 1, f"{block.steps / block.elapsed_s:.1f} frames/s")
    return log


def report_of(
    arguments: argparse.Namespace,
    named: list[tuple[str, RunConfig]],
    machine: dict,
    measured: Measured,
    budget: tuple[str, Limits] | None,
) -> Report:
    """Return the report of what was measured; measures the start-up, when asked for, on the way."""
    pairs = zip(measured.recordings, measured.stamps, strict=True)
    setups = [setup_of(recording, stamps) for recording, stamps in pairs]
    marks = findings(measured.before, measured.after, measured.elapsed_s, measured.sampler.root)
    marks = [_parts_missing(s.name, s.stages_over_wall) for s in setups if not s.stages_add_up] + marks
    frames = sum(setup.frames for setup in setups)
    config = named[0][1]
    wants_startup = arguments.startup or (budget is not None and budget[1].startup_s_max is not None)
    report = Report(
        schema=SCHEMA,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(named),
        valid=not any(mark.invalidates for mark in marks),
        findings=marks,
        machine=machine,
        setups=setups,
        resources=resources_of(measured.sampler, measured.cpu_s, measured.elapsed_s),
        power=None if measured.soak else power_of(measured.sampler, frames),
        series=series_of(measured.sampler, measured.recordings),
        comparison=comparison_of(*measured.recordings) if len(measured.recordings) > 1 else None,
        startup=measure_startup(_run_arguments(config, arguments.config)) if wants_startup else None,
        photon=measured.photon,
        soak=measured.soak,
    )
    if budget:
        report.budget_board, report.budget = budget[0], check_budget(report, budget[1])
    return report


def _parts_missing(name: str, share: float) -> Finding:
    text = f"{name}: the stages add up to {100 * share:.2f} % of the wall clock, more than 3 % off"
    return Finding(kind="stages", text=text, invalidates=True)


def _subscribable(pipeline: Pipeline) -> str | None:
    found = [p.address for p in pipeline.publishers if p.address.startswith("tcp://") and p.format == "json"]
    return found[0].replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]") if found else None


def _run_arguments(config: RunConfig, file: str | None) -> list[str]:
    options = {"--model": config.model, "--labels": config.labels, "--source": config.source}
    return [*([file] if file else []), *(word for name, v in options.items() if v for word in (name, v))]


def _command(named: list[tuple[str, RunConfig]]) -> list[str]:
    return [f"{name}: {config.model} on {config.source}" for name, config in named]
