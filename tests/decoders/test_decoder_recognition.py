import numpy as np
import pytest

from edge.decoders.base import DecoderContext
from edge.manifest import InputContract
from edge.registry import names, resolve
from edge.structs import as_struct
from edge.tensor import Quantization, TensorSpec


def image(size, layout="NCHW", dtype="float32"):
    shape = (1, 3, size, size) if layout == "NCHW" else (1, size, size, 3)
    return TensorSpec("image", shape, np.dtype(dtype), layout)


def outputs(**shapes):
    return [TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in shapes.items()]


def claims(given, made):
    found = {family: resolve("decoders", family).recognise([given], made) for family in names("decoders")}
    return {family: claim for family, claim in found.items() if claim is not None}


# name, input, outputs, the only family that may claim, params it must find
TABLE = [
    ("yolov5 640", image(640), outputs(o=(1, 25200, 85)), "yolo", {"objectness": True}),
    ("yolov5 416", image(416), outputs(o=(1, 10647, 85)), "yolo", {"objectness": True}),
    ("yolov5 P6 1280", image(1280), outputs(o=(1, 102000, 85)), "yolo", {"objectness": True}),
    (
        "yolov5 tflite",
        image(320, "NHWC"),
        outputs(o=(1, 6300, 85)),
        "yolo",
        {"objectness": True, "normalized": True},
    ),
    ("yolov8", image(640), outputs(o=(1, 84, 8400)), "yolo", {}),
    ("yolov8 rows", image(640), outputs(o=(1, 8400, 84)), "yolo", {}),
    ("yolov8 tflite", image(640, "NHWC"), outputs(o=(1, 84, 8400)), "yolo", {"normalized": True}),
    ("yolov8 1 class", image(640), outputs(o=(1, 5, 8400)), "yolo", {}),
    ("yolov8 20 classes", image(320), outputs(o=(1, 24, 2100)), "yolo", {}),
    ("yolov8 pose", image(640), outputs(o=(1, 56, 8400)), "yolo", {"keypoints": 17}),
    ("yolov8 P2", image(640), outputs(o=(1, 84, 34000)), "yolo", {}),
    ("yolov8 apart", image(640), outputs(a=(1, 8400, 80), b=(1, 8400, 4)), "yolo", {}),
    ("yolov8 4 classes apart", image(640), outputs(scores=(1, 8400, 4), boxes=(1, 8400, 4)), "yolo", {}),
    (
        "yolov5 apart",
        image(320),
        outputs(scores=(1, 6300, 80), boxes=(1, 6300, 4), obj=(1, 6300, 1)),
        "yolo",
        {"objectness": True},
    ),
    ("yolov10", image(640), outputs(o=(1, 300, 6)), "yolo", {"end_to_end": True}),
    ("yolo26 pose", image(640), outputs(o=(1, 300, 57)), "yolo", {"end_to_end": True, "keypoints": 17}),
    ("yolox 640", image(640), outputs(o=(1, 8400, 85)), "yolox", {}),
    ("yolox 416", image(416), outputs(output=(1, 3549, 85)), "yolox", {}),
    ("yolox 416 turned", image(416, "NHWC"), outputs(o=(1, 85, 3549)), "yolox", {}),
    ("yolox 1 class", image(416), outputs(o=(1, 3549, 6)), "yolox", {}),
    (
        "yolox apart",
        image(416, "NHWC"),
        outputs(s=(1, 3549, 80), b=(1, 3549, 4), o=(1, 3549, 1)),
        "yolox",
        {},
    ),
    (
        "yolox apart 1 class",
        image(416),
        outputs(cls_scores=(1, 3549, 1), objectness=(1, 3549, 1), boxes=(1, 3549, 4)),
        "yolox",
        {},
    ),
    ("nanodet-plus 320", image(320), outputs(o=(1, 2125, 112)), "nanodet", {"strides": [8, 16, 32, 64]}),
    ("nanodet-plus 416", image(416), outputs(o=(1, 3598, 112)), "nanodet", {"strides": [8, 16, 32, 64]}),
    ("nanodet-plus 416 turned", image(416), outputs(o=(1, 112, 3598)), "nanodet", {}),
    (
        "nanodet 320",
        image(320),
        outputs(o=(1, 2100, 112)),
        "nanodet",
        {"strides": [8, 16, 32], "cell_offset": 0.5},
    ),
    ("nanodet-plus 1 class", image(416), outputs(o=(1, 3598, 33)), "nanodet", {}),
    ("nanodet apart", image(416), outputs(a=(1, 3598, 32), b=(1, 3598, 80)), "nanodet", {}),
    ("fastestdet", image(352), outputs(o=(1, 85, 22, 22)), "fastestdet", {}),
    ("fastestdet nhwc", image(352, "NHWC"), outputs(o=(1, 22, 22, 85)), "fastestdet", {}),
    ("rt-detr", image(640), outputs(logits=(1, 300, 80), pred_boxes=(1, 300, 4)), "detr", {}),
    ("rt-detr nameless", image(640), outputs(a=(1, 300, 4), b=(1, 300, 80)), "detr", {}),
    ("rt-detr fused", image(640), outputs(o=(1, 300, 84)), "detr", {"activation": "none"}),
    ("rf-detr", image(560), outputs(dets=(1, 300, 4), labels=(1, 300, 91)), "detr", {}),
    ("rf-detr 4 classes", image(560), outputs(dets=(1, 300, 4), labels=(1, 300, 4)), "detr", {}),
    (
        "blazeface",
        image(128, "NHWC"),
        outputs(regressors=(1, 896, 16), classificators=(1, 896, 1)),
        "ssd_anchors",
        {"keypoints": 6, "strides": [8, 16, 16, 16]},
    ),
    (
        "blazeface full",
        image(192, "NHWC"),
        outputs(c=(1, 2304, 1), r=(1, 2304, 16)),
        "ssd_anchors",
        {"strides": [4], "anchors_per_cell": 1},
    ),
    ("imagenet 1001", image(224, "NHWC"), outputs(o=(1, 1001)), "classification", {"softmax": False}),
    ("imagenet 1000", image(224), outputs(o=(1, 1000)), "classification", {"softmax": True}),
    ("imagenet softmax", image(224), outputs(softmax=(1, 1000)), "classification", {"softmax": False}),
    ("logits", image(224, "NHWC"), outputs(logits=(1, 1000)), "classification", {"softmax": True}),
    ("10 classes", image(28, "NHWC"), outputs(o=(1, 10)), "classification", {}),
    ("4 axes", image(224, "NHWC"), outputs(o=(1, 1, 1, 1001)), "classification", {}),
    ("segmentation", image(512), outputs(o=(1, 21, 512, 512)), None, {}),
    ("regression", image(224), outputs(o=(1, 1)), None, {}),
    ("feature pyramid", image(320), outputs(a=(1, 80, 40, 40), b=(1, 80, 20, 20)), None, {}),
    ("raw ssd", image(300), outputs(a=(1, 1917, 4), b=(1, 1917, 91)), None, {}),
    ("audio", TensorSpec("wave", (1, 15600), np.dtype("f4")), outputs(o=(1, 521)), None, {}),
]


