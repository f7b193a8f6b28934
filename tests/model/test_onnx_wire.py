"""What our reader of the wire format accepts, the onnx package reads alike, field by field; the rest it refuses."""

import tracemalloc
from dataclasses import dataclass, replace
from time import process_time
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.conftest import PACKAGED
from vae_serve.errors import BundleError
from vae_serve.model import onnx as contract
from vae_serve.model import protobuf
from vae_serve.model.onnx import messages

VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)


@dataclass(frozen=True)
class Field:
    """One field of an encoded message; `value` is a number, bytes, or the fields of a message."""

    number: int
    wire: int
    value: Any
    tag_padding: int = 0  # bytes more than the tag, or the length or number, takes
    padding: int = 0

    def encoded(self) -> bytes:
        tag = varint(self.number << 3 | self.wire, self.tag_padding)
        if self.wire == VARINT:
            return tag + varint(self.value, self.padding)
        contents = b"".join(map(Field.encoded, self.value)) if isinstance(self.value, tuple) else self.value
        return tag + (varint(len(contents), self.padding) if self.wire == LENGTH else b"") + contents


def varint(number: int, padding: int = 0) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    for _ in range(padding):
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def message(*fields: Field) -> tuple[Field, ...]:
    return fields


def encode(fields: tuple[Field, ...]) -> bytes:
    return b"".join(map(Field.encoded, fields))


def text(number: int, value: str | bytes) -> Field:
    return Field(number, LENGTH, value.encode() if isinstance(value, str) else value)


def number(field: int, value: int) -> Field:
    return Field(field, VARINT, value)


def inner(field: int, *fields: Field) -> Field:
    return Field(field, LENGTH, fields)


def port(field: int, name: str) -> Field:
    dims = (inner(1, text(2, "batch")), inner(1, number(1, 2)))
    return inner(field, text(1, name), inner(2, inner(1, number(1, 1), inner(2, *dims))))


NODE = inner(
    1,
    text(1, "z"),
    text(2, "image"),
    text(3, "n"),
    text(4, "Elu"),
    inner(5, text(1, "alpha"), Field(2, FIXED32, b"\0\0\x80?"), number(20, 1)),
    text(7, ""),
)
STORED = inner(5, number(1, 1), number(1, 2), number(2, 1), text(8, "w"), text(9, bytes(8)))
GRAPH = inner(7, NODE, text(2, "g"), STORED, port(11, "z"), port(12, "image"))
MODEL = message(
    number(1, 7), text(2, "vae-serve"), GRAPH, inner(8, text(1, ""), number(2, 13)), inner(14, text(1, "k"))
)


def same(ours: Any, theirs: Any, kind: str) -> None:
    """Both hold the same values in the same fields, absent ones included, and theirs has no others."""
    table = messages.MESSAGES[kind]
    assert {field.name for field, _ in theirs.ListFields()} <= set(table)
    assert len(UnknownFieldSet(theirs)) == 0
    for name, (_, field_type, *_) in table.items():
        found, item = getattr(ours, name), field_type.removeprefix("*")
        if field_type.startswith("*"):
            expected = list(getattr(theirs, name))
            assert len(found) == len(expected)
        else:
            assert (found is not None) == theirs.HasField(name)
            found, expected = ([], []) if found is None else ([found], [getattr(theirs, name)])
        for one, other in zip(found, expected, strict=True):
            if item in messages.MESSAGES:
                same(one, other, item)
            elif item == "float":
                assert repr(one) == repr(other)  # NaN too
            else:
                assert one == other


def test_the_model_that_the_others_are_made_of_is_accepted():
    file = contract.read(encode(MODEL), "model.onnx")
    assert (file.inputs[0].name, file.outputs[0].name, file.operators) == ("z", "image", {"Elu": 1})


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_shipped_file_is_read_as_the_onnx_package_reads_it(role):
    contents = (PACKAGED / f"{role}.onnx").read_bytes()
    same(messages.decode("Model", contents), onnx.load_model_from_string(contents), "Model")


