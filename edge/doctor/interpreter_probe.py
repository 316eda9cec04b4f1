"""Run by any Python from 3.6 on: prints as JSON what that interpreter is and has, then what its OpenCV can do.

Two lines, so that the first is there even when importing OpenCV ends the process.
"""

import importlib
import json
import os
import pkgutil
import platform
import struct
import sys
from importlib.util import find_spec

__all__ = ["facts", "opencv_facts"]

_NAMESPACES = ("cuda", "google", "mcap_protobuf", "paho")  # folders without an __init__.py, which no list shows


def facts():
    """Return version, platform, packages by name and which modules there are, without importing any of them."""
    return {
        "version": list(sys.version_info[:3]),
        "executable": sys.executable,
        "bits": 8 * struct.calcsize("P"),
        "machine": platform.machine(),
        "libc": _libc(),
        "venv": sys.prefix != sys.base_prefix,
        "system_packages": _sees_system_packages(),
        "externally_managed": _externally_managed(),
        "packages": _packages(),
        "modules": _modules(),
    }


def opencv_facts():
    """Return OpenCV's version and whether it has GStreamer and V4L2, or the error of its import."""
    try:
        cv2 = importlib.import_module("cv2")
        lines = cv2.getBuildInformation().splitlines()
    except Exception as exc:
        return {"error": f"{type(exc).__name__}: {exc}"}
    said = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() in ("GStreamer", "v4l/v4l2", "FFMPEG"):
            said[key.strip().lower()] = value.strip()
    return {"version": cv2.__version__, "build": said}


def _libc():
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION")  # "glibc 2.36"; musl has no such name
    except (AttributeError, OSError, ValueError):
        said = None
    return said or "musl"


def _sees_system_packages():
    """Whether a virtual environment looks into the system's packages, too."""
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg")) as file:
            return "include-system-site-packages = true" in file.read()
    except (OSError, ValueError):
        return True


def _externally_managed():
    library = os.path.dirname(os.__file__)
    return os.path.exists(os.path.join(library, "EXTERNALLY-MANAGED"))


def _packages():
    found = {}
    for folder in reversed(sys.path):
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix in (".dist-info", ".egg-info") and "-" in stem:
                package, version = stem.split("-")[:2]
                found[package.lower().replace("_", "-").replace(".", "-")] = version
    return found


def _modules():
    """Every top-level module that could be imported."""
    found = {module.name for module in pkgutil.iter_modules() if not module.name.startswith("_")}
    return sorted(found.union(name for name in _NAMESPACES if _is_there(name)))


def _is_there(name):
    try:
        return find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are nobody's packages
    print(json.dumps(facts()), flush=True)
    print(json.dumps(opencv_facts() if _is_there("cv2") else {}))
