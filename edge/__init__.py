"""Harrier: an edge-deployment inference runtime for robots.

Importing it loads nothing heavy: each public name is imported when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Classification": "edge.detections",
    "Detections": "edge.detections",
    "EdgeError": "edge.errors",
    "Frame": "edge.frame",
    "FrameInfo": "edge.frame",
    "Message": "edge.wire.messages",
    "Pipeline": "edge.pipeline",
    "RunConfig": "edge.config",
    "connect": "edge.client",
    "listen": "edge.client",
    "open_model": "edge.model",
    "open_pipeline": "edge.parts",
    "open_source": "edge.sources.base",
    "read_config": "edge.config",
}

__all__ = [
    "Classification",
    "Detections",
    "EdgeError",
    "Frame",
    "FrameInfo",
    "Message",
    "Pipeline",
    "RunConfig",
    "connect",
    "listen",
    "open_model",
    "open_pipeline",
    "open_source",
    "read_config",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
