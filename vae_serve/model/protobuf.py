"""Protocol Buffers' wire format, read and written by a table of messages. Pure.

Written out here because importing the protobuf package takes longer than drawing 225 digits.
Source: https://protobuf.dev/programming-guides/encoding
"""

import struct
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

Messages = Mapping[str, Mapping[str, tuple[int, str]]]  # message: field: number, [*]type; * is repeated

_VARINT, _BYTES, _FLOAT32 = 0, 2, 5  # wire types
_FIXED = {1: 8, _FLOAT32: 4}
_EMPTY: dict[str, Any] = {"string": "", "bytes": b"", "int": 0, "float": 0.0}


class Field(NamedTuple):
    """One field as it stands in a message."""

    name: str
    wire: int
    value: Any  # a number, or a view of the bytes
    whole: memoryview  # with its tag and length


def decode(messages: Messages, message: str, view: memoryview) -> Any:
    """A message as an object with its fields.

    Raises:
        ValueError: it has a field that is not in the table, or is cut short; IndexError, UnicodeDecodeError: the same.
    """
    found: dict[str, Any] = {
        name: [] if kind.startswith("*") else _EMPTY.get(kind) for name, (_, kind) in messages[message].items()
    }
    for name, wire, value, _ in fields(messages, message, view):
        kind = messages[message][name][1]
        values = _values(messages, kind.removeprefix("*"), wire, value)
        if kind.startswith("*"):
            found[name].extend(values)
        else:
            (found[name],) = values
    return SimpleNamespace(**found)


def fields(messages: Messages, message: str, view: memoryview) -> Iterator[Field]:
    """The fields of a message, in order; raises as `decode` does."""
    names = {number: name for name, (number, _) in messages[message].items()}
    position = 0
    while position < len(view):
        start = position
        tag, position = _read_varint(view, position)
        number, wire = tag >> 3, tag & 7
        if number not in names:
            raise ValueError(f"field {number} of its {message} message is one that no export of vae-serve has")
        value: Any
        if wire == _VARINT:
            value, position = _read_varint(view, position)
        else:
            if wire == _BYTES:
                size, position = _read_varint(view, position)
            else:
                size = _FIXED.get(wire, 1 << 62)  # groups and what else there is are longer than any file
            if size > len(view) - position:
                raise ValueError(f"its {message} message ends in the middle of {names[number]}")
            value, position = view[position : position + size], position + size
        yield Field(names[number], wire, value, view[start:position])


def encode(messages: Messages, message: str, **values: Any) -> bytes:
    """A message of numbers from 0, texts, bytes and encoded messages; a list of them where the field is repeated."""
    out = b""
    for name, value in values.items():
        field, kind = messages[message][name]
        for one in value if kind.startswith("*") else [value]:
            if isinstance(one, int):
                out += _varint(field << 3 | _VARINT) + _varint(one)
            else:
                contents = one.encode() if isinstance(one, str) else one
                out += _varint(field << 3 | _BYTES) + _varint(len(contents)) + contents
    return out


def _values(messages: Messages, kind: str, wire: int, value: Any) -> list[Any]:
    """What stands in one field: one value, or the packed ones."""
    if kind == "int":
        if wire == _VARINT:
            return [_signed(value)]
        if wire == _BYTES:
            packed, position = [], 0
            while position < len(value):
                number, position = _read_varint(value, position)
                packed.append(_signed(number))
            return packed
    elif kind == "float":
        if wire in (_FLOAT32, _BYTES):
            return [number for (number,) in struct.iter_unpack("<f", value)]
    elif wire == _BYTES:
        if kind == "string":
            return [bytes(value).decode()]
        return [bytes(value) if kind == "bytes" else decode(messages, kind, value)]
    raise ValueError(f"wire type {wire} for a {kind}")


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise ValueError("a number of more than 64 bits")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _varint(value: int) -> bytes:
    """A number from 0, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
