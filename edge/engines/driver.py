"""What NVIDIA's driver says of a GPU, asked without any package. Portable: Python 3.6, by path or in this package."""

import ctypes

__all__ = ["driver_problem", "gpu_capability"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_ERRORS = {  # of cuda.h
    2: "out of memory",
    3: "the driver is being shut down",
    34: "a stub of the driver was loaded, not the driver",
    35: "the driver is too old",
    100: "no CUDA device",
    101: "no such CUDA device",
    802: "the system is not ready yet",
    803: "the kernel module and libcuda are of different versions",
    804: "this CUDA needs a newer driver on this GPU",
    999: "unknown error: often no permission for /dev/nv* or a driver that was updated without a restart",
}


def gpu_capability(device=0):
    """Return the compute capability of a GPU, for example "8.7", asked of the driver; None without that GPU."""
    return _asked(device)[0]


def driver_problem(device=0):
    """Return why this GPU cannot be used, "" when it can."""
    return _asked(device)[1]


def _asked(device):
    """(compute capability or None, problem or "")."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, "no NVIDIA driver (libcuda.so.1) is installed"
    code = driver.cuInit(0)
    handle, parts = ctypes.c_int(), []
    code = code or driver.cuDeviceGet(ctypes.byref(handle), device)
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        code = code or driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        parts.append(str(value.value))
    if code:
        return None, f"CUDA error {code}: {_ERRORS.get(code, 'see cuda.h')}"
    return ".".join(parts), ""
