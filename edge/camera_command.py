"""`harrier camera` on the command line. What is heavy is imported when a command runs."""

import argparse
from pathlib import Path

from edge.arguments import positive, seconds
from edge.errors import InterruptedWorkError

__all__ = ["add_camera", "execute_calibrate"]


def add_camera(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `camera` with its action `calibrate`."""
    camera = commands.add_parser("camera", help="calibrate a camera, for bearings and ranges")
    actions = camera.add_subparsers(title="actions", required=True, metavar="ACTION")
    calibrate = actions.add_parser("calibrate", help="find a lens's parameters with a chessboard or ChArUco board")
    calibrate.add_argument("source", metavar="SOURCE_OR_FOLDER", help="a camera, any source's URI, a folder or a video")
    calibrate.add_argument(
        "--board",
        metavar="BOARD",
        required=True,
        help="chessboard:9x6:0.025 (inner corners, square in m) or charuco:7x5:0.04:0.03[:DICT_4X4_50] "
        "(squares, square, marker)",
    )
    calibrate.add_argument("--out", metavar="FILE.toml", type=Path, required=True, help="the camera file")
    calibrate.add_argument(
        "--report", metavar="FILE", type=Path, help="the coverage picture: .png, or .html with views"
    )
    calibrate.add_argument(
        "--lens", choices=("opencv", "rational", "fisheye"), default="opencv", help="5, 8 or fisheye's 4 coefficients"
    )
    calibrate.add_argument("--views", metavar="N", type=positive, default=20, help="how many views are wanted (20)")
    calibrate.add_argument("--frames", metavar="N", type=positive, help="stop looking after N frames")
    calibrate.add_argument("--seconds", metavar="S", type=seconds, help="stop looking after S seconds")
    calibrate.add_argument("--frame-id", metavar="NAME", help="the name of the camera's frame (camera)")
    calibrate.set_defaults(command=execute_calibrate)


def execute_calibrate(arguments: argparse.Namespace) -> None:
    """Run `harrier camera calibrate`.

    Raises: ConfigError for a set of views that is not good enough, InterruptedWorkError after Ctrl-C, SourceError.
    """
    from edge.calibrate_camera import CalibrationJob, calibrate_camera
    from edge.camera_report import report_text
    from edge.geometry.board import parse_board

    job = CalibrationJob(
        source=arguments.source,
        board=parse_board(arguments.board),
        out=arguments.out,
        lens=arguments.lens,
        wanted=arguments.views,
        frames=arguments.frames,
        seconds=arguments.seconds,
        report=arguments.report,
        frame_id=arguments.frame_id,
    )
    try:
        found, camera = calibrate_camera(job)
    except KeyboardInterrupt as exc:
        cure = "with --frames N or --seconds S it ends by itself and takes what it has"
        raise InterruptedWorkError("calibrating was stopped, nothing was written", cure) from exc
    print(report_text(found, camera))
    print(f"{arguments.out} is written" + ("" if camera.mount else "; add [mount] with height and tilt, for ranges"))
