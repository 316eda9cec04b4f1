"""The options of `mcap://`, and what is wrong with a place to record to."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError, PublishError
from edge.publishers.base import PublisherOptions, options_of
from edge.publishers.mcap_encoding import calibration_of
from edge.publishers.mcap_triggers import conditions_of
from edge.uri import Uri

__all__ = ["McapOptions", "check_recording", "file_mb", "make_folder"]

_FILE_MB = 256
_OF_FOLDERS = ("max_mb", "max_s", "total_mb", "name", "ring_s", "after_s", "trigger", "start")

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class McapOptions(PublisherOptions):
    """pictures: jpeg of `quality`, png (as the camera gave them) or none; of every `every`-th result, at most max_hz.

    A folder: `name` begins its files' names; each ends after max_mb (0: a quarter of total_mb, 256 at most) or max_s,
    all together take total_mb (0 for any amount), min_free_mb stay free on the disk: the oldest are deleted. start:
    whether it records from the start on. ring_s: only keep that many seconds in memory, and write them and after_s more
    when `trigger` asks for it. memory_mb: what may wait there. flush_s: how much a crash may cost; sync: also one of
    the power. camera: a camera file.
    """

    pictures: Literal["jpeg", "png", "none"] = "jpeg"
    quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 90
    every: Positive = 1
    max_hz: NotNegative = 0.0
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")] = "harrier"
    max_mb: Count = 0
    max_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    total_mb: Count = 4000
    min_free_mb: Count = 200
    flush_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    sync: bool = True
    compression: Literal["none", "lz4", "zstd"] = "none"
    memory_mb: Positive = 64
    ring_s: NotNegative = 0.0
    after_s: NotNegative = 5.0
    trigger: str = ""
    start: bool = True
    camera: str = ""


def check_recording(uri: Uri) -> None:
    """Check names, options and the camera file.

    Raises: ConfigError, PublishError when the place cannot be written.
    """
    options = options_of(uri, McapOptions)
    if options.format not in ("", "json"):
        raise ConfigError(f"{uri.safe_text}: a recording holds JSON and protobuf", "leave out format=")
    if not uri.rest:
        raise ConfigError("mcap:// names no file and no folder", "write mcap://drive.mcap or mcap://recordings")
    conditions = conditions_of(options.trigger, uri.safe_text)
    if conditions and not options.ring_s:
        raise ConfigError(f"{uri.safe_text}: trigger keeps a ring, and there is none", "add ring_s=20")
    _check_place(uri)
    if options.total_mb and options.total_mb < 2 * file_mb(options):
        raise ConfigError(
            f"{uri.safe_text}: {options.total_mb} MB do not hold two files of {file_mb(options)} MB",
            "raise total_mb, or lower max_mb",
        )
    if options.camera:
        calibration_of(Path(options.camera), 0)


def file_mb(options: McapOptions) -> int:
    """Return how large a file of a folder may become, in MB."""
    return options.max_mb or (max(1, min(_FILE_MB, options.total_mb // 4)) if options.total_mb else _FILE_MB)


def _check_place(uri: Uri) -> None:
    path = Path(uri.rest).expanduser()
    if path.suffix == ".mcap":
        for option in _OF_FOLDERS:
            if option in uri.query:
                raise ConfigError(
                    f"{uri.safe_text}: {option} is for a folder, not for one file",
                    f"write mcap://{path.parent}?{option}=",
                )
        if not path.parent.is_dir():
            raise PublishError(f"cannot write {path} (there is no folder {path.parent})", f"mkdir -p {path.parent}")
    elif path.exists() and not path.is_dir():
        raise PublishError(f"{path} is no folder", "give a folder, or a name that ends in .mcap")


def make_folder(path: Path) -> None:
    """Make the folder where it is not there.

    Raises: PublishError when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PublishError(
            f"cannot make the folder {path} ({exc.strerror})", "check the path and its permissions"
        ) from exc
