"""One benchmark from its options to its report: open, warm up, measure in blocks, judge the machine, write."""

import argparse
import json
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge.bench.budgets import EXIT_CODE, Limits, check_budget, limits_for, read_budgets
from edge.bench.family import Family, cpu_times_s
from edge.bench.fingerprint import fingerprint
from edge.bench.health import snapshot
from edge.bench.measure import Recording, open_second, warm_up
from edge.bench.measured import Measured, ended_text, marks_of
from edge.bench.photon import measure_photon, open_light
from edge.bench.plots import check_plots, write_plots
from edge.bench.report_html import page_of
from edge.bench.report_text import text_of
from edge.bench.results import SCHEMA, Finding, Report, Startup
from edge.bench.schedule import measure_in_turns, measure_windows
from edge.bench.sensors import Sampler
from edge.bench.startup import measure_startup
from edge.bench.subscriber import Subscriber
from edge.bench.summaries import comparison_of, power_of, resources_of, series_of, setup_of
from edge.config import RunConfig, read_config
from edge.errors import ConfigError, DeviceError, EdgeError, InterruptedWorkError
from edge.files import check_writable, write_atomically
from edge.parts import open_pipeline
from edge.pipeline import Pipeline

__all__ = ["DEFAULT_PUBLISH", "DEFAULT_SOURCE", "configurations", "execute", "measure", "report_of"]

DEFAULT_SOURCE = "synthetic://?size=1280x720&fps=30"
DEFAULT_PUBLISH = "tcp://127.0.0.1:0"

_FRAMES, _REPEATS, _PAIRS = 100, 10, 12


def execute(arguments: argparse.Namespace, root: Path = Path("/")) -> int:
    """Run what the options say, print the table, write the files and return the exit code.

    root: where the machine's own files are looked for.

    Raises: EdgeError from whichever part cannot open, DeviceError for a run that --strict refuses or a soak whose
    source ended, InterruptedWorkError after Ctrl-C.
    """
    named = configurations(arguments)
    check_writable([path for path in (arguments.json, arguments.html) if path])
    if arguments.json and arguments.json == arguments.html:
        raise ConfigError(f"--json and --html both name {arguments.json}", "give each its own file")
    if arguments.plot:
        check_plots(arguments.plot)
    try:
        machine = fingerprint(root)
        budget = _budget(arguments, machine)
        measured = measure(arguments, named, root)
        report = report_of(arguments, named, machine, measured, budget)
    except KeyboardInterrupt as exc:
        raise InterruptedWorkError("the run was stopped, nothing was written", "let it run to its end") from exc
    print(text_of(report))
    if arguments.strict and not report.valid:
        marks = "; ".join(finding.text for finding in report.findings if finding.invalidates)
        raise DeviceError(f"--strict refuses this run, nothing was written: {marks}", "quiet the machine and repeat")
    _write(arguments, report)
    kept = all(line.kept for line in report.budget or []) and not (report.soak and report.soak.problems)
    if kept and measured.ended:
        raise DeviceError(f"{ended_text(report.soak)}: {measured.ended.cause}", measured.ended.cure)
    if kept and measured.untimed:
        raise measured.untimed
    return 0 if kept else EXIT_CODE


def _write(arguments: argparse.Namespace, report: Report) -> None:
    """Write every file that can be written, whatever becomes of the others."""
    failed: list[EdgeError] = []
    text = json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=False) + "\n"
    for path, content in ((arguments.json, text), (arguments.html, page_of(report))):
        try:
            if path:
                write_atomically(path, content.encode("utf-8", "replace"))  # the names of files need not be UTF-8
        except EdgeError as exc:
            failed.append(exc)
    if arguments.plot:
        write_plots(report, arguments.plot)
    if failed:
        raise failed[0]


def _budget(arguments: argparse.Namespace, machine: dict) -> tuple[str, Limits] | None:
    if not arguments.budget:
        return None
    return limits_for(read_budgets(arguments.budget), machine["board"], machine["cpu"])


