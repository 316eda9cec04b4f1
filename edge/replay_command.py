"""`harrier replay` on the command line. What is heavy is imported when it runs."""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edge.arguments import unit_interval
from edge.errors import ConfigError, MissingBackendError
from edge.evaluation.gates import AccuracyError

__all__ = ["add_replay"]

log = logging.getLogger("harrier")

T = TypeVar("T")


def add_replay(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    replay = commands.add_parser("replay", help="show what recordings hold, or compare them with what a model sees now")
    replay.add_argument("recordings", metavar="RECORDING", nargs="+", type=Path, help=".mcap files, or folders of them")
    replay.add_argument("--expect", action="store_true", help="run their pictures through the model and compare")
    replay.add_argument("--model", metavar="BUNDLE_OR_FILE", help="compare with this model (the recorded one)")
    replay.add_argument("--target", metavar="TARGET", help="which target of the bundle (the first that runs here)")
    replay.add_argument("--labels", metavar="FILE", help="class names, one a line, for a bare model file")
    replay.add_argument(
        "--config",
        metavar="CONFIG.toml",
        type=Path,
        help="a run's engine, thresholds, tracking and regions; the recorded ones without",
    )
    replay.add_argument(
        "--iou", metavar="T", type=unit_interval, default=0.5, help="overlap from which boxes are the same (0.5)"
    )
    replay.add_argument(
        "--score", metavar="D", type=unit_interval, default=0.05, help="how far their scores may differ (0.05)"
    )
    replay.add_argument(
        "--threshold",
        metavar="S",
        type=unit_interval,
        help="compare with this score threshold (the recorded one, else the model's)",
    )
    replay.add_argument(
        "--max-differing",
        metavar="X",
        type=unit_interval,
        default=0.0,
        help="exit with 5 when a larger share of a recording's frames differs (0)",
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
    if arguments.report and not arguments.expect:
        raise ConfigError("--report shows what differs, and nothing is compared", "add --expect")
    paths = _files_in(arguments.recordings)
    alone = paths == arguments.recordings and len(paths) == 1
    if arguments.expect:
        _expect(arguments, paths, alone)
        return

    def show(path: Path) -> dict[str, Any]:
        found = survey(path)
        print(survey_text(found))
        return found.as_dict()

    shown, failed = _of_each(paths, show, alone)
    if arguments.json:
        found = shown[0] if alone else {"recordings": shown}
        write_atomically(arguments.json, json.dumps(found, indent=2) + "\n")
    if failed:
        raise _incomplete(failed, paths)


def _expect(arguments: argparse.Namespace, paths: list[Path], alone: bool) -> None:
    """Raises: AccuracyError when more differs than may."""
    from edge.config import RunConfig, read_config
    from edge.files import write_atomically
    from edge.replay_compare import Limits
    from edge.replay_expected import expect, opened_lineups
    from edge.replay_report import all_as_dict, all_text, as_dict, outcome_text, share_of, write_report

    config = read_config(arguments.config) if arguments.config else RunConfig()
    config.model = arguments.model or config.model
    config.labels = arguments.labels or config.labels
    config.engine.target = arguments.target or config.engine.target
    if arguments.threshold is not None:
        config.thresholds.score = arguments.threshold
    limits = Limits(arguments.iou, arguments.score)
    use_recorded = arguments.config is None
    with opened_lineups(config) as lineup_of:
        outcomes, failed = _of_each(paths, lambda path: expect(path, config, limits, lineup_of, use_recorded), alone)
    if outcomes:
        print(outcome_text(outcomes[0]) if alone else all_text(outcomes))
    if arguments.json:
        found = as_dict(outcomes[0]) if alone else all_as_dict(outcomes)
        write_atomically(arguments.json, json.dumps(found, indent=2) + "\n")
    if arguments.report:
        write_report(outcomes, arguments.report)
    worse = [one for one in outcomes if share_of(one) > arguments.max_differing]
    if worse:
        worst = max(worse, key=share_of)
        differing = sum(bool(one.size) for one in worst.differences)
        which = "" if alone else f"{len(worse)} of {len(paths)} recordings, {worst.survey.path} most: "
        raise AccuracyError(
            f"{which}{differing} of {len(worst.differences)} frames differ from the recording, "
            f"--max-differing is {arguments.max_differing:g}",
            "see which with --report FILE.html; other pixels than recorded also count: record pictures=png",
        )
    if failed:
        raise _incomplete(failed, paths)


def _files_in(given: list[Path]) -> list[Path]:
    """The recordings that were named, and those of folders, by name.

    Raises: ConfigError for a folder without any.
    """
    from edge.recording import recordings_in

    found = []
    for path in given:
        inside = recordings_in(path) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"there is no .mcap file in {path}", "give a recording, or a folder of them")
        found += inside
    return found


def _of_each(paths: list[Path], work: Callable[[Path], T], alone: bool) -> tuple[list[T], list[ConfigError]]:
    """What `work` gives for each; of several, those that cannot be used are told and passed over."""
    done, failed = [], []
    for path in paths:
        try:
            done.append(work(path))
        except ConfigError as exc:
            if alone:
                raise
            log.warning("%s", exc.cause)
            failed.append(exc)
    return done, failed


def _incomplete(failed: list[ConfigError], paths: list[Path]) -> ConfigError:
    """What is said at the end, so that nobody takes what was passed over for what is well."""
    return ConfigError(f"{len(failed)} of {len(paths)} recordings cannot be used: {failed[0].cause}", failed[0].cure)
