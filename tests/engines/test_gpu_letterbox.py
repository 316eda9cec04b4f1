"""The GPU's kernel, compiled as C++ for this CPU, against the preprocessing on the CPU: the very same tensors."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from cpu_cuda import COMPILER, CpuCuda, cpu_runner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines.gpu_letterbox import axis_table, kernel_source
from edge.engines.gpu_preprocess import GpuPreprocessor
from edge.engines.nvrtc import compile_kernel, find_nvrtc
from edge.engines.portable import RunnerError
from edge.errors import ConfigError, EngineLostError
from edge.manifest import InputContract
from edge.preprocess.letterbox import plan_geometry
from edge.preprocess.pixels import Preprocessor, pixel_tables
from edge.tensor import Quantization, TensorSpec

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: the kernel cannot be run on the CPU")

IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DTYPES = [
    ("uint8", Quantization(1 / 255, 0)),
    ("uint8", Quantization(0.0039, 7)),
    ("int8", Quantization(1 / 255, -128)),
    ("int16", Quantization(1 / 32767, 0)),
    ("float16", None),
    ("float32", None),
]


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A new device at each call; kernels are compiled once."""
    folder, built = tmp_path_factory.mktemp("kernels"), {}
    return lambda: CpuCuda(folder, built)


def spec_of(dtype: str, layout: str, wh: tuple[int, int], channels: int = 3, quantization=None) -> TensorSpec:
    shape = (1, wh[1], wh[0], channels) if layout == "NHWC" else (1, channels, wh[1], wh[0])
    return TensorSpec("image", shape, np.dtype(dtype), layout, quantization)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class Both:
    """The same contract on both sides."""

    def __init__(self, cuda: CpuCuda, contract: InputContract, spec: TensorSpec) -> None:
        self.runner = cpu_runner(cuda, spec.shape, spec.dtype)
        self.wanted = np.zeros(spec.shape, spec.dtype)
        self.cpu = Preprocessor(contract, spec, self.wanted)
        tables = pixel_tables(contract, spec)
        self.gpu = GpuPreprocessor(
            self.runner, contract, spec, tables, lambda wh: plan_geometry(contract, wh, spec.size_wh)
        )
        self.guard = self.runner.tensor[-1:].tobytes()

    def check(self, image: np.ndarray) -> None:
        assert self.gpu(image) == self.cpu(image) == self.gpu.geometry
        self.runner.cuda.synchronize(None)
        seen = self.runner.tensor[:-1].reshape(self.wanted.shape)
        assert seen.tobytes() == self.wanted.tobytes()
        assert self.runner.tensor[-1:].tobytes() == self.guard


@pytest.mark.parametrize(("dtype", "quantization"), DTYPES, ids=lambda value: getattr(value, "zero_point", value))
@pytest.mark.parametrize("resize", ["letterbox-center", "letterbox-top_left", "stretch", "crop"])
def test_every_dtype_layout_and_order_comes_out_the_same(device, dtype, quantization, resize):
    kind, _, placement = resize.partition("-")
    for layout, order, norm in itertools.product(
        ("NHWC", "NCHW"), ("rgb", "bgr", "gray"), ({"scale": 1 / 255}, IMAGENET)
    ):
        contract = InputContract(
            resize=kind, placement=placement or "center", crop_fraction=0.8, channel_order=order, pad_value=99, **norm
        )
        spec = spec_of(dtype, layout, (45, 33), 1 if order == "gray" else 3, quantization)
        Both(device(), contract, spec).check(noise(129, 70))


@pytest.mark.parametrize("tensor_wh", [(416, 416), (640, 640), (224, 160)])
@pytest.mark.parametrize("source_wh", [(1280, 720), (640, 480), (1920, 1080), (416, 416), (100, 333)])
def test_camera_sizes_come_out_the_same(device, source_wh, tensor_wh):
    both = Both(device(), InputContract(channel_order="rgb"), spec_of("uint8", "NHWC", tensor_wh))
    both.check(noise(*source_wh))


