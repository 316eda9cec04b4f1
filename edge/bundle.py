"""Finding a model on disk: a bundle folder, a zip of one, a bare model file, or a catalogue name."""

import hashlib
import io
import shutil
import tempfile
import zipfile
from pathlib import Path

from edge import catalogue, slots
from edge.errors import CatalogueError, ManifestError
from edge.manifest import sha256_of
from edge.zips import DAMAGED_ZIP

__all__ = ["MANIFEST_NAME", "locate", "unpacked"]

MANIFEST_NAME = "manifest.toml"


def locate(reference: str) -> Path:
    """Return the bundle folder or bare model file that `reference` names.

    A path wins over the name of an installed model (`edge.slots`), that over a catalogue name. A zip is unpacked once,
    into Harrier's own folder, under its hash.
    Raises: ManifestError for a folder or zip that is no bundle, CatalogueError for an entry not pulled yet.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        if not (path / MANIFEST_NAME).is_file():
            raise ManifestError(f"{path} has no {MANIFEST_NAME}", "give a bundle folder or a model file")
        return path
    if path.is_file():
        return _unzipped(path) if path.suffix.lower() == ".zip" else path
    if installed := slots.current(reference):
        return installed
    entry = catalogue.entries().get(reference)
    if entry is None or entry.kind != "model":
        known = ", ".join(sorted(n for n, e in catalogue.entries().items() if e.kind == "model"))
        raise ManifestError(
            f"there is no model '{reference}'", f"give a bundle, a model file or a catalogue name ({known})"
        )
    pulled = catalogue.installed(reference)
    if pulled is None:
        raise CatalogueError(f"model '{reference}' is not on this machine yet", f"harrier models pull {reference}")
    return pulled


def unpacked(path: Path, content: bytes) -> Path:
    """Return the folder with what a zip holds, unpacked once.

    content: of the file `path`, read once: what was checked, as against a signature, is what is unpacked, and it lies
    under its own hash, whatever becomes of the file meanwhile.
    Raises: ManifestError for a zip that is damaged or no bundle, or a folder of Harrier's that cannot be written.
    """
    folder = _folder_of(hashlib.sha256(content).hexdigest())
    if (folder / MANIFEST_NAME).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as exc:
        raise ManifestError(f"cannot unpack {path} into {folder} ({exc.strerror})", "check HARRIER_HOME") from exc
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(partial)  # ZipFile drops absolute paths and `..` from member names
        if not (partial / MANIFEST_NAME).is_file():
            raise ManifestError(f"{path} has no {MANIFEST_NAME} at its top", "zip the content of a bundle folder")
        partial.rename(folder)
    except DAMAGED_ZIP as exc:
        raise ManifestError(f"cannot unpack {path} ({exc})", "copy the bundle again, without a password") from exc
    except OSError as exc:
        if not (folder / MANIFEST_NAME).is_file():  # else another process was quicker
            raise ManifestError(f"cannot unpack {path} into {folder} ({exc.strerror})", "check HARRIER_HOME") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _unzipped(path: Path) -> Path:
    try:
        folder = _folder_of(sha256_of(path))  # in blocks: at most starts it is there already
        return folder if (folder / MANIFEST_NAME).is_file() else unpacked(path, path.read_bytes())
    except OSError as exc:
        raise ManifestError(f"cannot read {path} ({exc.strerror})", "check the path and its permissions") from exc


def _folder_of(digest: str) -> Path:
    return catalogue.home() / "bundles" / digest[:16]
