"""What reading a zip may raise."""

import zipfile
import zlib

__all__ = ["DAMAGED_ZIP"]

DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""Of a zip that is damaged, needs a password (RuntimeError), or is packed in an unknown way (NotImplementedError)."""
