"""Every kind of network becomes a bundle that answers as the original does, and the original is never touched."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the converter's extra is not installed")
pytest.importorskip("onnxruntime", reason="the converter's extra is not installed")

from networks import SIZE, classifier, yolox  # noqa: E402

from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE  # noqa: E402
from convert.load import LoadOptions, load  # noqa: E402
from convert.probe import float_error, relative_error  # noqa: E402
from edge.bundle import MANIFEST_NAME  # noqa: E402
from edge.config import EngineSection  # noqa: E402
from edge.detections import Detections  # noqa: E402
from edge.errors import ConfigError, EdgeError, ManifestError, ModelError  # noqa: E402
from edge.evaluation.datasets import read_picture  # noqa: E402
from edge.model import Model, open_model  # noqa: E402
from edge.preprocess.pixels import Preprocessor  # noqa: E402


def saved(model, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def options(**settings) -> LoadOptions:
    return LoadOptions(settings={key.replace("__", "."): value for key, value in settings.items()})


def test_an_old_onnx_with_an_open_batch_becomes_a_bundle(tmp_path):
    source = saved(classifier(("n", 3, SIZE, SIZE), opset=11), tmp_path / "shapes.onnx")
    before = sha256(source)
    model = load(str(source), tmp_path / "out", LoadOptions(want_tflite=True))
    assert sha256(source) == before
    assert model.manifest.name == "shapes"
    assert set(model.manifest.targets) == {FLOAT_ONNX, FLOAT_TFLITE}
    assert model.manifest.decoder.params == {"softmax": False}
    assert any("smooth noise" in note for note in model.notes)
    for target in model.manifest.targets:
        assert 0 <= max(float_error(model, target).values()) < 1e-4
        opened = open_model(str(model.folder), EngineSection(target=target))
        assert opened.decoder.class_count == 4
        opened.close()


def test_logits_are_told_from_probabilities_by_their_values(tmp_path):
    model = classifier(softmax=False)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "prob"
    source = saved(model, tmp_path / "net.onnx")
    guess = open_model(str(source))
    guess.close()
    found = load(str(source), tmp_path / "out", LoadOptions())
    assert guess.manifest.decoder.params == {"softmax": False}  # what the name says
    assert found.manifest.decoder.params == {"softmax": True}
    assert any("the scores leave 0..1: logits" in note for note in found.notes)
    stated = load(str(source), tmp_path / "two", options(decoder__params__softmax=False))
    assert stated.manifest.decoder.params == {"softmax": False}


def test_settings_stand_above_the_inspection(tmp_path):
    source = saved(classifier(), tmp_path / "net.onnx")
    said = options(name="mine", input__scale=0.5, input__channel_order="bgr", labels=list("abcd"))
    model = load(str(source), tmp_path / "out", said)
    contract = model.manifest.input
    assert (model.manifest.name, contract.channel_order, contract.scale) == ("mine", "bgr", 0.5)
    assert (contract.mean, contract.std) == ((0.0,) * 3, (1.0,) * 3)  # no half of a guessed normalization is left
    assert model.labels == list("abcd")
    assert (model.folder / model.manifest.labels).read_text() == "a\nb\nc\nd\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"input.scael": 1.0}, "did you mean 'scale'"),
        ({"decoder.family": "yolx"}, "did you mean 'yolox'"),
        ({"input.scale": "much"}, "input.scale"),
        ({"labels": ["a", "b"]}, "2 labels for 4 classes"),
        ({"outputs.scores": "nothing"}, "no output 'nothing'"),
        ({"decoder.family": "yolox"}, "classification|raw|candidates"),
    ],
)
def test_wrong_settings_are_one_line(settings, said, tmp_path):
    source = saved(classifier(), tmp_path / "net.onnx")
    with pytest.raises(EdgeError, match=said) as raised:
        load(str(source), tmp_path / "out", LoadOptions(settings=settings))
    assert "\n" not in str(raised.value)


def test_labels_come_from_a_file_and_must_be_one_a_class(tmp_path):
    source = saved(classifier(), tmp_path / "net.onnx")
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\nd\n")
    assert load(str(source), tmp_path / "out", LoadOptions(labels=str(labels))).labels == list("abcd")
    labels.write_text("a\nb\nc\n")
    with pytest.raises(ManifestError, match="3 labels for 4 classes"):
        load(str(source), tmp_path / "two", LoadOptions(labels=str(labels)))


def test_an_open_size_needs_a_size(tmp_path):
    source = saved(classifier((1, 3, "h", "w")), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="axis 2 'h'"):
        load(str(source), tmp_path / "out", LoadOptions())
    model = load(str(source), tmp_path / "out", LoadOptions(size_wh=(48, 40), want_tflite=True))
    opened = open_model(str(model.folder), EngineSection(target=FLOAT_TFLITE))
    assert opened.engine.input_specs[0].shape == (1, 40, 48, 3)
    opened.close()


def test_a_yolox_is_split_and_a_decoding_one_cut(tmp_path):
    plain = saved(yolox(), tmp_path / "plain.onnx")
    decoding = saved(yolox(decoded=True), tmp_path / "decoding.onnx")
    said = {"decoder.family": "yolox", "input.scale": 1 / 128}
    one = load(str(plain), tmp_path / "one", LoadOptions(settings=said, want_tflite=True))
    two = load(str(decoding), tmp_path / "two", LoadOptions(settings=said, want_tflite=True))
    whole = load(str(plain), tmp_path / "whole", LoadOptions(settings=said, split_outputs=False))
    for model in (one, two):
        assert set(model.manifest.targets[FLOAT_ONNX].outputs) == {"boxes", "objectness", "scores"}
        assert not model.manifest.decoder.params.get("decoded")
        assert max(float_error(model, FLOAT_TFLITE).values()) < 1e-4
    assert list(whole.manifest.targets[FLOAT_ONNX].outputs) == ["raw"]
    assert one.origins["boxes"].first == 0
    assert (one.origins["scores"].first, one.origins["scores"].last) == (5, 8)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    found = [
        detections(open_model(str(m.folder), EngineSection(target=t), score_threshold=0.01), image)
        for m in (one, two, whole)
        for t in m.manifest.targets
    ]
    assert len(found[0][0]) > 5
    for other in found[1:]:
        np.testing.assert_allclose(other[0], found[0][0], rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(other[1], found[0][1], atol=1e-4)


def detections(model: Model, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (M, 4) and scores (M,), before suppression, in the order of candidates."""
    Preprocessor(model.manifest.input, model.engine.input_specs[0], model.engine.inputs[0])(image)
    model.engine.run()
    found = Detections(5000)
    model.decoder.decode(model.engine.outputs, found)
    boxes, scores = found.xyxy[: found.count].copy(), found.scores[: found.count].copy()
    model.close()
    return boxes, scores


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolox_nano", "FastestDet"])
def test_real_detectors_see_the_same_through_every_float_file(name, shared, tmp_path):
    source = shared / "models" / f"{name}.onnx"
    pictures = sorted((shared / "data" / "coco-calib80").rglob("*.jpg"))[:5]
    before = sha256(source)
    model = load(str(source), tmp_path / "out", LoadOptions(pictures=pictures[:3], want_tflite=True))
    assert sha256(source) == before
    assert set(model.origins) == {"boxes", "objectness", "scores"}
    for target in (FLOAT_ONNX, FLOAT_TFLITE):
        assert max(float_error(model, target).values()) < 2e-3
    for path in pictures[3:]:
        image = read_picture(path)
        wanted = detections(open_model(str(source), score_threshold=0.3), image)
        assert len(wanted[0])
        for target in (FLOAT_ONNX, FLOAT_TFLITE):
            opened = open_model(str(model.folder), EngineSection(target=target), score_threshold=0.3)
            boxes, scores = detections(opened, image)
            np.testing.assert_allclose(boxes, wanted[0], atol=0.1)
            np.testing.assert_allclose(scores, wanted[1], atol=1e-3)


