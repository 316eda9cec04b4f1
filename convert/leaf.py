"""Leaf modules of the converter, imported only by the conversion that needs their heavy packages."""

from importlib import import_module
from typing import Any

from convert.quiet import quiet
from edge.errors import MissingBackendError
from edge.registry import Plug

__all__ = ["leaf"]


def leaf(plug: Plug, what: str) -> Any:
    """Return the function behind a plug, importing its module in silence. `what` needs it, for the error.

    Raises: MissingBackendError when one of the plug's own packages is not installed.
    """
    module, _, attribute = plug.target.partition(":")
    try:
        with quiet():
            return getattr(import_module(module), attribute)
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] in plug.modules:
            raise MissingBackendError(
                f"{what} needs {exc.name}, which is not installed", f"pip install 'harrier-edge[{plug.extra}]'"
            ) from exc
        raise
