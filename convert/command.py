"""`harrier convert` on the command line. What is heavy is imported when the command runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.precisions import PRECISIONS
from edge.arguments import positive, seconds, unit_interval
from edge.errors import ConfigError

if TYPE_CHECKING:
    from convert.request import ConvertRequest

__all__ = ["add_convert", "execute_convert", "request_of"]


def add_convert(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `convert`."""
    parser = commands.add_parser("convert", help="turn a trained network into a quantized bundle, accuracy measured")
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=".keras, .h5, SavedModel folder, .onnx, .pt2, module:factory, or a float .tflite",
    )
    parser.add_argument("--out", metavar="BUNDLE", type=Path, help="folder to write (NAME-bundle)")
    parser.add_argument("--force", action="store_true", help="replace the folder when it is there already")
    _add_targets(parser)
    _add_data(parser)
    _add_model(parser)
    parser.set_defaults(command=execute_convert)


def _add_targets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to make")
    group.add_argument(
        "--to", metavar="FORMAT,..", type=_words, default=("tflite",), help=f"of {', '.join(PRECISIONS)} (tflite)"
    )
    group.add_argument(
        "--precision",
        metavar="P,..",
        type=_words,
        help="of fp32, fp16, dynamic, int8, int8-io, uint8-io, int16x8, "
        "mixed, best (fp32, and int8 when there are calibration pictures)",
    )
    group.add_argument("--search", metavar="MINUTES", type=seconds, help="search layers to keep in float this long")
    group.add_argument("--observer", metavar="NAME", help="how ranges are chosen (the best of all, by measurement)")
    group.add_argument(
        "--ranges", metavar="FILE", type=Path, help="take these ranges for every format (`harrier calibrate run`)"
    )
    group.add_argument("--equalize", action="store_true", help="equalize weight ranges across ReLU layers first")
    group.add_argument("--no-split", action="store_true", help="leave a detector's fused output in one tensor")
    group.add_argument("--compute-capability", metavar="X.Y,..", type=_words, default=(), help="GPUs to build for")
    group.add_argument("--workspace", metavar="MIB", type=positive, help="most memory TensorRT may use in building")
    group.add_argument("--remote", metavar="USER@HOST", help="a machine with edgetpu_compiler, reached over ssh")


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--calibration", metavar="DATA", help="folder, video, list file or COCO JSON; needed for int8")
    group.add_argument("--allow-few", action="store_true", help="calibrate on fewer than 50 pictures")
    group.add_argument("--allow-grey", action="store_true", help="calibrate a colour model on grey pictures")
    group.add_argument(
        "--eval", metavar="DATA", type=Path, help="labelled pictures, as for `harrier eval`; never the calibration's"
    )
    group.add_argument("--images", metavar="FOLDER", type=Path, help="the pictures of --eval, when elsewhere")
    group.add_argument("--max-drop", metavar="X", type=unit_interval, help="most mAP or top-1 a target may lose (0.01)")
    group.add_argument("--keep-failing", action="store_true", help="write targets that lose more all the same")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the model is, where the file does not say")
    group.add_argument("--labels", metavar="FILE", help="class names, one a line")
    group.add_argument("--size", metavar="WxH", type=_size, help="input size, when the model leaves it open")
    group.add_argument("--state-dict", metavar="FILE", type=Path, help="weights for a module:factory")
    group.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="a manifest key, e.g. input.scale=0.00392"
    )
    group.add_argument("--threads", metavar="N", type=positive, default=2, help="threads in measuring (2)")


def execute_convert(arguments: argparse.Namespace) -> None:
    """Run `harrier convert`.

    Raises: AccuracyError when a target fails the gate, and every EdgeError of the conversion.
    """
    from convert.run import convert

    convert(request_of(arguments))


def request_of(arguments: argparse.Namespace) -> "ConvertRequest":
    """Return what the command line asks for.

    Raises: ConfigError for options that contradict each other.
    """
    from convert.request import DEFAULT_MAX_DROP, ConvertRequest

    if not arguments.to:
        raise ConfigError("--to names no format", f"use one of {', '.join(PRECISIONS)}")
    chosen = arguments.precision or (("fp32", "int8") if arguments.calibration else ("fp32",))
    if arguments.max_drop is not None and not arguments.eval:
        raise ConfigError("--max-drop needs labelled pictures", "add --eval DATA")
    _check_used(arguments, chosen)
    name = Path(arguments.model).stem if ":" not in arguments.model else arguments.model.partition(":")[2]
    max_drop = DEFAULT_MAX_DROP if arguments.max_drop is None and arguments.eval else arguments.max_drop
    return ConvertRequest(
        model=arguments.model,
        out=(arguments.out or Path(f"{name}-bundle")).expanduser().absolute(),
        formats=arguments.to,
        precisions=chosen,
        calibration=arguments.calibration,
        evaluation=arguments.eval,
        evaluation_images=arguments.images,
        max_drop=max_drop,
        keep_failing=arguments.keep_failing,
        allow_few=arguments.allow_few,
        allow_grey=arguments.allow_grey,
        ranges=arguments.ranges,
        split_outputs=not arguments.no_split,
        equalized=arguments.equalize,
        labels=arguments.labels,
        size_wh=arguments.size,
        state_dict=arguments.state_dict,
        settings=dict(_setting(text) for text in arguments.set),
        observer=arguments.observer,
        search_s=arguments.search * 60 if arguments.search else None,
        threads=arguments.threads,
        compute_capabilities=arguments.compute_capability,
        workspace_mib=arguments.workspace,
        remote=arguments.remote,
        force=arguments.force,
    )


def _check_used(arguments: argparse.Namespace, precisions: tuple[str, ...]) -> None:
    """An option that would change nothing is a mistake: say what it goes with.

    Raises: ConfigError.
    """
    for option, given, used, cure in (
        ("--images", arguments.images, arguments.eval, "add --eval DATA"),
        ("--keep-failing", arguments.keep_failing, arguments.eval, "add --eval DATA"),
        ("--observer", arguments.observer, arguments.calibration, "add --calibration DATA"),
        ("--ranges", arguments.ranges, arguments.calibration, "add --calibration DATA, on which they are checked"),
        ("--observer", arguments.observer, not arguments.ranges, "the ranges are given"),
        ("--ranges", arguments.ranges, not ("mixed" in precisions and "onnx" in arguments.to), "leave mixed out"),
        ("--search", arguments.search, "mixed" in precisions, "add mixed to --precision"),
        ("--compute-capability", arguments.compute_capability, "tensorrt" in arguments.to, "add tensorrt to --to"),
        ("--workspace", arguments.workspace, "tensorrt" in arguments.to, "add tensorrt to --to"),
        ("--remote", arguments.remote, "edgetpu" in arguments.to, "add edgetpu to --to"),
        ("--state-dict", arguments.state_dict, ":" in arguments.model, "give the network as MODULE:FACTORY"),
    ):
        if given and not used:
            raise ConfigError(f"{option} changes nothing here", f"{cure}, or leave it out")


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT in px, such as 416x416")
    return int(width), int(height)


def _setting(text: str) -> tuple[str, Any]:
    from edge.structs import toml_value

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text} is not KEY=VALUE", "for example --set input.channel_order=bgr")
    return key.strip(), toml_value(value.strip())
