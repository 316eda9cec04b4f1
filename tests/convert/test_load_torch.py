"""PyTorch networks by .pt2 file or by MODULE:FACTORY with a state dict, each against torch's own outputs."""

import hashlib
import textwrap
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' (onnxscript) is not installed")
pytest.importorskip("onnxruntime", reason="the converter's extra is not installed")

from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE  # noqa: E402
from convert.load import LoadOptions, load  # noqa: E402
from convert.probe import float_error  # noqa: E402
from edge.config import EngineSection  # noqa: E402
from edge.errors import ConfigError, ModelError  # noqa: E402
from edge.model import open_model  # noqa: E402


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.deep = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.pool = torch.nn.MaxPool2d(3, 2, 1)
        self.last = torch.nn.Linear(8, 6)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.pool(torch.nn.functional.silu(self.deep(x)))
        return self.last(x.mean((2, 3)))


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    return Network().eval()


def check(model) -> None:
    assert set(model.manifest.targets) == {FLOAT_ONNX, FLOAT_TFLITE}
    assert model.manifest.decoder.params == {"softmax": True}
    for target in model.manifest.targets:
        assert max(float_error(model, target).values()) < 1e-4
        opened = open_model(str(model.folder), EngineSection(target=target))
        assert opened.engine.input_specs[0].size_wh == (48, 32)
        opened.close()


@pytest.mark.parametrize("open_batch", [False, True])
def test_an_exported_program_answers_as_torch_does(open_batch, tmp_path):
    shapes = ({0: torch.export.Dim("n", max=8)},) if open_batch else None
    example = torch.zeros(2 if open_batch else 1, 3, 32, 48)
    program = torch.export.export(build(), (example,), dynamic_shapes=shapes)
    source = tmp_path / "net.pt2"
    torch.export.save(program, source)
    before = hashlib.sha256(source.read_bytes()).digest()
    model = load(str(source), tmp_path / "out", LoadOptions(want_tflite=True))
    assert hashlib.sha256(source.read_bytes()).digest() == before
    assert "opset 18 to 17" in model.notes
    check(model)


@pytest.fixture
def factory(tmp_path, monkeypatch) -> str:
    """A module in the current directory that builds the network with other weights than `build`."""
    name = f"factory_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.append({str(Path(__file__).parent)!r})
            import torch
            from test_load_torch import Network
            def make():
                torch.manual_seed(1)
                return Network()
            def wrong():
                return 3
            def broken():
                raise RuntimeError("no such thing")
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    return name


def test_a_factory_is_built_and_its_weights_loaded(factory, tmp_path):
    weights = {"model": {f"module.{key}": value for key, value in build().state_dict().items()}}
    torch.save(weights, tmp_path / "weights.pt")
    options = LoadOptions(size_wh=(48, 32), state_dict=tmp_path / "weights.pt", want_tflite=True)
    model = load(f"{factory}:make", tmp_path / "out", options)
    check(model)
    with np.load(model.probe) as probe, torch.no_grad():
        np.testing.assert_allclose(build()(torch.from_numpy(probe["input_0"])), probe["output_0"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("wrong", ModelError, "gives a int"),
        ("broken", ModelError, "no such thing"),
        ("absent", ConfigError, "has no 'absent'"),
    ],
)
def test_a_factory_that_fails_is_one_line(name, error, said, factory, tmp_path):
    with pytest.raises(error, match=said) as raised:
        load(f"{factory}:{name}", tmp_path / "out", LoadOptions(size_wh=(48, 32)))
    assert "\n" not in str(raised.value)


def test_a_factory_needs_a_size_and_a_module(factory, tmp_path):
    with pytest.raises(ConfigError, match="input size"):
        load(f"{factory}:make", tmp_path / "out", LoadOptions())
    with pytest.raises(ConfigError, match="no module 'nowhere_at_all'"):
        load("nowhere_at_all:make", tmp_path / "out", LoadOptions(size_wh=(48, 32)))


def test_weights_of_another_network_are_refused(factory, tmp_path):
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "weights.pt")
    options = LoadOptions(size_wh=(48, 32), state_dict=tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="does not fit"):
        load(f"{factory}:make", tmp_path / "out", options)
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        load(f"{factory}:make", tmp_path / "out", options)


def test_a_damaged_program_is_one_line(tmp_path):
    torch.export.save(torch.export.export(build(), (torch.zeros(1, 3, 32, 48),)), tmp_path / "whole.pt2")
    data = (tmp_path / "whole.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged") as raised:
        load(str(tmp_path / "cut.pt2"), tmp_path / "out", LoadOptions())
    assert "\n" not in str(raised.value)
