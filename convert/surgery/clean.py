"""A plain ONNX file out of any: fixed shapes, one batch, a known opset, nothing superfluous, no file beside it."""

import contextlib
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, version_converter
from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

from convert.quiet import quiet
from convert.surgery.graph import name_nodes, prune
from convert.surgery.opset import at_opset_17
from convert.surgery.running import open_session
from edge.errors import ModelError

__all__ = ["LOWEST_OPSET", "clean", "does_not_run", "image_input", "read_onnx"]

LOWEST_OPSET = 13  # quantization a channel needs it
HIGHEST_OPSET = 17  # what TensorRT 8.6 reads
OLD_IR = 8  # the newest file format that TensorRT 8 reads

_STANDARD = ("", "ai.onnx")


def _simplifier() -> ModuleType | None:
    """onnxsim where it is installed, without torch: it imports that for a feature of its own, which costs seconds."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return import_module("onnxsim")
    except ModuleNotFoundError:
        return None
    finally:
        if hidden:
            del sys.modules["torch"]


onnxsim = _simplifier()


def read_onnx(path: Path) -> ModelProto:
    """Return the model in an .onnx file with its external data taken in.

    Raises: ModelError when it is missing, empty, damaged or no ONNX file.
    """
    cure = "check that the file is complete, or export it again"
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except OSError as exc:
        raise ModelError(f"cannot read {path} ({exc.strerror})", "check the path") from exc
    except Exception as exc:  # protobuf's own errors, whose classes differ between its versions
        raise ModelError(f"{path.name} is damaged, cut short or no ONNX file", cure) from exc
    if not data:
        raise ModelError(f"{path.name} is empty", cure)
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path.name} is no ONNX model: it has no graph", cure)
    for tensor in _get_all_tensors(model):
        if uses_external_data(tensor):
            beside = path.parent / ExternalDataInfo(tensor).location
            if not beside.is_file():
                raise ModelError(f"{path.name} keeps its weights in {beside.name}, which is not there", "copy both")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as exc:  # its classes differ between versions of onnx
        raise ModelError(f"the weights of {path.name} cannot be read ({_first_line(exc)})", cure) from exc
    name_nodes(model)  # the runtime refuses two nodes of one name
    return model


def image_input(model: ModelProto, name: str) -> ValueInfoProto:
    """Return the model's only real input, of four axes; `name` stands for the model in errors.

    Raises: ModelError when there are more, or it is no image.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"{name} has {len(inputs)} inputs ({names})", "export the model with one image input")
    dims = inputs[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        shape = "x".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        raise ModelError(
            f"the input '{inputs[0].name}' of {name} is no image ({shape or 'a scalar'})",
            "export the model with an input of 1 x channels x height x width",
        )
    return inputs[0]


def clean(model: ModelProto, name: str, size_wh: tuple[int, int] | None) -> tuple[ModelProto, list[str]]:
    """Return a cleaned copy of the model and what was done. `name` stands for it in errors.

    size_wh: for an input whose height and width are open, px.
    Raises: ModelError for an open size without size_wh, another fixed size, or what cannot be brought to opset 13.
    """
    model = ModelProto.FromString(model.SerializeToString())
    properties = {entry.key: entry.value for entry in model.metadata_props}
    name_nodes(model)
    notes = [_fix_shape(model, name, size_wh)]
    constants = {tensor.name for tensor in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(real)
    model, raised = _at_opset(model, name)
    notes.append(raised)
    before = len(model.graph.node)
    model = _simplified(model, name)
    _without_identities(model)
    prune(model)
    model = onnx.shape_inference.infer_shapes(model)
    _fix_outputs(model, name)
    _lower_ir(model)
    _known_domains(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    if before != len(model.graph.node):
        notes.append(f"simplified from {before} to {len(model.graph.node)} nodes")
    return model, [note for note in notes if note]


def _fix_shape(model: ModelProto, name: str, size_wh: tuple[int, int] | None) -> str:
    """Set batch, height and width of the input; forget the inner shapes when anything changed."""
    value = image_input(model, name)
    dims = value.type.tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims]
    last = sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3)
    channel = 3 if last else 1
    if sizes[channel] <= 0:
        raise ModelError(
            f"axis {channel} (channels) of the input '{value.name}' of {name} is open",
            "export the model with a fixed number of channels",
        )
    spatial = {"height": 1 if last else 2, "width": 2 if last else 3}
    wanted = {"height": size_wh[1], "width": size_wh[0]} if size_wh else {}
    changed = [f"{sizes[0] or dims[0].dim_param or 'an open batch'} to batch 1"] if sizes[0] != 1 else []
    dims[0].dim_value = 1
    for side, axis in spatial.items():
        if sizes[axis] <= 0 and side not in wanted:
            known = f" '{dims[axis].dim_param}'" if dims[axis].dim_param else ""
            raise ModelError(
                f"axis {axis}{known} ({side}) of the input '{value.name}' of {name} is open",
                "give its size, for example --size 640x640",
            )
        if sizes[axis] > 0 and side in wanted and sizes[axis] != wanted[side]:
            raise ModelError(
                f"the {side} of {name}'s input is fixed at {sizes[axis]} px, not {wanted[side]}",
                "leave the size out, or export the model with an open size",
            )
        if sizes[axis] <= 0:
            dims[axis].dim_value = wanted[side]
            changed.append(f"an open {side} to {wanted[side]} px")
    if changed:
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    return f"fixed {', '.join(changed)}" if changed else ""


def _at_opset(model: ModelProto, name: str) -> tuple[ModelProto, str]:
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), LOWEST_OPSET)
    if LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        return model, ""
    if opset > HIGHEST_OPSET:
        lowered = at_opset_17(model, opset)
        if lowered is None:
            return model, f"kept opset {opset}, which TensorRT 8 does not read"
        return lowered, f"opset {opset} to {HIGHEST_OPSET}"
    wanted = LOWEST_OPSET
    try:
        changed = version_converter.convert_version(model, wanted)
        open_session(changed)
    except Exception as exc:  # the converter raises bare RuntimeErrors, the runtime its own
        raise ModelError(
            f"{name} has opset {opset} and cannot be brought to {wanted} ({_first_line(exc)})",
            "export it with opset 13 or later",
        ) from exc
    return changed, f"opset {opset} to {wanted}"


