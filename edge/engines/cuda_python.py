"""`Cuda` over NVIDIA's cuda-python (package cuda-bindings), any release; Python 3.6 syntax."""

import ctypes
import importlib
from collections import namedtuple

import numpy as np

from .cuda import Cuda
from .cuda_driver import NO_PAGE_LOCK, cuda_error
from .portable import RunnerError

__all__ = ["CudaPython"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE and CU_MEMHOSTREGISTER_PORTABLE: page-locked for every context
_OTHER_RELEASE = "install the cuda-python of the driver's CUDA release, as pip install 'cuda-python==12.*'"

_Stream = namedtuple("_Stream", ("handle", "raw"))


class CudaPython(Cuda):
    """See `Cuda`."""

    binding = "cuda-python"

    def __init__(self, driver, device):
        try:
            self._api = importlib.import_module("cuda.bindings.driver")
        except ModuleNotFoundError:
            self._api = importlib.import_module("cuda.cuda")  # its name until 12.6
        super().__init__(driver)
        api, kind = self._api, "accelerator"
        self._call(api.cuInit, "starting", 0, kind=kind)
        self._device = self._call(api.cuDeviceGet, f"looking for GPU {device}", device, kind=kind)
        names, asking = api.CUdevice_attribute, "asking for the GPU's compute capability"
        parts = names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
        found = [self._call(api.cuDeviceGetAttribute, asking, part, self._device, kind=kind) for part in parts]
        self.capability = "{}.{}".format(*found)
        context = self._call(api.cuDevicePrimaryCtxRetain, f"opening GPU {device}", self._device, kind=kind)
        self._context = int(context)
        self._memory, self._pages, self._registered = set(), set(), set()
        self._streams, self._modules = [], []
        self.make_current()

    def stream(self):
        """Return a new stream; its `handle` is CUDA's."""
        raw = self._call(self._api.cuStreamCreate, "making a stream", _NON_BLOCKING)
        self._streams.append(raw)
        return _Stream(int(raw), raw)

    def alloc(self, nbytes):
        """Return the address of `nbytes` of device memory."""
        pointer = int(self._call(self._api.cuMemAlloc, f"allocating {nbytes} bytes", max(1, nbytes)))
        self._memory.add(pointer)
        return pointer

    def free(self, pointer):
        """Release what `alloc` gave, unless it is released."""
        if pointer in self._memory:
            self._memory.discard(pointer)
            self._call(self._api.cuMemFree, "releasing memory", pointer)

    def pinned(self, shape, dtype):
        """Return a new array (shape, any dtype) in page-locked host memory."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        nbytes = max(1, count * dtype.itemsize)
        address = int(self._call(self._api.cuMemHostAlloc, f"page-locking {nbytes} bytes", nbytes, _PORTABLE))
        self._pages.add(address)
        memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)

    def free_pinned(self, array):
        """Release what `pinned` gave, unless it is released."""
        address = array.ctypes.data
        if address in self._pages:
            self._pages.discard(address)
            self._call(self._api.cuMemFreeHost, "releasing page-locked memory", address)

    def register(self, array):
        """Page-lock the memory of an array (any shape and dtype); return whether the device can (a Nano cannot).

        Copies from memory that is not page-locked work, too, only slower.
        """
        address = array.ctypes.data
        code = self._api.cuMemHostRegister(address, array.nbytes, _PORTABLE)[0]
        if not int(code):
            self._registered.add(address)
            return True
        if code.name == "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED":
            return True
        if code.name in NO_PAGE_LOCK:
            return False
        raise cuda_error(code.name, "page-locking memory")

    def unregister(self, array):
        """Undo `register`."""
        if array.ctypes.data in self._registered:
            self._registered.discard(array.ctypes.data)
            self._call(self._api.cuMemHostUnregister, "unlocking memory", array.ctypes.data)

    def upload(self, pointer, array, stream):
        """Put a copy of an array (any shape and dtype) to device memory into `stream`."""
        self._call(
            self._api.cuMemcpyHtoDAsync, "copying to the GPU", pointer, array.ctypes.data, array.nbytes, stream.raw
        )

    def download(self, array, pointer, stream):
        """Put a copy of device memory into an array (any shape and dtype) into `stream`."""
        self._call(
            self._api.cuMemcpyDtoHAsync, "copying from the GPU", array.ctypes.data, pointer, array.nbytes, stream.raw
        )

    def synchronize(self, stream):
        """Wait until everything in `stream` is done."""
        self._call(self._api.cuStreamSynchronize, "waiting for the GPU", stream.raw)

    def launch(self, kernel, grid_xyz, block_xyz, args, stream):
        """Put a kernel into `stream`; args are numpy scalars of the parameters' very types."""
        values = [np.asarray(arg) for arg in args]
        addresses = np.array([value.ctypes.data for value in values], np.uint64)
        size = (*grid_xyz, *block_xyz)
        self._call(
            self._api.cuLaunchKernel, "launching a kernel", kernel, *size, 0, stream.raw, addresses.ctypes.data, 0
        )

    def memory(self):
        """Return the device's (free, total) bytes; on a Jetson that is the machine's memory."""
        return tuple(self._call(self._api.cuMemGetInfo, "asking for free memory"))

    def _load(self, image, name):
        module = self._call(self._api.cuModuleLoadData, "loading a kernel", image)
        self._modules.append(module)
        return self._call(self._api.cuModuleGetFunction, "loading a kernel", module, name.encode())

    def _release(self):
        api = self._api
        kept = (
            (api.cuStreamDestroy, self._streams),
            (api.cuModuleUnload, self._modules),
            (api.cuMemFree, self._memory),
            (api.cuMemFreeHost, self._pages),
            (api.cuMemHostUnregister, self._registered),
        )
        for release, handles in kept:
            while handles:
                release(handles.pop())  # what a lost GPU answers is of no use
        api.cuDevicePrimaryCtxRelease(self._device)

    def _call(self, function, doing, *arguments, kind="lost"):
        try:
            code, *results = function(*arguments)
        except RuntimeError as exc:  # this driver lacks what this cuda-python looks for
            raise RunnerError(f"cuda-python: {exc} while {doing}", _OTHER_RELEASE, kind) from exc
        if int(code):
            raise cuda_error(code.name, doing, kind)
        return results[0] if len(results) == 1 else results