def configurations(arguments: argparse.Namespace) -> list[tuple[str, RunConfig]]:
    """Return one or two named configurations: what the files say, then the options, then the defaults.

    Raises: ConfigError.
    """
    if arguments.compare and (arguments.soak or arguments.photon or arguments.startup):
        raise ConfigError("--compare measures two set-ups", "leave out --soak, --photon and --startup")
    if arguments.soak and (arguments.frames or arguments.seconds or arguments.repeats):
        raise ConfigError("--soak has windows of its own", "leave out --frames, --seconds and --repeats")
    texts = arguments.compare or [None]
    files = [text for text in texts if text and text.endswith(".toml")]
    if arguments.compare and arguments.config and len(files) == 2:
        raise ConfigError(
            f"--compare names both configurations, and {arguments.config} would be unused", "leave it out"
        )
    if arguments.compare and arguments.model and len(files) < 2:
        raise ConfigError(f"--compare names the models, and --model {arguments.model} would be unused", "leave it out")
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
    subscribers: dict[str, Subscriber] = {}
    with ExitStack() as stack:
        light = open_light(arguments.photon) if arguments.photon else None
        if light:
            stack.callback(light.close)
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
    measured.unread = [address for address, subscriber in subscribers.items() if not subscriber.connected]
    return measured


def _blocks(
    arguments: argparse.Namespace, recordings: list[Recording], readers: tuple[int, ...], root: Path
) -> Measured:
    """readers: the subscribers' processes, which no robot has beside its pipeline."""
    interval_s = 0.25 if not arguments.soak else min(10.0, max(0.05, arguments.soak / 2000))
    before, t_start, cpu_before = snapshot(root), time.monotonic(), cpu_times_s()
    log = ended = None
    with Sampler(interval_s, root, family=Family(besides=readers)) as sampler:
        if arguments.soak:
            log, ended = measure_windows(arguments.soak, recordings[0])
        else:
            frames = arguments.frames or (None if arguments.seconds else _FRAMES)
            repeats = arguments.repeats or (_PAIRS if len(recordings) > 1 else _REPEATS)
            measure_in_turns(recordings, repeats, frames, arguments.seconds)
    elapsed_s, cpu_after = time.monotonic() - t_start, cpu_times_s()
    after = snapshot(root)
    # what has ended (0) is mostly tools that this asked, such as vcgencmd
    cpu_s = sum(s - cpu_before.get(pid, 0.0) for pid, s in cpu_after.items() if pid and pid not in readers)
    result = Measured(recordings, [], sampler, before, after, elapsed_s, cpu_s, ended=ended)
    result.soak = log.conclude(sampler.samples) if log else None
    return result


def report_of(
    arguments: argparse.Namespace,
    named: list[tuple[str, RunConfig]],
    machine: dict,
    measured: Measured,
    budget: tuple[str, Limits] | None,
) -> Report:
    """Return the report of what was measured; measures the start-up, when asked for, on the way.

    Where that fails, `measured.untimed` says why: what was measured before is not lost.
    """
    sampler, alone = measured.sampler, len(measured.recordings) == 1
    setups = [
        setup_of(recording, stamps, power_of(sampler, recording, alone))
        for recording, stamps in zip(measured.recordings, measured.stamps, strict=True)
    ]
    limited = budget is not None and budget[1].startup_s_max is not None
    startup = _startup(measured, named[0][1]) if alone and (arguments.startup or limited) else None
    marks = marks_of(measured, setups)
    if limited and not alone:
        text = "startup_s_max: not checked, as --compare times no start-up"
        marks.append(Finding(kind="budget", text=text, invalidates=False))
    report = Report(
        schema=SCHEMA,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(named),
        valid=not any(mark.invalidates for mark in marks),
        findings=marks,
        machine=machine,
        setups=setups,
        resources=resources_of(sampler, measured.cpu_s, measured.elapsed_s),
        series=series_of(sampler, measured.recordings, measured.soak),
        comparison=None if alone else comparison_of(sampler, *measured.recordings),
        startup=startup,
        photon=measured.photon,
        soak=measured.soak,
    )
    if budget:
        report.budget_board, report.budget = budget[0], check_budget(report, budget[1])
    return report


def _startup(measured: Measured, config: RunConfig) -> Startup | None:
    try:
        return measure_startup(config)
    except EdgeError as exc:
        measured.untimed = exc
    except KeyboardInterrupt:
        measured.untimed = InterruptedWorkError(
            "the start-up was not timed, all else is there", "let it run to its end"
        )
    return None


def _subscribable(pipeline: Pipeline) -> str | None:
    found = [p.address for p in pipeline.publishers if p.address.startswith("tcp://")]
    return found[0].replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]") if found else None


def _command(named: list[tuple[str, RunConfig]]) -> list[str]:
    return [f"{name}: {config.model} on {config.source}" for name, config in named]
