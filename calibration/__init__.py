"""What chooses quantization ranges from real pictures. Nothing is exported yet."""
