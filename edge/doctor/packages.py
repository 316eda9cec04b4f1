"""Does the Python fit, do the wheels fit the platform, and do the packages fit each other?"""

import re
from collections.abc import Iterator

from edge.doctor.board import jetson_of
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.interpreters import Interpreter, own_interpreter
from edge.doctor.machine import Machine

__all__ = ["python_findings", "video_findings"]

_OLDEST, _NEWEST = (3, 10), (3, 13)  # with wheels of ai-edge-litert
_GLIBC = (2, 27)  # manylinux_2_27, of ai-edge-litert
_MACHINES = ("x86_64", "aarch64", "arm64", "AMD64")
_BASE = ("numpy", "opencv-python-headless", "ai-edge-litert", "msgspec")
_OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
_HEADLESS = "opencv-python-headless"
_GSTREAMER_CURE = (
    "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
_PLUGIN_TIMEOUT_S = 10.0  # the first call after an installation looks at every plugin


def python_findings(machine: Machine) -> Iterator[Finding]:
    """Yield whether the interpreter fits, its environment, and whether wheels for it exist."""
    own = own_interpreter(machine)
    if own is None:
        yield note("python.version", "Python", "this interpreter could not be asked")
        return
    yield _version(own)
    yield from _environment(own)
    yield from _wheels(own)
    yield from _packages(own)


def _version(own: Interpreter) -> Finding:
    said = f"{own.version_text} ({own.executable})"
    if own.version[:2] < _OLDEST:
        why = "Harrier and the wheels of LiteRT need Python 3.10 or later; the system's own Python stays as it is"
        return problem("python.version", "Python", said, why, "uv venv --python 3.11  # or pyenv")
    if own.version[:2] > _NEWEST:
        why = "LiteRT (ai-edge-litert) has wheels for Python 3.10 to 3.13; Harrier was not tried with a later one"
        return warning("python.version", "Python", said, why, "uv venv --python 3.13  # or another Python up to 3.13")
    return ok("python.version", "Python", said)


def _environment(own: Interpreter) -> Iterator[Finding]:
    if own.venv:
        seen = "sees the system's packages" if own.system_packages else "apart from the system's packages"
        yield ok("python.venv", "environment", f"a virtual environment, {seen}")
    elif own.externally_managed:
        why = "pip refuses to install into the system's Python here, and with force it breaks the system's tools"
        cure = "python3 -m venv --system-site-packages ~/harrier  # then install Harrier with ~/harrier/bin/pip"
        yield note("python.venv", "environment", "the system's own Python, managed by apt", why, cure)
    else:
        yield ok("python.venv", "environment", "no virtual environment")


def _wheels_exist(own: Interpreter) -> bool:
    return own.bits == 64 and own.machine in _MACHINES and own.libc != "musl" and _glibc(own) >= _GLIBC


def _glibc(own: Interpreter) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", own.libc)[:2])


def _wheels(own: Interpreter) -> Iterator[Finding]:
    if own.bits == 32:  # said as board.bits, with its cure
        return
    if _wheels_exist(own):
        yield ok("python.wheels", "wheels", f"exist for {own.machine}, {own.libc}")
        return
    if own.machine not in _MACHINES:
        why = "LiteRT and OpenCV have wheels for x86-64 and 64-bit ARM only"
        cure = "use a board with one of these processors"
        yield problem("python.wheels", "wheels", f"none for {own.machine}", why, cure)
        return
    if own.libc == "musl":
        why = "LiteRT and OpenCV have wheels for glibc only"
        cure = "use a system or image with glibc, such as python:3.12-slim instead of python:3.12-alpine"
        yield problem("python.wheels", "wheels", "none for musl (Alpine)", why, cure)
        return
    why = "LiteRT's wheels are built for glibc 2.27 (manylinux_2_27)"
    cure = "install a later system: Ubuntu 18.04, Debian 10 or newer"
    yield problem("python.wheels", "wheels", f"none for {own.libc}", why, cure)


def _packages(own: Interpreter) -> Iterator[Finding]:
    missing = [name for name in _BASE if name not in own.packages]
    if own.distributions_of(*_OPENCVS) or "cv2" in own.modules:
        missing = [name for name in missing if name != _HEADLESS]
    if own.modules & {"tflite_runtime", "tensorflow"}:  # they run .tflite files, too
        missing = [name for name in missing if name != "ai-edge-litert"]
    if missing and _wheels_exist(own):
        why = "Harrier's base needs them"
        cure = f"pip install {' '.join(missing)}"
        yield problem("python.packages", "packages", f"missing: {', '.join(missing)}", why, cure)
    elif not missing:
        here = own.distributions_of(*_BASE)
        yield ok("python.packages", "packages", ", ".join(f"{name} {version}" for name, version in here.items()))
    numpy = own.packages.get("numpy", "")
    if "tflite_runtime" in own.modules and "ai_edge_litert" not in own.modules and not numpy.startswith(("0", "1")):
        why = "tflite-runtime 2.14, the last one, was built for numpy 1 and fails to import with numpy 2"
        found = f"tflite-runtime beside numpy {numpy}"
        yield warning(
            "python.tflite",
            "packages",
            found,
            why,
            "pip install ai-edge-litert  # or 'numpy<2'",
        )
    several = own.distributions_of(*_OPENCVS)
    if len(several) > 1:
        why = "they write the same folder cv2: which files are whose depends on what was installed last"
        remove = " ".join(name for name in several)
        cure = f"pip uninstall -y {remove} && pip install {_HEADLESS}"
        yield warning("python.opencv", "packages", f"{len(several)} OpenCV wheels: {', '.join(several)}", why, cure)


def video_findings(machine: Machine) -> Iterator[Finding]:
    """Yield what OpenCV and GStreamer can do here."""
    own = own_interpreter(machine)
    if own and "cv2" in own.modules:
        yield _opencv(own)
    yield from _gstreamer(machine)


def _opencv(own: Interpreter) -> Finding:
    if error := str(own.opencv.get("error", "")):
        wheels = " ".join(own.distributions_of(*_OPENCVS)) or "opencv-python"
        cure = f"pip uninstall -y {wheels} && pip install {_HEADLESS}"
        why = "cameras, videos and preprocessing go through OpenCV"
        if "SIGILL" in error:  # numpy's OpenBLAS guesses wrongly on a Nano
            cure = "export OPENBLAS_CORETYPE=ARMV8  # and the same line into ~/.bashrc"
        return problem("video.opencv", "OpenCV", f"cannot be imported: {error}", why, cure)
    build = own.opencv.get("build", {})
    gstreamer = str(build.get("gstreamer", "NO"))
    said = "with GStreamer" if gstreamer.startswith("YES") else "without GStreamer, which Harrier does not need"
    return ok("video.opencv", "OpenCV", f"{own.opencv.get('version', '?')} {said}")


def _gstreamer(machine: Machine) -> Iterator[Finding]:
    said = machine.tool(["gst-launch-1.0", "--version"])
    jetson = jetson_of(machine)
    why = "gst:// sources need gst-launch-1.0" + (", and so do CSI cameras" if jetson else "")
    if said is None:
        level = warning if jetson else note
        yield level("video.gstreamer", "GStreamer", "gst-launch-1.0 is not installed", why, _GSTREAMER_CURE)
        return
    version = re.search(r"GStreamer ([\d.]+)", said)
    elements = {"gdppay": "gstreamer1.0-plugins-bad", "videoconvert": "gstreamer1.0-plugins-base"}
    if jetson:
        elements |= {"nvarguscamerasrc": "nvidia-l4t-gstreamer", "nvvidconv": "nvidia-l4t-gstreamer"}
    missing = [name for name in elements if _lacks(machine, name)]
    if missing:
        packages = " ".join(sorted({elements[name] for name in missing}))
        found = f"gst-launch-1.0 without the elements {', '.join(missing)}"
        yield warning("video.plugins", "GStreamer", found, why, f"sudo apt install {packages}")
    yield ok("video.gstreamer", "GStreamer", f"gst-launch-1.0 {version[1] if version else ''}".rstrip())


def _lacks(machine: Machine, element: str) -> bool:
    said = machine.run(["gst-inspect-1.0", "--exists", element], _PLUGIN_TIMEOUT_S)
    return said is not None and said.code not in (0, None)
