"""The formats a conversion can write, and the precisions of each."""

__all__ = ["PRECISIONS"]

PRECISIONS: dict[str, tuple[str, ...]] = {
    "tflite": ("fp32", "fp16", "dynamic", "int8", "int8-io", "uint8-io", "int16x8", "mixed"),
    "onnx": ("fp32", "fp16", "int8", "mixed"),
    "tensorrt": ("fp32", "fp16", "int8", "best"),
    "edgetpu": ("int8-io", "uint8-io"),
}
