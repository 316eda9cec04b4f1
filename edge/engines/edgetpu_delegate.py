"""libedgetpu: which of several Edge TPUs, loading its delegate, and what its silence means.

libedgetpu refuses a TPU without a word, whatever the cause; so the kernel's files are asked (`edgetpu.diagnose`).
Its own order and version come from its C interface, edgetpu_c.h. Runs in Python 3.6 on (see `edge.engines.portable`).
"""

import ctypes
import os
import re
import time
from collections import namedtuple

from .edgetpu import LIBRARY, diagnose, find_tpus, usb_order
from .portable import RunnerError

__all__ = ["Answer", "OpenTpu", "ask_library", "choose", "explain", "loss", "open_tpu"]

Answer = namedtuple("Answer", ("error", "runtime", "devices"))
Answer.__doc__ = """What libedgetpu says of itself. error: why it cannot be loaded, "" where it can. runtime: its
version number, None where it does not say. devices: (kind, path) in its own order, None where it cannot be asked."""

OpenTpu = namedtuple("OpenTpu", ("delegate", "places", "tpu"))
OpenTpu.__doc__ = """A loaded delegate. places: of all TPUs there were then. tpu: the one in use, None where it is
not known, as libedgetpu chose among several."""

ROOT = "/"  # tests put a recorded tree and a stand-in in their place
LIBRARY_FILE = LIBRARY

_ATTEMPTS = 3  # the first fails where the TPU comes back from getting its firmware too late
_SETTLE_S, _POLL_S = 3.0, 0.1
_PASSING = ("absent", "node")  # true of a TPU that is about to come back
_KINDS = ("pci", "usb")  # edgetpu_c.h: enum edgetpu_device_type
_BUS_PATH = re.compile(r"^[0-9]+-[0-9]+(\.[0-9]+)*$|^apex_[0-9]+$")
_MISMATCH = (
    "libedgetpu and this interpreter come from different versions of TensorFlow Lite",
    "use libedgetpu built for it, or another interpreter with [engine] python: Coral's own libedgetpu 16.0 fits"
    " tflite-runtime 2.5 (docs/coral.md)",
)


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("path", ctypes.c_char_p)]


def ask_library(name: str) -> Answer:
    """Return what the library with this name or path says of itself."""
    try:
        library = ctypes.CDLL(name)
    except OSError as exc:
        return Answer(str(exc), None, None)
    try:
        library.edgetpu_version.restype = ctypes.c_char_p
        said = re.search(rb"RuntimeVersion\(([0-9]+)\)", library.edgetpu_version() or b"")
        count = ctypes.c_size_t(0)
        library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
        listed = library.edgetpu_list_devices(ctypes.byref(count))
        devices = [(listed[i].kind, listed[i].path.decode("utf-8", "replace")) for i in range(count.value)]
        if listed:
            library.edgetpu_free_devices(listed)
    except AttributeError:  # another library of this name, or one without its C interface
        return Answer("", None, None)
    kinds = [(_KINDS[kind], path) for kind, path in devices if kind in (0, 1)]
    return Answer("", int(said.group(1)) if said else None, kinds)


def choose(wanted, tpus, listed):  # type: ignore[no-untyped-def]
    """Return libedgetpu's word for the wanted TPU, and the `Tpu`, None where libedgetpu is to choose.

    wanted: "" for any, "usb", "pci", "usb:N" or "pci:N" in libedgetpu's order, "N" in the order of `find_tpus`, or a
    place as "2-1.4" or "apex_0", with or without its folder. listed: libedgetpu's own list, None without one.

    Raises: RunnerError.
    """
    if listed is None:
        listed = [(tpu.kind, tpu.path) for tpu in tpus if tpu.kind == "pci"]
        listed += [(tpu.kind, tpu.path) for tpu in usb_order(tpus)]
    by_path = {tpu.path: tpu for tpu in tpus}
    wanted = os.path.basename(wanted)
    kind, colon, number = wanted.partition(":")
    if wanted in ("", "usb", "pci"):
        able = [path for own, path in listed if wanted in ("", own)]
        if not able:
            raise _no_such(wanted, tpus)
        return wanted, by_path.get(able[0]) if len(able) == 1 else None
    if colon and kind in _KINDS and number.isdecimal():
        able = [path for own, path in listed if own == kind]
        if int(number) >= len(able):
            raise _no_such(wanted, tpus)
        return wanted, by_path.get(able[int(number)])
    if not wanted.isdecimal() and not _BUS_PATH.match(wanted):
        cure = 'write "" for any, a number, "usb:0", "pci:0", or a bus path as "2-1.4" (see: harrier doctor)'
        raise RunnerError(f"[engine] device '{wanted}' names no Edge TPU", cure, "config")
    numbered = {str(i): tpu for i, tpu in enumerate(tpus)}
    tpu = numbered.get(wanted) or {tpu.place: tpu for tpu in tpus}.get(wanted)
    if tpu is None or (tpu.kind, tpu.path) not in listed:
        raise _no_such(wanted, tpus)
    same = [path for own, path in listed if own == tpu.kind]
    return f"{tpu.kind}:{same.index(tpu.path)}", tpu


