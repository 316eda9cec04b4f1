"""Surgery on ONNX graphs before quantization: every step keeps the numbers and says what it did."""
