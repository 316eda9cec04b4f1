"""The reader's end of a serial line."""

import os
from typing import Annotated

import msgspec
import serial

from edge.errors import EndOfStreamError
from edge.links.base import Framing
from edge.publishers.serial_port import open_port, port_path, read_some
from edge.uri import Uri

__all__ = ["SerialLink", "SerialLinkOptions"]


class SerialLinkOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of `serial://` for a reader; rtscts: flow control by wire."""

    baud: Annotated[int, msgspec.Meta(ge=300, le=20_000_000)] = 115_200
    rtscts: bool = False


class SerialLink:
    """`serial:///dev/ttyUSB0?baud=115200`: what the other end of the line writes."""

    framing: Framing = "serial"
    two_way = True

    def __init__(self, uri: Uri) -> None:
        self._path = port_path(uri)
        self._options = uri.options(SerialLinkOptions)
        self._port: serial.Serial | None = None

    def open(self, timeout_s: float) -> None:
        """Open the port; that does not depend on anybody at the other end.

        PublishError and ConfigError of `edge.publishers.serial_port.open_port` pass through.
        """
        self.close()
        self._port = open_port(self._path, self._options.baud, self._options.rtscts)

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, b"" when nothing did within `timeout_s`.

        Raises: EndOfStreamError when the port is gone or not open.
        """
        if self._port is None:
            raise EndOfStreamError(f"{self._path} is not open", "open it first")
        return read_some(self._port, timeout_s)

    def send(self, data: bytes) -> None:
        """Write framed bytes; what the line does not take at once is dropped."""
        port = self._port
        try:
            if port is not None:
                os.write(port.fileno(), data)
        except (OSError, serial.PortNotOpenError, TypeError):
            pass  # receive() tells; TypeError: it was closed in this moment

    def close(self) -> None:
        """Close the port; calling it twice is allowed."""
        port, self._port = self._port, None
        if port is not None:
            try:
                port.close()
            except OSError:
                pass  # it was unplugged
