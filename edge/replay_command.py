"""`harrier replay` on the command line. What is heavy is imported when it runs."""

import argparse
import json
from pathlib import Path

from edge.arguments import unit_interval
from edge.errors import ConfigError, MissingBackendError
from edge.evaluation.gates import AccuracyError

__all__ = ["add_replay"]


def add_replay(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    replay = commands.add_parser("replay", help="show what a recording holds, or compare it with what a model sees now")
    replay.add_argument("recording", metavar="RECORDING.mcap", type=Path)
    replay.add_argument("--expect", action="store_true", help="run its pictures through the model and compare")
    replay.add_argument("--model", metavar="BUNDLE_OR_FILE", help="compare with this model (the recorded one)")
    replay.add_argument("--target", metavar="TARGET", help="which target of the bundle (the first that runs here)")
    replay.add_argument("--labels", metavar="FILE", help="class names, one a line, for a bare model file")
    replay.add_argument("--config", metavar="CONFIG.toml", type=Path, help="thresholds, tracking and engine of the run")
    replay.add_argument(
        "--iou", metavar="T", type=unit_interval, default=0.5, help="overlap from which boxes are the same (0.5)"
    )
    replay.add_argument(
        "--score", metavar="D", type=unit_interval, default=0.05, help="how far their scores may differ (0.05)"
    )
    replay.add_argument(
        "--threshold", metavar="S", type=unit_interval, help="the score threshold it was recorded with (the model's)"
    )
    replay.add_argument(
        "--max-differing",
        metavar="X",
        type=unit_interval,
        default=0.0,
        help="exit with 5 when a larger share of the frames differs (0)",
    )
    replay.add_argument("--json", metavar="FILE", type=Path, help="write what was found as JSON")
    replay.add_argument("--report", metavar="FILE", type=Path, help="write the worst frames: .html or .png")
    replay.set_defaults(command=_replay)


def _replay(arguments: argparse.Namespace) -> None:
    try:
        from edge.replay_survey import survey, survey_text
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] in ("mcap", "zstandard"):
            raise MissingBackendError(
                "recordings need mcap, which is not installed", "pip install 'harrier-edge[record]'"
            ) from exc
        raise
    from edge.files import check_writable, write_atomically

    check_writable([path for path in (arguments.json, arguments.report) if path])
    if arguments.expect:
        _expect(arguments)
        return
    if arguments.report:
        raise ConfigError("--report shows what differs, and nothing is compared", "add --expect")
    found = survey(arguments.recording)
    print(survey_text(found))
    if arguments.json:
        write_atomically(arguments.json, json.dumps(found.as_dict(), indent=2) + "\n")


def _expect(arguments: argparse.Namespace) -> None:
    """Raises: AccuracyError when more differs than may."""
    from edge.config import RunConfig, read_config
    from edge.files import write_atomically
    from edge.replay_compare import Limits
    from edge.replay_expected import expect
    from edge.replay_report import as_dict, outcome_text, write_report

    config = read_config(arguments.config) if arguments.config else RunConfig()
    config.model = arguments.model or config.model
    config.labels = arguments.labels or config.labels
    config.engine.target = arguments.target or config.engine.target
    if arguments.threshold is not None:
        config.thresholds.score = arguments.threshold
    outcome = expect(arguments.recording, config, Limits(arguments.iou, arguments.score))
    print(outcome_text(outcome))
    found = as_dict(outcome)
    if arguments.json:
        write_atomically(arguments.json, json.dumps(found, indent=2) + "\n")
    if arguments.report:
        write_report(outcome, arguments.report)
    if found["share"] > arguments.max_differing:
        raise AccuracyError(
            f"{found['differing']} of {found['frames']} frames differ from the recording, "
            f"--max-differing is {arguments.max_differing:g}",
            "see which with --report FILE.html; other pixels than recorded also count: record pictures=png",
        )
