"""`harrier explain` finds the stage that was spoiled on purpose."""

import argparse
import json
import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge.config import EngineSection
from edge.errors import ConfigError, InterruptedWorkError
from edge.evaluation import command
from edge.evaluation import explain as explain_module
from edge.evaluation.bridge import Bridge, move
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.explain import _CHAIN, _shares, sqnr_db
from edge.model import open_model
from edge.tensor import Quantization, TensorSpec

pytestmark = pytest.mark.shared

MANIFEST = """
format = 1
name = "{name}"
[targets.onnx]
file = "model.onnx"
outputs = {{ raw = "{output}" }}
[input]
placement = "top_left"
pad_value = 114
channel_order = "{channels}"
scale = {scale}
[decoder]
family = "yolox"
score_threshold = {score}
params = {{ activated = {activated} }}
"""


@pytest.fixture
def bundle(shared, tmp_path):
    """Make a bundle of YOLOX-Nano in which one thing may be wrong."""
    model = onnx.load(str(shared / "models/yolox_nano.onnx"))

    def make(name, channels="bgr", scale=1.0, score=0.25, activated="true", noise=0.0):
        folder = tmp_path / name
        folder.mkdir()
        if noise:
            rng = np.random.default_rng(0)
            spoiled = onnx.ModelProto()
            spoiled.CopyFrom(model)
            for tensor in spoiled.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.ndim == 4:
                    loud = (values + rng.normal(0, noise * values.std(), values.shape)).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(loud, tensor.name))
            onnx.save(spoiled, str(folder / "model.onnx"))
        else:
            shutil.copy(shared / "models/yolox_nano.onnx", folder / "model.onnx")
        output = model.graph.output[0].name
        text = MANIFEST.format(
            name=name, output=output, channels=channels, scale=scale, score=score, activated=activated
        )
        (folder / "manifest.toml").write_text(text)
        return folder

    return make


def findings(shared, tmp_path, a, b, *more) -> dict:
    parser = argparse.ArgumentParser()
    command.add_explain_arguments(parser)
    data = shared / "data/coco-val80/instances.json"
    words = [a, data, "--compare", b, "--pictures", 6, "--json", tmp_path / "found.json", *more]
    command.execute_explain(parser.parse_args([str(word) for word in words]))
    return json.loads((tmp_path / "found.json").read_text())


@pytest.mark.parametrize(
    ("wrong", "stage", "cure"),
    [
        ({"channels": "rgb"}, "preprocessing", "channels look reversed"),
        ({"scale": 0.3}, "preprocessing", "scaled or shifted"),
        ({"noise": 0.08}, "engine", "--precision mixed (the worst layers in"),
        ({"activated": "false"}, "decode", "params.activated"),
        ({"score": 0.6}, "thresholds", "score_threshold"),
    ],
)
def test_the_spoiled_stage_is_named(shared, tmp_path, bundle, capsys, wrong, stage, cure):
    found = findings(shared, tmp_path, bundle("good"), bundle("spoiled", **wrong))
    assert found["stage"] == stage
    assert cure in found["cure"]
    assert found["shares"][stage] > 0.1
    assert sum(found["shares"].values()) == pytest.approx(1 - found["agreement"])
    assert max(value for name, value in found["shares"].items() if name != stage) < 0.02
    text = capsys.readouterr().out
    assert f"{stage} causes" in text
    assert "cure: " in text


def test_two_wrong_stages_share_the_blame(shared, tmp_path, bundle):
    found = findings(shared, tmp_path, bundle("good"), bundle("spoiled", channels="rgb", score=0.5))
    assert found["shares"]["preprocessing"] > 0.05
    assert found["shares"]["thresholds"] > 0.05
    assert abs(found["shares"]["engine"]) < 0.01
    equal = findings(shared, tmp_path, bundle("good2"), bundle("spoiled2", score=0.5), "--score", 0.3)
    assert equal["stage"] is None
    assert equal["agreement"] == 1
    assert equal["cure"] == "nothing here, but what differs in thresholds may show on other pictures"


