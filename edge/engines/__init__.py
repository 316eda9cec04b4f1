"""What runs a model file, by suffix."""
