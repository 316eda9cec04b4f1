"""What stands between a configuration that runs by hand and the same one under systemd, found beforehand."""

import os
import stat
from pathlib import Path

from edge import catalogue, slots
from edge.config import RunConfig
from edge.errors import ConfigError
from edge.progress import Progress
from edge.registry import names
from edge.uri import parse_uri

__all__ = ["PYTHON_CURE", "check_paths", "is_reached", "needs_home", "places", "pull_model", "warnings_of"]

PYTHON_CURE = "install Harrier in /opt: python3 -m venv /opt/harrier && /opt/harrier/bin/pip install harrier-edge"

_WRITABLE = ("/var/lib/harrier", "/var/log/harrier", "/var/cache/harrier", "/run/harrier", "/dev")
_HOMES = ("/home", "/root", "/run/user")
_ON_DISK = ("file", "images", "mcap", "replay", "unix")


def check_paths(config: RunConfig) -> None:
    """Check that nothing is named relative to the folder, or the home, somebody happens to have: a service has none.

    Raises: ConfigError naming the key.
    """
    for key, text in _named(config):
        if not Path(text).is_absolute():
            raise _relative(key, text, f"write {key} = '{Path(text).expanduser().absolute()}'")
    for key, text in [("source", config.source or ""), *(("publish", text) for text in config.publish)]:
        place = _place(text) if key == "source" or "://" in text else None
        if place is not None and not place.is_absolute():
            raise _relative(key, text, "write the path from / on")


def places(config: RunConfig) -> list[Path]:
    """Return the files and folders a configuration reads that must be there before a run."""
    source = _place(config.source or "")
    found = [Path(text) for _, text in _named(config)]
    return found + ([source] if source and not str(source).startswith("/dev/") else [])


def is_reached(path: Path, uid: int, gids: set[int]) -> bool:
    """Return whether a user may reach a file or folder, links followed, as far as the folders on the way tell."""
    for end in {path.absolute(), path.resolve()}:
        for step in [*reversed(end.parents), end]:
            try:
                status = step.stat()
            except OSError:
                return False
            wanted = stat.S_IXOTH if step.is_dir() else stat.S_IROTH
            shift = 6 if status.st_uid == uid else 3 if status.st_gid in gids else 0
            if uid != 0 and not status.st_mode & (wanted << shift):
                return False
    return True


def needs_home(paths: list[Path]) -> bool:
    """Return whether any path, links followed, leads into somebody's home, which the unit hides."""
    ends = [str(end) for path in paths for end in (path.absolute(), path.resolve())]
    return any(end.startswith(f"{home}/") for end in ends for home in _HOMES)


def warnings_of(config: RunConfig) -> list[str]:
    """Return what works by hand and differently, or not at all, as a service; one line each."""
    found = []
    for text in config.publish or ["stdout://"]:
        place, safe = _place(text), parse_uri(text).safe_text
        if text.startswith("stdout:"):
            found.append(f"{safe} goes to the log, which takes 10 lines a second; publish to a socket instead")
        elif place and str(place).startswith(("/tmp/", "/var/tmp/")):
            found.append(f"{safe} is in a /tmp of the service's own, where nobody else sees it; use /run/harrier/NAME/")
        elif place and not str(place).startswith(tuple(f"{folder}/" for folder in _WRITABLE)):
            found.append(f"{safe} cannot be written by the service; use /var/lib/harrier/ or /run/harrier/NAME/")
    return found


def pull_model(config: RunConfig, home: Path) -> None:
    """Fetch the catalogue's model a configuration names into the service's own folder, where it is not there yet.

    What is opened from now on in this process is looked for in that folder as well.
    Raises: CatalogueError when it cannot be fetched.
    """
    os.environ["HARRIER_HOME"] = str(home)
    name = config.model if config.model and _is_name(config.model) and not slots.current(config.model) else ""
    if name in catalogue.entries():
        progress = Progress(f"pulling {name}")
        catalogue.pull(name, lambda stage, done, total: progress.update(done, stage, total))
        progress.clear()


def _named(config: RunConfig) -> list[tuple[str, str]]:
    """The keys whose values are paths, where they are given."""
    model = None if config.model and _is_name(config.model) else config.model
    python = config.engine.python if "/" in (config.engine.python or "") else None  # else it is looked for on PATH
    keys = [("model", model), ("labels", config.labels), ("camera", config.geometry.camera), ("python", python)]
    return [(key, text) for key, text in keys if text]


def _is_name(text: str) -> bool:
    """Whether a model is one of the catalogue, or an installed one, and no file or folder."""
    is_file = Path(text).suffix.lower().lstrip(".") in ("zip", *names("engines"))
    return not (is_file or "/" in text or text.startswith("~") or Path(text).exists())


def _relative(key: str, text: str, cure: str) -> ConfigError:
    return ConfigError(f"{key} = '{text}' is relative, and a service has no folder of yours", cure)


def _place(text: str) -> Path | None:
    """The path in a URI of a file, folder or socket, or in plain text that is one; None for everything else."""
    if "://" in text:
        uri = parse_uri(text)
        return Path(uri.rest) if uri.scheme in _ON_DISK else None
    return None if not text or text.partition("?")[0].isdigit() else Path(text)
