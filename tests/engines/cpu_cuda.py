"""A stand-in for `edge.engines.cuda.Cuda` whose device is this process: kernels are compiled as C++ by g++."""

import ctypes
import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SHIM = Path(__file__).with_name("cuda_shim.hpp")
COMPILER = shutil.which("g++")


def build(source: str, folder: Path) -> ctypes.CDLL:
    """Compile CUDA C; every kernel NAME gets NAME_run(shape, args) and NAME_sizes()."""
    names = re.findall(r"__global__ void (\w+)\(", source)
    entries = "".join(f"KERNEL_ENTRY({name})\n" for name in names)
    path = folder / f"kernel{len(list(folder.glob('*.cpp')))}.cpp"
    path.write_text(f"{source}\n{entries}")
    library = path.with_suffix(".so")
    command = [COMPILER, "-std=c++14", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-include", str(SHIM)]
    subprocess.run([*command, "-o", str(library), str(path)], check=True, timeout=120)
    return ctypes.CDLL(str(library))


class CpuCuda:
    """Device memory is host memory; what is put into the stream happens at `synchronize`, in order.

    built: kernels by their source, shared by several so that each is compiled once. Memory that is used after it was
    freed, freed twice or never, and copies that overrun their end, are errors of the test.
    """

    def __init__(self, folder: Path, built: dict[str, ctypes.CDLL]) -> None:
        self.memory: dict[int, ctypes.Array] = {}
        self.pages: dict[int, np.ndarray] = {}
        self.queue: list = []
        self.uploads: list[int] = []
        self.fail: Exception | None = None
        self.current_in = {threading.get_ident()}
        self._folder, self._built = folder, built

    def make_current(self) -> None:
        self.current_in.add(threading.get_ident())

    def alloc(self, nbytes: int) -> int:
        block = (ctypes.c_uint8 * nbytes)()
        ctypes.memset(block, 0xA5, nbytes)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, pointer: int) -> None:
        assert not self.queue, "freed while work is under way"
        del self.memory[pointer]

    def pinned(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        array = np.empty(shape, dtype)
        self.pages[array.ctypes.data] = array
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        assert not self.queue, "freed while work is under way"
        del self.pages[array.ctypes.data]

    def upload(self, pointer: int, array: np.ndarray, stream: object) -> None:
        if self.fail:
            raise self.fail
        offset, block = self._block(pointer)
        assert offset + array.nbytes <= len(block)
        self.uploads.append(array.nbytes)
        self.queue.append(lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))

    def compile(self, source: str, name: str) -> object:
        if source not in self._built:
            self._built[source] = build(source, self._folder)
        return getattr(self._built[source], f"{name}_run")

    def launch(self, kernel, grid_xyz, block_xyz, args, stream) -> None:
        shape = (ctypes.c_uint * 6)(*grid_xyz, *block_xyz)
        values = [np.asarray(arg) for arg in args]
        addresses = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        self.queue.append(lambda: (kernel(shape, addresses), values))

    def synchronize(self, stream: object) -> None:
        assert threading.get_ident() in self.current_in
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def _block(self, pointer: int) -> tuple[int, ctypes.Array]:
        for start, block in self.memory.items():
            if start <= pointer < start + len(block):
                return pointer - start, block
        raise AssertionError("this is no device memory")


def cpu_runner(cuda: CpuCuda, shape: tuple[int, ...], dtype: np.dtype) -> SimpleNamespace:
    """What a runner on CUDA shows of itself, and `tensor`: its input, one item larger than it should be."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    pointer = cuda.alloc(nbytes + dtype.itemsize)
    tensor = np.frombuffer(cuda.memory[pointer], dtype)
    return SimpleNamespace(cuda=cuda, stream=None, input_pointer=pointer, skip_upload=False, tensor=tensor)