def open_tpu(load_delegate, wanted, needs):  # type: ignore[no-untyped-def]
    """Return an `OpenTpu`.

    load_delegate: the interpreter's. wanted: as `choose` takes it. needs: the runtime version the model needs at least.

    Raises: RunnerError with the cause as the kernel's files tell it.
    """
    answer = ask_library(LIBRARY_FILE)
    if answer.error:
        raise _no_library(answer.error)
    if answer.runtime is not None and needs > answer.runtime:
        raise _too_old(needs, answer.runtime)
    said, tpu = "", None
    for attempt in range(_ATTEMPTS):
        tpus = find_tpus(ROOT)
        listed = ask_library(LIBRARY_FILE).devices if attempt else answer.devices
        if not tpus and not listed:
            break
        device, tpu = choose(wanted, tpus, listed or None)
        try:
            delegate = load_delegate(LIBRARY_FILE, {"device": device} if device else {})
        except (ValueError, OSError, RuntimeError) as exc:
            said = str(exc).replace("Failed to load delegate from " + LIBRARY_FILE, "").strip()
        else:
            places = [tpu.place for tpu in find_tpus(ROOT)]
            return OpenTpu(delegate, places, tpu if tpu and tpu.place in places else None)
        found = _fatal(tpu)
        if (found and found.kind not in _PASSING) or not _settled(tpus if tpu is None else [tpu]):
            break
    found = _fatal(tpu)
    if found:
        raise RunnerError(found.cause, found.cure, "accelerator")
    raise explain(said) or RunnerError(
        f"libedgetpu refuses {_named(tpu)} ({said or 'it does not say why'})",
        "unplug it and plug it in again, look into dmesg, and see whether libedgetpu fits the interpreter"
        " (docs/coral.md)",
        "accelerator",
    )


def explain(said):  # type: ignore[no-untyped-def]
    """Return the RunnerError that words of libedgetpu or of the interpreter mean, None for words not known."""
    newer = re.search(r"requires runtime version \(([0-9]+)\).*runtime version \(([0-9]+)\)", said)
    if newer:
        return _too_old(int(newer.group(1)), int(newer.group(2)))
    if "Unsupported data type in custom op handler" in said or "unresolved custom op: edgetpu-custom-op" in said:
        return RunnerError(_MISMATCH[0], _MISMATCH[1], "accelerator")
    return None


def loss(opened, said):  # type: ignore[no-untyped-def]
    """Return the RunnerError of a TPU that was lost or failed, None where something else went wrong.

    said: by the interpreter.
    """
    here = [tpu.place for tpu in find_tpus(ROOT)]
    used = [opened.tpu.place] if opened.tpu else opened.places
    gone = [place for place in used if place not in here]
    if gone:
        cause = f"the Edge TPU at {' and '.join(gone)} is gone"
        return RunnerError(cause, "plug it in again; if nobody unplugged it: its power supply or its cable", "lost")
    if any(word in said for word in ("EdgeTpuDelegate", "USB", "transfer", "nvailable", "eadline")):
        cause = f"{_named(opened.tpu)} failed while running ({' '.join(said.split())[:200]})"
        cure = "see its power supply, its cooling and dmesg; with [engine] isolate = true it is started again"
        return RunnerError(cause, cure, "lost")
    return None


def _fatal(tpu):  # type: ignore[no-untyped-def]
    """What the kernel's files say is fatal for this TPU, None for any of them; None where they say nothing."""
    found = [finding for finding in diagnose(ROOT, tpu.place if tpu else None, library=False) if finding.fatal]
    return found[0] if found else None


def _settled(before):  # type: ignore[no-untyped-def]
    """Wait until these TPUs are here, with the firmware they had not before; whether they are, and are on USB."""
    deadline = time.monotonic() + _SETTLE_S
    while any(tpu.kind == "usb" for tpu in before) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        fresh = {tpu.place: tpu.fresh for tpu in find_tpus(ROOT)}
        if all(tpu.place in fresh for tpu in before) and (
            not any(tpu.fresh for tpu in before) or any(tpu.fresh and not fresh[tpu.place] for tpu in before)
        ):
            return True
    return False


def _no_such(wanted, tpus):  # type: ignore[no-untyped-def]
    here = ", ".join(f"{i}: {tpu.place}" for i, tpu in enumerate(tpus)) or "none"
    cause = f"no Edge TPU '{wanted}' is here ({here})"
    return RunnerError(cause, "plug it in, or correct [engine] device", "accelerator")


def _no_library(error):  # type: ignore[no-untyped-def]
    if not find_tpus(ROOT):
        found = _fatal(None)
        return RunnerError(found.cause, found.cure, "accelerator")
    missing = [found for found in diagnose(ROOT) if found.kind == "library"]
    if missing and "No such file" in error and LIBRARY in error.partition(":")[0]:
        return RunnerError(missing[0].cause, missing[0].cure, "missing")
    cause = f"{os.path.basename(LIBRARY_FILE)} cannot be loaded ({error})"
    cure = "install the libedgetpu1-std that is built for this system and processor (docs/coral.md)"
    return RunnerError(cause, cure, "missing")


def _too_old(needs, has):  # type: ignore[no-untyped-def]
    cause = f"the model was compiled for Edge TPU runtime {needs}, and libedgetpu here is runtime {has}"
    cure = f"install a newer libedgetpu1-std, or compile it with edgetpu_compiler --min_runtime_version {has}"
    return RunnerError(cause, cure, "accelerator")


def _named(tpu):  # type: ignore[no-untyped-def]
    return f"the Edge TPU at {tpu.place}" if tpu else "the Edge TPU"
