"""Small .tflite files for the Edge TPU tests, put together operator by operator."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.tflite_edit import write_model

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int16": 7, "int8": 9}


def tensor(name, shape, dtype="int8", values=None, signature=None):
    return {"name": name, "shape": shape, "dtype": dtype, "values": values, "signature": signature}


def op(name, inputs, outputs, options=None, version=1):
    return {"name": name, "inputs": inputs, "outputs": outputs, "options": options, "version": version}


def options(kind, **fields):
    made = getattr(schema, f"{kind}OptionsT")()
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def write(path, tensors, ops, inputs, outputs, graph_count=1):
    """Write a model; an operator name in lower case is a custom operator's."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    numbers = {entry["name"]: i for i, entry in enumerate(tensors)}
    graph.tensors = [_tensor(model, entry) for entry in tensors]
    graph.inputs, graph.outputs = [numbers[name] for name in inputs], [numbers[name] for name in outputs]
    graph.operators = [_operator(model, entry, numbers) for entry in ops]
    model.subgraphs = [graph] * graph_count
    write_model(path, model)
    return path


def _tensor(model, entry):
    made = schema.TensorT()
    made.name, made.shape, made.type = entry["name"], list(entry["shape"]), TYPES[entry["dtype"]]
    made.shapeSignature = entry["signature"]
    made.buffer = 0
    if entry["values"] is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.asarray(entry["values"], entry["dtype"]).tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if entry["dtype"] in ("int8", "uint8"):
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [0.1], [0]
    return made


def _operator(model, entry, numbers):
    code, made = schema.OperatorCodeT(), schema.OperatorT()
    code.version = entry["version"]
    if entry["name"].islower():
        code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, entry["name"]
    else:
        code.builtinCode = getattr(schema.BuiltinOperator, entry["name"])
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    made.opcodeIndex = len(model.operatorCodes)
    model.operatorCodes.append(code)
    made.inputs, made.outputs = ([numbers[name] for name in entry[end]] for end in ("inputs", "outputs"))
    if entry["options"] is not None:
        kind = type(entry["options"]).__name__.removesuffix("T")
        made.builtinOptionsType, made.builtinOptions = getattr(schema.BuiltinOptions, kind), entry["options"]
    return made


def chain(path, names, dtype="int8", shape=(1, 4, 4, 8)):
    """Operators of one input each, one behind the other: x -> t0 -> t1 ..."""
    tensors = [tensor("x", shape, dtype)] + [tensor(f"t{i}", shape, dtype) for i in range(len(names))]
    ops = [op(name, [tensors[i]["name"]], [f"t{i}"]) for i, name in enumerate(names)]
    return write(path, tensors, ops, ["x"], [f"t{len(names) - 1}"])
