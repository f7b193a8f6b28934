"""Protocol Buffers' wire format, read and written by a table of messages. Pure.

It is here because importing the protobuf package takes longer than decoding 225 digits.
Source: https://protobuf.dev/programming-guides/encoding

Strict: an encoding that two readers could take differently is refused. Protobuf merges a singular message that occurs
twice, keeps the last of a scalar that does and of the members of a oneof, skips fields with an unknown number or
another wire type, cuts numbers to the width of their type, and its implementations differ in numbers that are longer
than necessary.
"""

import struct
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

Field = tuple[int, str] | tuple[int, str, str]  # number, [*]type, name of its oneof; * is repeated
Messages = Mapping[str, Mapping[str, Field]]  # message: field's name: field
"""Types are `int` (64 bits), `int32`, `enum N` (0 to N), `float`, `string`, `bytes`, or the name of a message."""

_VARINT, _BYTES, _FLOAT32 = 0, 2, 5  # wire types
_RANGES = {"int": (-1 << 63, (1 << 63) - 1), "int32": (-1 << 31, (1 << 31) - 1)}
DEPTH_LIMIT = 100  # messages within messages, as in protobuf


class Occurrence(NamedTuple):
    """One field as it stands in a message."""

    name: str
    wire: int
    value: Any  # a number, or a view of the bytes
    whole: memoryview  # with its tag and length


class Limits(msgspec.Struct):
    """What one message, with all that is in it, may hold. Counts down while it is read."""

    fields: int = 1 << 62  # each number of a packed field is one
    text: int = 1 << 62  # bytes of strings


class _FieldType(msgspec.Struct, frozen=True):
    name: str
    kind: str
    repeated: bool
    oneof: str | None
    range: tuple[int, int] | None  # of a number, least and greatest


class _Type(msgspec.Struct, frozen=True):
    """A message's fields."""

    by_number: dict[int, _FieldType]
    by_name: dict[str, _FieldType]


def decode(messages: Messages, message: str, view: memoryview, limits: Limits | None = None) -> Any:
    """A message as an object with its fields: a list where repeated, None where absent, `bytes` as views.

    Raises:
        ValueError: it has a field that is not in the table, is cut short, holds more than `limits`, or two readers
            could take it differently.
    """
    types = {name: _type(table) for name, table in messages.items()}
    return _Decoder(types, limits or Limits()).message(message, view, 0)


def fields(messages: Messages, message: str, view: memoryview) -> Iterator[Occurrence]:
    """The fields of a message, in order; raises as `decode` does."""
    return _occurrences(_type(messages[message]), message, view)


def encode(messages: Messages, message: str, **values: Any) -> bytes:
    """A message of numbers from 0, texts, bytes and encoded messages; a list of them where the field is repeated."""
    parts = []
    for name, value in values.items():
        number, kind, *_ = messages[message][name]
        for item in value if kind.startswith("*") else [value]:
            if isinstance(item, int):
                parts += [_varint(number << 3 | _VARINT), _varint(item)]
            else:
                contents = item.encode() if isinstance(item, str) else item
                parts += [_varint(number << 3 | _BYTES), _varint(len(contents)), contents]
    return b"".join(parts)


def _type(table: Mapping[str, Field]) -> _Type:
    result = _Type({}, {})
    for name, (number, kind, *oneof) in table.items():
        item = kind.removeprefix("*")
        numbers = (0, int(item.removeprefix("enum "))) if item.startswith("enum ") else _RANGES.get(item)
        field = _FieldType(name, item, kind.startswith("*"), oneof[0] if oneof else None, numbers)
        result.by_number[number] = result.by_name[name] = field
    return result


