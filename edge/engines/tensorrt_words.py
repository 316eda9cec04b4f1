"""What TensorRT says, in words a person can act on. Portable: Python 3.6."""

import re

from .portable import RunnerError

__all__ = ["FOREIGN", "REBUILD", "RTX_MAGIC", "explained", "first_error"]

REBUILD = 'build it here (harrier build BUNDLE --on-device), or set rebuild = "auto"'

FOREIGN = (RuntimeError, TypeError, ValueError, MemoryError)
"""What pybind11 makes of the exceptions of C++."""

RTX_MAGIC = b"vtrt"
"""How the files of TensorRT-RTX begin; the full library's begin otherwise."""

# every release brackets its messages with where in its own source they arose
_SOURCE = re.compile(
    r"^\[?[\w./]+\.(?:cpp|h|cu)[^\s\]]*\]?:?\s+|^(?:ERROR: |\[\d+\] |\d+: )|^\w+::\w+: |^In function \w+:\s*"
)
_SOURCE_TAIL = re.compile(r"\.?\s*\bIn \S+ at /\S+?:\d+")
_NO_NEWS = re.compile(r"While parsing node|--- (?:Begin|End) node|^\s*$|^Error Code \d+: $")
_NO_DRIVER = re.compile(r"cudaError 35|CUDA driver version is insufficient|CUDA initialization failure")

# "expecting" is what is here, "got" what the file has
_RELEASE = re.compile(r"expecting (?:library|format|safe) version (\S+?) got\s+(\S+?)[,\s]")
_CAPABILITY = re.compile(r"expecting compute (\S+?) got compute (\S+?)[,\s]")
_OTHER_RELEASE = re.compile(
    r"serialization version|Version tag does not match|magicTag|does not conform to the expected"
)
_PLUGIN = re.compile(r"could not find plugin\W+(\w+)|IPluginCreator not found|[Pp]lugin not found|getCreator")
_MEMORY = re.compile(r"[Oo]ut ?[Oo]f ?[Mm]emory|cudaError 2\b|bad_alloc|Cuda failure: 2\b|insufficient memory")


def first_error(lines):
    """Return the first line that says what is wrong, in one line; a missing driver only where nothing else is said."""
    texts = [text for text in map(_plain, lines) if text and not _NO_NEWS.search(text)]
    telling = [text for text in texts if not _NO_DRIVER.search(text)]
    return (telling or texts or ["TensorRT gives no reason"])[0][:300]


def explained(name, library, lines, head=b"ftrt"):
    """Return what `lines` mean for the engine file `name`. library: "TensorRT 8.5.2.2"; head: how the file begins."""
    text = " ".join(" ".join(lines).split()) + " "
    release, capability, plugin = _RELEASE.search(text), _CAPABILITY.search(text), _PLUGIN.search(text)
    if release:
        here, there = release.groups()
        return RunnerError(f"{name} was built by TensorRT {there}, here is {here}", REBUILD, "accelerator")
    if capability:
        here, there = capability.groups()
        cause = f"{name} was built for compute capability {there}, the GPU here has {here}"
        return RunnerError(cause, REBUILD, "accelerator")
    if plugin:
        which = f"the plugin {plugin.group(1)}" if plugin.group(1) else "a plugin"
        cure = "export the model without it: Harrier decodes and filters boxes itself"
        return RunnerError(f"{name} needs {which}, which {library} does not have", cure, "accelerator")
    if _MEMORY.search(text):
        cure = "close other programs, add swap, or use a smaller model or fp16"
        return RunnerError(f"there is not enough GPU memory for {name}", cure, "accelerator")
    if _OTHER_RELEASE.search(text):
        return _of_another_library(name, library, head)
    if _NO_DRIVER.search(text) and _NO_DRIVER.search(first_error(lines)):
        cure = "install NVIDIA's driver, or a newer one"
        return RunnerError(f"the GPU's driver is missing or older than {library} needs", cure, "accelerator")
    return RunnerError(f"{library} cannot use {name} ({first_error(lines)})", REBUILD, "accelerator")


def _of_another_library(name, library, head):
    if b"trt" not in head:
        return RunnerError(f"{name} is no TensorRT engine", "give a file that harrier build or trtexec made")
    is_rtx = head.startswith(RTX_MAGIC)
    if is_rtx == ("RTX" in library):
        return RunnerError(f"{name} was built by another release than {library}", REBUILD, "accelerator")
    maker = "TensorRT-RTX" if is_rtx else "TensorRT (not RTX)"
    return RunnerError(f"{name} was built by {maker}, here is {library}", REBUILD, "accelerator")


def _plain(line):
    text = " ".join(line.split())
    previous = None
    while text != previous:
        previous, text = text, _SOURCE_TAIL.sub("", _SOURCE.sub("", text))
    return text
