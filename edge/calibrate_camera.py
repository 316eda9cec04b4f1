"""`harrier camera calibrate`: views from any source, the camera file, and what is said about it."""

import datetime
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edge.camera_report import report_page
from edge.errors import ConfigError, EndOfStreamError
from edge.files import check_writable, write_atomically
from edge.frame import Frame
from edge.geometry.bearings import SureMaps
from edge.geometry.board import Board, BoardView, find_board, other_board
from edge.geometry.calibration import FEWEST_VIEWS, Calibration, calibrate
from edge.geometry.camera import (
    Camera,
    DistortionSection,
    IntrinsicsSection,
    MountSection,
    SigmaSection,
    read_camera,
    write_camera,
)
from edge.geometry.coverage import coverage_picture
from edge.geometry.views import ViewSet
from edge.progress import Progress
from edge.sources.base import open_source

__all__ = ["CalibrationJob", "Looked", "calibrate_camera", "camera_of", "look_for_views"]

_MOST_VIEWS = 80
_SAMPLES = 6  # pictures kept to find out what is wrong when no board is found
_FRAME_TIMEOUT_S = 10.0
_MOST_UNSEEN = 0.005
_STILL_PARTS = 0.004  # of the width: how far a board may move from one look to the next before a live camera

log = logging.getLogger("harrier")


@dataclass(frozen=True)
class CalibrationJob:
    """What is to be done. frames and seconds: when to stop looking, None for at the end or when nothing is missing."""

    source: str
    board: Board
    out: Path
    lens: str = "opencv"
    wanted: int = 20
    frames: int | None = None
    seconds: float | None = None
    report: Path | None = None
    frame_id: str | None = None


@dataclass
class Looked:
    """What a look through a source gave."""

    views: ViewSet
    frames: int = 0
    boards: int = 0
    moving: int = 0
    samples: list[np.ndarray] = field(default_factory=list)


def calibrate_camera(job: CalibrationJob) -> tuple[Calibration, Camera]:
    """Look, solve, and write the camera file and the report. A camera file that was there keeps its mount and name.

    Raises: ConfigError for a set of views that is not good enough or a file that cannot be written, SourceError.
    """
    check_writable([job.out, *([job.report] if job.report else [])])
    known = _known(job.out)
    if job.report and job.report.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"the report {job.report} is neither .png nor .html", "name it so")
    looked = look_for_views(job)
    _check_looked(looked, job.board)
    found = calibrate(looked.views.views, looked.views.size_wh, job.lens)
    camera = camera_of(found, job.frame_id or (known.frame_id if known else "camera"), known.mount if known else None)
    _check_reach(camera)
    write_camera(job.out, camera)
    if job.report:
        page = job.report.suffix.lower() == ".html"
        _, data = cv2.imencode(".jpg" if page else ".png", coverage_picture(found))
        write_atomically(job.report, report_page(found, camera, data.tobytes()) if page else data.tobytes())
    if known and known.mount:
        log.info("the mount in %s was kept", job.out)
    return found, camera


def look_for_views(job: CalibrationJob) -> Looked:
    """Return the views of a source that are sharp and differ; of a live one, until nothing is missing.

    Raises: ConfigError for frames of differing size, SourceError.
    """
    progress = Progress(f"looking for a {job.board}", job.wanted)
    t_end = None if job.seconds is None else time.monotonic() + job.seconds
    looked: Looked | None = None
    before: BoardView | None = None
    with open_source(job.source) as source:
        while looked is None or not _enough(looked, job, source.live, t_end):
            try:
                frame = source.read(_FRAME_TIMEOUT_S)
            except EndOfStreamError:
                break
            looked = looked or _start(frame, job, source.live)
            before = _look(frame, looked, job.board, before if source.live else None, source.live)
            views = looked.views
            progress.update(len(views.views), f"{len(views.views)} views: {_hint(looked, before)}")
    progress.clear()
    return looked or Looked(ViewSet((1, 1), job.wanted))


def camera_of(found: Calibration, frame_id: str, mount: MountSection | None) -> Camera:
    """Return the camera file's content for a calibration of today."""
    fx, fy, cx, cy, *bent = (float(f"{v:.10g}") for v in found.parameters)
    sigma = [float(f"{v:.4g}") for v in np.sqrt(np.diag(found.covariance))]
    return Camera(
        frame_id=frame_id,
        width_px=found.size_wh[0],
        height_px=found.size_wh[1],
        calibrated=datetime.date.today(),
        rms_px=round(found.rms_px, 4),
        views=len(found.views),
        intrinsics=IntrinsicsSection(fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy),
        distortion=DistortionSection(model="fisheye" if found.model == "fisheye" else "opencv", coefficients=bent),
        sigma=SigmaSection(
            fx_px=sigma[0],
            fy_px=sigma[1],
            cx_px=sigma[2],
            cy_px=sigma[3],
            coefficients=sigma[4:],
            covariance=((found.covariance + found.covariance.T) / 2).tolist(),
        ),
        mount=mount,
    )


