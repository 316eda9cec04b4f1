"""A GPU's memory, streams, graphs and kernels: one small seam over pycuda and cuda-python, in Python 3.6 syntax.

All of it lives in the device's primary context, which TensorRT and everything else on CUDA's runtime share. On a Jetson
host and device memory are the same chips: an upload is a copy within them.
"""

import importlib

from .cuda_driver import Driver
from .nvrtc import compile_kernel
from .portable import RunnerError

__all__ = ["Cuda", "open_cuda"]

_BINDINGS = (("cuda_pycuda", "PyCuda"), ("cuda_python", "CudaPython"))
_PACKAGES = ("pycuda", "cuda", "cuda.bindings", "cuda.cuda")
_INSTALL = (
    "pip install 'harrier-edge[cuda]' for cuda-python; on a Jetson with JetPack 4 or 5 pip install pycuda, "
    "with CUDA's nvcc on the PATH"
)


class Cuda:
    """What both bindings have in common. `open_cuda` makes one; any thread may use it after its `make_current()`.

    binding: "pycuda" or "cuda-python". capability: the GPU's, as "8.7". Arrays are numpy's and C-contiguous, pointers
    and handles ints, sizes bytes. What `alloc`, `pinned`, `stream` and `end_capture` gave is released by `close()`:
    pinned arrays must not be touched afterwards.
    Every method raises RunnerError: "lost" with CUDA's name for it where CUDA fails.
    """

    binding = ""
    capability = ""

    def __init__(self, driver):
        self._driver = driver
        self._context = 0
        self._graphs = set()

    def make_current(self):
        """Make the context the calling thread's."""
        self._driver.set_current(self._context)

    def begin_capture(self, stream):
        """Record what is put into `stream` from now on instead of running it."""
        self._driver.begin_capture(stream.handle)

    def end_capture(self, stream):
        """Return what was recorded as a graph; None where the driver cannot, or something in it could not be."""
        graph = self._driver.end_capture(stream.handle)
        if graph:
            self._graphs.add(graph)
        return graph

    def launch_graph(self, graph, stream):
        """Put a graph into `stream`."""
        self._driver.launch_graph(graph, stream.handle)

    def compile(self, source, name):
        """Return the kernel `name`, declared extern "C", of CUDA C source.

        Raises: RunnerError, kind missing where NVRTC is not installed.
        """
        return self._load(compile_kernel(source, self.capability), name)

    def close(self):
        """Release everything; a second call does nothing, and a GPU that is lost is no error."""
        if not self._context:
            return
        for release in (self.make_current, self._destroy_graphs, self._release):
            try:
                release()
            except RunnerError:
                pass
        self._context = 0

    def _destroy_graphs(self):
        while self._graphs:
            self._driver.destroy_graph(self._graphs.pop())

    def _load(self, image, name):
        raise NotImplementedError

    def _release(self):
        raise NotImplementedError


def open_cuda(device=0):
    """Return the `Cuda` of GPU number `device`, its primary context retained and current in this thread.

    Raises: RunnerError, kind missing without pycuda and cuda-python, accelerator without a driver or that GPU.
    """
    driver, broken = Driver(), []
    for module, name in _BINDINGS:
        binding = getattr(importlib.import_module("." + module, __package__), name)
        try:
            return binding(driver, device)
        except ImportError as exc:
            if exc.name not in _PACKAGES:  # installed, but something it needs is not there
                broken.append(f"{binding.binding}: {exc}")
    if broken:
        raise RunnerError("; ".join(broken), "install it again, for this CUDA and this numpy", "missing")
    raise RunnerError("neither pycuda nor cuda-python is installed", _INSTALL, "missing")
