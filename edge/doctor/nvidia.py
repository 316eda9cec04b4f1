"""NVIDIA: the GPU, its driver, CUDA, and where a TensorRT is that Harrier can reach."""

import re
from collections.abc import Iterator

from edge.doctor.board import WORKER_CURE, Jetson, container_of, jetson_of
from edge.doctor.finding import Finding, note, ok, warning
from edge.doctor.interpreters import SYSTEM_PYTHON, Interpreter, interpreter, own_interpreter
from edge.doctor.machine import Machine

__all__ = ["compute_capability", "nvidia_findings", "tensorrts_of"]

_TENSORRTS = {"tensorrt": {"tensorrt"}, "tensorrt-rtx": {"tensorrt_rtx", "tensorrt_rtx_bindings"}}  # by modules
_ASK_GPU = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader"]
_TRTEXECS = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/bin/trtexec", "/usr/bin/trtexec")


def nvidia_findings(machine: Machine) -> Iterator[Finding]:
    """Yield GPU, CUDA and TensorRT; nothing but one line where there is no NVIDIA GPU."""
    jetson = jetson_of(machine)
    if jetson is None:
        gpus = [path for path in machine.glob("sys/bus/pci/devices/*") if _is_nvidia_gpu(machine, path.name)]
        driver = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", machine.text("proc/driver/nvidia/version"))
        if not gpus and driver is None:
            yield ok("nvidia.gpu", "GPU", "no NVIDIA GPU: models run on the CPU or an Edge TPU")
            return
        yield _desktop_gpu(machine, driver[1] if driver else "")
        if driver is None:
            return
    yield from _cuda(machine, jetson)
    yield from _tensorrt(machine, jetson)


def tensorrts_of(found: Interpreter) -> dict[str, str]:
    """Return the releases of TensorRT an interpreter has, by kind as `edge.engine_needs` has them; "" for not told."""
    kinds = {}
    for kind, modules in _TENSORRTS.items():
        if found.modules & modules:
            named = [name for name in found.packages if name.startswith(kind)]
            named = [name for name in named if ("rtx" in name) == ("rtx" in kind)]
            kinds[kind] = found.packages[min(named, key=len)] if named else ""
    return kinds


def compute_capability(machine: Machine) -> str:
    """Return the first GPU's compute capability such as "8.7", "" where nothing tells."""
    if jetson := jetson_of(machine):
        return jetson.sm
    said = (machine.tool(_ASK_GPU) or "").splitlines()
    last = said[0].rpartition(",")[2].strip() if said else ""
    return last if re.fullmatch(r"\d+\.\d+", last) else ""


def _trtexec_place(machine: Machine) -> str:
    return next((path for path in _TRTEXECS if machine.exists(path)), "")


def _is_nvidia_gpu(machine: Machine, device: str) -> bool:
    folder = f"sys/bus/pci/devices/{device}"
    return machine.text(f"{folder}/vendor") == "0x10de" and machine.text(f"{folder}/class").startswith("0x03")


def _desktop_gpu(machine: Machine, driver: str) -> Finding:
    said = machine.tool(_ASK_GPU)
    if not driver:
        why = "without its driver nothing runs on the GPU"
        cure = "sudo ubuntu-drivers install  # Debian: sudo apt install nvidia-driver; then restart"
        return warning("nvidia.gpu", "GPU", "an NVIDIA GPU without NVIDIA's driver", why, cure)
    name = (said or "NVIDIA GPU").splitlines()[0]
    return ok("nvidia.gpu", "GPU", f"{name}, driver {driver}")


def _cuda(machine: Machine, jetson: Jetson | None) -> Iterator[Finding]:
    said = machine.text("usr/local/cuda/version.json") or machine.text("usr/local/cuda/version.txt")
    found = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', said) or re.search(
        r"CUDA Version ([\d.]+)", said
    )
    if found:
        yield ok("nvidia.cuda", "CUDA", f"{found[1]} in /usr/local/cuda")
    elif jetson:
        why = "TensorRT needs CUDA's run-time libraries"
        cure = "sudo apt install nvidia-jetpack"
        if container_of(machine):
            cure = "start the container with --runtime nvidia, from an image of this JetPack"
        yield warning("nvidia.cuda", "CUDA", "no /usr/local/cuda", why, cure)


def _tensorrt(machine: Machine, jetson: Jetson | None) -> Iterator[Finding]:
    own, system = own_interpreter(machine), interpreter(machine, SYSTEM_PYTHON)
    here, there = _releases(own), _releases(system)
    if here and own:
        yield ok("nvidia.tensorrt", "TensorRT", f"{here} in this interpreter")
        yield from _bindings(own, "pip install 'harrier-edge[cuda]'")
    elif there and own and system:
        yield _elsewhere(own, system, there)
        yield from _bindings(system, f"{SYSTEM_PYTHON} -m pip install --user pycuda  # with CUDA's nvcc on the PATH")
        if "numpy" not in system.modules:
            why = "a worker in that interpreter needs numpy"
            found = f"{SYSTEM_PYTHON} has no numpy"
            yield warning("nvidia.worker", "worker", found, why, "sudo apt install python3-numpy")
    elif jetson:
        why = "without TensorRT's Python module no engine runs on this GPU"
        cure = "sudo apt install nvidia-jetpack"
        if container_of(machine):
            cure = "start from an image of this JetPack that has TensorRT, with --runtime nvidia"
        yield warning("nvidia.tensorrt", "TensorRT", f"neither here nor in {SYSTEM_PYTHON}", why, cure)
    else:
        why = "models run on the CPU until there is one"
        cure = "pip install 'harrier-edge[tensorrt-rtx]'  # or NVIDIA's tensorrt packages"
        yield note("nvidia.tensorrt", "TensorRT", f"neither here nor in {SYSTEM_PYTHON}", why, cure)
    yield from _trtexec(machine, jetson)


def _releases(found: Interpreter | None) -> str:
    kinds = tensorrts_of(found) if found else {}
    return " and ".join(f"{kind} {release}".rstrip() for kind, release in kinds.items())


def _bindings(runs: Interpreter, cure: str) -> Iterator[Finding]:
    present = [name for name in ("pycuda", "cuda") if name in runs.modules]
    if present:
        return
    why = "TensorRT's memory is handled through pycuda or cuda-python"
    yield warning("nvidia.bindings", "CUDA", f"no bindings for Python in {runs.executable}", why, cure)


def _elsewhere(own: Interpreter, system: Interpreter, there: str) -> Finding:
    found = f"{there} in {SYSTEM_PYTHON} (Python {system.version_text}), not in this interpreter ({own.version_text})"
    if own.version[:2] == system.version[:2] and own.venv and not own.system_packages:
        why = "this virtual environment does not look into the system's packages"
        cure = "python3 -m venv --system-site-packages DIR  # and install Harrier there"
        return warning("nvidia.tensorrt", "TensorRT", found, why, cure)
    why = "it cannot be imported into another version of Python; a worker process runs it"
    return note("nvidia.tensorrt", "TensorRT", found, why, WORKER_CURE)


def _trtexec(machine: Machine, jetson: Jetson | None) -> Iterator[Finding]:
    if place := _trtexec_place(machine):
        yield ok("nvidia.trtexec", "trtexec", place)
    elif jetson and jetson.system_python and jetson.system_python < (3, 10):
        why = "on this JetPack `harrier build --on-device` builds engines with trtexec"
        yield warning("nvidia.trtexec", "trtexec", "not installed", why, "sudo apt install tensorrt libnvinfer-samples")
