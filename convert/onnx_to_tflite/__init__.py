"""ONNX to TFLite, float: one pass over the graph, every tensor a view of memory until an operator needs it in order."""
