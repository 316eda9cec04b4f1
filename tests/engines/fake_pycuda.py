"""A stand-in for `pycuda.driver` (2022.1) over whatever libcuda.so.1 is found, with what edge.engines uses of it.

Like the real one it needs a context on its own stack, of which each thread has one, to make anything, takes numpy
scalars alone as a kernel's parameters, and keeps no code of an error, only its words. Where the real one aborts the
process, because a thread ends whose stack is not empty, `depth()` lets a test look. Python 3.6 syntax.
"""

import ctypes
import threading

import numpy as np

_cuda = ctypes.CDLL("libcuda.so.1")
_local = threading.local()


class Error(Exception):
    pass


class MemoryError(Error, MemoryError):
    pass


class LogicError(Error):
    pass


def _call(function, *arguments):
    code = getattr(_cuda, function)(*arguments)
    if code:
        words = ctypes.c_char_p()
        _cuda.cuGetErrorString(code, ctypes.byref(words))
        kind = MemoryError if code == 2 else LogicError
        raise kind("%s failed: %s" % (function.split("_v2")[0], words.value.decode()))  # noqa: UP031


def _stack():
    if not hasattr(_local, "stack"):
        _local.stack = []
    return _local.stack


def depth():
    return len(_stack())


class _Made:
    """What belongs to the context that was on top of the stack when it was made."""

    def __init__(self):
        if not _stack():
            raise LogicError("explicit_context_dependent failed: invalid device context - no currently active context?")
        self._owner = _stack()[-1]

    def _activated(self):
        assert _stack()[-1:] == [self._owner], "the real one would not release it in this thread"


def init(flags=0):
    _call("cuInit", flags)


class Context:
    def __init__(self, device):
        context = ctypes.c_void_p()
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.handle, self._device, self._thread = context.value, device, threading.get_ident()

    def push(self):
        if _stack():
            _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        _call("cuCtxPushCurrent_v2", ctypes.c_void_p(self.handle))
        _stack().append(self)

    @staticmethod
    def pop():
        if not _stack():
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        _stack().pop()
        if _stack():
            _call("cuCtxPushCurrent_v2", ctypes.c_void_p(_stack()[-1].handle))

    def detach(self):
        if self._thread == threading.get_ident():  # the real one leaks it in another
            _call("cuDevicePrimaryCtxRelease_v2", self._device)


class Device:
    def __init__(self, number):
        self._device = ctypes.c_int()
        _call("cuDeviceGet", ctypes.byref(self._device), number)

    @staticmethod
    def count():
        count = ctypes.c_int()
        _call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def compute_capability(self):
        found = ctypes.c_int(), ctypes.c_int()
        for attribute, value in zip((75, 76), found):  # noqa: B905
            _call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
        return tuple(value.value for value in found)

    def retain_primary_context(self):
        return Context(self._device)


class Stream(_Made):
    def __init__(self, flags=0):
        super().__init__()
        stream = ctypes.c_void_p()
        _call("cuStreamCreate", ctypes.byref(stream), flags)
        self.handle = stream.value

    def synchronize(self):
        _call("cuStreamSynchronize", ctypes.c_void_p(self.handle))

    def __del__(self):
        if hasattr(self, "handle"):
            _cuda.cuStreamDestroy_v2(ctypes.c_void_p(self.handle))


class DeviceAllocation(_Made):
    def __init__(self, nbytes):
        super().__init__()
        self._pointer = ctypes.c_void_p()
        _call("cuMemAlloc_v2", ctypes.byref(self._pointer), ctypes.c_size_t(nbytes))

    def __int__(self):
        return self._pointer.value

    def free(self):
        self._activated()
        _call("cuMemFree_v2", self._pointer)


mem_alloc = DeviceAllocation


class _HostPointer(_Made):
    def __init__(self, address, shape, dtype):
        super().__init__()
        self._address = ctypes.c_void_p(address)
        self.__array_interface__ = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}


class PagelockedHostAllocation(_HostPointer):
    def free(self):
        self._activated()
        _call("cuMemFreeHost", self._address)


class RegisteredHostMemory(_HostPointer):
    def unregister(self):
        self._activated()
        _call("cuMemHostUnregister", self._address)


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    assert isinstance(shape, int)
    assert np.dtype(dtype) == np.uint8
    _Made()
    pages = ctypes.c_void_p()
    _call("cuMemHostAlloc", ctypes.byref(pages), ctypes.c_size_t(shape), mem_flags)
    return np.asarray(PagelockedHostAllocation(pages.value, (shape,), np.dtype(dtype)))


def register_host_memory(ary, flags=0):
    _Made()
    elements = ctypes.c_size_t(ary.size)  # not bytes: as the real one has done
    _call("cuMemHostRegister_v2", ctypes.c_void_p(ary.ctypes.data), elements, flags)
    return np.asarray(RegisteredHostMemory(ary.ctypes.data, ary.shape, ary.dtype))


def memcpy_htod_async(dest, src, stream=None):
    assert type(dest) is int
    view = memoryview(src)
    assert view.contiguous
    address, handle = np.asarray(src).ctypes.data, ctypes.c_void_p(stream.handle)
    _call("cuMemcpyHtoDAsync_v2", ctypes.c_void_p(dest), ctypes.c_void_p(address), ctypes.c_size_t(view.nbytes), handle)


def memcpy_dtoh_async(dest, src, stream=None):
    assert type(src) is int
    view = memoryview(dest)
    assert view.contiguous
    assert not view.readonly
    address, handle = dest.ctypes.data, ctypes.c_void_p(stream.handle)
    _call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(address), ctypes.c_void_p(src), ctypes.c_size_t(view.nbytes), handle)


def mem_get_info():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


class Module(_Made):
    def __init__(self, image):
        super().__init__()
        self._handle = ctypes.c_void_p()
        _call("cuModuleLoadDataEx", ctypes.byref(self._handle), ctypes.c_char_p(image), 0, None, None)

    def get_function(self, name):
        return Function(self, name)

    def __del__(self):
        _cuda.cuModuleUnload(self._handle)


module_from_buffer = Module


class Function:
    def __init__(self, module, name):
        self._module, self._handle = module, ctypes.c_void_p()
        _call("cuModuleGetFunction", ctypes.byref(self._handle), module._handle, ctypes.c_char_p(name.encode()))

    def __call__(self, *args, grid=(1, 1), block=None, stream=None):
        packed = b""
        for i, arg in enumerate(args):
            if not isinstance(arg, np.number):
                raise TypeError("invalid type on parameter #%d (0-based)" % i)  # noqa: UP031
            packed += b"\0" * (-len(packed) % arg.nbytes) + arg.tobytes()
        buffer, size = ctypes.c_char_p(packed), ctypes.c_size_t(len(packed))
        extra = (ctypes.c_void_p * 5)(1, ctypes.cast(buffer, ctypes.c_void_p), 2, ctypes.addressof(size), 0)
        shape = [ctypes.c_uint(n) for n in tuple(grid) + tuple(block)]
        _call("cuLaunchKernel", self._handle, *shape, 0, ctypes.c_void_p(stream.handle), None, extra)
