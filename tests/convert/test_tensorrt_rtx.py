"""Real engines by TensorRT-RTX, which needs no GPU to build: precisions, capabilities, every way to fail, Ctrl-C."""

import argparse
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed (extra tensorrt-rtx)")
onnx = pytest.importorskip("onnx", reason="onnx makes the float16 and Q/DQ models")
quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime makes the Q/DQ model")

from onnx import version_converter  # noqa: E402
from onnx_models import node, save  # noqa: E402
from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: E402

from convert.build_command import add_build  # noqa: E402
from convert.tensorrt.build import build  # noqa: E402
from convert.tensorrt.bundle import build_bundle  # noqa: E402
from convert.tensorrt.features import feature_table, probe  # noqa: E402
from convert.tensorrt.find import find_tensorrt  # noqa: E402
from convert.tensorrt.layers import layer_table  # noqa: E402
from convert.tensorrt.messages import logger_of  # noqa: E402
from convert.tensorrt.mixed import write_mixed  # noqa: E402
from convert.tensorrt.request import BuildOptions, BuildRequest, BuildResult  # noqa: E402
from edge.engines.driver import gpu_capability  # noqa: E402
from edge.errors import AcceleratorError, ConfigError, EdgeError, ManifestError, ModelError  # noqa: E402
from edge.manifest import read_manifest, sha256_of  # noqa: E402
from edge.progress import Progress  # noqa: E402

CONVOLUTIONS = 113  # of YOLOX-Nano
CAPABILITIES = ("8.6", "8.9")


class Pictures(quantization.CalibrationDataReader):
    """A few real pictures as YOLOX wants them; enough for ranges, not for accuracy."""

    def __init__(self, folder: Path) -> None:
        cv2 = pytest.importorskip("cv2")
        read = (cv2.resize(cv2.imread(str(path)), (416, 416)) for path in sorted(folder.glob("*.jpg"))[:3])
        self._left = iter([{"images": image.transpose(2, 0, 1)[None].astype(np.float32)} for image in read])

    def get_next(self):
        return next(self._left, None)


@pytest.fixture(scope="session")
def sources(shared, tmp_path_factory) -> dict[str, Path]:
    """YOLOX-Nano as float32, float16-cast and symmetric Q/DQ ONNX, opset 13."""
    folder = tmp_path_factory.mktemp("onnx")
    model = version_converter.convert_version(onnx.load(shared / "models/yolox_nano.onnx"), 13)
    paths = {precision: folder / f"yolox-{precision}.onnx" for precision in ("fp32", "fp16", "int8", "best")}
    onnx.save(model, paths["fp32"])
    quantization.quantize_static(
        paths["fp32"],
        paths["int8"],
        Pictures(shared / "data/images"),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        calibrate_method=quantization.CalibrationMethod.Percentile,
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False, "CalibPercentile": 99.99},
    )
    write_mixed(paths["int8"], paths["best"])
    onnx.save(convert_float_to_float16(model, keep_io_types=True), paths["fp16"])
    return paths


def one_op(path: Path, op: str, domain: str = "", batch: int | str = 1) -> Path:
    """A model of one node, `op`."""
    shape, odd = [batch, 3, 8, 8], node(op, "x", "y")
    odd.name, odd.domain = "odd", domain
    return save(path, [odd], {"x": shape}, {"y": shape})


def only(tmp_path: Path, source: Path, precision: str = "fp32", **options) -> BuildRequest:
    return BuildRequest(source, tmp_path / "made.engine", precision, BuildOptions(**options))


@pytest.fixture(scope="session")
def engines(sources, tmp_path_factory) -> Callable[[str, str], BuildResult]:
    """YOLOX-Nano's engine of a precision for a compute capability, built once."""

    @cache
    def made(precision: str, capability: str) -> BuildResult:
        folder = tmp_path_factory.mktemp("engine")
        return build(only(folder, sources[precision], precision, compute_capabilities=(capability,)))

    return made


@pytest.mark.shared
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("precision", "kind"), [("fp32", "FLOAT"), ("fp16", "HALF"), ("int8", "INT8")])
def test_yolox_builds_in_the_precision_asked_for(sources, engines, capability, precision, kind):
    before = sha256_of(sources[precision])
    result = engines(precision, capability)
    assert result.precisions == {kind: CONVOLUTIONS}
    assert result.engine.stat().st_size == result.engine_bytes > 1_000_000
    assert result.needs["sm"] == capability
    assert result.needs["flavour"] == "tensorrt-rtx"
    assert result.needs["tensorrt"] == find_tensorrt().__version__
    assert result.needs["onnx_sha256"] == before == sha256_of(sources[precision])
    assert result.strongly_typed
    assert result.layer_source == "network"
    assert [path.name for path in result.engine.parent.iterdir()] == ["made.engine"]


