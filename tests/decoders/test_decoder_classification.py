import math

import cv2
import numpy as np
import pytest
from decoder_reference import context, every_dtype, every_threshold, probabilities, tensor

from edge.decoders.classification import ClassificationDecoder
from edge.detections import Classification
from edge.errors import ManifestError
from edge.tensor import Quantization, TensorSpec

CLASSES = 50


def reference(real, threshold, top_k, softmax):
    scores = [float(v) for v in real]
    if softmax:
        weights = [math.exp(v - max(scores)) for v in scores]
        scores = [w / sum(weights) for w in weights]
    ranked = sorted(range(len(scores)), key=lambda i: (-np.float32(scores[i]), i))
    return [(i, scores[i]) for i in ranked if np.float32(scores[i]) >= np.float32(threshold)][:top_k]


@every_dtype
@every_threshold
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("shape", [(1, CLASSES), (1, 1, 1, CLASSES), (1, CLASSES, 1, 1)])
@pytest.mark.parametrize("top_k", [1, 5, CLASSES, 200])
def test_equals_the_reference(dtype, threshold, softmax, shape, top_k):
    rng = np.random.default_rng(1)
    real = rng.normal(0, 3, shape) if softmax else probabilities(rng, *shape)
    t = tensor("out", real, dtype)
    decoder = ClassificationDecoder(context([t], {"scores": "out"}, (8, 8), threshold, {"softmax": softmax}))
    assert decoder.class_count == CLASSES
    into = Classification(top_k)
    decoder.decode([t.stored], into)
    expected = reference(t.real.ravel(), threshold, top_k, softmax)
    assert into.class_ids[: into.count].tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(into.scores[: into.count], [s for _, s in expected], rtol=1e-5, atol=1e-7)


@every_dtype
def test_ties_go_to_the_lower_class(dtype):
    real = np.zeros((1, CLASSES))
    real[0, [40, 7, 30]] = 0.5
    real[0, 20] = 0.75
    t = tensor("out", real, dtype)
    decoder = ClassificationDecoder(context([t], {"scores": "out"}, (8, 8), 0.1))
    into = Classification(3)
    decoder.decode([t.stored], into)
    assert into.class_ids.tolist() == [20, 7, 30]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("softmax", [True, False])
def test_numbers_that_are_not_finite_are_never_published(bad, softmax):
    t = tensor("out", np.full((1, CLASSES), 0.5), "float32")
    decoder = ClassificationDecoder(context([t], {"scores": "out"}, (8, 8), 0.0, {"softmax": softmax}))
    t.stored[0, 9] = bad
    into = Classification(CLASSES)
    decoder.decode([t.stored], into)
    # one bad logit spoils the whole softmax; a bad probability only itself
    assert into.count == (0 if softmax else CLASSES - 1)
    assert 9 not in into.class_ids[: into.count].tolist()


def test_a_nan_does_not_take_a_place_among_the_best():
    t = tensor("out", np.linspace(0, 0.5, CLASSES)[None], "float32")
    decoder = ClassificationDecoder(context([t], {"scores": "out"}, (8, 8), 0.0))
    t.stored[0, 9] = math.nan
    into = Classification(3)
    decoder.decode([t.stored], into)
    assert into.class_ids.tolist() == [49, 48, 47]


def test_a_detector_output_is_refused():
    t = tensor("out", np.zeros((1, 20, 4)), "float32")
    with pytest.raises(ManifestError, match=r"\(1, 20, 4\)"):
        ClassificationDecoder(context([t], {"scores": "out"}, (8, 8), 0.5))


@pytest.mark.shared
def test_the_real_mobilenet_sees_a_cat_and_a_parrot(shared):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    )
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    spec = TensorSpec(
        got["name"],
        tuple(map(int, got["shape"])),
        np.dtype(got["dtype"]),
        None,
        Quantization(*got["quantization"]),
    )
    image = TensorSpec("image", (1, 224, 224, 3), np.dtype(np.uint8), "NHWC")
    claim = ClassificationDecoder.recognise([image], [spec])
    assert claim is not None
    assert claim.params == {"softmax": False}
    t = tensor(spec.name, np.zeros(spec.shape), "float32")
    t.spec = spec
    decoder = ClassificationDecoder(context([t], claim.roles, (224, 224), 0.1, claim.params))
    labels = (shared / "models" / "imagenet_labels.txt").read_text().splitlines()
    into = Classification(5)
    for name, words in (("cat_720p.jpg", ("cat", "tabby")), ("parrot.jpg", ("macaw", "parrot", "lorikeet"))):
        picture = cv2.imread(str(shared / "data" / "images" / name))
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        square = cv2.resize(picture[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(given["index"], square[None, :, :, ::-1])
        interpreter.invoke()
        decoder.decode([interpreter.get_tensor(got["index"])], into)
        assert any(w in labels[into.class_ids[0]] for w in words), labels[into.class_ids[0]]
