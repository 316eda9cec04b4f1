"""What `edge.engines.cuda` does over the binding that is found: python cuda_scenarios.py FOLDER [SCENARIO ...].

Run by test_cuda_seam.py where libcuda.so.1 is fake_cuda.c; FOLDER is edge/engines, loaded as a package of its own by
path, as the worker does. Python 3.6 syntax: it runs in a board's own interpreter, too.
"""

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading

import numpy as np

sys.path.pop(0)  # the folder of this file
spec = importlib.util.spec_from_file_location(
    "portable_engines", os.path.join(sys.argv[1], "__init__.py"), submodule_search_locations=[sys.argv[1]]
)
package = sys.modules["portable_engines"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
cuda_module = importlib.import_module("portable_engines.cuda")
RunnerError = importlib.import_module("portable_engines.portable").RunnerError

KINDS = ("memory", "pages", "registered", "streams", "modules", "graphs", "launchable", "contexts")
ADD = """
extern "C" __global__ void add(float *out, const float *in, float amount, int count)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        out[i] = in[i] + amount;
}
"""


def fake():
    return ctypes.CDLL("libcuda.so.1")


def live():
    gc.collect()  # what a caught error's frames hold may be in a cycle (Python 3.13)
    counts = (ctypes.c_int * len(KINDS)).in_dll(fake(), "live")
    return {kind: count for kind, count in zip(KINDS, counts) if count}  # noqa: B905


def failure(function, *arguments):
    try:
        function(*arguments)
    except RunnerError as exc:
        return exc
    raise AssertionError("nothing was raised")


def copies():
    """There and back, with every dtype and shape a tensor has, and a wait at the end only."""
    cuda = cuda_module.open_cuda(0)
    assert cuda.capability == "8.7"
    assert cuda.memory() == (3000, 4000)
    stream = cuda.stream()
    assert isinstance(stream.handle, int)
    assert stream.handle
    for dtype in ("float32", "float16", "int8", "uint8", "int64", "bool"):
        sent, got = cuda.pinned((2, 3, 5), dtype), cuda.pinned((2, 3, 5), dtype)
        assert sent.shape == (2, 3, 5)
        assert sent.dtype == dtype
        assert sent.flags.c_contiguous
        assert sent.flags.writeable
        sent[:] = np.arange(30).reshape(2, 3, 5) % 2
        got[:] = 0
        pointer = cuda.alloc(sent.nbytes)
        assert isinstance(pointer, int)
        cuda.upload(pointer, sent, stream)
        cuda.download(got, pointer, stream)
        assert not got.any()
        cuda.synchronize(stream)
        assert (got == sent).all()
        cuda.free(pointer)
    ordinary, got = np.arange(7, dtype=np.float32), np.zeros(7, np.float32)
    pointer = cuda.alloc(28)
    cuda.upload(pointer, ordinary, stream)
    ordinary[:] = -1
    cuda.download(got, pointer, stream)
    cuda.synchronize(stream)
    assert (got == np.arange(7)).all()
    assert live() == {"memory": 1, "pages": 12, "streams": 1, "contexts": 1}
    one = cuda.pinned((), "float32")
    assert one.shape == ()
    cuda.free_pinned(one)
    assert cuda.pinned((3, 0), "int32").shape == (3, 0)
    cuda.close()
    cuda.close()
    cuda.free(pointer)  # it is released already
    cuda.free_pinned(sent)
    del stream
    assert live() == {}


def registration():
    """Memory made elsewhere: all its bytes, once, and whatever `unregister` has left over at the end."""
    cuda = cuda_module.open_cuda(0)
    stream = cuda.stream()
    shared = np.zeros((4, 100), np.float32)
    assert cuda.register(shared) is True
    assert cuda.register(shared[1:]) is True
    assert live()["registered"] == 1
    pointer = cuda.alloc(shared.nbytes)
    cuda.upload(pointer, shared, stream)
    shared[-1, -1] = 7  # page-locked up to its last byte, it is read when the stream gets there
    got = np.zeros_like(shared)
    cuda.download(got, pointer, stream)
    cuda.synchronize(stream)
    assert got[-1, -1] == 7
    cuda.unregister(shared[1:])
    assert live()["registered"] == 1
    cuda.unregister(shared)
    cuda.unregister(shared)
    assert "registered" not in live()
    fake().fake_fail(b"cuMemHostRegister", 801)
    assert cuda.register(shared) is False
    fake().fake_fail(b"cuMemHostRegister", 700)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in failure(cuda.register, shared).cause
    fake().fake_fail(b"", 0)
    assert cuda.register(shared) is True
    cuda.close()
    del stream
    assert live() == {}


def kernels():
    """Compiled, launched with parameters of several sizes; a source that does not compile is told."""
    cuda = cuda_module.open_cuda(0)
    stream = cuda.stream()
    kernel = cuda.compile(ADD, "add")
    numbers, got = cuda.pinned(70, "float32"), cuda.pinned(70, "float32")
    numbers[:] = np.arange(70)
    source, target = cuda.alloc(280), cuda.alloc(280)
    cuda.upload(source, numbers, stream)
    arguments = (np.uint64(target), np.uint64(source), np.float32(2.5), np.int32(70))
    cuda.launch(kernel, (3, 1, 1), (32, 1, 1), arguments, stream)
    cuda.download(got, target, stream)
    cuda.synchronize(stream)
    assert (got == numbers + 2.5).all()
    broken = failure(cuda.compile, ADD.replace("amount;", "amout;"), "add")
    assert broken.kind == "engine"
    assert "amout" in broken.cause
    assert "CUDA_ERROR_NOT_FOUND" in failure(cuda.compile, ADD, "subtract").cause
    cuda.capability = "99.9"  # newer than NVRTC: compiled for the driver to finish
    again = cuda.compile(ADD, "add")
    got[:] = 0
    cuda.launch(again, (3, 1, 1), (32, 1, 1), (arguments[1], arguments[0], np.float32(1), np.int32(70)), stream)
    cuda.download(got, source, stream)
    cuda.synchronize(stream)
    assert (got == numbers + 3.5).all()
    cuda.close()
    del kernel, again, stream
    assert live() == {}


def graphs():
    """What is captured runs at each launch, not before; what cannot be captured gives None."""
    cuda = cuda_module.open_cuda(0)
    stream = cuda.stream()
    sent, got = cuda.pinned(8, "uint8"), cuda.pinned(8, "uint8")
    pointer = cuda.alloc(8)
    cuda.begin_capture(stream)
    cuda.upload(pointer, sent, stream)
    cuda.download(got, pointer, stream)
    graph = cuda.end_capture(stream)
    assert graph is not None
    for value in (3, 4):
        sent[:], got[:] = value, 0
        cuda.launch_graph(graph, stream)
        cuda.synchronize(stream)
        assert (got == value).all()
    cuda.begin_capture(stream)
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in failure(cuda.synchronize, stream).cause
    assert cuda.end_capture(stream) is None
    fake().fake_fail(b"cuGraphInstantiate", 801)
    cuda.begin_capture(stream)
    cuda.upload(pointer, sent, stream)
    assert cuda.end_capture(stream) is None
    fake().fake_fail(b"", 0)
    assert live()["launchable"] == 1
    cuda.close()
    del stream
    assert live() == {}


def threads():
    """Opened in one thread, used and closed in another; a thread without `make_current` is told."""
    made = {}

    def background():
        made["cuda"] = cuda_module.open_cuda(0)
        made["stream"] = made["cuda"].stream()
        made["depth"] = sys.modules["pycuda.driver"].depth() if made["cuda"].binding == "pycuda" else 0

    def stranger():
        made["failure"] = failure(made["cuda"].synchronize, made["stream"])

    for work in (background, stranger):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    cuda, stream, exc = made["cuda"], made.pop("stream"), made.pop("failure")
    assert made["depth"] == 0  # else the real pycuda would have aborted at the end of the thread
    assert (exc.kind, "CUDA_ERROR_INVALID_CONTEXT" in exc.cause) == ("lost", True)
    cuda.make_current()
    cuda.synchronize(stream)
    cuda.alloc(10)
    cuda.pinned(10, "int8")
    cuda.close()
    del stream, exc
    if cuda.binding == "pycuda":  # releases its hold on the context only in the thread that took it
        assert live() == {"contexts": 1}
    else:
        assert live() == {}


def errors():
    """Each failure by CUDA's own name, with a cure; closing a lost GPU is no error."""
    cuda = cuda_module.open_cuda(0)
    stream = cuda.stream()
    array, pointer = cuda.pinned(4, "int8"), cuda.alloc(4)
    calls = [
        ("cuMemAlloc", 2, cuda.alloc, (100,), "CUDA_ERROR_OUT_OF_MEMORY while allocating 100 bytes"),
        ("cuMemHostAlloc", 2, cuda.pinned, (100, "int8"), "CUDA_ERROR_OUT_OF_MEMORY while page-locking 100 bytes"),
        ("cuMemFree", 700, cuda.free, (pointer,), "CUDA_ERROR_ILLEGAL_ADDRESS while releasing memory"),
        ("cuMemcpyHtoDAsync", 700, cuda.upload, (cuda.alloc(4), array, stream), "while copying to the GPU"),
        ("cuMemcpyDtoHAsync", 700, cuda.download, (array, cuda.alloc(4), stream), "while copying from the GPU"),
        ("cuStreamSynchronize", 719, cuda.synchronize, (stream,), "CUDA_ERROR_LAUNCH_FAILED while waiting for the GPU"),
        ("cuStreamCreate", 2, cuda.stream, (), "while making a stream"),
        ("cuMemGetInfo", 700, cuda.memory, (), "while asking for free memory"),
        ("cuStreamBeginCapture", 700, cuda.begin_capture, (stream,), "CUDA_ERROR_ILLEGAL_ADDRESS while starting a"),
        ("cuGraphLaunch", 700, cuda.launch_graph, (1, stream), "CUDA_ERROR_ILLEGAL_ADDRESS while launching a graph"),
        ("cuCtxSetCurrent", 700, cuda.make_current, (), "CUDA_ERROR_ILLEGAL_ADDRESS while making the context current"),
    ]
    for function, code, call, arguments, words in calls:
        fake().fake_fail(function.encode(), code)
        exc = failure(call, *arguments)
        assert exc.kind == "lost", function
        assert words in exc.cause, exc.cause
        assert exc.cause.startswith("CUDA: CUDA_ERROR_")
        assert ("memory" if code == 2 else "dmesg") in exc.cure
    fake().fake_fail(b"cuMemFree", 700)
    cuda.close()
    fake().fake_fail(b"", 0)


def opening():
    """No GPU, not that GPU: told at open, and nothing is left behind."""
    exc = failure(cuda_module.open_cuda, 1)
    assert exc.kind == "accelerator"
    assert "CUDA_ERROR_INVALID_DEVICE while looking for GPU 1" in exc.cause
    assert "[engine] device" in exc.cure
    assert failure(cuda_module.open_cuda, -1).kind == "accelerator"
    ctypes.CDLL(None).setenv(b"FAKE_GPUS", b"0", 1)
    exc = failure(cuda_module.open_cuda, 0)
    assert exc.kind == "accelerator"
    assert "CUDA_ERROR_NO_DEVICE while starting" in exc.cause
    ctypes.CDLL(None).setenv(b"FAKE_GPUS", b"1", 1)
    assert live() == {}


def letterbox():
    """The kernel of the on-GPU preprocessing, then a graph in the same stream, as a model's run is one."""
    module = importlib.import_module("portable_engines.gpu_letterbox")
    cuda = cuda_module.open_cuda(0)
    stream = cuda.stream()
    tables = np.arange(768, dtype=np.float32).reshape(3, 256)
    pointer, got = cuda.alloc(4 * 3 * 20 * 30), cuda.pinned((1, 3, 20, 30), "float32")
    fill = module.Letterbox(cuda, stream, pointer, (1, 3, 20, 30), "NCHW", tables, "rgb", 9, "linear")
    fill.prepare((30, 10), (0, 0, 30, 10), (30, 10), (0, 5))
    cuda.begin_capture(stream)
    cuda.download(got, pointer, stream)
    graph = cuda.end_capture(stream)
    for seed in (0, 1):
        image = np.random.RandomState(seed).randint(0, 256, (10, 30, 3)).astype(np.uint8)
        fill(image)
        cuda.launch_graph(graph, stream)
        cuda.synchronize(stream)
        wanted = np.full((20, 30, 3), 9)
        wanted[5:15] = image[..., ::-1]
        wanted = wanted.transpose(2, 0, 1) + 256 * np.arange(3)[:, None, None]
        assert (got[0] == wanted).all()
    fill.close()
    cuda.free(pointer)
    assert "memory" not in live()
    cuda.close()
    del stream, fill
    assert live() == {}


ALL = (copies, registration, kernels, graphs, letterbox, opening, threads, errors)
"""In this order: the last two leave something behind."""

if __name__ == "__main__":
    try:
        for scenario in ALL:
            if not sys.argv[2:] or scenario.__name__ in sys.argv[2:]:
                scenario()
        print(cuda_module.open_cuda(0).binding)
    except RunnerError as exc:
        print(exc.kind, file=sys.stderr)
        raise
