"""Runs a .tflite file under whichever runtime this Python has; started by test_old_runtime.py under two of them.

python old_runtime.py KERNELS MODEL INPUTS.npy OUTPUTS.npz [MODEL INPUTS OUTPUTS ...]
KERNELS: AUTO or BUILTIN_REF. INPUTS: (N, H, W, C) in the model's dtype. OUTPUTS: one array (N, ...) for each output.
"""

import sys

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType


def main(kernels: str, *files: str) -> None:
    for model, inputs, outputs in zip(files[::3], files[1::3], files[2::3], strict=True):
        resolver = getattr(OpResolverType, kernels)
        interpreter = Interpreter(model, num_threads=2, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        source = interpreter.get_input_details()[0]["index"]
        rows = []
        for values in np.load(inputs):
            interpreter.set_tensor(source, values[None])
            interpreter.invoke()
            rows.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
        np.savez(outputs, *[np.concatenate(column) for column in zip(*rows, strict=True)])


if __name__ == "__main__":
    main(*sys.argv[1:])
