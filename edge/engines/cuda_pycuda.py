"""`Cuda` over pycuda; Python 3.6 syntax.

pycuda aborts the process when a thread ends whose stack of contexts is not empty. So its context is on that stack only
while pycuda makes or frees something, and current in CUDA's own sense (`make_current`) in between.
"""

import importlib
from contextlib import contextmanager

import numpy as np

from .cuda import Cuda
from .cuda_driver import NO_PAGE_LOCK, cuda_error
from .portable import RunnerError

__all__ = ["PyCuda"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream


class PyCuda(Cuda):
    """See `Cuda`."""

    binding = "pycuda"

    def __init__(self, driver, device):
        self._api = importlib.import_module("pycuda.driver")
        super().__init__(driver)
        if not hasattr(self._api.Device, "retain_primary_context"):
            raise RunnerError("this pycuda cannot use the primary context", "pip install 'pycuda>=2022.1'", "missing")
        with self._errors("starting", "accelerator"):
            self._api.init()
        with self._errors(f"looking for GPU {device}", "accelerator"):
            if not 0 <= device < self._api.Device.count():
                raise cuda_error("CUDA_ERROR_INVALID_DEVICE", f"looking for GPU {device}", "accelerator")
            found = self._api.Device(device)
            self.capability = "{}.{}".format(*found.compute_capability())
            self._owner = found.retain_primary_context()
        self._context = self._owner.handle
        self._memory, self._pages, self._registered, self._streams = {}, {}, {}, []
        self.make_current()

    def stream(self):
        """Return a new stream; its `handle` is CUDA's."""
        with self._making("making a stream"):
            self._streams.append(self._api.Stream(_NON_BLOCKING))
        return self._streams[-1]

    def alloc(self, nbytes):
        """Return the address of `nbytes` of device memory."""
        with self._making(f"allocating {nbytes} bytes"):
            allocation = self._api.mem_alloc(max(1, nbytes))
        self._memory[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer):
        """Release what `alloc` gave, unless it is released."""
        if pointer in self._memory:
            with self._making("releasing memory"):
                self._memory.pop(pointer).free()

    def pinned(self, shape, dtype):
        """Return a new array (shape, any dtype) in page-locked host memory."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        with self._making(f"page-locking {count * dtype.itemsize} bytes"):
            page = self._api.pagelocked_empty(max(1, count * dtype.itemsize), np.uint8)
        self._pages[page.ctypes.data] = page
        return page[: count * dtype.itemsize].view(dtype).reshape(shape)

    def free_pinned(self, array):
        """Release what `pinned` gave, unless it is released."""
        if array.ctypes.data in self._pages:
            with self._making("releasing page-locked memory"):
                self._pages.pop(array.ctypes.data).base.free()

    def register(self, array):
        """Page-lock the memory of an array (any shape and dtype); return whether the device can (a Nano cannot).

        Copies from memory that is not page-locked work, too, only slower.
        """
        flat = array.reshape(-1).view(np.uint8)  # pycuda has taken the number of elements for that of bytes
        try:
            with self._making("page-locking memory"):
                self._registered[array.ctypes.data] = self._api.register_host_memory(flat)
        except RunnerError as exc:
            if "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" in exc.cause:
                return True
            if any(name in exc.cause for name in NO_PAGE_LOCK):
                return False
            raise
        return True

    def unregister(self, array):
        """Undo `register`."""
        if array.ctypes.data in self._registered:
            with self._making("unlocking memory"):
                self._registered.pop(array.ctypes.data).base.unregister()

    def upload(self, pointer, array, stream):
        """Put a copy of an array (any shape and dtype) to device memory into `stream`."""
        self._call("copying to the GPU", self._api.memcpy_htod_async, pointer, array, stream)

    def download(self, array, pointer, stream):
        """Put a copy of device memory into an array (any shape and dtype) into `stream`."""
        self._call("copying from the GPU", self._api.memcpy_dtoh_async, array, pointer, stream)

    def synchronize(self, stream):
        """Wait until everything in `stream` is done."""
        self._call("waiting for the GPU", stream.synchronize)

    def launch(self, kernel, grid_xyz, block_xyz, args, stream):
        """Put a kernel into `stream`; args are numpy scalars of the parameters' very types."""
        try:
            kernel(*args, grid=tuple(grid_xyz), block=tuple(block_xyz), stream=stream)
        except self._api.Error as exc:
            raise self._error(exc, "launching a kernel") from exc

    def memory(self):
        """Return the device's (free, total) bytes; on a Jetson that is the machine's memory."""
        return tuple(self._call("asking for free memory", self._api.mem_get_info))

    def _load(self, image, name):
        with self._making("loading a kernel"):
            return self._api.module_from_buffer(image).get_function(name)  # the function keeps its module

    def _release(self):
        with self._making("releasing"):
            while self._memory:
                self._memory.popitem()[1].free()
            while self._pages:
                self._pages.popitem()[1].base.free()
            while self._registered:
                self._registered.popitem()[1].base.unregister()
            del self._streams[:]
        self._owner.detach()

    @contextmanager
    def _making(self, doing):
        """pycuda remembers the context of what it makes: the one on its own stack."""
        with self._errors(doing):
            self._owner.push()
            try:
                yield
            finally:
                self._owner.pop()

    @contextmanager
    def _errors(self, doing, kind="lost"):
        try:
            yield
        except self._api.Error as exc:
            raise self._error(exc, doing, kind) from exc

    def _call(self, doing, function, *arguments):
        try:
            return function(*arguments)
        except self._api.Error as exc:
            raise self._error(exc, doing) from exc

    def _error(self, exc, doing, kind="lost"):
        return cuda_error(self._driver.name_of(str(exc)), doing, kind)
