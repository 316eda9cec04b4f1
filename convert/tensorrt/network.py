"""From an ONNX file to TensorRT's network definition, with every reason why not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.tensorrt.features import Features
from convert.tensorrt.messages import parser_error
from convert.tensorrt.request import Shapes
from edge.errors import ConfigError, ModelError

__all__ = ["add_profile", "parse_onnx"]


def parse_onnx(
    trt: Any, features: Features, builder: Any, logger: Any, onnx: Path, strongly_typed: bool
) -> tuple[Any, Any]:
    """Return the network and the parser, which must outlive the build: it owns the weights.

    Raises: ModelError when the file is no ONNX or has an operator this TensorRT lacks, which it names.
    """
    flags = trt.NetworkDefinitionCreationFlag
    bits = (1 << int(flags.EXPLICIT_BATCH)) if features.explicit_batch else 0
    if strongly_typed:
        bits |= 1 << int(flags.STRONGLY_TYPED)
    network = builder.create_network(bits)
    parser = trt.OnnxParser(network, logger)
    heard = len(logger.errors)
    if not parser.parse_from_file(str(onnx)):
        operator, name, why = parser_error(parser, logger.errors[heard:])
        if not operator:
            raise ModelError(f"{onnx.name} cannot be read as ONNX ({why})", "export or copy the model again")
        node = f" (node {name})" if name else ""
        raise ModelError(
            f"{features.name} {features.version} cannot take operator '{operator}'{node} of {onnx.name}: {why}",
            "export the model without it, or leave it out of the graph",
        )
    if not network.num_layers or not network.num_outputs:  # rubbish may parse as an empty model
        raise ModelError(f"{onnx.name} holds no network", "give an ONNX file")
    return network, parser


def add_profile(builder: Any, config: Any, network: Any, shapes: Mapping[str, Shapes]) -> None:
    """Add the optimization profile that inputs with open dimensions need.

    Raises: ConfigError when an open input has no shapes, or the shapes do not fit an input.
    """
    inputs = {tensor.name: tensor for tensor in (network.get_input(i) for i in range(network.num_inputs))}
    if unknown := sorted(set(shapes) - set(inputs)):
        raise ConfigError(f"the model has no input '{unknown[0]}'", f"its inputs are {', '.join(inputs)}")
    opened = {name: tuple(tensor.shape) for name, tensor in inputs.items() if -1 in tuple(tensor.shape)}
    for name, shape in opened.items():
        if name not in shapes:
            text = "x".join("?" if size < 0 else str(size) for size in shape)
            raise ConfigError(
                f"input '{name}' ({text}) has open dimensions", "export the model with a fixed size, or give its shapes"
            )
    if not opened:
        return
    profile = builder.create_optimization_profile()
    for name, shape in opened.items():
        _check_shapes(name, shape, shapes[name])
        profile.set_shape(name, *shapes[name])
    if config.add_optimization_profile(profile) < 0:
        raise ConfigError("TensorRT refuses these input shapes", "check least, best and greatest size of each input")


def _check_shapes(name: str, shape: tuple[int, ...], given: Shapes) -> None:
    least, best, greatest = given
    fits = all(len(one) == len(shape) for one in given) and all(
        0 < a <= b <= c and (size in (-1, a, c) and (size < 0 or a == c))
        for size, a, b, c in zip(shape, least, best, greatest, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"the shapes {least}, {best}, {greatest} do not fit input '{name}' {shape}",
            "give least <= best <= greatest, equal to the model's where it is fixed",
        )
