"""The converter: a trained network in, a quantized bundle out, its accuracy measured. Runs on the desktop."""
