"""Small ONNX networks built in memory for the tests of loading and surgery."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
CELLS = 16 + 4 + 1  # of strides 8, 16 and 32 in 32 px
CLASSES = 3


class Builder:
    """Collects nodes and weights; every method returns the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.noise = np.random.default_rng(seed)

    def node(self, kind: str, inputs: Sequence[str], **attributes) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv(self, source: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        weights = self.noise.normal(0, 0.4, (outputs, inputs // group, kernel, kernel)).astype(np.float32)
        bias = self.noise.normal(0, 0.1, outputs).astype(np.float32)
        pad = kernel // 2
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": group}
        return self.node("Conv", [source, self.constant(weights), self.constant(bias)], **attributes)

    def slice(self, source: str, first: int, last: int) -> str:
        bounds = [self.constant(np.array([n], np.int64)) for n in (first, last, 2)]
        return self.node("Slice", [source, *bounds])

    def norm(self, source: str, channels: int) -> str:
        parts = [self.noise.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)]
        return self.node("BatchNormalization", [source, *map(self.constant, parts)])

    def model(self, outputs: Sequence[str], shape: Sequence[int | str] = (1, 3, SIZE, SIZE), opset: int = 13):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, list(shape))
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", [image], values, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def classifier(shape: Sequence[int | str] = (1, 3, SIZE, SIZE), opset: int = 13, softmax: bool = True):
    """Conv, batch norm, ReLU, depthwise and pointwise conv, mean, 4 scores."""
    b = Builder()
    x = b.node("Relu", [b.norm(b.conv("image", 3, 8, 3, 2), 8)])
    x = b.node("Relu", [b.conv(x, 8, 8, 3, 1, 8)])
    x = b.node("GlobalAveragePool", [b.conv(x, 8, 4)])
    x = b.node("Flatten", [x])
    return b.model([b.node("Softmax", [x], axis=1) if softmax else x], shape, opset)


def yolox(decoded: bool = False):
    """A raw YOLOX head on three grids, as Megvii's exporter lays it; decoded: with grid and exponential."""
    b = Builder(1)
    levels = []
    for stride in (8, 16, 32):
        x = b.node("Relu", [b.conv("image", 3, 6, stride, stride)])
        b.nodes[-2].attribute.remove(next(a for a in b.nodes[-2].attribute if a.name == "pads"))
        parts = [b.conv(x, 6, 4), b.node("Sigmoid", [b.conv(x, 6, 1)]), b.node("Sigmoid", [b.conv(x, 6, CLASSES)])]
        joined = b.node("Concat", parts, axis=1)
        levels.append(b.node("Reshape", [joined, b.constant(np.array([1, 5 + CLASSES, -1], np.int64))]))
    head = b.node("Transpose", [b.node("Concat", levels, axis=2)], perm=[0, 2, 1])
    if decoded:
        grid, strides = cells()
        xy, wh, rest = (b.slice(head, *span) for span in ((0, 2), (2, 4), (4, 5 + CLASSES)))
        xy = b.node("Mul", [b.node("Add", [xy, b.constant(grid)]), b.constant(strides)])
        wh = b.node("Mul", [b.node("Exp", [wh]), b.constant(strides)])
        head = b.node("Concat", [xy, wh, rest], axis=2)
    return b.model([head])


def cells() -> tuple[np.ndarray, np.ndarray]:
    """The columns and rows (1, CELLS, 2) and strides (1, CELLS, 1) of the grids, float32."""
    rows = [(x, y, s) for s in (8, 16, 32) for y in range(SIZE // s) for x in range(SIZE // s)]
    table = np.array(rows, np.float32)[None]
    return table[..., :2], table[..., 2:]


def run(model: onnx.ModelProto, inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model on (N, ...) float32, by ONNX Runtime, one picture at a time."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(None, {session.get_inputs()[0].name: sample[None]}) for sample in inputs]
    return [np.concatenate(values) for values in zip(*runs, strict=True)]
