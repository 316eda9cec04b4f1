"""What neither pycuda nor every cuda-python offers, asked of CUDA's driver library itself, in Python 3.6 syntax.

That is: making a context current without a stack that must be empty when a thread ends (pycuda's aborts the process),
and CUDA graphs, whose creation has had three signatures (10, 11, 12) and which pycuda does not wrap.
"""

import ctypes

from .portable import RunnerError

__all__ = ["NO_PAGE_LOCK", "Driver", "cuda_error"]

NO_PAGE_LOCK = ("CUDA_ERROR_NOT_SUPPORTED", "CUDA_ERROR_NOT_PERMITTED", "CUDA_ERROR_INVALID_VALUE")
"""What a device answers that cannot page-lock memory which others allocated."""

_LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating meanwhile
_NO_DRIVER = "run where there is an NVIDIA GPU with its driver (nvidia-smi, or on a Jetson tegrastats, must work)"
_CURES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "end what else uses the GPU's memory, or use a smaller model",
    "CUDA_ERROR_NO_DEVICE": _NO_DRIVER,
    "CUDA_ERROR_INVALID_DEVICE": "choose a GPU that is there with [engine] device, counted from 0",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine: the driver was updated under a running kernel",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "install the libnvrtc of the driver's own CUDA release, or an older one",
}
_LOST = "restart the program; if it happens again, look for NVRM, Xid or nvgpu in dmesg: power, heat or the driver"


def cuda_error(name, doing, kind="lost"):
    """Return the RunnerError for CUDA's error `name` (or its words), which came while `doing`."""
    cure = _CURES.get(name, _NO_DRIVER if kind == "accelerator" else _LOST)
    return RunnerError(f"CUDA: {name} while {doing}", cure, kind)


class Driver:
    """A few calls of libcuda.so.1.

    Raises: RunnerError (accelerator) where it is not there, (lost) when a call fails.
    """

    def __init__(self):
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as exc:
            raise RunnerError(f"there is no NVIDIA driver here ({exc})", _NO_DRIVER, "accelerator") from exc

    def name_of(self, words):
        """Return CUDA's name of the error whose description ends `words`, else the words: pycuda keeps no more."""
        text = ctypes.c_char_p()
        for code in range(1, 1000):
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            if text.value and words.endswith(": " + text.value.decode()):
                return self._name_of(code)
        return words

    def set_current(self, context):
        """Make a context (its handle, an int) the calling thread's."""
        self._call("cuCtxSetCurrent", "making the context current", ctypes.c_void_p(context))

    def begin_capture(self, stream):
        """Record what is put into a stream (its handle) from now on, and do not run it.

        Raises: RunnerError, also where the driver is older than CUDA 10.1.
        """
        self._call("cuStreamBeginCapture_v2", "starting a graph", ctypes.c_void_p(stream), ctypes.c_int(_THREAD_LOCAL))

    def end_capture(self, stream):
        """Return the handle of the recorded graph, ready to launch; None where something in it cannot be recorded."""
        graph, launchable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._call("cuStreamEndCapture", "ending a graph", ctypes.c_void_p(stream), ctypes.byref(graph))
            if not graph.value:
                return None
            try:
                self._instantiate(launchable, graph)
            finally:
                self._call("cuGraphDestroy", "dropping a graph", graph)
        except RunnerError:
            return None
        return launchable.value

    def launch_graph(self, graph, stream):
        """Put a graph into a stream."""
        self._call("cuGraphLaunch", "launching a graph", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph):
        """Release a graph."""
        self._call("cuGraphExecDestroy", "releasing a graph", ctypes.c_void_p(graph))

    def _instantiate(self, launchable, graph):
        doing = "preparing a graph"
        if hasattr(self._library, "cuGraphInstantiateWithFlags"):  # CUDA 11.4 and later
            self._call("cuGraphInstantiateWithFlags", doing, ctypes.byref(launchable), graph, ctypes.c_ulonglong(0))
            return
        name = "cuGraphInstantiate_v2" if hasattr(self._library, "cuGraphInstantiate_v2") else "cuGraphInstantiate"
        self._call(name, doing, ctypes.byref(launchable), graph, None, None, ctypes.c_size_t(0))

    def _call(self, function, doing, *arguments):
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError as exc:
            raise RunnerError(f"this NVIDIA driver has no {function}", "update the driver", "lost") from exc
        if code:
            raise cuda_error(self._name_of(code), doing)

    def _name_of(self, code):
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text))
        return text.value.decode() if text.value else f"error {code}"