sizes = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(
    source_wh=st.tuples(sizes, sizes),
    tensor_wh=st.tuples(sizes, sizes),
    interpolation=st.sampled_from(["linear", "nearest"]),
    resize=st.sampled_from(["letterbox", "stretch", "crop"]),
    order=st.sampled_from(["rgb", "gray"]),
    seed=st.integers(0, 1000),
)
def test_any_size_comes_out_the_same(device, source_wh, tensor_wh, interpolation, resize, order, seed):
    contract = InputContract(
        interpolation=interpolation, resize=resize, channel_order=order, crop_fraction=0.9, scale=1 / 255
    )
    spec = spec_of("float32", "NCHW", tensor_wh, 1 if order == "gray" else 3)
    Both(device(), contract, spec).check(noise(*source_wh, seed))


@pytest.mark.parametrize("factor", [2, 3, 4, 1 / 2, 1 / 3])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_whole_factors_come_out_the_same(device, factor, interpolation):
    """OpenCV halves with another routine."""
    contract = InputContract(interpolation=interpolation, resize="stretch", channel_order="bgr")
    Both(device(), contract, spec_of("uint8", "NHWC", (int(60 / factor), int(36 / factor)))).check(noise(60, 36))


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_the_table_of_an_axis_stays_inside_and_weighs_2048(interpolation):
    for source, resized in itertools.product(range(1, 60), range(1, 60)):
        table = axis_table(source, resized, interpolation)
        assert table.shape == (resized, 4)
        assert table[:, :2].min() >= 0
        assert table[:, :2].max() < source
        assert (table[:, 2:].sum(axis=1) == 2048).all()
        assert table[:, 2:].min() >= 0


def test_a_source_may_change_its_size_and_nothing_is_kept(device):
    cuda = device()
    both = Both(cuda, InputContract(channel_order="rgb", pad_value=3), spec_of("uint8", "NCHW", (64, 48)))
    both.check(noise(80, 60))
    held, pages = len(cuda.memory), len(cuda.pages)
    for wh in ((60, 80), (200, 20), (1, 1), (80, 60)):
        both.check(noise(*wh))
    assert (len(cuda.memory), len(cuda.pages)) == (held, pages)
    assert pages == 1
    assert both.runner.skip_upload
    both.gpu.close()
    both.gpu.close()
    assert list(cuda.memory) == [both.runner.input_pointer]
    assert not cuda.pages
    assert not both.runner.skip_upload


def test_only_rows_that_count_are_copied(device):
    cuda = device()
    both = Both(cuda, InputContract(), spec_of("uint8", "NHWC", (416, 416)))
    both.check(noise(1280, 720))
    both.check(noise(1280, 720, 1))
    assert cuda.uploads[-1] == 468 * 1280 * 3  # two for each of the 234 rows
    both = Both(cuda, InputContract(resize="crop"), spec_of("uint8", "NHWC", (240, 240)))
    both.check(noise(1280, 720))
    assert cuda.uploads[-1] == 240 * 1280 * 3  # a third of the size: the middle row of three has all the weight


def test_the_image_may_be_overwritten_at_once(device):
    both = Both(device(), InputContract(), spec_of("uint8", "NHWC", (32, 32)))
    image = noise(40, 30)
    both.cpu(image)
    both.gpu(image)
    image[:] = 0
    both.runner.cuda.synchronize(None)
    assert both.runner.tensor[:-1].tobytes() == both.wanted.tobytes()


def test_frames_do_not_overtake_each_other(device):
    """What stands in the stream behind a frame (the model) sees that frame, whatever comes next."""
    both = Both(device(), InputContract(), spec_of("uint8", "NHWC", (32, 32)))
    runner, seen, wanted = both.runner, [], []
    for image in (noise(40, 30, 1), noise(40, 30, 2), noise(50, 70), noise(40, 30, 3)):
        both.gpu(image)
        runner.cuda.queue.append(lambda: seen.append(runner.tensor[:-1].tobytes()))
        both.cpu(image)
        wanted.append(both.wanted.tobytes())
    runner.cuda.synchronize(None)
    assert seen == wanted


