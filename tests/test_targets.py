"""Which target of a bundle `target = "auto"` takes, and what is said of the others."""

import os
from pathlib import Path

import pytest

from edge import targets
from edge.config import EngineSection
from edge.engines.tflite_ops import EDGE_TPU_OP
from edge.errors import AcceleratorError, EngineError, ManifestError, MissingBackendError
from edge.manifest import Manifest, read_manifest
from edge.model import open_model
from edge.registry import names
from edge.targets import load_engine, open_target, ranked

NULL_FILE = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
[[outputs]]
name = "scores"
shape = [1, 3]
"""
FILES = {
    "onnx-int8": "int8.onnx",
    "tflite-int16x8": "x8.tflite",
    "onnx-fp16": "fp16.onnx",
    "onnx-fp32": "fp32.onnx",
    "tflite-fp32": "fp32.tflite",
    "tflite-int8": "int8.tflite",
    "mine": "mine.null",
    "edgetpu-int8-io": "edge.tflite",
    "tensorrt-fp32": "fp32.engine",
    "tensorrt-int8": "int8.plan",
}
AUTO = EngineSection(target="auto")


def bundle_of(folder: Path, files: dict[str, str], accuracy: dict[str, float] | None = None) -> Manifest:
    text = 'name = "m"\n[input]\n[decoder]\nfamily = "classification"\n'
    for name, file in files.items():
        text += f'[targets.{name}]\nfile = "{file}"\n'
        (folder / file).write_text(NULL_FILE if file.endswith(".null") else "")
    text += "[accuracy]\n" + "".join(f"{name} = {value}\n" for name, value in (accuracy or {}).items())
    (folder / "manifest.toml").write_text(text)
    return read_manifest(folder / "manifest.toml")


def test_the_quickest_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "tflite_custom_ops", lambda file: [EDGE_TPU_OP] if file.stem == "edge" else [])
    manifest = bundle_of(tmp_path, FILES)
    on_the_cpu = ["tflite-int8", "tflite-fp32", "tflite-int16x8"]
    accelerators = ["tensorrt-int8", "tensorrt-fp32", "edgetpu-int8-io"]
    plain = ranked(tmp_path, manifest, AUTO, [])
    assert plain == [*accelerators, *on_the_cpu, "onnx-fp32", "onnx-fp16", "onnx-int8", "mine"]
    cuda = EngineSection(target="auto", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert ranked(tmp_path, manifest, cuda, []) == [
        *accelerators,
        "onnx-fp16",
        "onnx-fp32",
        "onnx-int8",
        *on_the_cpu,
        "mine",
    ]


def test_what_loses_too_much_accuracy_is_passed_over(tmp_path):
    files = {name: f"{name}.null" for name in ("a", "b", "c", "unknown")}
    manifest = bundle_of(tmp_path, files, {"a": 0.269, "b": 0.271, "c": 0.3})
    opened = open_target(tmp_path, manifest, AUTO)
    assert opened.name == "b"
    assert opened.notes == [
        "target 'a' was passed over: its accuracy is 0.269, the best has 0.300",
        "target 'c' was not needed: 'b' is quicker",
        "target 'unknown' was not needed: 'b' is quicker",
    ]


@pytest.fixture
def engines(monkeypatch):
    """Let the loading of files, by name, raise."""
    errors: dict[str, Exception] = {}
    load = targets.load_engine

    def load_engine(file, options):
        if file.name in errors:
            raise errors[file.name]
        return load(file, options)

    monkeypatch.setattr(targets, "load_engine", load_engine)
    return errors


FOUR = {name: f"{name}.null" for name in "abcd"}


def test_what_cannot_run_here_is_passed_over_and_said_why(tmp_path, engines):
    manifest = bundle_of(tmp_path, FOUR)
    engines["a.null"] = AcceleratorError("no TPU", "plug it in")
    engines["b.null"] = MissingBackendError("no runtime", "install it")
    opened = open_target(tmp_path, manifest, AUTO)
    assert opened.name == "c"
    assert opened.notes == [
        "target 'a' was passed over: no TPU: plug it in",
        "target 'b' was passed over: no runtime: install it",
        "target 'd' was not needed: 'c' is quicker",
    ]
    assert open_target(tmp_path, manifest, EngineSection()).notes == opened.notes[:2]


def test_a_file_that_is_broken_is_not_passed_over(tmp_path, engines):
    manifest = bundle_of(tmp_path, FOUR)
    engines["a.null"] = EngineError("it is cut short", "copy it again")
    with pytest.raises(EngineError, match="cut short"):
        open_target(tmp_path, manifest, AUTO)


def test_where_none_runs_every_reason_is_told(tmp_path, engines):
    manifest = bundle_of(tmp_path, FOUR)
    for name in "ab":
        engines[f"{name}.null"] = AcceleratorError("no TPU", "plug it in")
    for name in "cd":
        engines[f"{name}.null"] = MissingBackendError("no runtime", "install it")
    with pytest.raises(AcceleratorError) as caught:
        open_target(tmp_path, manifest, AUTO)
    assert str(caught.value) == "no target runs here (a, b: no TPU; c, d: no runtime): plug it in; or install it"
    engines.update({f"{name}.null": AcceleratorError("no TPU", "plug it in") for name in "cd"})
    with pytest.raises(AcceleratorError, match=r"^no TPU: plug it in$"):
        open_target(tmp_path, manifest, AUTO)


def test_another_interpreter_is_given_only_what_it_can_run(tmp_path, engines):
    manifest = bundle_of(tmp_path, {"onnx-fp32": "m.onnx", "tflite-int8": "m.tflite"})
    engines["m.tflite"] = MissingBackendError("no interpreter", "install it")
    for target in ("auto", None):
        with pytest.raises(MissingBackendError, match=r"m.onnx.*no interpreter|no interpreter.*m.onnx"):
            open_target(tmp_path, manifest, EngineSection(target=target, python="/usr/bin/python3"))


def test_a_target_that_is_not_there_is_explained(tmp_path):
    manifest = bundle_of(tmp_path, FOUR)
    with pytest.raises(ManifestError, match="no target 'aut0': did you mean 'auto'"):
        open_target(tmp_path, manifest, EngineSection(target="aut0"))


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize("options", [EngineSection(), EngineSection(isolate=True)], ids=["here", "isolated"])
@pytest.mark.parametrize("suffix", [name for name in names("engines") if "+" not in name])
def test_a_path_that_is_not_utf8_is_told_before_any_engine_sees_it(tmp_path, suffix, options, where):
    raw = b"/m\xff." if where == "file" else b"/\xff/m."
    file = Path(os.fsdecode(os.fsencode(tmp_path) + raw + suffix.encode()))
    file.parent.mkdir(exist_ok=True)
    file.write_text(NULL_FILE)
    with pytest.raises(EngineError, match=r"\\udcff.*\(its name is not UTF-8\): rename it") as caught:
        load_engine(file, options)
    assert caught.value.exit_code == 3
    assert str(caught.value).isascii()  # as a terminal could not print it else
    with pytest.raises(EngineError, match="its name is not UTF-8"):
        open_model(str(file))