def _simplified(model: ModelProto, name: str) -> ModelProto:
    """Constants folded and shapes settled: by onnxsim where it is installed, else by ONNX Runtime's basic level."""
    if onnxsim is not None:
        with contextlib.suppress(Exception), quiet():  # it raises whatever its C++ does; the other way remains
            simplified, same = onnxsim.simplify(model, check_n=1, skip_fuse_bn=True)
            if same:
                return simplified
    try:
        with tempfile.TemporaryDirectory(prefix="harrier-clean-") as folder:
            file = Path(folder) / "model.onnx"
            open_session(model, file)
            return onnx.load_model(file)
    except Exception as exc:  # ONNX Runtime's exceptions derive from Exception alone
        raise does_not_run(name, exc) from exc


def _without_identities(model: ModelProto) -> None:
    """Take out Identity and Dropout wherever their output is not the graph's."""
    outputs = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        silent = node.op_type in ("Identity", "Dropout") and node.domain in _STANDARD
        if silent and not {*node.output} & outputs and not (len(node.output) > 1 and node.output[1]):
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _fix_outputs(model: ModelProto, name: str) -> None:
    """Give each output the shape it really has, where inference left it open, and refuse what does not run."""
    value = image_input(model, name)
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    try:
        session = open_session(model)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        session.run(None, {value.name: np.zeros(shape, dtype)})
    except Exception as exc:
        raise does_not_run(name, exc) from exc
    shapes = {node.name: node.shape for node in session.get_outputs()}
    for output in model.graph.output:
        shape = shapes[output.name]
        if all(isinstance(n, int) for n in shape):
            fixed = onnx.helper.make_tensor_type_proto(output.type.tensor_type.elem_type, shape)
            output.type.CopyFrom(fixed)


def _lower_ir(model: ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), LOWEST_OPSET)
    if opset <= HIGHEST_OPSET + 1 and not model.functions:
        model.ir_version = min(model.ir_version, OLD_IR)


def _known_domains(model: ModelProto) -> None:
    """Forget operator sets that no node uses: the optimizers name all they know."""
    used = {node.domain for node in model.graph.node}
    used = {"" if domain in _STANDARD else domain for domain in used} | {entry.domain for entry in model.functions}
    kept = [entry for entry in model.opset_import if ("" if entry.domain in _STANDARD else entry.domain) in used]
    copies = [(entry.domain, entry.version) for entry in kept]
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in copies)


def does_not_run(name: str, exc: Exception) -> ModelError:
    """Return the error for a model that ONNX Runtime refused with `exc`, the operator named where one is unknown."""
    if unknown := re.search(r"No Op registered for (\S+)|([\w.]+)\(-?\d+\) is not a registered function/op", str(exc)):
        return ModelError(
            f"{name} uses the operator {unknown[1] or unknown[2]}, which ONNX Runtime does not know",
            "export it with standard operators",
        )
    return ModelError(f"{name} does not run in ONNX Runtime ({_first_line(exc)})", "export it with standard operators")


def _first_line(exc: Exception) -> str:
    lines = [line for line in str(exc).strip().splitlines() if line.strip()]
    return lines[0][:200] if lines else type(exc).__name__
