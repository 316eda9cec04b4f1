"""The choice of ranges and float layers: what it returns reaches what it says, and an interrupted search goes on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small models are made with onnx")

from networks import SIZE, classifier  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from calibration.collect import collect  # noqa: E402
from calibration.preprocessed import tensors  # noqa: E402
from convert.fidelity import Fidelity  # noqa: E402
from convert.float_model import FLOAT_ONNX, FloatModel, write_manifest  # noqa: E402
from convert.onnx_search import OBSERVERS, OnnxChoice, refitted, search_onnx  # noqa: E402
from convert.quantize_onnx import layer_costs, layer_names, quantize_onnx  # noqa: E402
from edge.errors import ManifestError  # noqa: E402
from edge.evaluation.datasets import read_picture  # noqa: E402
from edge.manifest import DecoderSection, InputContract, Manifest, Target  # noqa: E402
from edge.tensor import TensorSpec  # noqa: E402

CONTRACT = InputContract(resize="stretch", scale=1 / 64, mean=(2.0, 2.0, 2.0))


@pytest.fixture
def model(tmp_path) -> FloatModel:
    """A classifier whose depthwise layer makes up for a channel 300 times too large."""
    network = onnx.shape_inference.infer_shapes(classifier())
    depthwise = [node for node in network.graph.node if node.op_type == "Conv"][1]
    norm = next(node for node in network.graph.node if node.op_type == "BatchNormalization")
    for tensor in network.graph.initializer:
        if tensor.name in (*norm.input[1:3], depthwise.input[1]):
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= 300 if tensor.name in norm.input else 1 / 300
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(network, folder / "float.onnx")
    target = Target(file="float.onnx", outputs={"scores": network.graph.output[0].name})
    manifest = Manifest(
        name="net", targets={FLOAT_ONNX: target}, input=CONTRACT, decoder=DecoderSection(family="classification")
    )
    write_manifest(folder, manifest)
    return FloatModel(folder, manifest, [], folder / "float.onnx", folder / "probe.npz", (), {})


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    noise, paths = np.random.default_rng(3), []
    for i in range(24):
        coarse = noise.integers(0, 256, (4, 5, 3), np.uint8) // 2 + noise.integers(0, 128, 3, np.uint8)
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_NEAREST))
    return paths


def chosen(model: FloatModel, pictures: list[Path], goal: float, scratch: Path) -> OnnxChoice:
    spec = TensorSpec("image", (1, 3, SIZE, SIZE), np.dtype(np.float32), "NCHW")
    inputs = list(tensors(map(read_picture, pictures[:12]), CONTRACT, spec))
    histograms = collect(model.folder / "float.onnx", inputs, threads=1)
    return search_onnx(model, histograms, inputs, Fidelity(model, pictures[12:], threads=1), goal, 20.0, scratch)


def test_the_choice_keeps_its_word(model, pictures, tmp_path):
    choice = chosen(model, pictures, 0.999, tmp_path)
    taken = next(candidate for candidate in choice.frontier if candidate.chosen)
    source, target = model.folder / "float.onnx", model.manifest.targets[FLOAT_ONNX]
    costs = layer_costs(source)
    assert taken.kept == choice.kept
    assert taken.latency_ms == pytest.approx(100 * sum(costs[name] for name in taken.kept))
    quantize_onnx(source, tmp_path / "q.onnx", choice.ranges, choice.kept, choice.mean_errors)
    assert Fidelity(model, pictures[12:], threads=1).measure(tmp_path / "q.onnx", target) == taken.fidelity
    nothing_kept = next(candidate for candidate in choice.frontier if not candidate.kept)
    assert taken.fidelity >= nothing_kept.fidelity
    assert set(choice.kept) <= set(layer_names(source))
    assert set(choice.observers) == {f"{o}{c}" for o in OBSERVERS for c in ("", ", biases corrected")}
    assert not list(tmp_path.glob("*candidate*")) + list(tmp_path.glob("*twins*"))


def test_a_modest_goal_keeps_no_layer(model, pictures, tmp_path):
    assert chosen(model, pictures, 0.0, tmp_path).kept == frozenset()


def test_the_same_pictures_give_the_same_choice_from_the_state_file(model, pictures, tmp_path):
    first = chosen(model, pictures, 0.999, tmp_path)
    before = (tmp_path / "onnx-search.json").read_bytes()
    again = chosen(model, pictures, 0.999, tmp_path)
    assert (again.kept, again.frontier, again.observers) == (first.kept, first.frontier, first.observers)
    assert (tmp_path / "onnx-search.json").read_bytes() == before


def test_without_a_float_onnx_there_is_nothing_to_search(model, pictures, tmp_path):
    bare = FloatModel(model.folder, model.manifest, [], model.original, model.probe, (), {})
    other = Target(file="float.onnx", outputs=model.manifest.targets[FLOAT_ONNX].outputs)
    manifest = Manifest(
        name="net", targets={"tflite-fp32": other}, input=CONTRACT, decoder=DecoderSection(family="classification")
    )
    fidelity = Fidelity(bare, pictures[:2], threads=1)
    without = FloatModel(model.folder, manifest, [], model.original, model.probe, (), {})
    histograms = collect(model.folder / "float.onnx", [np.zeros((1, 3, SIZE, SIZE), np.float32)], threads=1)
    with pytest.raises(ManifestError, match="onnx-fp32"):
        search_onnx(without, histograms, [], fidelity, 0.9, 1.0, tmp_path)


def test_refitting_changes_the_figures_and_nothing_else(model, pictures, tmp_path):
    choice = chosen(model, pictures, 0.999, tmp_path)
    source, spec = model.folder / "float.onnx", TensorSpec("image", (1, 3, SIZE, SIZE), np.dtype(np.float32), "NCHW")
    inputs = list(tensors(map(read_picture, pictures), CONTRACT, spec))
    again = refitted(source, choice, collect(source, inputs, threads=1), inputs, tmp_path)
    assert again.ranges.images == 2 * choice.ranges.images
    assert again.ranges.tensors != choice.ranges.tensors
    assert (again.kept, again.ranges.observer) == (choice.kept, choice.ranges.observer)
    assert again.mean_errors.keys() == choice.mean_errors.keys()