def paths(fields: tuple[Field, ...], above: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Where each field stands."""
    found = []
    for index, field in enumerate(fields):
        found.append((*above, index))
        if isinstance(field.value, tuple):
            found += paths(field.value, (*above, index))
    return found


def changed(fields: tuple[Field, ...], path: tuple[int, ...], change: Any) -> tuple[Field, ...]:
    """The message with the field at `path` replaced by those that `change` makes of it."""
    index, *rest = path
    field = fields[index]
    new = [replace(field, value=changed(field.value, tuple(rest), change))] if rest else change(field)
    return (*fields[:index], *new, *fields[index + 1 :])


NUMBERS = st.one_of(
    st.integers(-3, 30),
    st.sampled_from(
        [1 << 31, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 63, (1 << 64) - 1]
    ),
)
LEAVES = st.one_of(
    st.builds(Field, st.integers(0, 30), st.just(VARINT), NUMBERS),
    st.builds(Field, st.integers(0, 30), st.just(LENGTH), st.binary(max_size=9)),
    st.builds(Field, st.integers(0, 30), st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.builds(Field, st.integers(0, 30), st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    st.builds(Field, st.integers(0, 30), st.sampled_from([GROUP, GROUP_END, 6, 7]), st.just(b"")),
    st.builds(Field, st.sampled_from([1 << 28, (1 << 29) - 1, 1 << 29, (1 << 29) + 1]), st.just(VARINT), NUMBERS),
)


@st.composite
def mutations(draw: st.DrawFn) -> Any:
    """One change of one field."""
    other = draw(LEAVES)
    amount = draw(st.integers(1, 9))
    some = draw(st.binary(max_size=6))
    value = draw(NUMBERS)
    return draw(
        st.sampled_from(
            [
                lambda field: [field, field],
                lambda field: [],
                lambda field: [other, field],
                lambda field: [field, other],
                lambda field: [replace(other, number=field.number)],
                lambda field: [field, replace(other, number=field.number)],
                lambda field: [replace(field, tag_padding=amount)],
                lambda field: [replace(field, padding=amount)],
                lambda field: [replace(field, number=other.number)],
                lambda field: [replace(field, value=value)] if field.wire == VARINT else [replace(field, value=some)],
                lambda field: [Field(field.number, LENGTH, varint(value) * (amount % 4))],  # packed
                lambda field: [Field(field.number, LENGTH, field.encoded()[1:])],
                lambda field: (  # a message in two halves, which protobuf merges
                    [replace(field, value=field.value[:1]), replace(field, value=field.value[1:])]
                    if isinstance(field.value, tuple)
                    else [field]
                ),
            ]
        )
    )


@settings(max_examples=1500, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 16), mutations()), min_size=1, max_size=3))
def test_what_is_accepted_the_onnx_package_reads_alike(changes):
    fields = MODEL
    for place, change in changes:
        places = paths(fields)
        if places:
            fields = changed(fields, places[place % len(places)], change)
    contents = encode(fields)
    try:
        ours = messages.decode("Model", contents)
    except ValueError:
        return
    same(ours, onnx.load_model_from_string(contents), "Model")


@settings(max_examples=1000, deadline=None)
@given(place=st.integers(0, 1 << 20), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_what_is_accepted_with_a_changed_byte_the_onnx_package_reads_alike(place, byte, cut):
    contents = bytearray(encode(MODEL))
    place %= len(contents)
    contents[place : place + cut] = [byte]
    try:
        ours = messages.decode("Model", bytes(contents))
    except ValueError:
        return
    same(ours, onnx.load_model_from_string(bytes(contents)), "Model")


def at(number_: int, *more: int) -> tuple[int, ...]:
    """The path to the first field of a number, within that of another."""
    path: list[int] = []
    fields: Any = MODEL
    for wanted in (number_, *more):
        index = next(i for i, field in enumerate(fields) if field.number == wanted)
        path.append(index)
        fields = fields[index].value
    return tuple(path)


def twice(field: Field) -> list[Field]:
    return [field, field]


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        pytest.param(at(7), twice, "graph occurs twice", id="a singular message twice"),
        pytest.param(at(1), twice, "ir_version occurs twice", id="a singular number twice"),
        pytest.param(at(7, 1, 4), twice, "op_type occurs twice", id="a singular string twice"),
        pytest.param(at(7, 5, 9), twice, "raw_data occurs twice", id="singular bytes twice"),
        pytest.param(at(7, 1, 5, 2), twice, "f occurs twice", id="a singular float twice"),
        pytest.param(at(7, 11, 2, 1), twice, "tensor_type occurs twice", id="a member of a oneof twice"),
        pytest.param(
            at(7, 11, 2, 1, 2, 1, 2),
            lambda field: [field, number(1, 5)],
            "both dim_param and dim_value",
            id="two members of a oneof",
        ),
        pytest.param(at(1), lambda field: [text(1, b"\x07")], "wire type 2", id="a singular number packed"),
        pytest.param(
            at(7, 1, 5, 2), lambda field: [text(2, b"\0\0\x80?")], "wire type 2", id="a singular float packed"
        ),
        pytest.param(at(1), lambda field: [replace(field, padding=1)], "more bytes than", id="a number padded"),
        pytest.param(at(1), lambda field: [replace(field, tag_padding=1)], "more bytes than", id="a tag padded"),
        pytest.param(at(2), lambda field: [replace(field, padding=4)], "more bytes than", id="a length padded"),
        pytest.param(at(7, 5, 2), lambda field: [number(2, (1 << 32) + 1)], "where a number", id="an int32 of 33 bits"),
        pytest.param(
            at(7, 5, 2), lambda field: [number(2, 1 << 31)], "where a number", id="an int32 of 32 bits, unsigned"
        ),
        pytest.param(
            at(7, 1, 5, 20), lambda field: [number(20, 1 << 40 | 1)], "where a number", id="an enum of 41 bits"
        ),
        pytest.param(at(1), lambda field: [Field(1, LENGTH, b"")], "wire type 2", id="another wire type"),
        pytest.param(at(1), lambda field: [Field(1, GROUP, b""), Field(1, GROUP_END, b"")], "wire type", id="a group"),
        pytest.param(at(1), lambda field: [field, number(30, 1)], "field 30", id="an unknown field"),
        pytest.param(at(1), lambda field: [field, number((1 << 29) + 1, 7)], "field", id="a field beyond 29 bits"),
        pytest.param(at(2), lambda field: [text(2, b"\xff")], "utf-8", id="a string that is not UTF-8"),
        pytest.param(at(2), lambda field: [text(2, b"\xed\xa0\x80")], "utf-8", id="a surrogate"),
        pytest.param(at(2), lambda field: [text(2, b"\xc0\x80")], "utf-8", id="UTF-8 longer than it need be"),
    ],
)
def test_an_encoding_that_two_readers_could_take_differently_is_refused(path, change, words):
    with pytest.raises(BundleError, match=words):
        contract.read(encode(changed(MODEL, path, change)), "model.onnx")


def test_packed_and_single_repeated_numbers_are_the_same():
    packed = changed(MODEL, at(7, 5), lambda field: [inner(5, text(1, b"\x01\x02"), *field.value[2:])])
    assert contract.read(encode(packed), "model.onnx") == contract.read(encode(MODEL), "model.onnx")


@pytest.mark.parametrize("packed", [b"\0" * 5, b"\x80"])
def test_packed_numbers_that_are_cut_short_are_refused(packed):
    ints = inner(5, text(1, "alpha"), text(7 if len(packed) == 5 else 8, packed))
    with pytest.raises(BundleError, match=r"packed floats|cut short"):
        contract.read(encode(changed(MODEL, at(7, 1, 5), lambda field: [ints])), "model.onnx")


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(text(14, b"").encoded() * (1 << 21), id="metadata"),
        pytest.param(inner(7, text(1, bytes([10, 0]) * (1 << 21))).encoded(), id="names of a node"),
        pytest.param(inner(7, text(5, text(1, bytes(1 << 22)).encoded())).encoded(), id="packed sizes"),
        pytest.param(inner(7, text(1, text(5, text(7, bytes(1 << 22)).encoded()).encoded())).encoded(), id="floats"),
        pytest.param(text(6, b"a" * (1 << 22)).encoded(), id="text"),
    ],
)
def test_four_megabytes_of_nothing_cost_neither_time_nor_memory(extra):
    tracemalloc.start()
    begun = process_time()
    with pytest.raises(BundleError):
        contract.read(extra, "model.onnx")
    seconds, (_, peak) = process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10  # of this process alone, and slowed by the measuring; it took 22 s
    assert peak < 50 << 20


def test_weights_are_views_of_the_file():
    contents = encode(
        changed(
            MODEL,
            at(7, 5),
            lambda field: [inner(5, number(1, 1 << 23), number(2, 1), text(8, "w"), text(9, bytes(1 << 25)))],
        )
    )
    tracemalloc.start()
    assert contract.read(contents, "model.onnx").parameters == 1 << 23
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_messages_without_end_within_one_another_are_refused():
    contents = b""
    for _ in range(500):
        contents = protobuf.encode({"M": {"m": (1, "M")}}, "M", m=contents)
    with pytest.raises(ValueError, match="deep"):
        protobuf.decode({"M": {"m": (1, "M")}}, "M", memoryview(contents))


def test_what_encode_writes_the_onnx_package_reads():
    contents = messages.encode("Node", input=["a", "b"], output=["c"], op_type="Add")
    node = onnx.NodeProto.FromString(contents)
    assert (list(node.input), list(node.output), node.op_type) == (["a", "b"], ["c"], "Add")
    with pytest.raises(DecodeError):
        onnx.NodeProto.FromString(contents[:-1])
