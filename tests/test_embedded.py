"""Metadata inside bare model files: read when it is there, a note when it is broken, never a traceback."""

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import flatbuffers
import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge.embedded import Embedded, from_onnx_properties, from_tflite, tflite_custom_ops
from edge.manifest import InputContract

COCO = {0: "person", 1: "bicycle", 2: 'it\'s a "car"'}
ULTRALYTICS = {
    "description": "Ultralytics YOLO11n model trained on coco.yaml",
    "author": "Ultralytics",
    "date": "2025-01-01T00:00:00",
    "version": "8.3.100",
    "license": "AGPL-3.0 License",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[480, 640]",
    "names": repr(COCO),
    "args": "{'batch': 1, 'half': False}",
}


def contract_of(said: Embedded) -> InputContract:
    """The stated contract, checked as the manifest's would be."""
    return msgspec.convert(said.contract, InputContract)


def vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    """Write a vector of tables or strings."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def floats(builder: flatbuffers.Builder, values: list[float]) -> int:
    """Write a vector of float32."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def table(builder: flatbuffers.Builder, **fields: int) -> int:
    """Write a table: `t0=offset` puts an offset into field 0, `b2=7` a byte into field 2."""
    builder.StartObject(8)
    for key, value in fields.items():
        add = builder.PrependUOffsetTRelativeSlot if key[0] == "t" else builder.PrependInt8Slot
        add(int(key[1:]), value, 0)
    return builder.EndObject()


def metadata(
    mean: list[float] | None = None,
    std: list[float] | None = None,
    labels: tuple[str, ...] = (),
    colour: int = 1,
) -> bytes:
    """Return a TFLITE_METADATA buffer; `labels` are file names, localized from the second on."""
    b = flatbuffers.Builder(1024)
    units = []
    if mean is not None and std is not None:
        options = table(b, t0=floats(b, mean), t1=floats(b, std))
        units = [table(b, b0=1, t1=options)]
    content = table(b, b0=2, t1=table(b, b0=colour))
    image = table(b, t0=b.CreateString("image"), t3=content, t4=vector(b, units))
    files = [
        table(b, t0=b.CreateString(name), b2=2, **({"t3": b.CreateString("de")} if i else {}))
        for i, name in reversed(list(enumerate(labels)))
    ]
    b.StartObject(1)
    b.PrependFloat32Slot(0, 0.5, 0.0)
    threshold = table(b, b0=3, t1=b.EndObject())
    scores = table(b, t4=vector(b, [threshold]), t6=vector(b, files))
    subgraph = table(b, t2=vector(b, [image]), t3=vector(b, [scores]))
    strings = {f"t{i}": b.CreateString(text) for i, text in ((0, "Demo"), (1, "A demo"), (5, "MIT"))}
    b.Finish(table(b, t3=vector(b, [subgraph]), **strings), file_identifier=b"M001")
    return bytes(b.Output())


def tflite(
    path: Path,
    meta: bytes | None = None,
    files: dict[str, bytes] | None = None,
    quantization: tuple[int, float, int] | None = None,
    custom: tuple[str, ...] = (),
    shape: list[int] | None = None,
) -> Path:
    """Write a model of one input; quantization is TensorType, scale, zero point."""
    model, subgraph, tensor = schema.ModelT(), schema.SubGraphT(), schema.TensorT()
    tensor.shape, tensor.buffer, tensor.name = shape or [1, 8, 8, 3], 0, "image"
    if quantization:
        tensor.type, tensor.quantization = quantization[0], schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[1]], [quantization[2]]
    subgraph.tensors, subgraph.inputs, subgraph.outputs, subgraph.operators = [tensor], [0], [0], []
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [subgraph], [schema.BufferT()], []
    for name in ("", *custom):
        code = schema.OperatorCodeT()
        code.customCode = name or None
        model.operatorCodes.append(code)
    if meta is not None:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data, entry.name, entry.buffer = list(meta), "TFLITE_METADATA", 1
        model.buffers.append(buffer)
        model.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    if files:
        with zipfile.ZipFile(path, "a") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return path


def test_importing_edge_does_not_load_this_module() -> None:
    code = "import sys, edge; sys.exit('edge.embedded' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ultralytics_detector_in_onnx() -> None:
    said = from_onnx_properties(ULTRALYTICS)
    assert said == Embedded(
        "Ultralytics metadata inside the ONNX file",
        contract=said.contract,
        family="yolo",
        params={"normalized": False},
        labels=["person", "bicycle", 'it\'s a "car"'],
        name="YOLO11n",
        description=ULTRALYTICS["description"],
        licence="AGPL-3.0 License",
    )
    contract = contract_of(said)
    assert contract.size_wh == (640, 480), "imgsz is height, width"
    assert (contract.resize, contract.placement, contract.pad_value) == ("letterbox", "center", 114)
    assert (contract.channel_order, contract.scale) == ("rgb", pytest.approx(1 / 255))