@pytest.mark.parametrize(("given", "made", "family", "params"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
def test_one_family_claims_and_can_decode(given, made, family, params):
    found = claims(given, made)
    assert list(found) == ([family] if family else [])
    if family is None:
        return
    claim = found[family]
    assert claim.family == family
    assert claim.params.items() >= params.items()
    assert len(claim.why) > 30
    as_struct(claim.contract, InputContract, "contract")
    size = given.size_wh
    decoder = resolve("decoders", family)(DecoderContext(made, claim.roles, size, 0.5, params=claim.params))
    assert decoder.score_threshold == 0.5
    assert set(claim.roles.values()) == {o.name for o in made}


POSTPROCESS = "TFLite_Detection_PostProcess"
SHAPES = {"boxes": (1, 10, 4), "classes": (1, 10), "scores": (1, 10), "count": (1,)}


@pytest.mark.parametrize(
    ("output_names", "confidence"),
    [
        (
            {
                POSTPROCESS: "boxes",
                f"{POSTPROCESS}:1": "classes",
                f"{POSTPROCESS}:2": "scores",
                f"{POSTPROCESS}:3": "count",
            },
            "certain",
        ),
        (
            {
                "StatefulPartitionedCall:1": "scores",
                "StatefulPartitionedCall:3": "boxes",
                "StatefulPartitionedCall:0": "count",
                "StatefulPartitionedCall:2": "classes",
            },
            "certain",
        ),
        (
            {
                "num_detections": "count",
                "detection_scores": "scores",
                "detection_classes": "classes",
                "detection_boxes": "boxes",
            },
            "certain",
        ),
        ({"a": "boxes", "b": "classes", "c": "scores", "d": "count"}, "likely"),
        ({"a": "scores", "b": "boxes", "c": "count", "d": "classes"}, "likely"),
    ],
)
def test_the_detection_operator_is_read_by_name_and_then_by_order(output_names, confidence):
    made = outputs(**{name: SHAPES[role] for name, role in output_names.items()})
    found = claims(image(320, "NHWC", "uint8"), made)
    assert list(found) == ["ssd_postprocess"]
    claim = found["ssd_postprocess"]
    assert {name: role for role, name in claim.roles.items()} == output_names
    assert claim.confidence == confidence


def test_numbers_that_contradict_the_shapes_are_not_believed():
    made = outputs(**{"x:0": (1, 10, 4), "x:1": (1, 10), "x:2": (1, 10), "x:3": (1,)})
    assert claims(image(320, "NHWC"), made) == {}


def test_steps_of_1_256_speak_for_a_softmax():
    spec = TensorSpec("o", (1, 1000), np.dtype(np.int8), None, Quantization(1 / 256, -128))
    claim = claims(image(224), [spec])["classification"]
    assert claim.params == {"softmax": False}
    assert "1/256" in claim.why


def test_the_reason_is_arithmetic_a_person_can_check():
    claim = claims(image(416), outputs(output=(1, 3549, 85)))["yolox"]
    assert claim.why == (
        "one output (1, 3549, 85): 3549 = 52*52+26*26+13*13 cells at strides 8, 16, 32 of a 416x416 input, "
        "85 = 4 box + 1 objectness + 80 classes"
    )
