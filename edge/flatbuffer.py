"""Reading a flatbuffer field by field, every offset checked, from files that may be cut short or garbled.

The format: a table starts with the signed distance back to its vtable, which lists where each field lies;
strings, vectors and other tables are behind unsigned distances forward ("FlatBuffers internals").
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Table", "root"]

MAX_TABLES = 1 << 16  # no list of tables in a model is longer; a garbled length may be


@dataclass(frozen=True, slots=True)
class Table:
    """A table at a position of `data` (bytes or mmap). Fields are numbered as in its schema, from 0.

    Every method raises ValueError where the bytes make no sense, and gives its default for an absent field.
    """

    data: Any
    position: int

    def scalar(self, field: int, code: str, default: Any = 0) -> Any:
        """Return a number; `code` is its struct format character.

        Raises: ValueError for a damaged table.
        """
        at = self._field(field)
        return default if at is None else _read(self.data, at, code)

    def blob(self, field: int) -> bytes:
        """Return a vector of bytes, b"" when absent.

        Raises: ValueError for a damaged table.
        """
        found = self._vector(field, 1)
        return b"" if found is None else bytes(self.data[found[0] : found[0] + found[1]])

    def text(self, field: int) -> str:
        """Return a string, "" when absent; bytes that are not UTF-8 are replaced.

        Raises: ValueError for a damaged table.
        """
        return self.blob(field).decode("utf-8", "replace")

    def numbers(self, field: int, code: str) -> list[Any]:
        """Return a vector of numbers; `code` is their struct format character.

        Raises: ValueError for a damaged table.
        """
        found = self._vector(field, struct.calcsize("<" + code))
        return [] if found is None else list(struct.unpack_from(f"<{found[1]}{code}", self.data, found[0]))

    def table(self, field: int) -> "Table | None":
        """Return a table inside this one.

        Raises: ValueError for a damaged table.
        """
        at = self._field(field)
        return None if at is None else Table(self.data, at + _read(self.data, at, "I"))

    def item(self, field: int, index: int) -> "Table":
        """Return one table of a vector of tables.

        Raises: ValueError for a damaged table or an index outside the vector.
        """
        found = self._vector(field, 4)
        if found is None or not 0 <= index < found[1]:
            raise ValueError(f"no item {index}")
        at = found[0] + 4 * index
        return Table(self.data, at + _read(self.data, at, "I"))

    def items(self, field: int) -> "Iterator[Table]":
        """Yield the tables of a vector of tables.

        Raises: ValueError for a damaged table.
        """
        found = self._vector(field, 4)
        count = 0 if found is None else found[1]
        if count > MAX_TABLES:
            raise ValueError(f"{count} tables in one list")
        for index in range(count):
            yield self.item(field, index)

    def _field(self, field: int) -> int | None:
        vtable = self.position - _read(self.data, self.position, "i")
        if 4 + 2 * field >= _read(self.data, vtable, "H"):
            return None
        offset = _read(self.data, vtable + 4 + 2 * field, "H")
        return self.position + offset if offset else None

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int] | None:
        """Where a vector's items begin and how many there are."""
        at = self._field(field)
        if at is None:
            return None
        start = at + _read(self.data, at, "I")
        count = _read(self.data, start, "I")
        if start + 4 + count * item_bytes > len(self.data):
            raise ValueError("a vector reaches beyond the end")
        return start + 4, count


def root(data: Any, identifier: bytes) -> Table:
    """Return the root table of a buffer that carries the file identifier (4 bytes).

    Raises: ValueError when it carries another one or is too short.
    """
    if len(data) < 8 or bytes(data[4:8]) != identifier:
        raise ValueError(f"no {identifier.decode('ascii')} flatbuffer")
    return Table(data, _read(data, 0, "I"))


def _read(data: Any, position: int, code: str) -> Any:
    # struct takes a negative position as counted from the end
    if not 0 <= position <= len(data) - struct.calcsize("<" + code):
        raise ValueError(f"a position outside the data ({position})")
    return struct.unpack_from("<" + code, data, position)[0]
