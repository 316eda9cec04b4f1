"""The choice of ranges and float layers: what it returns reaches what it says, and an interrupted search goes on."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small models are made with onnx")

from bundles import CONTRACT, classifier_bundle, coarse_pictures  # noqa: E402
from networks import SIZE, classifier  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from calibration.collect import collect  # noqa: E402
from calibration.collected import ranges_from  # noqa: E402
from calibration.preprocessed import tensors  # noqa: E402
from convert.fidelity import Fidelity  # noqa: E402
from convert.float_model import FLOAT_ONNX, FloatModel  # noqa: E402
from convert.onnx_search import OnnxChoice, OnnxWay, choose_onnx, refitted, search_onnx  # noqa: E402
from convert.quantize_onnx import layer_costs, layer_names, quantize_onnx  # noqa: E402
from edge.evaluation.datasets import read_picture  # noqa: E402
from edge.tensor import TensorSpec  # noqa: E402


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
    return classifier_bundle(tmp_path / "bundle", network)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    return coarse_pictures(tmp_path, 24)


OBSERVERS = ("min-max", "mse", "percentile:99.9", "percentile:52")


@pytest.fixture
def inputs(pictures) -> list[np.ndarray]:
    spec = TensorSpec("image", (1, 3, SIZE, SIZE), np.dtype(np.float32), "NCHW")
    return list(tensors(map(read_picture, pictures), CONTRACT, spec))


@pytest.fixture
def measure(model, pictures):
    fidelity, target = Fidelity(model, pictures[12:], threads=1), model.manifest.targets[FLOAT_ONNX]
    return lambda file: fidelity.measure(file, target)


def chosen(model, inputs, measure, scratch, kept=frozenset()) -> OnnxChoice:
    source = model.folder / "float.onnx"
    histograms = collect(source, inputs[:12], threads=1)
    ways = {name: OnnxWay(source, ranges_from(histograms, name, symmetric=True)) for name in OBSERVERS}
    return choose_onnx(ways, inputs[:12], measure, scratch, kept)


def test_the_choice_is_the_best_that_was_measured(model, inputs, measure, tmp_path):
    choice = chosen(model, inputs, measure, tmp_path)
    quantize_onnx(choice.way.source, tmp_path / "q.onnx", choice.way.ranges, frozenset(), choice.mean_errors)
    best = max(choice.fidelities.values())
    assert measure(tmp_path / "q.onnx") == best
    assert len({choice.fidelities[name] for name in OBSERVERS}) > 1
    corrected = [name for name in choice.fidelities if name.endswith(", biases corrected")]
    assert len(corrected) == 3, "of the best three"
    assert set(choice.layers) == set(layer_names(choice.way.source))
    assert not list(tmp_path.glob("*candidate*")) + list(tmp_path.glob("*twins*"))


def test_the_search_keeps_its_word(model, inputs, measure, tmp_path):
    choice = chosen(model, inputs, measure, tmp_path)
    frontier = search_onnx(choice, measure, 0.999, 20.0, tmp_path)
    taken = next(candidate for candidate in frontier if candidate.chosen)
    source = choice.way.source
    costs = layer_costs(source)
    assert taken.latency_ms == pytest.approx(100 * sum(costs[name] for name in taken.kept))
    quantize_onnx(source, tmp_path / "q.onnx", choice.way.ranges, taken.kept, choice.mean_errors)
    assert measure(tmp_path / "q.onnx") == taken.fidelity
    nothing_kept = next(candidate for candidate in frontier if not candidate.kept)
    assert taken.fidelity >= nothing_kept.fidelity
    before = (tmp_path / "onnx-search.json").read_bytes()
    assert search_onnx(choice, measure, 0.999, 20.0, tmp_path) == frontier
    assert (tmp_path / "onnx-search.json").read_bytes() == before


def test_a_modest_goal_keeps_no_layer_and_a_search_leaves_alone_what_is_kept_anyway(model, inputs, measure, tmp_path):
    kept = frozenset(layer_names(model.folder / "float.onnx")[-1:])
    choice = chosen(model, inputs, measure, tmp_path, kept)
    modest = search_onnx(choice, measure, 0.0, 20.0, tmp_path, kept)
    assert [candidate.kept for candidate in modest if candidate.chosen] == [frozenset()]
    strict = search_onnx(choice, measure, 1.1, 20.0, tmp_path, kept)
    assert not any(kept & candidate.kept for candidate in strict)


def test_a_cost_is_said_in_its_own_unit(model, inputs, measure, tmp_path, capsys, monkeypatch):
    said = []
    monkeypatch.setattr("convert.search.Progress.finish", lambda self, done, detail="": said.append(detail))
    search_onnx(chosen(model, inputs, measure, tmp_path), measure, 0.0, 20.0, tmp_path)
    assert said[-1].endswith("0.00 % of multiplications in float")


def test_refitting_changes_the_figures_and_nothing_else(model, inputs, measure, tmp_path):
    choice = chosen(model, inputs, measure, tmp_path)
    source = choice.way.source
    ranges = ranges_from(collect(source, inputs, threads=1), choice.way.ranges.observer, symmetric=True)
    again = refitted(choice, ranges, inputs, tmp_path)
    assert again.way == OnnxWay(source, ranges)
    assert again.way.ranges.tensors != choice.way.ranges.tensors
    assert again.fidelities == choice.fidelities
    assert again.mean_errors.keys() == choice.mean_errors.keys()
