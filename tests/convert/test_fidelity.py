"""Fidelity: the float model is 1, and damage lowers it in order."""

from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small models are made with onnx")

from bundles import classifier_bundle, coarse_pictures, float_bundle  # noqa: E402
from networks import classifier  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from convert.fidelity import Fidelity, compare_latency, latency_ms  # noqa: E402
from convert.float_model import FLOAT_ONNX, FloatModel  # noqa: E402
from edge.errors import ConfigError, EngineError, ManifestError  # noqa: E402
from edge.evaluation.dataset_reader import read_dataset  # noqa: E402
from edge.manifest import Manifest, Target  # noqa: E402
from edge.model import open_model  # noqa: E402


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    return coarse_pictures(tmp_path, 12)


@pytest.fixture
def small(tmp_path) -> FloatModel:
    return classifier_bundle(tmp_path / "bundle", classifier(), score_threshold=0.99)


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
    return float_bundle(tmp_path_factory.mktemp("yolox") / "bundle", onnx.load(source), stated)


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