def _check_reach(camera: Camera) -> None:
    """Refuse a lens model that folds back inside the picture: it was fitted to the wrong kind of lens."""
    unseen = np.isnan(SureMaps(camera).px2[0]).mean()
    if unseen > _MOST_UNSEEN:
        raise ConfigError(
            f"the lens model that fits best does not reach the outer {100 * unseen:.0f} % of the picture",
            "try another --lens (fisheye for very wide ones), and take views at the edges",
        )


def _known(path: Path) -> Camera | None:
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        return read_camera(path)
    except ConfigError as exc:
        raise ConfigError(f"{path} is there and is no camera file", "name another file for --out") from exc


def _start(frame: Frame, job: CalibrationJob, live: bool) -> Looked:
    size = (frame.info.width_px, frame.info.height_px)
    return Looked(ViewSet(size, job.wanted, chosen=bool(frame.info.frame_ref) and not live))


def _enough(looked: Looked, job: CalibrationJob, live: bool, t_end: float | None) -> bool:
    if (job.frames and looked.frames >= job.frames) or len(looked.views.views) >= _MOST_VIEWS:
        return True
    return (live and looked.views.complete) or (t_end is not None and time.monotonic() > t_end)


def _look(frame: Frame, looked: Looked, board: Board, before: BoardView | None, live: bool) -> BoardView | None:
    """Take one frame in; returns the board in it."""
    size, views = (frame.info.width_px, frame.info.height_px), looked.views
    name = frame.info.frame_ref or f"frame {frame.info.seq}"
    if size != views.size_wh:
        raise ConfigError(
            f"{name} has {size[0]}x{size[1]} px, those before {views.size_wh[0]}x{views.size_wh[1]}",
            "calibrate with pictures of one size, all held the same way",
        )
    looked.frames += 1
    view = find_board(board, frame.image, name)
    if view is None:
        if len(looked.samples) < _SAMPLES and looked.frames % 5 == 1:
            looked.samples.append(frame.image.copy())
        return None
    looked.boards += 1
    if live and (before is None or _moved_px(view, before) > _STILL_PARTS * size[0]):
        looked.moving += 1
    else:
        views.offer(view)
    return view


def _moved_px(view: BoardView, before: BoardView) -> float:
    if view.image_px.shape != before.image_px.shape:
        return float("inf")
    return float(np.abs(view.image_px - before.image_px).max())


def _hint(looked: Looked, view: BoardView | None) -> str:
    if view is None:
        return "no board in sight"
    if view.edge_px > looked.views.most_edge_px:
        return "blurred, hold still"
    return looked.views.missing()


def _check_looked(looked: Looked, board: Board) -> None:
    if not looked.frames:
        raise ConfigError("the source gave no frame", "check the source")
    if not looked.boards:
        seen = next((said for image in looked.samples if (said := other_board(board, image))), "")
        if seen:
            raise ConfigError(f"there is no {board} in {looked.frames} frames, but {seen}", "correct --board")
        raise ConfigError(
            f"there is no {board} in {looked.frames} frames",
            "show all of it, with its white rim, evenly lit; a chessboard counts its inner corners",
        )
    views = looked.views
    if len(views.views) < FEWEST_VIEWS:
        reasons = {"blurred": views.blurred, "too like others": views.alike, "moving": looked.moving}
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count) or "no other had the board"
        worst = max(reasons, key=lambda reason: reasons[reason])
        cures = {
            "blurred": "hold the board still, give more light, focus",
            "too like others": f"move the board between views: {views.missing()}",
            "moving": "hold the board still for a second at each place",
        }
        raise ConfigError(
            f"of {looked.boards} views of the board only {len(views.views)} are usable ({said})",
            cures[worst] if reasons[worst] else f"take {FEWEST_VIEWS} or more, better 20, from many sides",
        )
    log.info(
        "%d frames, %d with the board: %d views kept, %d blurred, %d moving, %d too like others",
        *(looked.frames, looked.boards, len(views.views), views.blurred, looked.moving, views.alike),
    )