class _Decoder(msgspec.Struct):
    types: dict[str, _Type]
    limits: Limits

    def message(self, name: str, view: memoryview, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise ValueError(f"messages stand in one another {DEPTH_LIMIT:,} deep")
        kind = self.types[name]
        values: dict[str, Any] = {field.name: [] if field.repeated else None for field in kind.by_name.values()}
        chosen: dict[str, str] = {}  # oneof: its member
        for occurrence in _occurrences(kind, name, view):
            self._count(1)
            field = kind.by_name[occurrence.name]
            if field.repeated:
                values[field.name] += self._items(field, occurrence.wire, occurrence.value, depth)
                continue
            if values[field.name] is not None:
                raise ValueError(f"{field.name} occurs twice in a {name} message")
            if field.oneof and chosen.setdefault(field.oneof, field.name) != field.name:
                raise ValueError(f"both {chosen[field.oneof]} and {field.name} stand in a {name} message")
            values[field.name] = self._item(field, occurrence.wire, occurrence.value, depth)
        return SimpleNamespace(**values)

    def _count(self, items: int) -> None:
        self.limits.fields -= items
        if self.limits.fields < 0:
            raise ValueError("it has more fields than are read")

    def _items(self, field: _FieldType, wire: int, value: Any, depth: int) -> list[Any]:
        """What stands in one occurrence of a repeated field: one value, or the packed ones."""
        if wire == _BYTES and field.range:
            numbers, position = [], 0
            while position < len(value):
                self._count(1)
                number, position = _read_varint(value, position)
                numbers.append(_signed(number, field.range))
            return numbers
        if wire == _BYTES and field.kind == "float":
            if len(value) % 4:
                raise ValueError(f"{len(value)} bytes of packed floats")
            self._count(len(value) // 4)
            return [number for (number,) in struct.iter_unpack("<f", value)]
        return [self._item(field, wire, value, depth)]

    def _item(self, field: _FieldType, wire: int, value: Any, depth: int) -> Any:
        if field.range and wire == _VARINT:
            return _signed(value, field.range)
        if field.kind == "float" and wire == _FLOAT32:
            return struct.unpack("<f", value)[0]
        if wire != _BYTES or field.range or field.kind == "float":
            raise ValueError(f"wire type {wire} for {field.name}, a field of type {field.kind}")
        if field.kind == "bytes":
            return value
        if field.kind == "string":
            self.limits.text -= len(value)
            if self.limits.text < 0:
                raise ValueError("it has more text than is read")
            return str(value, "utf-8")
        return self.message(field.kind, value, depth + 1)


def _occurrences(kind: _Type, message: str, view: memoryview) -> Iterator[Occurrence]:
    position = 0
    while position < len(view):
        start = position
        tag, position = _read_varint(view, position)
        number, wire = tag >> 3, tag & 7
        if number not in kind.by_number:
            raise ValueError(f"field {number} of its {message} message is not one that is read")
        name = kind.by_number[number].name
        value: Any
        if wire == _VARINT:
            value, position = _read_varint(view, position)
        elif wire in (_BYTES, _FLOAT32):
            size = 4
            if wire == _BYTES:
                size, position = _read_varint(view, position)
            if size > len(view) - position:
                raise ValueError(f"its {message} message is cut short in {name}")
            value, position = view[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire} for {name} of its {message} message")
        yield Occurrence(name, wire, value, view[start:position])


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number from 0, in as few bytes as it takes, and the position after it."""
    if position < len(view) and view[position] < 0x80:  # nearly all are of one byte
        return view[position], position + 1
    result = shift = 0
    for byte in view[position : position + 10]:
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if result >= 1 << 64:
                raise ValueError("a number of more than 64 bits")
            if not byte and shift > 7:
                raise ValueError("a number in more bytes than it takes")
            return result, position + shift // 7
    raise ValueError("a number of more than 64 bits" if shift == 70 else "it is cut short in a number")


def _signed(number: int, within: tuple[int, int]) -> int:
    """Two's complement in 64 bits, as all of protobuf's plain integers are written, narrower ones too."""
    value = number - (1 << 64) if number >= 1 << 63 else number
    if not within[0] <= value <= within[1]:
        raise ValueError(f"{value} where a number from {within[0]} to {within[1]} belongs")
    return value


def _varint(value: int) -> bytes:
    """A number from 0, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