def truncated(path: Path) -> str:
    data = saved(classifier(), path / "cut.onnx").read_bytes()
    (path / "cut.onnx").write_bytes(data[: len(data) // 2])
    return str(path / "cut.onnx")


def written(path: Path, name: str, data: bytes) -> str:
    (path / name).write_bytes(data)
    return str(path / name)


def bundle(path: Path) -> str:
    (path / MANIFEST_NAME).write_text("format = 1")
    return str(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: str(path / "nothing.onnx"), "there is no model"),
        (lambda path: written(path, "a.onnx", b""), "is empty"),
        (lambda path: written(path, "a.onnx", b"not a model at all" * 99), "no ONNX"),
        (truncated, "no ONNX|damaged"),
        (lambda path: str(path), "without saved_model.pb"),
        (bundle, "is a bundle"),
        (lambda path: written(path, "a.pt", b"weights"), "--state-dict a.pt"),
        (lambda path: written(path, "a.jpg", b"picture"), "no kind of model"),
        (lambda path: written(path, "a.tflite", b"TFL3" * 99), "no .tflite|damaged"),
    ],
)
def test_what_is_no_model_is_one_line(make, said, tmp_path):
    with pytest.raises(ModelError, match=said) as raised:
        load(make(tmp_path), tmp_path / "out", LoadOptions())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("domain", ["", "their.own"])