def test_another_thread_may_take_it_over(device):
    both = Both(device(), InputContract(), spec_of("uint8", "NHWC", (32, 32)))
    with ThreadPoolExecutor(1) as other:
        other.submit(both.check, noise(40, 30)).result(10)
    both.check(noise(30, 40))


def test_a_view_of_a_larger_image_is_read_as_it_is(device):
    both = Both(device(), InputContract(resize="crop"), spec_of("uint8", "NHWC", (20, 20)))
    both.check(noise(100, 90)[7:70, 11:80])


def test_a_frame_allocates_nothing_of_its_size(device):
    both = Both(device(), InputContract(), spec_of("uint8", "NHWC", (416, 416)))
    image = noise(1280, 720)
    both.check(image)
    tracemalloc.start()
    try:
        both.gpu(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 128 * 1024


@pytest.mark.parametrize("interpolation", ["area", "cubic"])
def test_other_interpolations_are_refused_with_the_way_out(device, interpolation):
    with pytest.raises(
        ConfigError, match=rf'not {interpolation}: preprocess on the CPU \(\[engine\] preprocess = "cpu"\)'
    ):
        Both(device(), InputContract(interpolation=interpolation), spec_of("uint8", "NHWC", (20, 20)))


def test_a_lost_gpu_is_told_and_the_next_size_starts_anew(device):
    cuda = device()
    both = Both(cuda, InputContract(), spec_of("uint8", "NHWC", (20, 20)))
    both.check(noise(40, 30))
    cuda.fail = RunnerError("CUDA: CUDA_ERROR_ILLEGAL_ADDRESS while copying to the GPU", "restart", "lost")
    for wh in ((40, 30), (50, 30), (40, 30)):
        with pytest.raises(EngineLostError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            both.gpu(noise(*wh))
    cuda.fail = None
    both.check(noise(40, 30))


def test_grey_is_what_opencv_says_for_every_colour(device):
    """Every 5th level of each channel, as an image that needs no resizing."""
    levels = np.arange(0, 256, 5, np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    spec = spec_of("uint8", "NHWC", image.shape[1::-1], 1)
    both = Both(device(), InputContract(channel_order="gray", resize="stretch"), spec)
    both.check(image)
    assert np.array_equal(both.wanted[0, ..., 0], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


@pytest.fixture(scope="module")
def nvrtc() -> None:
    try:
        find_nvrtc()
    except RunnerError as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize("itemsize", [1, 2, 4])
@pytest.mark.parametrize("capability", ["7.5", "8.7", "9.0"])
def test_nvidias_own_compiler_takes_the_kernel(nvrtc, itemsize, capability):
    program = compile_kernel(kernel_source(itemsize), capability)
    assert program[:4] == b"\x7fELF"
    assert b"letterbox" in program


def test_for_a_gpu_newer_than_the_compiler_the_driver_finishes(nvrtc):
    program = compile_kernel(kernel_source(1), "99.9")
    assert b".visible .entry letterbox" in program
    assert program.endswith(b"\0")


def test_a_kernel_that_does_not_compile_is_told_with_the_line(nvrtc):
    with pytest.raises(RunnerError, match=r"NVRTC_ERROR_COMPILATION harrier.cu\(17\): error: .*undefined") as caught:
        compile_kernel(kernel_source(1).replace("plan->pad,", "undefined,", 1), "8.7")
    assert caught.value.kind == "engine"


def test_without_the_compiler_its_package_is_named(monkeypatch):
    monkeypatch.setattr("edge.engines.nvrtc.ctypes.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(RunnerError, match="libnvrtc.*pip install nvidia-cuda-nvrtc-cu12") as caught:
        find_nvrtc()
    assert caught.value.kind == "missing"
