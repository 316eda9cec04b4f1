"""Fidelity: the float model is 1, damage lowers it in order, and annotated mAP is the evaluator's own figure."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small models are made with onnx")

from networks import classifier  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from convert.fidelity import Fidelity, compare_latency, latency_ms  # noqa: E402
from convert.float_model import FLOAT_ONNX, FloatModel, write_manifest  # noqa: E402
from edge.errors import ConfigError, EngineError, ManifestError  # noqa: E402
from edge.evaluation.dataset_reader import read_dataset  # noqa: E402
from edge.evaluation.evaluate import evaluate  # noqa: E402
from edge.evaluation.runner import RunSettings  # noqa: E402
from edge.manifest import DecoderSection, InputContract, Manifest, Target  # noqa: E402
from edge.model import open_model  # noqa: E402


def float_model(folder: Path, model: Path, manifest: Manifest) -> FloatModel:
    folder.mkdir()
    shutil.copy(model, folder / "float.onnx")
    write_manifest(folder, manifest)
    return FloatModel(folder, manifest, [], model, folder / "probe.npz", (), {})


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """A dozen pictures of coarse coloured noise: they differ in colour, which is what the small classifier sees."""
    noise, paths = np.random.default_rng(3), []
    for i in range(12):
        coarse = noise.integers(0, 256, (4, 5, 3), np.uint8) // 2 + noise.integers(0, 128, 3, np.uint8)
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_NEAREST))
    return paths


@pytest.fixture
def small(tmp_path) -> FloatModel:
    network = classifier()
    onnx.save(network, tmp_path / "net.onnx")
    target = Target(file="float.onnx", outputs={"scores": network.graph.output[0].name})
    contract = InputContract(resize="stretch", scale=1 / 64, mean=(2.0, 2.0, 2.0))
    decoder = DecoderSection(family="classification", score_threshold=0.99)
    manifest = Manifest(name="net", targets={FLOAT_ONNX: target}, input=contract, decoder=decoder)
    return float_model(tmp_path / "bundle", tmp_path / "net.onnx", manifest)


def damaged(model: FloatModel, path: Path, strength: float) -> Path:
    """The float file with noise added to the weights of its convolutions, in their own measure."""
    network, noise = onnx.load(model.file(FLOAT_ONNX)), np.random.default_rng(0)
    for tensor in network.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            values = values + strength * values.std() * noise.normal(0, 1, values.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(network, path)
    return path


def test_a_classifier_is_ranked_by_its_damage(small, pictures, tmp_path):
    fidelity, target = Fidelity(small, pictures), small.manifest.targets[FLOAT_ONNX]
    before = sorted(path.name for path in small.folder.iterdir())
    assert fidelity.measure(small.file(FLOAT_ONNX), target) == 1.0
    ranked = [fidelity.measure(damaged(small, tmp_path / f"{s}.onnx", s), target) for s in (1e-4, 1e-2, 5.0)]
    assert 1.0 > ranked[0] > ranked[1] > ranked[2] >= 0.0
    assert ranked[0] > 0.99
    assert sorted(path.name for path in small.folder.iterdir()) == before, "candidates leave the bundle alone"


def test_agreement_decides_before_distance(small, pictures, tmp_path):
    """A permutation of the classes agrees nowhere, whatever its probabilities."""
    network = onnx.load(small.file(FLOAT_ONNX))
    name = network.graph.output[0].name
    order = numpy_helper.from_array(np.array([1, 2, 3, 0], np.int64), "order")
    network.graph.initializer.append(order)
    network.graph.node.append(onnx.helper.make_node("Gather", [name, "order"], ["turned"], axis=1))
    network.graph.output[0].name = "turned"
    onnx.save(network, tmp_path / "turned.onnx")
    value = Fidelity(small, pictures).measure(
        tmp_path / "turned.onnx", Target(file="anything.onnx", outputs={"scores": "turned"})
    )
    assert 0.0 < value < 1 / (len(pictures) + 1)


def test_pictures_are_read_once(small, pictures):
    fidelity, target = Fidelity(small, pictures), small.manifest.targets[FLOAT_ONNX]
    for path in pictures:
        path.unlink()
    assert fidelity.measure(small.file(FLOAT_ONNX), target) == 1.0


def test_what_cannot_be_measured_is_said(small, pictures, tmp_path):
    with pytest.raises(ConfigError, match="no picture"):
        Fidelity(small, [])
    with pytest.raises(ManifestError, match="tflite-fp32"):
        Fidelity(small, pictures, "tflite-fp32")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        Fidelity(small, pictures).measure(tmp_path / "broken.onnx", small.manifest.targets[FLOAT_ONNX])


@pytest.fixture(scope="module")
def yolox(shared, tmp_path_factory) -> FloatModel:
    source = shared / "models" / "yolox_nano.onnx"
    opened = open_model(str(source))
    roles, manifest = opened.manifest.targets["onnx"].outputs, opened.manifest
    opened.close()
    stated = Manifest(
        name="yolox",
        targets={FLOAT_ONNX: Target(file="float.onnx", outputs=roles)},
        input=manifest.input,
        decoder=manifest.decoder,
    )
    return float_model(tmp_path_factory.mktemp("yolox") / "bundle", source, stated)


@pytest.fixture(scope="module")
def annotated(shared):
    return read_dataset(shared / "data" / "coco-calib80" / "instances.json", None, 6)


def test_a_detector_is_measured_against_its_float_self(yolox, annotated, tmp_path):
    fidelity = Fidelity(yolox, [sample.path for sample in annotated.samples])
    target = yolox.manifest.targets[FLOAT_ONNX]
    assert fidelity.measure(yolox.file(FLOAT_ONNX), target) == pytest.approx(1.0)
    ranked = [fidelity.measure(damaged(yolox, tmp_path / f"{s}.onnx", s), target) for s in (1e-3, 1e-2, 1e-1)]
    assert 1.0 > ranked[0] > ranked[1] > ranked[2]
    assert ranked[0] > 0.9


def test_annotated_map_is_the_evaluators_own(yolox, annotated):
    pictures = [sample.path for sample in annotated.samples]
    value = Fidelity(yolox, pictures, annotations=annotated).measure(
        yolox.file(FLOAT_ONNX), yolox.manifest.targets[FLOAT_ONNX]
    )
    wanted = evaluate(annotated, [RunSettings(str(yolox.folder))], resamples=1).sides[0].figures["map"]["value"]
    assert 0.1 < value == pytest.approx(wanted, abs=1e-9)


def test_pictures_without_objects_are_refused(yolox, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 114, np.uint8))
    with pytest.raises(ConfigError, match="finds nothing"):
        Fidelity(yolox, [tmp_path / "grey.png"])


def test_latencies_tell_fast_from_slow(small, shared):
    files = [small.file(FLOAT_ONNX), shared / "models" / "yolox_nano.onnx", small.file(FLOAT_ONNX)]
    first, slow, again = compare_latency(files, threads=1, rounds=4)
    assert 0 < first < slow
    assert again < slow
    assert 0 < latency_ms(files[0], threads=1) < slow
