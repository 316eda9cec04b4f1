"""A model that says the same of every picture, for whom the engine `null` is enough."""

TENSORS = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
layout = "NHWC"

[[outputs]]
name = "scores"
shape = [1, 3]
fill = 0.5
"""
