"""`harrier eval` and `harrier explain` on the command line. What is heavy is imported when a command runs."""

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.arguments import positive, unit_interval
from edge.errors import ConfigError, InterruptedWorkError, MissingBackendError
from edge.evaluation.gates import AccuracyError

if TYPE_CHECKING:
    from edge.evaluation.evaluate import Reference
    from edge.evaluation.runner import RunSettings

_KEPT_PATHS = ("model", "data", "compare", "labels", "images")
_KEPT_OPTIONS = ("split", "iou", "max_detections", "limit")
_FEWEST_ROUNDS = 100  # of these, two or three lie beyond either end of a 95 % interval

__all__ = ["add_eval_arguments", "add_explain_arguments", "execute_eval", "execute_explain"]


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harrier eval`."""
    parser.add_argument("model", metavar="MODEL", help="bundle, model file or catalogue name")
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="COCO JSON, YOLO folder or data.yaml, Pascal VOC folder, folder of class folders, or CSV of path,label",
    )
    _add_model_options(parser)
    parser.add_argument("--compare", metavar="TARGET_OR_MODEL", help="a second target of the bundle, or another model")
    parser.add_argument("--resume", metavar="FOLDER", type=Path, help="keep each picture's result there and go on")
    parser.add_argument("--resamples", metavar="N", type=_rounds, default=1000, help="bootstrap rounds (1000)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as one self-contained page")
    parser.add_argument("--grid", metavar="FILE.png", type=Path, help="write the most telling pictures as one image")
    parser.add_argument("--min-map", metavar="X", type=unit_interval, help="exit with 5 when mAP50-95 is lower")
    parser.add_argument("--min-top1", metavar="X", type=unit_interval, help="exit with 5 when top-1 is lower")
    parser.add_argument(
        "--max-drop", metavar="X", type=unit_interval, help="exit with 5 when B is worse than A by more"
    )


def add_explain_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harrier explain`."""
    parser.add_argument("diff", metavar="DIFF", help="a JSON that `eval --compare --json` wrote, or model A")
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help="the data set, when DIFF is a model")
    parser.add_argument("--compare", metavar="TARGET_OR_MODEL", help="model B, when DIFF is a model")
    _add_model_options(parser)
    parser.add_argument("--pictures", metavar="K", type=positive, default=16, help="how many pictures to look at (16)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the findings as JSON")


def execute_eval(arguments: argparse.Namespace) -> None:
    """Run `harrier eval`.

    Raises: AccuracyError when a gate is not kept, InterruptedWorkError after Ctrl-C, and every EdgeError of the
    evaluation.
    """
    from edge.evaluation.dataset_reader import read_dataset
    from edge.evaluation.evaluate import evaluate
    from edge.evaluation.report_files import write_files
    from edge.evaluation.report_text import text_of
    from edge.files import check_writable

    check_writable([path for path in (arguments.json, arguments.html, arguments.grid) if path])
    dataset = read_dataset(arguments.data, arguments.images, arguments.limit, arguments.split)
    _check_gates(arguments, dataset.kind)
    reference = _reference() if dataset.kind == "detection" else None
    settings = _settings(arguments, dataset.kind)
    try:
        evaluation = evaluate(dataset, settings, arguments.resume, arguments.resamples, reference)
    except KeyboardInterrupt as exc:
        cure = "the same command goes on" if arguments.resume else "with --resume FOLDER the same command would go on"
        raise InterruptedWorkError("the evaluation was stopped, nothing was reported", cure) from exc
    evaluation.report["options"] = _options(arguments)
    try:
        print(text_of(evaluation.report), flush=True)
    finally:  # also when nobody reads what is printed: `harrier eval ... | head`
        write_files(evaluation, arguments.json, arguments.html, arguments.grid)
        _keep_gates(arguments, evaluation.report)


def execute_explain(arguments: argparse.Namespace) -> None:
    """Run `harrier explain`.

    Raises: ConfigError for a DIFF that is neither a comparison nor a model with --compare and DATA, or whose pictures
    are not in DATA, InterruptedWorkError after Ctrl-C.
    """
    from edge.evaluation.dataset_reader import read_dataset
    from edge.evaluation.explain import explain
    from edge.evaluation.explain_text import explanation_text
    from edge.files import check_writable, write_atomically

    check_writable([arguments.json] if arguments.json else [])
    chosen: list[str] = []
    if arguments.diff.endswith(".json"):
        chosen = _from_report(arguments)
    if not arguments.compare or not arguments.data:
        raise ConfigError("nothing to compare with", "give DATA and --compare, or a JSON of eval --compare --json")
    dataset = read_dataset(arguments.data, arguments.images, arguments.limit, arguments.split)
    if chosen:
        order = {name: i for i, name in enumerate(chosen)}
        known = [sample for sample in dataset.samples if sample.name in order]
        if not known:
            raise ConfigError(
                f"{dataset.path} has none of the {len(chosen)} pictures of the comparison, such as {chosen[0]}",
                "give the data set that was compared on, or explain A DATA --compare B",
            )
        dataset.samples = sorted(known, key=lambda sample: order[sample.name])
    all_of = len(dataset.samples)
    dataset.samples = dataset.samples[: arguments.pictures]
    arguments.model = arguments.diff
    first, second = _settings(arguments, dataset.kind)
    try:
        findings = explain(dataset, first, second, arguments.score)
    except KeyboardInterrupt as exc:
        raise InterruptedWorkError("explain was stopped, nothing was written", "give the same command again") from exc
    if len(dataset.samples) < all_of:
        findings["selection"] = f"the {'most different' if chosen else 'first'} of {all_of}"
    try:
        print(explanation_text(findings), flush=True)
    finally:
        if arguments.json:
            write_atomically(arguments.json, json.dumps(findings, indent=2) + "\n")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", metavar="FOLDER", type=Path, help="the pictures, when not beside the annotations")
    parser.add_argument("--split", metavar="NAME", help="only this part of the data set, such as val")
    parser.add_argument("--target", metavar="TARGET", help="which target of the bundle (the first that runs here)")
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line, for a bare model file")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of the engine")
    parser.add_argument("--score", metavar="S", type=unit_interval, help="least score that is kept (eval: 0.001)")
    parser.add_argument("--iou", metavar="T", type=unit_interval, help="NMS overlap threshold (the model's own)")
    parser.add_argument("--max-detections", metavar="N", type=positive, help="most for a picture (100)")
    parser.add_argument("--limit", metavar="N", type=positive, help="only the first N pictures")


def _rounds(text: str) -> int:
    number = positive(text)
    if number < _FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(
            f"{text} rounds are too few for the ends of a 95 % interval: give {_FEWEST_ROUNDS} or more"
        )
    return number


def _settings(arguments: argparse.Namespace, kind: str) -> "list[RunSettings]":
    from edge.config import Thresholds
    from edge.evaluation.runner import RunSettings, second_reference

    most = arguments.max_detections or 100
    thresholds = Thresholds(iou=arguments.iou, max_detections=most, max_candidates=10_000)
    least = 0.001 if kind == "detection" else 0.0  # a classifier's five best, however unsure
    score = least if arguments.score is None else arguments.score
    first = RunSettings(arguments.model, arguments.target, arguments.labels, score, thresholds, arguments.threads)
    return [first, second_reference(first, arguments.compare)] if arguments.compare else [first]


def _reference() -> "Reference":
    try:
        from edge.evaluation.coco_reference import reference_figures
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] == "faster_coco_eval":
            raise MissingBackendError(
                "the COCO evaluation needs faster-coco-eval, which is not installed", "pip install 'harrier-edge[eval]'"
            ) from exc
        raise
    return reference_figures


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `explain` needs to run the same comparison again, from any folder."""
    paths = {name: getattr(arguments, name) for name in _KEPT_PATHS}
    kept = {name: getattr(arguments, name) for name in _KEPT_OPTIONS}
    return {**{name: _from_anywhere(str(path)) if path else None for name, path in paths.items()}, **kept}