def test_a_report_of_a_comparison_is_enough(shared, tmp_path, bundle, capsys):
    evaluate, explain = argparse.ArgumentParser(), argparse.ArgumentParser()
    command.add_eval_arguments(evaluate)
    command.add_explain_arguments(explain)
    data = shared / "data/coco-val80/instances.json"
    words = [bundle("good"), data, "--compare", bundle("spoiled", channels="rgb"), "--limit", 6, "--resamples", 100]
    command.execute_eval(evaluate.parse_args([*map(str, words), "--json", str(tmp_path / "diff.json")]))
    command.execute_explain(explain.parse_args([str(tmp_path / "diff.json"), "--pictures", "2"]))
    said = capsys.readouterr().out
    assert "preprocessing causes" in said
    assert "2 pictures (the most different of 6), A and B agree on" in said
    assert "raw identical" in said  # B's engine on A's pixels
    assert re.search(r"^pre +engine +decode +thresholds +agreement +quality +found$", said, re.M)
    assert re.search(r"^B +A +A +A +0\.\d{3} ", said, re.M)
    (tmp_path / "diff.json").write_text("{}")
    with pytest.raises(ConfigError, match="no report of a comparison"):
        command.execute_explain(explain.parse_args([str(tmp_path / "diff.json")]))
    with pytest.raises(ConfigError, match="nothing to compare"):
        command.execute_explain(explain.parse_args([str(tmp_path / "good")]))


def test_two_networks_are_refused(shared, tmp_path, bundle):
    with pytest.raises(ConfigError, match="two builds of one network"):
        findings(shared, tmp_path, bundle("good"), shared / "models/FastestDet.onnx")


def test_the_bridge_changes_nothing_where_both_sides_are_one_model(shared):
    model = open_model(str(shared / "models/yolox_nano.onnx"), EngineSection())
    bridge = Bridge(model, model, model)
    bridge.inputs[0][...] = np.random.default_rng(0).uniform(0, 255, bridge.inputs[0].shape)
    bridge.run()
    model.engine.inputs[0][...] = bridge.inputs[0]
    model.engine.run()
    assert np.array_equal(bridge.outputs[0], model.engine.outputs[0])
    model.close()


SIZES = {"boxes": 4, "objectness": 1, "scores": 80}


def split_bundle(shared, folder, channels_first=False, noise=0.0, **params):
    """YOLOX-Nano with its columns as three outputs, as `harrier convert` writes it."""
    model = onnx.load(str(shared / "models/yolox_nano.onnx"))
    raw, first = model.graph.output.pop().name, 0
    for role, width in SIZES.items():
        bounds = [numpy_helper.from_array(np.array([n]), f"{role}_{n}_") for n in (first, first + width, 2)]
        model.graph.initializer.extend(bounds)
        model.graph.node.append(helper.make_node("Slice", [raw, *(b.name for b in bounds)], [f"{role}_"]))
        turn = [0, 2, 1] if channels_first else [0, 1, 2]
        model.graph.node.append(helper.make_node("Transpose", [f"{role}_"], [role], perm=turn))
        shape = [1, width, 3549] if channels_first else [1, 3549, width]
        model.graph.output.append(helper.make_tensor_value_info(role, onnx.TensorProto.FLOAT, shape))
        first += width
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    text = MANIFEST.format(name="apart", output="x", channels="bgr", scale=1.0, score=0.25, activated="true")
    text = text.replace('raw = "x"', ", ".join(f'{role} = "{role}"' for role in SIZES))
    text = text.replace("activated = true", ", ".join(["activated = true", *(f"{k} = {v}" for k, v in params.items())]))
    (folder / "manifest.toml").write_text(text)
    return folder


@pytest.mark.parametrize("channels_first", [False, True])
def test_one_output_is_explained_against_its_parts(shared, tmp_path, bundle, channels_first):
    apart = split_bundle(shared, tmp_path / "apart", channels_first)
    whole = shared / "models/yolox_nano.onnx"
    for pair in ((whole, apart), (apart, whole)):
        found = findings(shared, tmp_path, *pair)
        assert found["agreement"] == 1
        assert found["steps"][0]["found"] > 20
        assert {step["agreement"] for step in found["steps"]} == {1}
        assert {*found["details"]["engine"]["sqnr_db"]} == ({"raw"} if pair[0] == whole else {*SIZES})
        assert min(found["details"]["engine"]["sqnr_db"].values()) > 100
    found = findings(shared, tmp_path, apart, bundle("noisy", noise=0.08))
    assert found["stage"] == "engine"
    assert max(value for name, value in found["shares"].items() if name != "engine") < 0.02


def test_boxes_decoded_in_one_graph_only_are_not_put_beside_others(shared, tmp_path):
    decoded = split_bundle(shared, tmp_path / "apart", decoded="true")
    with pytest.raises(ConfigError, match="one of A and B decodes its boxes.*: --target A --compare B"):
        findings(shared, tmp_path, shared / "models/yolox_nano.onnx", decoded)


