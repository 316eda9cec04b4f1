"""The command `harrier`. Each subcommand imports what it needs when it runs, so that --help is quick."""

import argparse
import io
import json
import logging
import os
import sys
from importlib import import_module
from pathlib import Path

from edge import __version__
from edge.arguments import positive, seconds, unit_interval
from edge.bench import command as bench_command
from edge.camera_command import add_camera
from edge.doctor.command import add_doctor
from edge.errors import ConfigError, EdgeError, InterruptedWorkError
from edge.evaluation import command as evaluation_command
from edge.log_lines import JsonLines, TextLines, goes_to_journal
from edge.model_command import add_model
from edge.progress import LogHandler
from edge.replay_command import add_replay
from edge.service.command import add_service

__all__ = ["main"]

# subcommands of the packages that edge does not import
_OTHER_COMMANDS = (
    "convert.command:add_convert",
    "convert.build_command:add_build",
    "calibration.command:add_calibrate",
)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    0 ok, 2 configuration, 3 model, 4 device, 5 accuracy gate, 6 a budget not kept or a soak that found a problem,
    130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # file names that are not UTF-8
    arguments = _parser().parse_args(argv)
    level = logging.WARNING if arguments.quiet else logging.INFO
    handler = LogHandler()
    handler.setFormatter({"text": TextLines, "json": JsonLines}[arguments.log](journal=goes_to_journal()))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # what these print themselves says no more than the error we raise
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # LiteRT's, too: errors and warnings
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        return arguments.command(arguments) or 0
    except EdgeError as exc:
        return _failed(exc)
    except PermissionError as exc:  # of whatever file or socket it was
        name = f" for {exc.filename}" if exc.filename else ""
        denied = ConfigError(f"no permission{name}", "give this user access to it, or choose another place")
        return _failed(denied)
    except KeyboardInterrupt:
        if arguments.command in (_run, _listen):  # they have no end of their own
            return 0
        interrupted = InterruptedWorkError("interrupted", "give the same command again")
        return _failed(interrupted)
    except BrokenPipeError:  # `harrier listen | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails
        return 0