def _from_anywhere(word: str) -> str:
    """An absolute path; a word that is none, such as a catalogue name, as it is."""
    path = Path(word).expanduser()
    return str(path.absolute()) if path.exists() else word


def _check_gates(arguments: argparse.Namespace, kind: str) -> None:
    wrong = "top1" if kind == "detection" else "map"
    if getattr(arguments, f"min_{wrong}") is not None:
        raise ConfigError(f"--min-{wrong} does not fit a {kind} set", "use the gate of its kind")
    if arguments.max_drop is not None and not arguments.compare:
        raise ConfigError("--max-drop needs two models", "add --compare TARGET_OR_MODEL")


def _keep_gates(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    for option, key in (("min_map", "map"), ("min_top1", "top1")):
        least = getattr(arguments, option)
        if least is None:
            continue
        name = option.replace("_", "-")
        for model in report["models"]:
            value = model["figures"][key]["value"]
            if value < least:
                raise AccuracyError(
                    f"{model['name']} ({model['target']}) reaches {value:.4f}, --{name} is {least:g}",
                    _how_to_explain(arguments, report),
                )
    if arguments.max_drop is not None:
        drop = report["comparison"]["drop"]
        if drop["value"] > arguments.max_drop:
            raise AccuracyError(
                f"B loses {drop['value']:.4f} ({drop['low']:.4f} to {drop['high']:.4f}), "
                f"--max-drop is {arguments.max_drop:g}",
                _how_to_explain(arguments, report),
            )


def _how_to_explain(arguments: argparse.Namespace, report: dict[str, Any]) -> str:
    """The command that tells which stage loses accuracy, where two builds of one network were compared."""
    if not arguments.compare:
        return "see the worst pictures with --grid FILE.png, or add --compare with the model it was made from"
    if len({model["decoder"] for model in report["models"]}) > 1:
        return "see the most different pictures with --grid FILE.png"
    if arguments.json and arguments.json.suffix == ".json":
        return f"see which stage loses it: harrier explain {shlex.quote(str(arguments.json))}"
    words = ["harrier", "explain", arguments.model, str(arguments.data), "--compare", arguments.compare]
    for name in ("images", "target", "labels", *_KEPT_OPTIONS):
        value = getattr(arguments, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return f"see which stage loses it: {shlex.join(words)}"


def _from_report(arguments: argparse.Namespace) -> list[str]:
    """Fill in what a report of eval --compare says, and return its pictures, the most different first."""
    from edge.evaluation.datasets import read_text

    try:
        report = json.loads(read_text(Path(arguments.diff)))
        if len(report["models"]) == 1:
            raise ConfigError(
                f"{arguments.diff} is of one model, and a difference between two is explained",
                "write it with eval --compare B --json FILE",
            )
        first, second = report["models"]
        chosen = [row["picture"] for row in report["comparison"]["pictures"]]
        options = report["options"]
        arguments.data = arguments.data or _there(arguments.diff, options.get("data", report["data"]["path"]))
        arguments.split = arguments.split or options.get("split")
        arguments.images = arguments.images or (Path(options["images"]) if options["images"] else None)
        arguments.diff, arguments.target = options["model"], first["target"]
        arguments.labels = arguments.labels or options["labels"]
        arguments.iou = options["iou"] if arguments.iou is None else arguments.iou
        arguments.max_detections = arguments.max_detections or options["max_detections"]
        arguments.limit = arguments.limit or options["limit"]
        same = second["reference"] == first["reference"] and second["target"] != first["target"]
        arguments.compare = second["target"] if same else second["reference"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigError(
            f"{arguments.diff} is no report of a comparison ({exc})", "eval --compare B --json FILE"
        ) from exc
    return chosen


def _there(diff: str, stated: str) -> Path:
    path = Path(stated)
    if not path.exists():
        raise ConfigError(f"the data set of {diff} is not at {path.absolute()}", f"harrier explain {diff} DATA")
    return path
