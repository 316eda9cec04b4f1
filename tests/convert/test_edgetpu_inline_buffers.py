"""Weights behind the flatbuffer come inside it, and nothing else changes."""

import zipfile

import flatbuffers
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="files are read and written through LiteRT's schema")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from edgetpu_models import op, options, tensor, write

from convert.inline_buffers import has_outside_buffers, inline_buffers
from convert.tflite_edit import read_model
from edge.errors import ConfigError, ModelError

WEIGHTS = np.arange(-72, 72, dtype=np.int8).reshape(2, 3, 3, 8)


def inside_file(path):
    """A convolution with a version, a description, metadata and a signature to keep."""
    tensors = [
        tensor("x", (1, 4, 4, 8)),
        tensor("w", WEIGHTS.shape, values=WEIGHTS),
        tensor("b", (2,), "int32", values=[3, -5]),
        tensor("y", (1, 4, 4, 2)),
    ]
    settings = options("Conv2D", strideW=1, strideH=1)
    write(path, tensors, [op("CONV_2D", ["x", "w", "b"], ["y"], settings, version=3)], ["x"], ["y"])
    return path


def outside_file(path):
    """The same, its buffers and a metadata entry behind the flatbuffer, as converters write large models."""
    model = read_model(inside_file(path))
    model.description = "kept"
    note = schema.BufferT()
    note.data = np.frombuffer(b"min runtime 1.14", np.uint8)
    model.buffers.append(note)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "note", len(model.buffers) - 1
    model.metadata = [entry]
    contents = [None if buffer.data is None else np.asarray(buffer.data).tobytes() for buffer in model.buffers]
    for buffer, data in zip(model.buffers, contents, strict=True):
        if data is not None:
            buffer.data, buffer.offset, buffer.size = None, 1 << 20, len(data)
    start = len(packed(model))  # an offset has the same length whatever it is
    behind = b""
    for buffer, data in zip(model.buffers, contents, strict=True):
        if data is not None:
            buffer.offset = start + len(behind)
            behind += data
    path.write_bytes(packed(model) + behind)
    return path


def packed(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def outputs(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    values = np.random.default_rng(0).integers(-1, 2, (1, 4, 4, 8)).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_weights_come_inside_and_outputs_stay(tmp_path):
    source = outside_file(tmp_path / "a.tflite")
    before = source.read_bytes()
    assert has_outside_buffers(source)
    assert inline_buffers(source, tmp_path / "b.tflite") is True
    assert not has_outside_buffers(tmp_path / "b.tflite")
    assert source.read_bytes() == before
    np.testing.assert_array_equal(outputs(source), outputs(tmp_path / "b.tflite"))
    assert len(np.unique(outputs(source))) > 10
    assert {path.name for path in tmp_path.iterdir()} == {"a.tflite", "b.tflite"}


def test_versions_description_and_metadata_stay(tmp_path):
    inline_buffers(outside_file(tmp_path / "a.tflite"), tmp_path / "b.tflite")
    model = read_model(tmp_path / "b.tflite")
    assert [code.version for code in model.operatorCodes] == [3]
    assert model.description == b"kept"
    (entry,) = model.metadata
    assert (entry.name, bytes(model.buffers[entry.buffer].data)) == (b"note", b"min runtime 1.14")
    data = (tmp_path / "b.tflite").read_bytes()
    assert data[4:8] == b"TFL3"
    assert data.index(WEIGHTS.tobytes()) % 16 == 0


def test_label_files_behind_the_model_stay(tmp_path):
    source = outside_file(tmp_path / "a.tflite")
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    inline_buffers(source, tmp_path / "b.tflite")
    with zipfile.ZipFile(tmp_path / "b.tflite") as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    np.testing.assert_array_equal(outputs(source), outputs(tmp_path / "b.tflite"))


def test_a_file_without_outside_weights_is_copied_as_it_is(tmp_path):
    source = inside_file(tmp_path / "a.tflite")
    assert inline_buffers(source, tmp_path / "b.tflite") is False
    assert (tmp_path / "b.tflite").read_bytes() == source.read_bytes()


def test_in_place(tmp_path):
    path = outside_file(tmp_path / "a.tflite")
    assert inline_buffers(path, path) is True
    once = path.read_bytes()
    assert inline_buffers(path, path) is False
    assert path.read_bytes() == once


def test_errors_are_told_and_leave_nothing(tmp_path):
    with pytest.raises(ModelError, match="cannot read"):
        inline_buffers(tmp_path / "none.tflite", tmp_path / "b.tflite")
    (tmp_path / "text.tflite").write_text("no model")
    with pytest.raises(ModelError, match="no .tflite file"):
        inline_buffers(tmp_path / "text.tflite", tmp_path / "b.tflite")
    for make in (inside_file, outside_file):
        with pytest.raises(ConfigError, match="cannot write"):
            inline_buffers(make(tmp_path / "a.tflite"), tmp_path / "missing" / "b.tflite")
    assert {path.name for path in tmp_path.iterdir()} == {"text.tflite", "a.tflite"}
