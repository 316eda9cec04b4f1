"""ONNX files: cleaned, operated on, and from there to TFLite."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from convert.float_model import Origin
from convert.head import Head
from convert.leaf import leaf
from convert.load import Loaded, LoadOptions
from convert.surgery.clean import clean, does_not_run, image_input, read_onnx
from convert.surgery.operate import operate
from convert.surgery.running import open_session
from edge.errors import ModelError
from edge.files import write_atomically
from edge.manifest import Manifest
from edge.registry import Plug

__all__ = ["OperatedFiles", "load_onnx", "operate_file", "save", "start_from"]

TRANSLATOR = Plug("convert.onnx_to_tflite.translate:translate", "convert", ("onnx", "ai_edge_litert", "flatbuffers"))
ONNX_NAME = "model-fp32.onnx"
TFLITE_NAME = "model-fp32.tflite"
_INPUT_TYPES = (onnx.TensorProto.FLOAT,)


@dataclass(frozen=True, slots=True)
class OperatedFiles:
    """What surgery and translation left: see `convert.surgery.operate.Operated`; tflite None where not wanted."""

    origins: dict[str, Origin]
    roles: dict[str, str]
    notes: list[str]
    raw_boxes: np.ndarray | None
    tflite: Path | None


def load_onnx(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return the cleaned copy of an .onnx file, not operated on yet.

    Raises: ModelError for what is no float model of one image.
    """
    path = Path(reference).expanduser()
    model = read_onnx(path)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"):
            raise ModelError(f"{path.name} is quantized already ({node.op_type})", "give the float model")
    return start_from(model, path.name, folder, options)


def start_from(
    model: ModelProto,
    name: str,
    folder: Path,
    options: LoadOptions,
    run: Callable[[np.ndarray], list[np.ndarray]] | None = None,
) -> Loaded:
    """Return a model cleaned and saved into the folder; `name` stands for it in errors.

    run: the original framework where that is not ONNX Runtime on the model as it came.
    Raises: ModelError for what is no float model of one image.
    """
    value = image_input(model, name)
    if value.type.tensor_type.elem_type not in _INPUT_TYPES:
        kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        raise ModelError(f"the input '{value.name}' of {name} is {kind}", "export the model with a float32 input")
    cleaned, notes = clean(model, name, options.size_wh)
    save(cleaned, folder / ONNX_NAME)
    outputs = tuple(output.name for output in model.graph.output)
    return Loaded(
        run or _runner(model, name),
        outputs,
        onnx=folder / ONNX_NAME,
        operable=True,
        notes=tuple(notes),
    )


def operate_file(
    file: Path,
    inputs: np.ndarray,
    head: Head | None,
    manifest: Manifest,
    options: LoadOptions,
    size_wh: tuple[int, int],
) -> OperatedFiles:
    """Operate on the cleaned file, rewrite it and, where wanted, translate it.

    inputs: (N, ...) float32, what every step is proved on. size_wh: of the model's input, px.
    Raises: ModelError for an operator that cannot be translated.
    """
    section = manifest.decoder
    decoded = None
    if section.family == "yolox" and section.params.get("decoded"):
        decoded = size_wh, list(section.params.get("strides", (8, 16, 32)))
    operated = operate(onnx.load(file), inputs, head, decoded, options.equalized)
    save(operated.model, file)
    tflite = None
    if options.want_tflite:
        tflite = file.with_name(TFLITE_NAME)
        leaf(TRANSLATOR, "TFLite from ONNX")(file, tflite)
    return OperatedFiles(operated.origins, operated.roles, operated.notes, operated.raw_boxes, tflite)


def save(model: ModelProto, path: Path) -> None:
    """Write a model as one file, replacing an older one at once.

    Raises: ConfigError when it cannot be written, ModelError beyond the 2 GiB one file can hold.
    """
    try:
        data = model.SerializeToString()
    except Exception as exc:  # protobuf's own, for more than 2 GiB
        raise ModelError(f"the model is too large for one ONNX file ({exc})", "convert a smaller one") from exc
    write_atomically(path, data)


def _runner(model: ModelProto, name: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The model as it came, in ONNX Runtime."""
    try:
        session = open_session(model)
    except Exception as exc:  # ONNX Runtime's exceptions derive from Exception alone
        raise does_not_run(name, exc) from exc
    fed = session.get_inputs()[0]
    batch = fed.shape[0] if isinstance(fed.shape[0], int) else 1

    def run(sample: np.ndarray) -> list[np.ndarray]:
        whole = np.repeat(sample, batch, axis=0)
        return [output[:1] if batch > 1 else output for output in session.run(None, {fed.name: whole})]

    return run
