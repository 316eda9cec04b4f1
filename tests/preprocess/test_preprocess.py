"""The pixel path against an independent float64 reference, and boxes there and back."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.detections import Detections
from edge.errors import ManifestError
from edge.manifest import InputContract
from edge.preprocess.letterbox import plan_geometry
from edge.preprocess.pixels import Preprocessor, pixel_tables
from edge.tensor import Quantization, TensorSpec

SIZES = [(37, 53), (53, 37), (64, 64), (31, 31), (129, 17), (7, 200), (320, 240)]
IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def reference_resize(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Bilinear with half-pixel centres and edge clamping, one output pixel at a time, in float64."""
    (width, height), (source_h, source_w) = size_wh, image.shape[:2]
    out = np.zeros((height, width, 3))
    for y, x in itertools.product(range(height), range(width)):
        fy = min(max((y + 0.5) * source_h / height - 0.5, 0), source_h - 1)
        fx = min(max((x + 0.5) * source_w / width - 0.5, 0), source_w - 1)
        y0, x0 = int(fy), int(fx)
        y1, x1 = min(y0 + 1, source_h - 1), min(x0 + 1, source_w - 1)
        dy, dx = fy - y0, fx - x0
        top = image[y0, x0] * (1 - dx) + image[y0, x1] * dx
        out[y, x] = top * (1 - dy) + (image[y1, x0] * (1 - dx) + image[y1, x1] * dx) * dy
    return out


def reference_tensor(image: np.ndarray, contract: InputContract, tensor_wh: tuple[int, int]) -> np.ndarray:
    """The (H, W, 3) float64 real values the contract asks for, channels in tensor order."""
    geometry = plan_geometry(contract, image.shape[1::-1], tensor_wh)
    x, y, width, height = geometry.region_xywh
    resized = np.rint(reference_resize(image[y : y + height, x : x + width].astype(float), geometry.resized_wh))
    canvas = np.full((tensor_wh[1], tensor_wh[0], 3), float(contract.pad_value))
    left, top = geometry.offset_xy
    canvas[top : top + geometry.resized_wh[1], left : left + geometry.resized_wh[0]] = resized
    if contract.channel_order == "rgb":
        canvas = canvas[..., ::-1]
    return (canvas * contract.scale - np.array(contract.mean)) / np.array(contract.std)


def spec_of(dtype: str, layout: str, wh: tuple[int, int], quantization: Quantization | None) -> TensorSpec:
    width, height = wh
    shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
    return TensorSpec("image", shape, np.dtype(dtype), layout, quantization)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth noise: neighbouring pixels differ, but not so that one rounding step hides an offset."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3)).astype(float)
    return np.clip(np.kron(coarse, np.ones((4, 4, 1)))[:height, :width], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("source_wh", SIZES)
@pytest.mark.parametrize("resize", ["letterbox-center", "letterbox-top_left", "stretch", "crop"])
def test_matches_the_float64_reference_for_every_layout_and_order(source_wh, resize):
    kind, _, placement = resize.partition("-")
    for (layout, order), norm in zip(
        itertools.product(("NHWC", "NCHW"), ("rgb", "bgr")),
        ({"scale": 1 / 255}, IMAGENET, {}, IMAGENET),
        strict=True,
    ):
        contract = InputContract(
            resize=kind, placement=placement or "center", pad_value=114, channel_order=order, **norm
        )
        spec = spec_of("float32", layout, (45, 33), None)
        tensor = np.full(spec.shape, np.nan, np.float32)
        image = picture(*source_wh)
        Preprocessor(contract, spec, tensor)(image)
        seen = tensor[0] if layout == "NHWC" else tensor[0].transpose(1, 2, 0)
        step = contract.scale / np.array(contract.std)  # OpenCV interpolates in fixed point: one level at most
        difference = np.abs(seen - reference_tensor(image, contract, (45, 33))) / step
        assert difference.max() < 1.01
        assert (difference > 0.01).mean() < 0.2


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("dtype", "quantization", "path"),
    [
        ("uint8", Quantization(1 / 255, 0), "copy"),
        ("int8", Quantization(1 / 255, -128), "xor"),
        ("int8", Quantization(0.0078, 3), "table"),
        ("uint8", Quantization(0.0039, 7), "table"),
        ("int16", Quantization(1 / 32767, 0), "table"),
        ("float16", None, "table"),
    ],
)
def test_each_dtype_holds_the_rounded_reference(layout, dtype, quantization, path):
    contract = InputContract(scale=1 / 255, pad_value=99, channel_order="rgb")
    spec = spec_of(dtype, layout, (40, 40), quantization)
    tensor = np.zeros(spec.shape, dtype)
    image = picture(40, 25)  # no resizing: the pixels are exact
    preprocess = Preprocessor(contract, spec, tensor)
    preprocess(image)
    real = reference_tensor(image, contract, (40, 40))
    if quantization:
        real = np.rint(real / quantization.scale + quantization.zero_point)
        real = np.clip(real, np.iinfo(dtype).min, np.iinfo(dtype).max)
    seen = tensor[0] if layout == "NHWC" else tensor[0].transpose(1, 2, 0)
    assert preprocess.path == path
    assert np.array_equal(seen, real.astype(dtype))