@pytest.mark.shared
def test_float16_makes_the_engine_smaller_and_every_convolution_half(engines):
    single, half = engines("fp32", "8.6"), engines("fp16", "8.6")
    assert half.engine_bytes < 0.8 * single.engine_bytes
    convolutions = [row for row in half.layers if row.kind == "CONVOLUTION"]
    assert len(convolutions) == CONVOLUTIONS
    assert all(set(row.inputs + row.outputs) == {"HALF"} for row in convolutions)
    assert "HALF -> HALF" in layer_table(convolutions)


@pytest.mark.shared
def test_the_engine_is_made_for_the_gpu_that_was_named(engines):
    plans = [engines("fp16", capability).engine.read_bytes() for capability in CAPABILITIES]
    assert plans[0] != plans[1]


@pytest.mark.shared
@pytest.mark.parametrize(("precision", "between"), [("int8", "FLOAT"), ("best", "HALF")])
def test_int8_stands_between_q_and_dq(engines, precision, between):
    result = engines(precision, "8.6")
    quantize = [row for row in result.layers if row.kind == "QUANTIZE"]
    dequantize = [row for row in result.layers if row.kind == "DEQUANTIZE"]
    assert len(quantize) > CONVOLUTIONS
    assert len(dequantize) > 2 * CONVOLUTIONS  # data and weights
    assert {row.outputs for row in quantize} == {("INT8",)}
    assert {row.inputs[0] for row in dequantize} == {"INT8"}
    assert {row.outputs for row in dequantize} == {(between,)}


@pytest.mark.shared
def test_the_mixed_model_says_what_the_quantized_one_says(sources, shared):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 2, 4
    picture = Pictures(shared / "data/images").get_next()
    float32, int8, best = (
        runtime.InferenceSession(sources[p], options, providers=["CPUExecutionProvider"]).run(None, picture)[0]
        for p in ("fp32", "int8", "best")
    )
    assert best.dtype == np.float32
    damage = np.abs(int8 - float32).mean()
    assert np.abs(best - int8).mean() < 0.5 * damage
    assert np.abs(best - float32).mean() < 1.2 * damage


@pytest.mark.shared
def test_one_engine_for_two_gpus_and_for_any(sources, tmp_path):
    both = build(only(tmp_path, sources["fp16"], "fp16", compute_capabilities=CAPABILITIES))
    assert both.needs["sm"] == "8.6 8.9"
    portable = build(only(tmp_path, sources["fp16"], "fp16", inspect=True))
    assert portable.needs["sm"] == "8.0+"
    if gpu_capability() is None:  # an engine cannot be opened without a GPU: what was asked of the builder stands
        assert portable.layer_source == "network"
        assert any("could not be read back" in note for note in portable.notes)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("source", "precision", "said"),
    [
        ("fp32", "fp16", "113 FLOAT: give the float16-cast ONNX"),
        ("fp32", "int8", "113 FLOAT: give the Q/DQ ONNX"),
        ("fp16", "fp32", "113 HALF: give the float ONNX"),
        ("int8", "best", "no tensor of the ONNX is float16"),
    ],
)
def test_an_onnx_of_another_precision_is_refused(sources, tmp_path, source, precision, said):
    with pytest.raises(ModelError, match=said):
        build(only(tmp_path, sources[source], precision))
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"compute_capabilities": ("8.7",)}, ConfigError, "it knows 7.5, 8.0, 8.6"),
        ({"compute_capabilities": ("8.6", "ampere")}, ConfigError, "compute capability ampere"),
        ({"compute_capabilities": ("5.3",)}, AcceleratorError, "5.3 .Jetson Nano, TX1. has no fast INT8"),
        ({"compute_capabilities": ("6.2",)}, AcceleratorError, "Jetson TX2"),
        ({"hardware_compatibility": "ampere_plus"}, ConfigError, "unsupported in TensorRT-RTX"),
        ({"hardware_compatibility": "hopper"}, ConfigError, "it has ampere_plus"),
        ({"calibration_cache": Path("calib.cache")}, ConfigError, "takes no calibration cache"),
        ({"compute_capabilities": ("8.6",), "optimization_level": 9}, ConfigError, "no optimization level 9"),
        ({"workspace_mib": 1}, ModelError, "workspace limit.*give more than --workspace 1"),
        ({"shapes": {"x": ((1,), (1,), (1,))}}, ConfigError, "no input 'x'"),
    ],
)
def test_what_this_tensorrt_cannot_do_is_said(sources, tmp_path, options, error, said):
    with pytest.raises(error, match=said) as caught:
        build(only(tmp_path, sources["int8"], "int8", **options))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_models_that_are_none(tmp_path):
    torn = one_op(tmp_path / "torn.onnx", "Relu")
    torn.write_bytes(torn.read_bytes()[:-20])
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"hello world" * 50)
    for path in (torn, rubbish, tmp_path / "missing.onnx"):
        with pytest.raises(ModelError, match=path.name):
            build(only(tmp_path, path))
    assert not (tmp_path / "made.engine").exists()


