"""Building TensorRT engines, on the board or ahead of time, with whatever TensorRT is present."""
