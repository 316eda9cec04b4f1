"""The path as a whole: what a step does, what it costs in memory, and that its times add up."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import catalogue as catalogue_module
from edge.config import EngineSection, RunConfig
from edge.errors import EndOfStreamError, ManifestError
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.testing import MemoryPublisher, MemorySource
from edge.timings import Stage

# MediaPipe's own face detection on the photo: x, y, width, height relative to its 512 x 512 px.
MEDIAPIPE_BOX = np.array([0.347, 0.162, 0.186, 0.186]) * 512

CLASSIFIER = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
layout = "NHWC"

[[outputs]]
name = "scores"
shape = [1, 3]
fill = 0.5
"""


@pytest.fixture
def astronaut(catalogue) -> np.ndarray:
    folder = catalogue("astronaut")
    return cv2.imread(str(folder / catalogue_module.entries()["astronaut"].file))


def pipeline_of(model: str, images: list[np.ndarray], publisher: MemoryPublisher | None = None) -> Pipeline:
    config = RunConfig(engine=EngineSection(threads=1))
    opened = open_model(model, config.engine)
    return Pipeline(MemorySource(images), opened, [publisher] if publisher else [], config)


def test_the_face_is_where_mediapipe_finds_it(catalogue, astronaut):
    catalogue("face")
    publisher = MemoryPublisher()
    message = pipeline_of("face", [astronaut], publisher).step()
    assert len(message.detections) == 1
    face = message.detections[0]
    assert face.label == "face"
    assert face.score > 0.9
    x, y, width, height = MEDIAPIPE_BOX
    assert np.abs(np.array(face.box) - (x, y, x + width, y + height)).max() < 2.0
    seen = (
        (203, 101),
        (246, 104),
        (222, 127),
        (221, 146),
        (174, 122),
        (273, 127),
    )  # read off the photo by eye:
    for point, by_eye in zip(
        face.keypoints, seen, strict=True
    ):  # right eye, left eye, nose, mouth, right ear, left ear
        assert np.abs(np.array(point) - by_eye).max() < 8
    assert [sent.kind for sent in publisher.messages] == ["heartbeat", "hello", "labels", "detections"]
    assert publisher.messages[-1] is message
    assert publisher.messages[1].frame == (512, 512)


def test_the_full_range_model_finds_it_too(catalogue, astronaut):
    catalogue("face-full")
    message = pipeline_of("face-full", [astronaut]).step()
    assert len(message.detections) == 1
    assert message.detections[0].score > 0.9
    x, y, width, height = MEDIAPIPE_BOX
    assert np.abs(np.array(message.detections[0].box) - (x, y, x + width, y + height)).max() < 25


def test_the_stages_add_up_to_the_wall_clock(catalogue, astronaut):
    catalogue("face")
    pipeline = pipeline_of("face", [cv2.resize(astronaut, (1280, 720))], MemoryPublisher())
    for _ in range(50):
        pipeline.step()
    stages, wall = pipeline.timings.stages_ns, pipeline.timings.wall_ns
    assert abs(stages.sum() / wall.sum() - 1) < 0.03
    assert (stages[:, [Stage.PREPROCESS, Stage.INFER, Stage.DECODE, Stage.NMS, Stage.PUBLISH]] > 0).all()
    assert (pipeline.timings.age_ns > 0).all()


def test_a_classifier_publishes_classes(tmp_path):
    (tmp_path / "m.null").write_text(CLASSIFIER)
    pipeline = pipeline_of(str(tmp_path / "m.null"), [np.zeros((8, 8, 3), np.uint8)])
    message = pipeline.step()
    assert message.kind == "classification"
    assert [(record.label, record.score) for record in message.classes] == [("0", 0.5), ("1", 0.5), ("2", 0.5)]


@pytest.mark.shared
def test_the_classifier_names_the_cat(shared):
    picture = cv2.imread(str(shared / "data/images/cat_720p.jpg"))
    message = pipeline_of(str(shared / "models/mobilenet_v2_1.0_224_quant.tflite"), [picture]).step()
    assert message.kind == "classification"
    assert any("cat" in record.label.lower() for record in message.classes[:3])


