"""`harrier calibrate` on the command line. What is heavy is imported when a command runs."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from edge.arguments import positive
from edge.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from calibration.collected import Histograms
    from calibration.pictures import CalibrationSet
    from edge.manifest import InputContract
    from edge.tensor import TensorSpec

__all__ = ["add_calibrate", "execute_pick", "execute_run"]


def add_calibrate(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `calibrate` with its actions `run` and `pick`."""
    calibrate = commands.add_parser("calibrate", help="measure the range of every activation on real pictures")
    actions = calibrate.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_run(actions)
    _add_pick(actions)


def _add_run(actions: argparse._SubParsersAction) -> None:
    run = actions.add_parser("run", help="run a float model over pictures and write its ranges")
    run.add_argument("model", metavar="MODEL", help="bundle, float .onnx or .tflite file, or catalogue name")
    run.add_argument("data", metavar="DATA", help="folder, video, .txt list or COCO JSON of representative pictures")
    run.add_argument("--out", metavar="FILE.json", type=Path, required=True, help="the ranges")
    run.add_argument(
        "--observer",
        metavar="NAME",
        default="mse",
        help="min-max, moving-average:0.95, percentile:99.9, entropy or mse (mse)",
    )
    run.add_argument("--symmetric", action="store_true", help="ranges from -x to x, as TensorRT wants them")
    run.add_argument("--per-channel", action="store_true", help="also the ranges of each channel")
    run.add_argument("--tensorrt-cache", metavar="FILE", type=Path, help="also write TensorRT's calibration cache")
    run.add_argument(
        "--tensorrt-version",
        metavar="N",
        type=positive,
        default=8201,
        help="that reads the cache, 8502 for 8.5.2 (8201)",
    )
    run.add_argument(
        "--histograms", metavar="FILE.npz", type=Path, help="keep what was counted there, and go on from it"
    )
    run.add_argument("--target", metavar="TARGET", help="which target of the bundle (the first that runs here)")
    run.add_argument("--limit", metavar="N", type=positive, help="at most N pictures, evenly spaced")
    run.add_argument("--allow-few", action="store_true", help="calibrate on fewer than 50 pictures")
    run.add_argument("--allow-grey", action="store_true", help="grey pictures for a model that takes colour")
    run.add_argument("--threads", metavar="N", type=positive, help="threads of the engine")
    run.set_defaults(command=execute_run)


def _add_pick(actions: argparse._SubParsersAction) -> None:
    pick = actions.add_parser("pick", help="choose diverse frames of a video or a folder")
    pick.add_argument("source", metavar="VIDEO_OR_FOLDER")
    pick.add_argument("--count", metavar="N", type=positive, required=True, help="how many frames")
    pick.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new folder for them")
    pick.add_argument("--sheet", metavar="FILE.png", type=Path, help="write all of them small on one picture")
    pick.set_defaults(command=execute_pick)


def execute_run(arguments: argparse.Namespace) -> None:
    """Run `harrier calibrate run`.

    Raises: DeviceError after Ctrl-C, and every EdgeError of reading, running and writing.
    """
    from calibration.collected import ranges_from, write_histograms
    from calibration.observers import check_observer
    from calibration.ranges import write_ranges
    from calibration.report import report_text
    from calibration.tables import write_tensorrt_cache

    check_observer(arguments.observer)
    _check_folders([arguments.out, arguments.tensorrt_cache, arguments.histograms])
    file, contract, spec = _model(arguments)
    pictures = _pictures(arguments, contract)
    try:
        found = _collected(arguments, file, contract, spec, pictures)
    except KeyboardInterrupt as exc:
        cure = "the same command goes on" if arguments.histograms else "with --histograms FILE.npz it would go on"
        raise DeviceError("calibrating was stopped, nothing was written", cure) from exc
    if arguments.histograms:
        write_histograms(arguments.histograms, found)
    ranges = ranges_from(found, arguments.observer, symmetric=arguments.symmetric)
    write_ranges(arguments.out, ranges)
    if arguments.tensorrt_cache:
        write_tensorrt_cache(arguments.tensorrt_cache, ranges, arguments.tensorrt_version)
    print(report_text(found, ranges, pictures.notes))


def execute_pick(arguments: argparse.Namespace) -> None:
    """Run `harrier calibrate pick`.

    Raises: ConfigError when nothing can be picked or written.
    """
    from calibration.pick import pick
    from edge.progress import Progress

    _check_folders([arguments.out, arguments.sheet])
    progress = Progress("looking at frames")
    picked = pick(arguments.source, arguments.count, arguments.out, arguments.sheet, progress.update)
    progress.clear()
    print(
        f"{len(picked.files)} of {picked.frames} frames are in {arguments.out} "
        f"(passed over: {picked.dark} dark, {picked.blurred} blurred, {picked.unreadable} unreadable)"
    )


def _check_folders(paths: list[Path | None]) -> None:
    for path in paths:
        if path and not path.absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}", "make it first")


def _model(arguments: argparse.Namespace) -> "tuple[Path, InputContract, TensorSpec]":
    from edge.config import EngineSection
    from edge.model import open_model

    model = open_model(arguments.model, EngineSection(target=arguments.target, threads=arguments.threads))
    try:
        return model.file, model.manifest.input, model.engine.input_specs[0]
    finally:
        model.close()


def _pictures(arguments: argparse.Namespace, contract: "InputContract") -> "CalibrationSet":
    from calibration.pictures import read_pictures
    from edge.progress import Progress

    progress = Progress("looking at pictures")
    wants_colour = contract.channel_order != "gray" and not arguments.allow_grey
    found = read_pictures(arguments.data, arguments.limit, arguments.allow_few, wants_colour, progress.update)
    progress.clear()
    return found


def _collected(
    arguments: argparse.Namespace,
    file: Path,
    contract: "InputContract",
    spec: "TensorSpec",
    pictures: "CalibrationSet",
) -> "Histograms":
    from calibration.collect import collect
    from calibration.collected import Histograms, read_histograms
    from calibration.preprocessed import tensors
    from edge.manifest import sha256_of
    from edge.progress import Progress

    words = "\n".join([repr(contract), str(arguments.per_channel), pictures.identity])
    identity = hashlib.sha256(words.encode()).hexdigest()
    known = Histograms(sha256_of(file), inputs=identity)
    if arguments.histograms and arguments.histograms.exists():
        known = read_histograms(arguments.histograms)
        if (known.model_sha256, known.inputs) != (sha256_of(file), identity):
            raise ConfigError(
                f"{arguments.histograms} is of another model or of other pictures", "delete it, or name another file"
            )
    progress = Progress("calibrating", len(pictures))
    inputs = tensors(pictures, contract, spec)
    found = collect(
        file,
        inputs,
        progress.update,
        known,
        arguments.per_channel,
        arguments.threads,
        arguments.histograms,
    )
    progress.clear()
    return found