def test_a_plain_uint8_tensor_gets_the_very_pixels():
    spec = spec_of("uint8", "NHWC", (8, 6), Quantization(1 / 128, 128))
    contract = InputContract(resize="stretch", channel_order="bgr", scale=1 / 128, mean=(1, 1, 1))
    tensor = np.zeros(spec.shape, np.uint8)
    image = picture(8, 6)
    preprocess = Preprocessor(contract, spec, tensor)
    preprocess(image)
    assert preprocess.path == "copy"
    assert np.array_equal(tensor[0], image)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_gray_models_get_one_channel(layout):
    shape = (1, 28, 28, 1) if layout == "NHWC" else (1, 1, 28, 28)
    spec = TensorSpec("image", shape, np.dtype(np.float32), layout)
    tensor = np.zeros(shape, np.float32)
    image = picture(28, 28)
    Preprocessor(InputContract(channel_order="gray", scale=1 / 255), spec, tensor)(image)
    blue, green, red = (image[..., c].astype(float) for c in range(3))
    expected = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    assert np.abs(tensor.reshape(28, 28) * 255 - expected).max() < 1.0


def test_a_new_source_size_leaves_nothing_of_the_old_one():
    contract = InputContract(pad_value=7, channel_order="bgr")
    spec = spec_of("float32", "NCHW", (32, 32), None)
    tensor = np.zeros(spec.shape, np.float32)
    preprocess = Preprocessor(contract, spec, tensor)
    preprocess(np.full((64, 64, 3), 200, np.uint8))
    preprocess(np.full((16, 64, 3), 50, np.uint8))
    assert set(np.unique(tensor)) == {7.0, 50.0}
    assert (tensor == 50).sum() == 3 * 32 * 8


sides = st.integers(1, 2000)


@given(
    source=st.tuples(sides, sides),
    tensor=st.tuples(st.integers(16, 700), st.integers(16, 700)),
    kind=st.sampled_from(["center", "top_left", "stretch", "crop"]),
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=2),
)
def test_boxes_come_back_to_the_source_pixel(source, tensor, kind, points):
    resize = kind if kind in ("stretch", "crop") else "letterbox"
    contract = InputContract(resize=resize, placement="top_left" if kind == "top_left" else "center")
    geometry = plan_geometry(contract, source, tensor)
    x, y, width, height = geometry.region_xywh
    corners = np.array([[x + px * width, y + py * height] for px, py in points])
    in_tensor = geometry.tensor_from_source(corners)
    left, top = geometry.offset_xy
    assert (in_tensor >= np.array([left, top]) - 1e-6).all()
    assert (in_tensor <= np.array([left, top]) + geometry.resized_wh + 1e-6).all()
    assert left + geometry.resized_wh[0] <= tensor[0]
    assert top + geometry.resized_wh[1] <= tensor[1]
    detections = Detections(1, keypoint_count=2)
    detections.count = 1
    detections.xyxy[0] = in_tensor.ravel()
    detections.keypoints[0] = in_tensor
    geometry.to_source(detections)
    assert detections.xyxy[0] == pytest.approx(corners.ravel(), abs=2e-3 * max(1, max(source) / 1000))
    assert detections.keypoints[0].ravel() == pytest.approx(corners.ravel(), abs=2e-3 * max(1, max(source) / 1000))


def test_floored_sizes_do_not_shift_boxes():
    # 1279 x 719 into 416 floors to 416 x 233; the ideal ratio would give 233.86 rows and shift the bottom by 2.6 px.
    geometry = plan_geometry(InputContract(placement="top_left"), (1279, 719), (416, 416))
    assert geometry.resized_wh == (416, 233)
    detections = Detections(1)
    detections.count = 1
    detections.xyxy[0] = (0, 0, 416, 233)
    geometry.to_source(detections)
    assert detections.xyxy[0].tolist() == pytest.approx([0, 0, 1279, 719], abs=1e-3)


def test_boxes_are_clipped_to_the_source():
    geometry = plan_geometry(InputContract(), (100, 50), (100, 100))
    detections = Detections(1)
    detections.count = 1
    detections.xyxy[0] = (-20, 0, 150, 100)
    geometry.to_source(detections)
    assert detections.xyxy[0].tolist() == [0, 0, 100, 50]


def test_tables_are_computed_in_float64_and_saturate():
    contract = InputContract(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))
    spec = spec_of("int8", "NHWC", (8, 8), Quantization(0.02, 0))
    table = pixel_tables(contract, spec)[0]
    assert table[0] == -128
    assert table[255] == 127
    assert table[128] == round((128 / 255 - 0.5) / 0.1 / 0.02)


@pytest.mark.parametrize(
    ("spec", "contract", "says"),
    [
        (TensorSpec("x", (2, 8, 8, 3), np.dtype("float32"), "NHWC"), InputContract(), "batch size 1"),
        (TensorSpec("x", (1, 8, 8, 1), np.dtype("float32"), "NHWC"), InputContract(), "gray"),
        (TensorSpec("x", (1, 8, 8, 3), np.dtype("int64"), "NHWC"), InputContract(), "float32"),
        (TensorSpec("x", (1, 8, 8, 3), np.dtype("float32"), "NHWC"), InputContract(size_wh=(9, 8)), "9x8"),
        (TensorSpec("x", (1, 10), np.dtype("float32")), InputContract(), "not one image"),
    ],
)
def test_contracts_that_do_not_fit_the_tensor_are_explained(spec, contract, says):
    with pytest.raises(ManifestError, match=says):
        Preprocessor(contract, spec, np.zeros(spec.shape, spec.dtype))


def test_a_frame_allocates_nothing_that_grows_with_it():
    spec = spec_of("float32", "NCHW", (416, 416), None)
    tensor = np.zeros(spec.shape, np.float32)
    preprocess = Preprocessor(InputContract(scale=1 / 255), spec, tensor)
    image = picture(1280, 720)
    preprocess(image)
    tracemalloc.start()
    for _ in range(5):
        preprocess(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024
