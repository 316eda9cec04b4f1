"""CUDA C to a program for one GPU with NVRTC, the compiler in libnvrtc; the same way for every binding.

Neither nvcc nor a C compiler is needed on the board: JetPack has libnvrtc with CUDA, wheels bring it elsewhere.
Python 3.6 syntax.
"""

import ctypes
import glob
import os
import sys

from .portable import RunnerError

__all__ = ["compile_kernel", "find_nvrtc"]

_INVALID_OPTION = 5  # NVRTC_ERROR_INVALID_OPTION: among others an architecture it does not know
_FOLDERS = ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/usr/lib/*-linux-gnu")
_IN_WHEELS = ("nvidia/cuda_nvrtc/lib", "nvidia/cu[0-9]*/lib")
_CURE = (
    "install it (pip install nvidia-cuda-nvrtc-cu12; a Jetson has it with CUDA), or preprocess on the CPU "
    '([engine] preprocess = "cpu")'
)


def find_nvrtc():
    """Return the loaded library.

    Raises: RunnerError (missing).
    """
    wheels = [os.path.join(folder, inside) for folder in sys.path if folder for inside in _IN_WHEELS]
    found = ["libnvrtc.so"]  # where LD_LIBRARY_PATH or the linker's cache has it
    for folder in wheels + list(_FOLDERS):
        # 10.2 sorts before 9.0, but who has both has them in two folders
        names = glob.glob(os.path.join(folder, "libnvrtc.so.*"))
        found += sorted((name for name in names if ".alt." not in name), reverse=True)
    for name in found:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RunnerError("libnvrtc, which compiles for the GPU, is not here", _CURE, "missing")


def compile_kernel(source, capability):
    """Return the program (bytes; cubin, or PTX from an NVRTC before CUDA 11.1) for a GPU such as "8.7".

    Raises: RunnerError (missing) without NVRTC, (engine) with its messages when the source does not compile.
    """
    library = find_nvrtc()
    chip = capability.replace(".", "")
    binary = hasattr(library, "nvrtcGetCUBIN")
    # a binary where it can be: a driver refuses PTX of a newer CUDA, and it need not compile again
    code, program = _compiled(library, source, "--gpu-architecture=" + ("sm_" if binary else "compute_") + chip)
    if code == _INVALID_OPTION:  # a GPU newer than this NVRTC: the driver takes it from PTX
        binary = False
        _destroy(library, program)
        code, program = _compiled(library, source, None)
    try:
        if code:
            log = _bytes(library, program, "ProgramLog").decode("utf-8", "replace")
            log = "; ".join(line for line in log.splitlines() if "error" in line)
            name = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)(("nvrtcGetErrorString", library))(code).decode()
            raise RunnerError(f"NVRTC: {name} {log}", "report it with the version of CUDA", "engine")
        return _bytes(library, program, "CUBIN" if binary else "PTX")
    finally:
        _destroy(library, program)


def _compiled(library, source, option):
    program = ctypes.c_void_p()
    code = library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"harrier.cu", 0, None, None)
    if code:
        return code, program
    options = (ctypes.c_char_p * 1)(option.encode()) if option else None
    return library.nvrtcCompileProgram(program, 1 if option else 0, options), program


def _bytes(library, program, what):
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(max(1, size.value))
    getattr(library, f"nvrtcGet{what}")(program, text)
    return text.raw


def _destroy(library, program):
    library.nvrtcDestroyProgram(ctypes.byref(program))
