"""The way over `trtexec`, where TensorRT's Python module is for another Python: a stand-in of each generation.

Their options are those of the real tools' help: 8.2 (JetPack 4.6), 8.5 (JetPack 5.1), 10.3 (JetPack 6.1).
"""

import os
import signal
import stat
from pathlib import Path

import pytest

from convert.tensorrt.bundle import build_bundle
from convert.tensorrt.find import find_builder
from convert.tensorrt.request import BuildOptions, BuildRequest
from convert.tensorrt.trtexec import build_by_tool, command_line, probe_tool
from edge.errors import AcceleratorError, ConfigError, MissingBackendError, ModelError
from edge.manifest import read_manifest
from edge.progress import Progress

OPTIONS = "--onnx --saveEngine --fp16 --int8 --calib --timingCacheFile --minShapes --optShapes --maxShapes "
GENERATIONS = {
    "8201": OPTIONS + "--workspace --buildOnly --profilingVerbosity --exportLayerInfo",
    "8502": OPTIONS + "--memPoolSize --buildOnly --profilingVerbosity --exportLayerInfo",
    "100300": OPTIONS + "--memPoolSize --skipInference --profilingVerbosity --exportLayerInfo "
    "--builderOptimizationLevel --maxAuxStreams --stronglyTyped",
}
SCRIPT = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # $0 $*"
[ "$1" = --help ] && {{ echo "{options}"; exit 0; }}
for argument in "$@"; do
  case " {options} " in *" ${{argument%%=*}} "*) ;; *) echo "[E] Unknown option: $argument"; exit 1 ;; esac
  case "$argument" in
    --saveEngine=*) out="${{argument#*=}}" ;;
    --onnx=*) onnx="${{argument#*=}}" ;;
    --exportLayerInfo=*) echo '{{"Layers": [{layer}]}}' > "${{argument#*=}}" ;;
  esac
done
{work}
"""
LAYER = (
    '{"Name": "Conv_0", "LayerType": "CaskConvolution", '
    '"Inputs": [{"Name": "a", "Format/Datatype": "Two wide channel vectorized row major FP16 format"}], '
    '"Outputs": [{"Name": "b", "Format/Datatype": "Two wide channel vectorized row major FP16 format"}]}'
)
BUILDS = 'cp "$onnx" "$out"; echo "[01/01/2024-10:00:00] [I] Engine built"'
FAILS = (
    'echo half > "$out"; echo "[01/01/2024-10:00:00] [E] Error[2]: [graph.cpp::build::118] Error Code 2: out of luck"; '
    "exit 1"
)
LINGERS = 'echo half > "$out"; while :; do echo "[I] timing"; sleep 0.05; done'


@pytest.fixture
def jetson(tmp_path):
    """A file tree like JetPack's, its `trtexec` of a version doing some work."""

    def install(version: str = "8201", work: str = BUILDS) -> Path:
        tool = tmp_path / "root/usr/src/tensorrt/bin/trtexec"
        tool = tool.with_name(f"trtexec-{version}-{len(work)}") if tool.exists() else tool
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(SCRIPT.format(version=version, options=GENERATIONS[version], work=work, layer=LAYER))
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        return tool

    return install


@pytest.fixture
def request_for(tmp_path, monkeypatch):
    monkeypatch.setattr("convert.tensorrt.trtexec.gpu_capability", lambda: "5.3")
    monkeypatch.setattr("convert.tensorrt.bundle.gpu_capability", lambda: "5.3")

    def make(precision: str = "fp16", **options) -> BuildRequest:
        (tmp_path / "model.onnx").write_text("onnx")
        (tmp_path / "out").mkdir(exist_ok=True)
        return BuildRequest(tmp_path / "model.onnx", tmp_path / "out/model.engine", precision, BuildOptions(**options))

    return make


