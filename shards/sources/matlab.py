"""The structs of a MATLAB file (level 5, `save` since version 5): what ImageNet's devkit lists its classes in.

Only what such a list needs is understood: one array of structs whose fields are texts or numbers, packed by zlib or
not. Everything else is passed over or refused; nothing of the file is run.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator

from caskit.manifests.errors import InputError

MAX_UNPACKED_BYTES = 2**24  # the devkit's has about 2 MB
MAX_STRUCTS = 100_000
MAX_FIELDS = 64
_HEADER_BYTES = 128
_MATRIX, _PACKED, _UTF8, _UTF16 = 14, 15, 16, 17
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 2, 4, 6, 15  # classes of arrays
Value = str | float | int | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    data: bytes


def read_structs(data: bytes, variable: str, where: str) -> list[dict[str, Value]]:
    """Return the elements of an array of structs, in MATLAB's order (columns first).

    Args:
        data: the file.
        variable: the array's name.
        where: what to call the file in errors.

    Returns:
        per element its fields: texts, numbers, and None for a field that is neither or is an array of several.

    Raises:
        InputError: the file is of another form, damaged or too large, or has no such array.
    """
    if len(data) < _HEADER_BYTES or data[126:128] not in (b"IM", b"MI") or b"MATLAB 5.0 MAT-file" not in data[:116]:
        raise InputError(f"{where}: not a MATLAB 5.0 file")
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        for element in _elements(data[_HEADER_BYTES:], order):
            matrix = _unpacked(element, order, where) if element.kind == _PACKED else element
            if matrix.kind != _MATRIX:
                continue
            parts = list(_elements(matrix.data, order))
            if _array_class(parts, order) == _STRUCT and _text(parts[2], order) == variable:
                return _structs(parts, order, where)
    except (struct.error, IndexError, ValueError, OverflowError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: damaged ({error})") from error
    raise InputError(f"{where}: holds no structs called {variable}")


def _structs(parts: list[_Element], order: str, where: str) -> list[dict[str, Value]]:
    sizes = _integers(parts[1], order)
    num = 1
    for size in sizes:
        num *= size
    width = _integers(parts[3], order)[0]
    if not 0 <= num <= MAX_STRUCTS or not 0 < width <= 256:
        raise InputError(f"{where}: {num} structs, at most {MAX_STRUCTS} are read")
    text = parts[4].data
    names = [text[at : at + width].partition(b"\0")[0].decode("ascii") for at in range(0, len(text), width)]
    if not 0 < len(names) <= MAX_FIELDS or len(parts) != 5 + num * len(names):
        raise InputError(f"{where}: {len(parts) - 5} values for {num} structs of {len(names)} fields")
    values = [_value(part, order) for part in parts[5:]]
    return [dict(zip(names, values[at : at + len(names)], strict=True)) for at in range(0, len(values), len(names))]


def _value(element: _Element, order: str) -> Value:
    """Return a text or a single number; None for anything else."""
    if element.kind != _MATRIX or not element.data:
        return None
    parts = list(_elements(element.data, order))
    kind = _array_class(parts, order)
    if kind == _CHAR:
        return _text(parts[3], order) if len(parts) > 3 else ""
    if kind is None or not _FIRST_NUMBER <= kind <= _LAST_NUMBER or len(parts) != 4:
        return None
    letter = _NUMBERS.get(parts[3].kind)
    if letter is None or len(parts[3].data) != struct.calcsize(letter):
        return None
    number: float | int = struct.unpack(order + letter, parts[3].data)[0]
    return int(number) if float(number).is_integer() else number


def _array_class(parts: list[_Element], order: str) -> int | None:
    flags = _integers(parts[0], order) if parts else []
    return flags[0] & 0xFF if flags else None


def _integers(element: _Element, order: str) -> list[int]:
    letter = _NUMBERS.get(element.kind)
    if letter is None or letter in "fd":
        raise ValueError(f"an element of type {element.kind} where integers are due")
    count = len(element.data) // struct.calcsize(letter)
    return list(struct.unpack(f"{order}{count}{letter}", element.data))


def _text(element: _Element, order: str) -> str:
    encodings = {1: "latin-1", 2: "latin-1", 4: "utf-16", _UTF8: "utf-8", _UTF16: "utf-16"}
    encoding = encodings.get(element.kind)
    if encoding is None:
        raise ValueError(f"an element of type {element.kind} where text is due")
    return element.data.decode(encoding + {"<": "-le", ">": "-be"}[order] if encoding == "utf-16" else encoding)


def _unpacked(element: _Element, order: str, where: str) -> _Element:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(element.data, MAX_UNPACKED_BYTES)
    if unpacker.unconsumed_tail:
        raise InputError(f"{where}: unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return next(_elements(data, order))


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    """Yield the elements that some bytes consist of. Raises ValueError where one is cut."""
    at = 0
    while at + 8 <= len(data):
        kind, nbytes = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small one: type and size share a word, up to four bytes follow
            kind, nbytes, start = kind & 0xFFFF, kind >> 16, at + 4
            if nbytes > 4:
                raise ValueError(f"a small element of {nbytes} bytes")
        end = start + nbytes
        if end > len(data):
            raise ValueError(f"an element of {nbytes} bytes, {len(data) - start} are left")
        yield _Element(kind, data[start:end])
        at = at + 8 if start == at + 4 else end if kind == _PACKED else end + -nbytes % 8
