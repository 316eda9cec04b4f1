"""What the machine says of itself: the GPU's compute capability, Jetson Linux, free memory."""

import ctypes
from pathlib import Path

__all__ = ["available_mib", "gpu_capability", "l4t_release", "trtexec"]

_CUDA_MAJOR, _CUDA_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_TRTEXEC = "usr/src/tensorrt/bin/trtexec"  # where JetPack puts it


def gpu_capability() -> str | None:
    """Return the compute capability of the first GPU, for example "8.7", asked of the driver; None without a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, parts = ctypes.c_int(), []
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute in (_CUDA_MAJOR, _CUDA_MINOR):
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        parts.append(str(value.value))
    return ".".join(parts)


def l4t_release(root: Path = Path("/")) -> str | None:
    """Return the release of Jetson Linux, for example "35.4.1"; None on any other machine."""
    try:
        words = (root / "etc/nv_tegra_release").read_text().replace(",", " ").split()
    except OSError:
        return None
    release = next((word[1:] for word in words if word.startswith("R") and word[1:].isdigit()), None)
    if release is None or "REVISION:" not in words[:-1]:
        return None
    return f"{release}.{words[words.index('REVISION:') + 1]}"


def available_mib(root: Path = Path("/")) -> int | None:
    """Return the memory in MiB that programs can still get, None where the kernel does not say."""
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return None
    kib = next((line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable:")), None)
    return int(kib) // 1024 if kib else None


def trtexec(root: Path = Path("/")) -> Path | None:
    """Return NVIDIA's command-line builder where JetPack installs it, None when it is not there."""
    path = root / _TRTEXEC
    return path if path.is_file() else None
