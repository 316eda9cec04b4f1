"""PyTorch: programs saved by torch.export, or a network built by the user's own function, to ONNX."""

import os
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convert.load import Loaded, LoadOptions
from convert.load_onnx import start_from
from convert.quiet import quiet
from convert.surgery.clean import read_onnx
from edge.errors import ConfigError, ModelError

__all__ = ["load_exported", "load_factory"]

_CHANNELS = (3, 1)
_OPSET = 18  # what torch's exporter writes by itself; cleaning brings it down where it can
_WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "net")


def load_exported(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return a .pt2 file, which torch.export.save wrote, as ONNX.

    Raises: ModelError for a damaged file or a program of more than one image.
    """
    path = Path(reference).expanduser()
    try:
        with quiet():
            program = torch.export.load(str(path))
    except Exception as exc:  # zipfile's, pickle's, JSON's and torch's own errors, by what is damaged
        raise ModelError(
            f"{path.name} is damaged or no program of torch.export ({_said(exc)})", "save it with torch.export.save"
        ) from exc
    examples = [value for value in (program.example_inputs or ((),))[0] if isinstance(value, torch.Tensor)]
    if len(examples) != 1 or examples[0].ndim != 4:
        raise ModelError(f"{path.name} does not take one image", "export a program of 1 x channels x height x width")
    shape = _sized(examples[0], program, path.name, options.size_wh)
    with quiet():
        module = program.module()
    return _exported(program, module, shape, path.name, folder, options)


def load_factory(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return the network that MODULE:FACTORY builds, with `options.state_dict` loaded, as ONNX.

    The current directory is looked in first. FACTORY is called without arguments; it may also be a network itself.
    Raises: ConfigError when it cannot be imported or no size is given, ModelError when it builds no network or the
    weights do not fit.
    """
    if options.size_wh is None:
        raise ConfigError(f"{reference} does not say its input size", "give it: --size 640x640")
    network = _built(reference)
    if options.state_dict:
        _fill(network, Path(options.state_dict))
    network.eval()
    width, height = options.size_wh
    said: Exception | None = None
    for channels in _CHANNELS:
        shape = (1, channels, height, width)
        try:
            with quiet(), torch.no_grad():
                network(torch.zeros(shape))
        except Exception as exc:  # a network raises what it likes
            said = said or exc
            continue
        return _exported(network, network, shape, reference, folder, options)
    assert said is not None
    raise ModelError(
        f"{reference} fails on a {width}x{height} picture ({_said(said)})", "give another size, or correct the network"
    ) from said


def _exported(
    network: Any, module: Any, shape: tuple[int, ...], name: str, folder: Path, options: LoadOptions
) -> Loaded:
    """A network or program through torch's ONNX exporter; `module` is what the result is compared with."""
    example = torch.zeros(shape)
    with torch.no_grad():
        count = len(_tensors(module(example), name))
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    try:
        with tempfile.TemporaryDirectory(prefix="harrier-torch-") as temporary:
            file = Path(temporary) / "model.onnx"
            with quiet(), torch.no_grad():
                given = () if isinstance(network, torch.export.ExportedProgram) else (example,)
                exported = torch.onnx.export(
                    network, given, dynamo=True, input_names=["input"], output_names=names, opset_version=_OPSET
                )
                assert exported is not None  # with dynamo=True there is always a program
                exported.save(str(file))
            model = read_onnx(file)
    except OSError as exc:
        raise ConfigError(f"cannot write temporary files ({exc.strerror})", "free some space") from exc
    except ModelError:
        raise
    except Exception as exc:  # the exporter's errors derive from Exception alone
        raise ModelError(
            f"torch cannot export {name} to ONNX ({_said(exc)})", "make its forward free of data-dependent Python"
        ) from exc

    def run(sample: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [tensor.numpy() for tensor in _tensors(module(torch.from_numpy(sample)), name)]

    return start_from(model, name, folder, options, run)


def _sized(
    example: torch.Tensor, program: torch.export.ExportedProgram, name: str, size_wh: tuple[int, int] | None
) -> tuple[int, ...]:
    """The example's shape with batch 1, open axes set to the size that was given."""
    shape = [int(n) for n in example.shape]
    fixed = _fixed_axes(program)
    if fixed[0] and shape[0] != 1:
        raise ModelError(f"{name} takes {shape[0]} images at once", "export it with a batch of 1")
    shape[0] = 1
    for axis, side, wanted in ((2, "height", (size_wh or (0, 0))[1]), (3, "width", (size_wh or (0, 0))[0])):
        if not fixed[axis] and not wanted:
            raise ModelError(f"axis {axis} ({side}) of the input of {name} is open", "give its size: --size 640x640")
        if fixed[axis] and wanted and shape[axis] != wanted:
            raise ModelError(f"the {side} of {name}'s input is fixed at {shape[axis]} px, not {wanted}", "leave it out")
        shape[axis] = wanted or shape[axis]
    return tuple(shape)


def _fixed_axes(program: torch.export.ExportedProgram) -> list[bool]:
    """Whether each axis of the user's input is a number, not a symbol."""
    wanted = program.graph_signature.user_inputs[0]
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name == wanted:
            return [isinstance(n, int) for n in node.meta["val"].shape]
    return [True] * 4


def _built(reference: str) -> torch.nn.Module:
    module_name, _, factory_name = reference.partition(":")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        with quiet():
            module = import_module(module_name)
            factory = getattr(module, factory_name, None)
            if factory is None:
                raise ConfigError(f"{module_name} has no '{factory_name}'", "name the function that builds the network")
            network = factory if isinstance(factory, torch.nn.Module) else factory()
    except ConfigError:
        raise
    except ModuleNotFoundError as exc:
        raise ConfigError(f"there is no module '{exc.name}'", "run in the folder that holds it, or install it") from exc
    except Exception as exc:  # the user's own code
        raise ModelError(f"{reference} fails ({type(exc).__name__}: {_said(exc)})", "correct that function") from exc
    finally:
        if added:
            sys.path.remove(here)
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"{reference} gives a {type(network).__name__}", "return a torch.nn.Module")
    return network


def _fill(network: torch.nn.Module, path: Path) -> None:
    """Load weights; a training checkpoint's own table of them is found in it."""
    cure = "give the file that torch.save(network.state_dict(), ...) wrote"
    if not path.is_file():
        raise ConfigError(f"no state dict {path}", "check the path")
    try:
        with quiet():
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # pickle's, zipfile's and torch's own
        raise ModelError(f"{path.name} is damaged, or holds more than weights ({_said(exc)})", cure) from exc
    while isinstance(saved, Mapping) and (key := next((k for k in _WRAPPERS if k in saved), None)):
        saved = saved[key]
    if not isinstance(saved, Mapping):
        raise ModelError(f"{path.name} holds a {type(saved).__name__}", cure)
    weights = {str(key).removeprefix("module."): value for key, value in saved.items()}
    have = network.state_dict()
    wrong = sorted({*have} ^ {*weights}) or [k for k in have if have[k].shape != weights[k].shape]
    if wrong:
        raise ModelError(
            f"{path.name} does not fit the network: {len(wrong)} tensors differ, the first '{wrong[0]}'",
            "give the weights of this very network",
        )
    network.load_state_dict(weights)


def _tensors(found: Any, name: str) -> list[torch.Tensor]:
    """The tensors a network returns, in their order."""
    if isinstance(found, torch.Tensor):
        return [found]
    values = (
        list(found.values()) if isinstance(found, Mapping) else list(found) if isinstance(found, list | tuple) else []
    )
    flat = [tensor for value in values for tensor in _tensors(value, name)]
    if not flat:
        raise ModelError(f"{name} returns a {type(found).__name__}", "return tensors")
    return flat


def _said(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(exc).__name__