@pytest.mark.parametrize(
    ("version", "release", "memory", "ends"),
    [
        ("8201", "8.2.1", "--workspace=64", "--buildOnly"),
        ("8502", "8.5.2", "--memPoolSize=workspace:64", "--buildOnly"),
        ("100300", "10.3.0", "--memPoolSize=workspace:64", "--skipInference"),
    ],
)
def test_each_release_is_spoken_to_in_its_words(jetson, request_for, version, release, memory, ends):
    tool, request = jetson(version), request_for(workspace_mib=64)
    assert probe_tool(tool).version == release
    out = request.out.with_name("x")
    line = command_line(tool, request, out, out)
    assert line == [str(tool), f"--onnx={request.onnx}", f"--saveEngine={out}", ends, "--fp16", memory]
    result = build_by_tool(tool, request)
    assert result.engine.read_text() == "onnx"
    assert result.needs["tensorrt"] == release
    assert result.layer_source == "none"
    assert "the layers were not checked" in result.notes[0]
    assert [path.name for path in request.out.parent.iterdir()] == ["model.engine"]


def test_every_option_it_has_and_none_it_lacks(jetson, request_for, tmp_path):
    shapes = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
    request = request_for("fp16", timing_cache=tmp_path / "t", optimization_level=0, max_aux_streams=0, shapes=shapes)
    line = command_line(jetson("100300"), request, request.out, request.out)
    assert {"--builderOptimizationLevel=0", "--maxAuxStreams=0", "--minShapes=x:1x3x8x8"} <= set(line)
    assert "--maxShapes=x:4x3x8x8" in line
    with pytest.raises(ConfigError, match="has no --builderOptimizationLevel, --maxAuxStreams"):
        command_line(jetson("8201"), request, request.out, request.out)
    with pytest.raises(ConfigError, match="only for the GPU it runs on"):
        build_by_tool(jetson("8502"), request_for(compute_capabilities=("8.6",)))


def test_the_layers_are_read_back_where_asked(jetson, request_for):
    result = build_by_tool(jetson(), request_for(inspect=True))
    assert result.layer_source == "engine"
    assert result.precisions == {"HALF": 1}


def test_a_failure_is_one_line_and_leaves_nothing(jetson, request_for):
    request = request_for()
    with pytest.raises(ModelError, match="trtexec could not build model.onnx .*out of luck") as caught:
        build_by_tool(jetson(work=FAILS), request)
    assert "\n" not in str(caught.value)
    assert not list(request.out.parent.iterdir())
    with pytest.raises(AcceleratorError, match="Jetson Nano, TX1"):
        build_by_tool(jetson("8502"), request_for("int8"))


class Interrupting(Progress):
    """Presses Ctrl-C whenever it is asked to show anything: one may fall into a callback that swallows it."""

    def update(self, done, detail="", total=None):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_tool_and_leaves_nothing(jetson, request_for):
    request = request_for()
    with pytest.raises(KeyboardInterrupt):
        build_by_tool(jetson(work=LINGERS), request, Interrupting("building"))
    assert not list(request.out.parent.iterdir())


def test_it_is_found_where_the_python_module_is_not(jetson, request_for, tmp_path, monkeypatch):
    tool, request = jetson(), request_for()
    monkeypatch.setattr("convert.tensorrt.find._CANDIDATES", (("no_such_tensorrt",),))
    root = tmp_path / "root"
    assert find_builder(root=root) == tool
    with pytest.raises(MissingBackendError, match="no TensorRT can be imported"):
        find_builder(python_only=True, root=root)
    (tmp_path / "manifest.toml").write_text(
        'format = 1\nname = "n"\n[targets.onnx-fp32]\nfile = "model.onnx"\n[input]\n[decoder]\nfamily = "yolox"\n'
    )
    (built,) = build_bundle(tmp_path, ["fp16"], None, find_builder(root=root))
    target = read_manifest(tmp_path / "manifest.toml").targets["tensorrt-fp16"]
    assert target.file == built.result.engine.name == "model-fp16.sm53.engine"
    assert target.needs["sm"] == "5.3"
    assert request.onnx.read_text() == "onnx"