def test_through_a_real_onnx_file(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    models = pytest.importorskip("onnx_models", reason="onnx is not installed")
    identity = [models.node("Identity", "x", "y")]
    models.save(tmp_path / "m.onnx", identity, {"x": [1]}, {"y": [1]}, properties=ULTRALYTICS)
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    said = from_onnx_properties(session.get_modelmeta().custom_metadata_map)
    assert said is not None
    assert (said.family, len(said.labels), said.name) == ("yolo", 3, "YOLO11n")


def test_properties_of_others_are_not_ultralytics() -> None:
    for properties in ({}, {"description": "mine"}, {"names": "{0: 'a'}"}, {"stride": "32"}):
        assert from_onnx_properties(properties) is None


def test_yolov5_wrote_only_stride_and_names() -> None:
    said = from_onnx_properties({"stride": "32", "names": "['cat', 'dog']"})
    assert said is not None
    assert (said.family, said.labels) == ("yolo", ["cat", "dog"])
    assert "size_wh" not in said.contract


@pytest.mark.parametrize(
    ("task", "family", "resize", "note"),
    [
        ("classify", "classification", "crop", None),
        ("pose", "yolo", "letterbox", None),
        ("segment", "yolo", "letterbox", "masks are not"),
        ("obb", None, "letterbox", "task is 'obb'"),
    ],
)
def test_tasks(task: str, family: str | None, resize: str, note: str | None) -> None:
    said = from_onnx_properties({**ULTRALYTICS, "task": task})
    assert said is not None
    assert (said.family, contract_of(said).resize) == (family, resize)
    assert [note in text for text in said.notes] == ([True] if note else [])


def test_rt_detr_is_stretched_and_no_yolo() -> None:
    said = from_onnx_properties({**ULTRALYTICS, "description": "Ultralytics rtdetr-l model trained on coco.yaml"})
    assert said is not None
    assert (said.family, contract_of(said).resize, said.name) == ("detr", "stretch", "rtdetr-l")


@pytest.mark.parametrize(
    ("more", "params"),
    [
        ({"end2end": "True"}, {"end_to_end": True}),
        ({"end2end": "False"}, {}),
        ({"args": "{'nms': True}"}, {"end_to_end": True}),
        ({"args": "{'nms': False}"}, {}),
        ({"task": "pose", "kpt_shape": "[17, 3]"}, {"keypoints": 17, "keypoint_dims": 3}),
        ({"task": "pose", "kpt_shape": "[4, 2]"}, {"keypoints": 4, "keypoint_dims": 2}),
        ({"task": "pose", "kpt_shape": "[0, 9]"}, {}),
        ({"kpt_shape": "[17, 3]"}, {}),
    ],
)
def test_parameters_of_the_head(more: dict[str, str], params: dict[str, object]) -> None:
    said = from_onnx_properties({**ULTRALYTICS, **more})
    assert said is not None
    assert said.params == {"normalized": False, **params}
    yolo = pytest.importorskip("edge.decoders.yolo")
    assert msgspec.convert(said.params, yolo.YoloParams).end_to_end is bool(params.get("end_to_end"))


@pytest.mark.parametrize(
    ("shape", "end_to_end", "normalized"),
    [
        ([1, 8, 8, 3], False, True),
        ([1, 8, 8, 3], True, True),
        ([1, 3, 8, 8], False, True),
        ([1, 3, 8, 8], True, False),
    ],
)
def test_coordinates_of_tflite_files_are_normalized_but_for_pytorchs_end_to_end(
    tmp_path: Path, shape: list[int], end_to_end: bool, normalized: bool
) -> None:
    values = json.dumps({**ULTRALYTICS, "end2end": end_to_end}).encode()
    said = from_tflite(tflite(tmp_path / "m.tflite", files={"metadata.json": values}, shape=shape))
    assert said is not None
    assert said.params["normalized"] is normalized


def test_a_gray_model() -> None:
    said = from_onnx_properties({**ULTRALYTICS, "channels": "1"})
    assert said is not None
    assert said.contract["channel_order"] == "gray"


@pytest.mark.parametrize(
    "names",
    [
        "{0: 'a', 1:",
        "__import__('os').system('true')",
        "{}",
        "{'x': 'a'}",
        "{-1: 'a'}",
        "{1000000000: 'a'}",
        "5",
        "",
        "(" * 5000,
        "-" * 100_000 + "1",
        "[" * 100_000,
    ],
)
def test_unreadable_names_become_a_note(names: str) -> None:
    said = from_onnx_properties({**ULTRALYTICS, "names": names})
    assert said is not None
    assert said.labels == []
    assert "class names inside the file are unreadable" in said.notes[0]


def test_missing_class_ids_keep_the_others_in_place() -> None:
    said = from_onnx_properties({**ULTRALYTICS, "names": json.dumps({"2": "c", "0": "a"})})
    assert said is not None
    assert said.labels == ["a", "class 1", "c"]


@pytest.mark.parametrize("size", ["[0, 640]", "[1, 2, 3]", "x", "[640, 'a']", "[True, True]", "None"])
def test_an_unreadable_size_is_left_out(size: str) -> None:
    said = from_onnx_properties({**ULTRALYTICS, "imgsz": size})
    assert said is not None
    assert "size_wh" not in said.contract


@pytest.mark.parametrize("name", ["metadata.json", "TFLITE_ULTRALYTICS_METADATA.json", "temp_meta.txt"])
def test_ultralytics_in_the_zip_behind_a_tflite_file(tmp_path: Path, name: str) -> None:
    values = {**ULTRALYTICS, "imgsz": [480, 640], "names": COCO, "stride": 32}
    text = repr(values) if name.endswith(".txt") else json.dumps(values)
    # the older exporter also declared temp_meta.txt as the label file of TensorFlow Lite's own metadata
    path = tflite(tmp_path / "m.tflite", metadata([0.0], [255.0], (name,)), {name: text.encode()})
    said = from_tflite(path)
    assert said is not None
    assert said.origin == f"Ultralytics metadata ({name}) inside the TensorFlow Lite file"
    assert (said.family, said.labels, contract_of(said).size_wh) == ("yolo", list(COCO.values()), (640, 480))


def test_a_broken_ultralytics_file_leaves_tensorflows_metadata(tmp_path: Path) -> None:
    path = tflite(tmp_path / "m.tflite", metadata([127.5], [127.5]), {"metadata.json": b"\xff{"})
    said = from_tflite(path)
    assert said is not None
    assert (said.name, said.notes[0]) == (
        "Demo",
        "metadata.json inside the file is unreadable and was ignored",
    )


def test_tensorflow_lite_metadata(tmp_path: Path) -> None:
    meta = metadata([123.0, 117.0, 104.0], [58.0, 57.0, 56.0], ("labels.txt", "labels_de.txt"))
    files = {"labels_de.txt": b"Katze\nHund", "labels.txt": "cat\n\nd\u00f6g\r\n".encode()}
    said = from_tflite(tflite(tmp_path / "m.tflite", meta, files))
    assert said == Embedded(
        "TensorFlow Lite metadata inside the file",
        contract={
            "channel_order": "rgb",
            "scale": 1.0,
            "mean": (123.0, 117.0, 104.0),
            "std": (58.0, 57.0, 56.0),
        },
        labels=["cat", "", "d\u00f6g"],
        name="Demo",
        description="A demo",
        licence="MIT",
        notes=["the file recommends a score threshold of 0.5"],
    )


def test_single_values_count_for_all_channels_and_gray_is_named(tmp_path: Path) -> None:
    said = from_tflite(tflite(tmp_path / "m.tflite", metadata([127.5], [127.5], colour=2)))
    assert said is not None
    assert contract_of(said).mean == contract_of(said).std == (127.5, 127.5, 127.5)
    assert said.contract["channel_order"] == "gray"


@pytest.mark.parametrize(("mean", "std"), [([1.0, 2.0], [1.0]), ([0.0], [0.0]), ([float("nan")], [1.0]), ([], [])])
def test_an_unusable_normalization_is_noted(tmp_path: Path, mean: list[float], std: list[float]) -> None:
    said = from_tflite(tflite(tmp_path / "m.tflite", metadata(mean, std)))
    assert said is not None
    assert said.contract == {"channel_order": "rgb"}
    assert "the normalization inside the file is not usable and was ignored" in said.notes


@pytest.mark.parametrize(
    ("quantization", "offset"),
    [((3, 1 / 128, 128), 0), ((3, 1 / 127.5, 127), 0), ((9, 1 / 127.5, -1), -128), ((9, 1 / 127.5, 0), -128)],
)
def test_pixels_enter_a_quantized_input_unchanged(
    tmp_path: Path, quantization: tuple[int, float, int], offset: int
) -> None:
    said = from_tflite(tflite(tmp_path / "m.tflite", metadata([127.5], [127.5]), quantization=quantization))
    assert said is not None
    contract, pixels = contract_of(said), np.arange(256)
    stored = (pixels - contract.mean[0]) / contract.std[0] / np.float32(quantization[1]) + quantization[2]
    np.testing.assert_array_equal(np.rint(stored), pixels + offset)
    assert any("unchanged" in note for note in said.notes)


def test_a_quantized_input_of_another_range_keeps_the_stated_normalization(tmp_path: Path) -> None:
    path = tflite(tmp_path / "m.tflite", metadata([127.5], [127.5]), quantization=(3, 1 / 40, 90))
    said = from_tflite(path)
    assert said is not None
    assert said.contract["mean"] == (127.5,) * 3


def test_labels_that_are_declared_but_missing(tmp_path: Path) -> None:
    said = from_tflite(tflite(tmp_path / "m.tflite", metadata(labels=("labels.txt",))))
    assert said is not None
    assert (said.labels, said.contract) == ([], {"channel_order": "rgb"})
    assert "the file names its labels 'labels.txt', but does not hold them" in said.notes


def test_a_model_without_metadata_says_nothing(tmp_path: Path) -> None:
    assert from_tflite(tflite(tmp_path / "m.tflite")) is None


@pytest.mark.parametrize("content", [b"", b"plain text\n" * 9, b"PK\x03\x04", b"\x00\x00\x00\x00TFL3"])
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    said = from_tflite(path)
    assert said is None or said.contract == {}
    assert tflite_custom_ops(path) == []
    assert from_tflite(tmp_path / "absent.tflite") is None
    assert tflite_custom_ops(tmp_path / "absent.tflite") == []


def test_broken_metadata_is_noted(tmp_path: Path) -> None:
    meta = metadata([127.5], [127.5])
    for broken in (meta[:40], b"", b"\xff" * 64, meta[:4] + b"M002" + meta[8:]):
        said = from_tflite(tflite(tmp_path / "m.tflite", broken))
        assert said is not None
        assert said.contract == {}
        assert "metadata inside the file is unreadable and was ignored" in said.notes[0]


def test_garbled_and_truncated_files_never_raise(tmp_path: Path) -> None:
    labels = {"labels.txt": b"a\nb", "metadata.json": json.dumps(ULTRALYTICS).encode()}
    whole = tflite(
        tmp_path / "w.tflite",
        metadata([127.5], [127.5], ("labels.txt",)),
        labels,
        (3, 1 / 128, 128),
        ("odd-op",),
    ).read_bytes()
    plain = tflite(tmp_path / "p.tflite", metadata([1.0], [2.0], ("labels.txt",)), custom=("odd-op",)).read_bytes()
    dice, path, changed = random.Random(7), tmp_path / "m.tflite", 0
    for round_number in range(1500):
        content = bytearray(dice.choice((whole, plain)))
        if round_number % 3 == 0:
            del content[dice.randrange(len(content)) :]
        for _ in range(dice.choice((0, 1, 3, 30)) if content else 0):
            at = dice.randrange(8, max(9, len(content)))
            content[at : at + 1] = bytes([dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))])
        path.write_bytes(content)
        said, ops = from_tflite(path), tflite_custom_ops(path)
        changed += said is None or bool(said.notes) or ops != ["odd-op"]
        if said:
            contract_of(said)
    assert changed > 100, "the garbling must reach what is read"


def test_custom_operators(tmp_path: Path) -> None:
    assert tflite_custom_ops(tflite(tmp_path / "a.tflite")) == []
    assert tflite_custom_ops(tflite(tmp_path / "b.tflite", custom=("one", "FlexErf"))) == ["one", "FlexErf"]


@pytest.mark.shared
def test_real_models(shared: Path) -> None:
    models = shared / "models"
    assert tflite_custom_ops(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite") == ["edgetpu-custom-op"]
    assert tflite_custom_ops(models / "model_invoking_error.tflite") == ["fake-op-double"]
    assert from_tflite(models / "model_invoking_error.tflite") is None
    said = from_tflite(models / "mobilenet_v2_1.0_224_quant.tflite")
    assert said is not None
    assert said.labels == (models / "imagenet_labels.txt").read_text().splitlines()
    assert (said.contract["mean"], said.contract["std"]) == ((128.0,) * 3, (128.0,) * 3)
    assert said.name == "ImageClassifier"
