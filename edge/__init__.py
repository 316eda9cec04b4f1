"""Harrier: an edge-deployment inference runtime for robots. Importing it loads no engine."""
__version__ = "0.1.0"
