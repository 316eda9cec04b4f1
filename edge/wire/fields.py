"""The words of the table in `edge.wire.layout`: a number, numbers that stand together, a kind of message."""

import struct
from dataclasses import dataclass

__all__ = ["Block", "Field", "Layout"]

_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h"}


@dataclass(frozen=True, slots=True)
class Field:
    """A number on the wire: value = number / scale, in `unit`."""

    name: str
    type: str
    doc: str
    unit: str = ""
    scale: float = 1.0

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("<" + _CODES[self.type])


@dataclass(frozen=True, slots=True)
class Block:
    """Fields that stand together; as part of a record, it is there where its bit of `blocks` is set."""

    name: str
    fields: tuple[Field, ...]

    @property
    def codes(self) -> str:
        """The letters of `struct`, without the byte order."""
        return "".join(_CODES[field.type] for field in self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields in order."""
        return tuple(field.name for field in self.fields)

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("<" + self.codes)


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of message: its number, its fields, then `count` records or strings, then single strings."""

    kind: str
    number: int
    doc: str
    fields: tuple[Field, ...]
    record: Block | None = None
    strings: tuple[str, ...] = ()
    listed_string: str = ""

    @property
    def body(self) -> Block:
        """The fixed fields as one block."""
        return Block(self.kind, self.fields)