def _failed(error: EdgeError) -> int:
    """Say why it ended, also with --quiet, and return the exit code."""
    logging.getLogger("harrier").error("%s: %s", error.cause, error.cure)
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harrier", description="Frames in, detections with an honest age out.")
    parser.add_argument("--version", action="version", version=f"harrier {__version__}")
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors on standard error")
    parser.add_argument("--log", choices=("text", "json"), default="text", help="log lines as JSON objects (text)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_listen(commands)
    _add_inspect(commands)
    _add_models(commands)
    _add_measurements(commands)
    add_camera(commands)
    add_model(commands)
    add_doctor(commands)
    add_service(commands)
    add_replay(commands)
    for place in _OTHER_COMMANDS:
        module, _, add = place.partition(":")
        getattr(import_module(module), add)(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run a model on a source and publish what it sees")
    run.add_argument("config", nargs="?", metavar="CONFIG.toml", help="configuration; options override it")
    run.add_argument("--model", metavar="BUNDLE_OR_FILE", help="bundle, .tflite or .onnx file, or catalogue name")
    run.add_argument("--labels", metavar="FILE", help="class names, one a line, for a bare model file")
    run.add_argument(
        "--source",
        metavar="URI",
        help="0, v4l2://, file://, rtsp://, images://, gst://, csi://, synthetic://",
    )
    run.add_argument(
        "--publish", metavar="URI", action="append", help="stdout://, file://, tcp://, udp:// (repeatable)"
    )
    run.add_argument("--web", metavar="HOST:PORT", help="live page, /healthz and /metrics there: 127.0.0.1:8080")
    run.add_argument("--score", metavar="S", type=unit_interval, help="score threshold, 0 to 1")
    run.add_argument("--iou", metavar="T", type=unit_interval, help="NMS overlap threshold, 0 to 1")
    run.add_argument("--track", action="store_true", help="number objects and follow them, as [tracking] does")
    run.add_argument("--frames", metavar="N", type=positive, help="stop after N frames")
    run.add_argument("--seconds", metavar="S", type=seconds, help="stop after S seconds")
    run.add_argument("--stats", metavar="FILE.json", type=Path, help="write what was measured")
    run.set_defaults(command=_run)


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser("check", help="check a configuration without running it")
    check.add_argument("config", metavar="CONFIG.toml")
    check.set_defaults(command=_check)


def _add_listen(commands: argparse._SubParsersAction) -> None:
    listen = commands.add_parser("listen", help="print what a publisher sends")
    listen.add_argument("uri", metavar="URI", help="as the publisher's: tcp://HOST:PORT, udp://:PORT, serial://DEVICE")
    listen.add_argument("--count", metavar="N", type=positive, help="stop after N messages")
    listen.add_argument("--json", action="store_true", help="print the messages as JSON lines")
    listen.add_argument("--all", action="store_true", help="heartbeats, greetings and labels, too")
    listen.add_argument("--timeout", metavar="S", type=seconds, default=10.0, help="give up after S silent seconds")
    listen.add_argument("--token", metavar="TOKEN", default="", help="what the publisher asks for")
    listen.add_argument("--reconnect", action="store_true", help="connect again when the publisher is gone")
    listen.set_defaults(command=_listen)


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    inspect = commands.add_parser("inspect", help="show what a model is and how it would be run")
    inspect.add_argument("model", metavar="FILE_OR_BUNDLE")
    inspect.add_argument("--labels", metavar="FILE", help="class names, one a line")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.add_argument("--target", metavar="TARGET", help="which target of the bundle (the first that runs here)")
    inspect.add_argument(
        "--golden", action="store_true", help="run the bundle's golden picture and compare with the converter's result"
    )
    inspect.set_defaults(command=_inspect)


def _add_models(commands: argparse._SubParsersAction) -> None:
    models = commands.add_parser("models", help="the catalogue of models and sample pictures")
    actions = models.add_subparsers(title="actions", required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").set_defaults(command=_models_list)
    pull = actions.add_parser("pull", help="fetch and verify an entry")
    pull.add_argument("name", metavar="NAME")
    pull.set_defaults(command=_models_pull)


def _add_measurements(commands: argparse._SubParsersAction) -> None:
    bench = commands.add_parser("bench", help="measure latency, age, memory and power, with intervals")
    bench_command.add_arguments(bench)
    bench.set_defaults(command=bench_command.execute)
    evaluate = commands.add_parser("eval", help="measure accuracy on a data set, with intervals")
    evaluation_command.add_eval_arguments(evaluate)
    evaluate.set_defaults(command=evaluation_command.execute_eval)
    explain = commands.add_parser("explain", help="find which stage makes two targets differ")
    evaluation_command.add_explain_arguments(explain)
    explain.set_defaults(command=evaluation_command.execute_explain)


def _run(arguments: argparse.Namespace) -> None:
    from edge.config import RunConfig, TrackingSection, read_config
    from edge.run import run
    from edge.web.options import web_section

    def read() -> RunConfig:
        config = read_config(Path(arguments.config)) if arguments.config else RunConfig()
        config.model = arguments.model or config.model
        config.labels = arguments.labels or config.labels
        config.source = arguments.source or config.source
        config.web = web_section(arguments.web, config.web) if arguments.web else config.web
        config.publish = arguments.publish or config.publish or ([] if config.web else ["stdout://"])
        if arguments.score is not None:
            config.thresholds.score = arguments.score
        if arguments.iou is not None:
            config.thresholds.iou = arguments.iou
        if arguments.track:
            config.tracking = config.tracking or TrackingSection()
        return config

    run(read(), arguments.frames, arguments.seconds, arguments.stats, read if arguments.config else None)


def _check(arguments: argparse.Namespace) -> None:
    from edge.config import read_config
    from edge.parts import check_parts

    config = read_config(Path(arguments.config))
    print("\n".join(check_parts(config)))
    print(f"{arguments.config} is right")


def _listen(arguments: argparse.Namespace) -> None:
    from edge.client import print_messages

    print_messages(
        arguments.uri,
        arguments.count,
        arguments.json,
        arguments.timeout,
        arguments.all,
        arguments.token,
        arguments.reconnect,
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from edge.inspection import describe, text_of

    if arguments.golden:
        from edge.golden import check_golden, verdict_of

        found = check_golden(arguments.model, arguments.target)
        print(json.dumps(found, indent=2) if arguments.json else verdict_of(found))
        return
    facts = describe(arguments.model, arguments.labels)
    print(json.dumps(facts, indent=2) if arguments.json else text_of(facts))


def _models_list(arguments: argparse.Namespace) -> None:
    from edge import catalogue

    for name, entry in sorted(catalogue.entries().items()):
        state = "here" if catalogue.installed(name) else "-"
        print(f"{name:<12} {entry.kind:<7} {state:<5} {entry.licence:<20} {entry.description}")


def _models_pull(arguments: argparse.Namespace) -> None:
    from edge import catalogue
    from edge.progress import Progress

    progress = Progress(f"pulling {arguments.name}")
    folder = catalogue.pull(arguments.name, lambda stage, done, total: progress.update(done, stage, total))
    progress.clear()
    print(folder)