def test_a_data_set_that_is_gone_is_named_and_may_be_given(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.evaluation.runner.locate", lambda reference: tmp_path / "model.onnx")
    name = read_dataset(shared / "data/coco-val80/instances.json").samples[0].name
    path = report_file(shared, tmp_path, [name], data=str(tmp_path / "moved/set.json"), split="val")
    parser = argparse.ArgumentParser()
    command.add_explain_arguments(parser)
    with pytest.raises(ConfigError, match=r"is not at /.*/moved/set\.json: harrier explain .*diff\.json DATA"):
        command.execute_explain(parser.parse_args([str(path)]))
    path = report_file(shared, tmp_path, [name], data=str(tmp_path / "moved/set.json"))
    dataset, _, _ = explained(monkeypatch, [path, shared / "data/coco-val80/instances.json"])
    assert [sample.name for sample in dataset.samples] == [name]


def test_a_share_is_the_mean_of_both_orders():
    """Forward the stages cost 0.1, 0, 0.3 and 0.2; backward 0.05, 0.1, 0.05 and 0.4."""
    agreements = dict(zip(_CHAIN, (1.0, 0.9, 0.9, 0.6, 0.4, 0.45, 0.55, 0.6), strict=True))
    assert agreements["AAAB"] == 0.6
    assert _shares(list(agreements.values())) == pytest.approx([0.075, 0.05, 0.175, 0.3])


def explained(monkeypatch, words: list) -> tuple:
    """What `explain` is asked to compute by a command line."""
    asked = []

    def stopped(*arguments: object) -> None:
        asked.extend(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(explain_module, "explain", stopped)
    parser = argparse.ArgumentParser()
    command.add_explain_arguments(parser)
    with pytest.raises(InterruptedWorkError, match="explain was stopped, nothing was written") as caught:
        command.execute_explain(parser.parse_args([str(word) for word in words]))
    assert caught.value.exit_code == 130
    return asked[0], asked[1], asked[2]


def report_file(shared, folder, pictures, **options):
    """A report of a comparison on coco-val80, as eval writes it."""
    model = str(shared / "models/yolox_nano.onnx")
    kept = {"model": model, "compare": model, "labels": None, "iou": 0.5, "max_detections": None, "limit": None}
    side = {"target": "onnx", "reference": model}
    data = {"path": str(shared / "data/coco-val80/instances.json")}
    report = {"models": [side, {**side, "reference": "other"}], "data": data}
    report["comparison"] = {"pictures": [{"picture": name} for name in pictures]}
    report["options"] = {**kept, "images": None, **options}
    (folder / "diff.json").write_text(json.dumps(report))
    return folder / "diff.json"


def test_a_comparison_on_other_pictures_is_not_explained_on_these(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(explain_module, "explain", None)  # calling it would fail
    parser = argparse.ArgumentParser()
    command.add_explain_arguments(parser)
    path = report_file(shared, tmp_path, ["nowhere.jpg", "gone.jpg"])
    with pytest.raises(ConfigError, match=r"has none of the 2 pictures of the comparison, such as nowhere.jpg"):
        command.execute_explain(parser.parse_args([str(path)]))


def test_what_the_comparison_was_asked_for_is_asked_for_again(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.evaluation.runner.locate", lambda reference: tmp_path / "model.onnx")
    samples = read_dataset(shared / "data/coco-val80/instances.json").samples
    names = [samples[i].name for i in (4, 30, 2)]
    dataset, first, second = explained(monkeypatch, [report_file(shared, tmp_path, names, max_detections=7, limit=20)])
    assert [sample.name for sample in dataset.samples] == [names[0], names[2]]  # the other is behind the limit
    assert (first.thresholds.max_detections, second.thresholds.max_detections, first.thresholds.iou) == (7, 7, 0.5)
    words = [report_file(shared, tmp_path, names, max_detections=7, limit=20), "--max-detections", 9, "--limit", 40]
    dataset, first, _ = explained(monkeypatch, words)
    assert [sample.name for sample in dataset.samples] == names
    assert first.thresholds.max_detections == 9
    _, first, _ = explained(monkeypatch, [report_file(shared, tmp_path, names)])
    assert first.thresholds.max_detections == 100


def test_values_move_between_layouts_and_dtypes():
    real = np.arange(24, dtype=np.float32).reshape(1, 4, 6) / 10
    spec = TensorSpec("", (1, 6, 4), np.dtype(np.int8), None, Quantization(0.1, -5))
    into = np.zeros(spec.shape, spec.dtype)
    move(real, spec, into)
    assert into[0, :, 0].tolist() == [-5, -4, -3, -2, -1, 0]
    flat = np.zeros((24,), np.float32)
    with pytest.raises(ConfigError, match="do not correspond"):
        move(real, TensorSpec("", (24,), np.dtype(np.float32)), flat)
    assert sqnr_db(np.ones(4), np.full(4, 1.1)) == pytest.approx(20)
    assert sqnr_db(np.ones(4), np.ones(4)) == 150