def test_an_unknown_operator_is_named(domain, tmp_path):
    model = classifier()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Wonder", domain
    if domain:
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    with pytest.raises(ModelError, match="Wonder") as raised:
        load(str(saved(model, tmp_path / "net.onnx")), tmp_path / "out", LoadOptions())
    assert "\n" not in str(raised.value)
    assert "operator" in str(raised.value)


def test_weights_that_are_missing_beside_the_file_are_named(tmp_path):
    model = classifier()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    assert load(str(tmp_path / "net.onnx"), tmp_path / "out", LoadOptions()).labels == []
    assert [file.name for file in (tmp_path / "out").glob("*.bin")] == []
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match=r"net\.bin"):
        load(str(tmp_path / "net.onnx"), tmp_path / "out", LoadOptions())


def test_a_folder_that_cannot_be_written_is_a_configuration_error(tmp_path):
    source = saved(classifier(), tmp_path / "net.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        load(str(source), tmp_path / "file" / "out", LoadOptions())


@pytest.mark.shared
def test_quantized_and_compiled_tflite_files_are_refused(shared, tmp_path):
    for name, said in (("mobilenet_v2_1.0_224_quant", "quantized"), ("mobilenet_v1_0.25_128_quant_edgetpu", "Edge")):
        with pytest.raises(ModelError, match=said):
            load(str(shared / "models" / f"{name}.tflite"), tmp_path / "out", LoadOptions(want_onnx=False))


def test_loading_onnx_imports_neither_tensorflow_nor_torch(tmp_path):
    source = saved(classifier(), tmp_path / "net.onnx")
    code = (
        "import sys; from pathlib import Path; from convert.load import LoadOptions, load; "
        f"load({str(source)!r}, Path({str(tmp_path / 'out')!r}), LoadOptions(want_tflite=True)); "
        "print(sorted({'tensorflow', 'torch', 'keras'} & sys.modules.keys()))"
    )
    import_check = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert import_check.stdout.strip() == "[]", import_check.stderr


def test_relative_error_finds_the_order_of_axes():
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    assert relative_error(values, values.transpose(0, 2, 3, 1)) == 0
    assert relative_error(values, values.transpose(0, 2, 3, 1).reshape(2, 20, 3)) == 0
    assert relative_error(values, values[:, :2]) == float("inf")
    assert relative_error(values, values * np.float32(1.5)) == pytest.approx(0.5)