@pytest.mark.shared
def test_labels_fewer_than_classes_are_refused(shared, tmp_path):
    (tmp_path / "few.txt").write_text("cat\ndog\n")
    with pytest.raises(ManifestError, match="2 labels for 80 classes: give one label per class"):
        open_model(str(shared / "models/yolox_nano.onnx"), EngineSection(), str(tmp_path / "few.txt"))


def test_the_source_ends_the_steps(catalogue, astronaut):
    catalogue("face")
    config = RunConfig()
    model = open_model("face", config.engine)
    pipeline = Pipeline(MemorySource([astronaut], frames=2), model, [], config)
    pipeline.step()
    pipeline.step()
    with pytest.raises(EndOfStreamError):
        pipeline.step()
    assert pipeline.timings.count == 2


def write_bundle(folder: Path, face: Path, targets: str) -> Path:
    """A bundle around the face model with other targets."""
    text = (face / "manifest.toml").read_text()
    folder.mkdir()
    (folder / "manifest.toml").write_text(text[: text.index("[targets")] + targets)
    (folder / "m.tflite").write_bytes((face / "face_detection_short_range.tflite").read_bytes())
    return folder


OUTPUTS = 'outputs = { boxes = "regressors", scores = "classificators" }\n'


def test_a_bundle_passes_over_targets_that_cannot_run_here(catalogue, tmp_path, monkeypatch):
    bundle = write_bundle(
        tmp_path / "b",
        catalogue("face"),
        f'[targets.onnx]\nfile = "m.onnx"\n[targets.cpu]\nfile = "m.tflite"\n{OUTPUTS}',
    )
    (bundle / "m.onnx").write_bytes(b"")
    monkeypatch.setattr("edge.targets.resolve", resolver_without_onnx())
    model = open_model(str(bundle), EngineSection())
    assert model.target == "cpu"
    assert "target 'onnx' was passed over" in model.notes[0]


def resolver_without_onnx():
    from edge.errors import MissingBackendError
    from edge.registry import resolve

    def resolve_but_onnx(group: str, name: str):
        if name == "onnx":
            raise MissingBackendError("onnx needs onnxruntime", "pip install 'harrier-edge[onnx]'")
        return resolve(group, name)

    return resolve_but_onnx


def test_a_role_that_names_no_output_is_explained(catalogue, tmp_path):
    wrong = OUTPUTS.replace("regressors", "regresors")
    bundle = write_bundle(tmp_path / "b", catalogue("face"), f'[targets.cpu]\nfile = "m.tflite"\n{wrong}')
    with pytest.raises(ManifestError, match="no output 'regresors' for the role 'boxes'.*regressors"):
        open_model(str(bundle), EngineSection())


def test_a_zipped_bundle_runs_like_a_folder(catalogue, tmp_path, monkeypatch, astronaut):
    import shutil

    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))
    archive = shutil.make_archive(str(tmp_path / "face"), "zip", catalogue("face"))
    first = open_model(archive, EngineSection())
    again = open_model(archive, EngineSection())
    assert first.path == again.path
    assert first.name == "face"
    assert Pipeline(MemorySource([astronaut]), again, [], RunConfig()).step().detections


def test_a_model_with_two_inputs_is_refused(tmp_path):
    (tmp_path / "two.null").write_text(CLASSIFIER + '[[inputs]]\nname = "sizes"\nshape = [1, 2]\n')
    manifest = 'name = "two"\n[targets.null]\nfile = "two.null"\noutputs = { scores = "scores" }\n[input]\n'
    (tmp_path / "manifest.toml").write_text(manifest + '[decoder]\nfamily = "classification"\n')
    with pytest.raises(ManifestError, match=r"two.null has 2 inputs .*sizes 1x2 float32.*one image input"):
        open_model(str(tmp_path), EngineSection())