def test_an_unknown_operator_is_named(tmp_path):
    model = one_op(tmp_path / "odd.onnx", "Frobnicate", "acme")
    with pytest.raises(ModelError, match=r"cannot take operator 'Frobnicate' \(node odd\) of odd\.onnx"):
        build(only(tmp_path, model))


def test_open_dimensions_need_shapes(tmp_path):
    model = one_op(tmp_path / "open.onnx", "Relu", batch="n")
    with pytest.raises(ConfigError, match=r"input 'x' \(\?x3x8x8\) has open dimensions"):
        build(only(tmp_path, model))
    with pytest.raises(ConfigError, match="do not fit input 'x'"):
        build(only(tmp_path, model, shapes={"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 9, 8))}))
    shapes = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
    assert build(only(tmp_path, model, shapes=shapes)).engine.exists()


def test_a_full_or_forbidden_place_leaves_nothing(tmp_path, monkeypatch):
    model = one_op(tmp_path / "small.onnx", "Relu")
    with pytest.raises(ConfigError, match="no folder"):
        build(BuildRequest(model, tmp_path / "nowhere" / "made.engine"))

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        build(only(tmp_path, model))
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_timing_cache_is_of_no_use_here_and_left_alone(tmp_path):
    model, cache = one_op(tmp_path / "small.onnx", "Relu"), tmp_path / "timings"
    assert build(only(tmp_path, model, timing_cache=cache)).notes == ()
    assert not cache.exists()
    cache.write_bytes(b"of another TensorRT")
    assert "uses no timing cache" in build(only(tmp_path, model, timing_cache=cache)).notes[0]
    assert cache.read_bytes() == b"of another TensorRT"


class Interrupting(Progress):
    """Presses Ctrl-C once, when the builder is in one of its phases."""

    pressed = False

    def update(self, done, detail="", total=None):
        if detail and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.shared
def test_ctrl_c_cancels_the_build_and_leaves_no_file(sources, tmp_path):
    trt = find_tensorrt()
    progress = Interrupting("building")
    with pytest.raises(KeyboardInterrupt):
        build(only(tmp_path, sources["int8"], "int8", compute_capabilities=("8.6",)), progress)
    assert progress.pressed
    assert any("BuildCanceled" in line for line in logger_of(trt).errors)  # it was waited for
    assert not list(tmp_path.iterdir())
    result = build(
        only(tmp_path, sources["fp32"], compute_capabilities=("8.6",)), trt=trt
    )  # the next one is not harmed
    assert result.engine_bytes > 1_000_000


def test_the_features_of_this_tensorrt():
    features = probe(find_tensorrt())
    assert features.typing == "strong"
    assert not features.implicit_calibration
    assert features.progress
    assert {"8.6", "8.9"} <= set(features.compute_capabilities)
    assert "7.5, 8.0, 8.6" in feature_table(features)


# --- bundles -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(sources, tmp_path) -> Path:
    folder = tmp_path / "yolox"
    folder.mkdir()
    lines = ['format = 1\nname = "yolox"\n[input]\nplacement = "top_left"\n[decoder]\nfamily = "yolox"\n']
    for precision in ("fp32", "fp16", "int8"):
        (folder / f"{precision}.onnx").write_bytes(sources[precision].read_bytes())
        output = onnx.load(sources[precision]).graph.output[0].name
        lines.append(f'[targets.onnx-{precision}]\nfile = "{precision}.onnx"\noutputs = {{ raw = "{output}" }}\n')
    (folder / "manifest.toml").write_text("".join(lines))
    return folder


def harrier_build(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_build(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["build", *arguments])
    parsed.command(parsed)


@pytest.mark.shared
def test_a_bundle_gets_its_engines(bundle, capsys):
    harrier_build([str(bundle), "--precision", "fp16,best", "--compute-capability", "8.6"])
    manifest = read_manifest(bundle / "manifest.toml")
    names = [name for name in manifest.targets if name.startswith("tensorrt-")]
    assert sorted(names) == ["tensorrt-best", "tensorrt-fp16"]
    for name in names:
        target = manifest.targets[name]
        assert target.file == f"model-{name.removeprefix('tensorrt-')}.sm86.engine"
        assert target.sha256 == sha256_of(bundle / target.file)
        assert target.outputs == manifest.targets["onnx-fp32"].outputs
        source = bundle / ("fp16.onnx" if name.endswith("fp16") else "int8.onnx")
        assert target.needs["onnx_sha256"] == sha256_of(source)
    assert manifest.input.placement == "top_left"
    assert "113 INT8" in capsys.readouterr().out
    assert not [path for path in bundle.iterdir() if "partial" in path.name]


@pytest.mark.shared
def test_an_engine_for_another_gpu_keeps_its_place(bundle):
    build_bundle(bundle, ["fp16"], BuildOptions(compute_capabilities=("8.6",)))
    build_bundle(bundle, ["fp16"], BuildOptions(compute_capabilities=("8.9",)))
    targets = read_manifest(bundle / "manifest.toml").targets
    assert targets["tensorrt-fp16"].needs["sm"] == "8.9"
    assert targets["tensorrt-fp16-sm86"].needs["sm"] == "8.6"
    assert all((bundle / target.file).exists() for target in targets.values())
    (built,) = build_bundle(bundle, (), BuildOptions(compute_capabilities=("8.9",)))  # what the bundle asks for
    assert built.name == "tensorrt-fp16"
    assert set(read_manifest(bundle / "manifest.toml").targets) == set(targets)


@pytest.mark.shared
def test_bundles_that_cannot_be_built(bundle, tmp_path, monkeypatch):
    before = (bundle / "manifest.toml").read_bytes()
    with pytest.raises(ConfigError, match="no precision 'fp8'"):
        build_bundle(bundle, ["fp8"])
    with pytest.raises(ManifestError, match="no bundle folder"):
        build_bundle(tmp_path)
    (bundle / "fp16.onnx").unlink()
    with pytest.raises(ManifestError, match=r"fp16\.onnx"):
        build_bundle(bundle, ["fp16"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(ConfigError, match="read-only.*copy the bundle"):
            build_bundle(bundle, ["fp32"])
    (bundle / "manifest.toml").write_text((bundle / "manifest.toml").read_text().replace("onnx-int8", "other"))
    with pytest.raises(ManifestError, match="no onnx-int8 to build int8 from.*--precision int8"):
        build_bundle(bundle, ["int8"])
    (bundle / "manifest.toml").write_bytes(before)
    assert not list(bundle.glob("*.engine"))


@pytest.mark.shared
def test_the_command_line_says_what_is_missing(bundle, capsys):
    with pytest.raises(ConfigError, match="no bundle to build"):
        harrier_build([])
    with pytest.raises(ConfigError, match="contradict"):
        harrier_build([str(bundle), "--on-device", "--compute-capability", "8.6"])
    if gpu_capability() is None:
        with pytest.raises(AcceleratorError, match="no NVIDIA GPU here") as caught:
            harrier_build([str(bundle), "--on-device"])
        assert caught.value.exit_code == 4
    harrier_build(["--features"])
    assert "TensorRT-RTX" in capsys.readouterr().out


@pytest.mark.shared
def test_ctrl_c_while_a_bundle_is_built(bundle, monkeypatch):
    monkeypatch.setattr("convert.tensorrt.bundle.Progress", Interrupting)
    before = sorted(path.name for path in bundle.iterdir())
    with pytest.raises(EdgeError, match="the build was stopped") as caught:
        harrier_build([str(bundle), "--precision", "int8", "--compute-capability", "8.6"])
    assert caught.value.exit_code == 130
    assert sorted(path.name for path in bundle.iterdir()) == before


def test_weights_beyond_float16_are_not_mixed(tmp_path):
    constants = {"w": np.array([1e6], np.float32), "s": np.float32(0.1), "z": np.int8(0)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), node("Mul", "d w", "y")]
    save(tmp_path / "big.onnx", nodes, {"x": [1]}, {"y": [1]}, constants, opset=19)
    with pytest.raises(ModelError, match="'w' has values beyond float16"):
        write_mixed(tmp_path / "big.onnx", tmp_path / "mixed.onnx")
    with pytest.raises(ModelError, match="is not quantized"):
        write_mixed(one_op(tmp_path / "plain.onnx", "Relu"), tmp_path / "mixed.onnx")
    assert not (tmp_path / "mixed.onnx").exists()
