"""The Edge TPU (Coral): what would run on it, and compiling for it, here or over ssh."""
