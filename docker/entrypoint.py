#!/opt/harrier/bin/python -IS
"""Starts Harrier in an image for Jetsons, or says in one line why it cannot run on this host. Exit code 4: wrong host.

An image for one release of Jetson Linux (L4T) fails on another in ways that do not tell: libraries that the host mounts
into it (JetPack 4: CUDA and TensorRT, later ones: the driver) belong to the host's release, the rest to the image's.

The host's release is, first found first taken: HARRIER_HOST_L4T; the host's /etc/nv_tegra_release, mounted as
/host/nv_tegra_release (the base image may have one of its own, which says nothing of the host); the kernel's version,
which tells the generation.
"""

import ctypes
import importlib.machinery
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["host_l4t", "main", "what_is_missing", "why_not"]

_RELEASE = Path("/host/nv_tegra_release")
_GENERATION_OF_KERNEL = {"4.9": "32", "5.10": "35", "5.15": "36", "6.8": "38 or 39"}
_JETPACK = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}
_TENSORRT = {"32": "/usr/lib/python3.6/dist-packages"}  # where the host's is mounted


def host_l4t(environ: Mapping[str, str], release: Path, kernel: str) -> str:
    """Return the host's L4T release, as "36.4.3", its generation alone, as "36", or "" where it is no Jetson."""
    if told := environ.get("HARRIER_HOST_L4T", ""):
        return told.strip().lstrip("rR")
    try:
        found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release.read_text())
    except OSError:
        found = None
    if found:
        return f"{found[1]}.{found[2]}"
    version = re.match(r"(\d+\.\d+)\..*tegra", kernel)
    return _GENERATION_OF_KERNEL.get(version[1], f"unknown, kernel {kernel}") if version else ""


def why_not(host: str, least: str, below: str) -> str:
    """Return why an image for L4T `least` up to, not including, `below` cannot run on `host`; "" where it can."""
    generation = least.partition(".")[0]
    wanted = f"this image is for JetPack {_JETPACK.get(generation, '?')} (L4T {least} and later, before {below})"
    if not host:
        return f"{wanted}, and this host is no Jetson: use the image of docker/Dockerfile"
    if not re.fullmatch(r"[\d.]+", host):
        if generation in host.split(" or "):
            return ""
        return f"{wanted}, this host has L4T {host}: {_cure(host)}"
    there = _numbers(host)
    if len(there) == 1:  # the generation is all that is known
        return "" if host == generation else f"{wanted}, this host has L4T {host}: {_cure(host)}"
    if _numbers(least) <= there < _numbers(below):
        return ""
    if host.partition(".")[0] == generation:
        return f"{wanted}, this host has L4T {host}: build it with --build-arg BASE=... for that (docs/docker.md)"
    return f"{wanted}, this host has L4T {host}: {_cure(host)}"


def what_is_missing(least: str, load: Callable[[str], object]) -> str:
    """Return which part that the host gives is not there; `load` opens a library by name and raises OSError."""
    try:
        load("libcuda.so.1")
    except OSError as exc:
        return f"the GPU's driver is not in this container ({exc}): start it with --runtime nvidia"
    folder = _TENSORRT.get(least.partition(".")[0])
    if folder and importlib.machinery.PathFinder.find_spec("tensorrt", [folder]) is None:
        return (
            f"the host's TensorRT is not in {folder}: on the host, apt install tensorrt python3-libnvinfer "
            "nvidia-container-csv-tensorrt"
        )
    return ""


def _cure(host: str) -> str:
    packs = sorted({_JETPACK[part] for part in re.findall(r"\d+", host)[:1] if part in _JETPACK})
    return f"use the image of docker/Dockerfile.jetpack{packs[0]}" if packs else "there is no image for that"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)


def main() -> int:
    """Look at the host, then become Harrier."""
    least, below = os.environ["HARRIER_L4T_FROM"], os.environ["HARRIER_L4T_BEFORE"]
    host = host_l4t(os.environ, _RELEASE, os.uname().release)
    trouble = why_not(host, least, below) or what_is_missing(least, ctypes.CDLL)
    if trouble:
        print(f"harrier: {trouble}", file=sys.stderr)
        return 4
    return os.execvp("tini", ["tini", "--", "/opt/harrier/bin/harrier", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
