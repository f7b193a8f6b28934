"""A manifest that is not what docs/bundle-format.md says is refused in one sentence, by every command."""

import copy
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.model.conftest import PACKAGED, as_schema_1, edit_manifest
from vae_serve.errors import BundleError
from vae_serve.model import bundle
from vae_serve.model import manifest_file as manifest

FIELDS = json.loads((PACKAGED / bundle.MANIFEST).read_text(encoding="utf-8"))


def refusal(fields: object) -> str:
    """Why a manifest of these fields is refused."""
    with pytest.raises(BundleError) as caught:
        manifest.parse(json.dumps(fields).encode("utf-8", "surrogatepass"), "manifest.json")
    message = str(caught.value)
    assert message.isprintable()
    return message


def changed(*path: object, to: object) -> dict:
    """The packaged model's manifest with one value changed."""
    fields = copy.deepcopy(FIELDS)
    place = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return fields


def test_the_packaged_manifest_is_written_as_it_was_read():
    read = manifest.parse((PACKAGED / bundle.MANIFEST).read_bytes(), "")
    assert json.loads(read.to_json()) == json.loads(manifest.parse(read.to_json().encode(), "").to_json())


@pytest.mark.parametrize("number", [True, 1.0, "2", None, 0, -1, 1 << 40, [2]])
@pytest.mark.parametrize("field", ["latent_dim", "opset", "ir_version"])
def test_a_number_of_another_type_or_size(field, number):
    if number is None and field != "latent_dim":
        assert "opset" in refusal(changed(field, to=number))
    else:
        assert field in refusal(changed(field, to=number))


@pytest.mark.parametrize(
    "shape", [[28, 28], [28, 28, True], [28.0, 28, 1], [28, 28, -1], [1 << 20, 28, 1], "28", [28] * 4]
)
def test_an_image_shape_that_is_none(shape):
    assert "image_shape" in refusal(changed("image_shape", to=shape))


def test_images_of_more_values_than_anybody_needs():
    fields = changed("image_shape", to=[8192, 8192, 3])
    fields["pixels"] |= {"height": 8192, "width": 8192, "channels": 3}
    assert "more than 16,777,216 values" in refusal(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 60_000), ("width", 29), ("channels", 3), ("height", 28.0), ("channels", True), ("fit", "shrink"),
        ("filter", ["bilinear"]), ("invert", None), ("background", 256), ("background", True), ("scale", "1/256"),
        ("surprise", 1), ("decode", "half"), ("decode", None), ("decode", 8),
    ],
)  # fmt: skip
def test_a_pixel_rule_that_is_none_or_of_another_shape(field, value):
    assert "pixel" in refusal(changed("pixels", field, to=value))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-rf",
        "a b",
        "a/b",
        "a\\b",
        "$(touch x)",
        "a;b",
        "a\n",
        "a`b`",
        "é",
        "a" * 101,
        ["mnist"],
        None,
        7,
    ],
)
def test_a_name_that_is_no_name(name):
    assert "name" in refusal(changed("name", to=name))
    assert "arch" in refusal(changed("arch", to=name))


@pytest.mark.parametrize("name", ["mnist", "a", "0.1", "My_Model-2.v3", "a" * 100])
def test_a_name_of_letters_digits_and_some_marks(name):
    assert manifest.parse(json.dumps(changed("name", to=name)).encode(), "").name == name


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x9b0m", "two\nlines", "\u202eright", "nul\0", "\ud800", "a" * 4097])
@pytest.mark.parametrize("path", [("licence",), ("data", "name"), ("training", "command"), ("versions", "numpy")])
def test_a_text_that_would_move_a_terminal_or_is_none(path, text):
    assert "manifest.json" in refusal(changed(*path, to=text))
    assert "manifest.json" in refusal(changed("metrics", text, to=1))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
def test_a_number_that_is_not_finite(number):
    text = json.dumps(FIELDS).replace(str(FIELDS["metrics"]["kl"]), number)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        manifest.parse(text.encode(), "manifest.json")


@pytest.mark.parametrize(
    "parity",
    [
        None, [], {}, {"reports": [{}]}, {**FIELDS["parity"], "reports": [{}]}, {**FIELDS["parity"], "tolerance": "1"},
        {**FIELDS["parity"], "reports": [{**FIELDS["parity"]["reports"][0], "largest": -1.0}]},
        {**FIELDS["parity"], "reports": [{**FIELDS["parity"]["reports"][0], "network": "both"}]},
        {**FIELDS["parity"], "surprise": 1},
    ],
)  # fmt: skip
def test_parity_that_is_no_measurement(parity):
    assert "parity" in refusal(changed("parity", to=parity))


@pytest.mark.parametrize(
    ("role", "side", "tensors"),
    [
        ("encoder", "outputs", lambda tensors: tensors[:1]),
        ("encoder", "outputs", lambda tensors: tensors[::-1]),
        ("encoder", "outputs", lambda tensors: [*tensors, tensors[0]]),
        ("encoder", "inputs", lambda tensors: []),
        ("encoder", "inputs", lambda tensors: [{**tensors[0], "dtype": "int64"}]),
        ("encoder", "inputs", lambda tensors: [{**tensors[0], "name": "picture"}]),
        ("encoder", "inputs", lambda tensors: [{**tensors[0], "shape": [1, 28, 28, 1]}]),
        ("encoder", "outputs", lambda tensors: [{**tensors[0], "dtype": "uint8"}, tensors[1]]),
        ("decoder", "outputs", lambda tensors: [{**tensors[0], "shape": ["batch", 28, 28, 3]}]),
        ("decoder", "inputs", lambda tensors: [{**tensors[0], "shape": ["batch", 3]}]),
        ("decoder", "inputs", lambda tensors: [{**tensors[0], "dtype": "uint8"}]),
    ],
)
def test_tensors_other_than_those_of_a_variational_autoencoder(role, side, tensors):
    at = [graph["file"] for graph in FIELDS["graphs"]].index(f"{role}.onnx")
    message = refusal(changed("graphs", at, side, to=tensors(FIELDS["graphs"][at][side])))
    assert side in message


@pytest.mark.parametrize(
    "path",
    ["../x.onnx", "/etc/passwd", "conformance/../x.npy", "encoder.h5", "a\\b", "conformance/encoder/more.npy", "\0",
     "saved_model/encoder/1/assets/words.txt", "saved_model/encoder/2/saved_model.pb", "encoder.onnx/"],
)  # fmt: skip
def test_a_file_that_no_bundle_has(path):
    assert "manifest.json" in refusal(changed("files", 0, "path", to=path))


@pytest.mark.parametrize(
    "change",
    [{"bytes": True}, {"bytes": -1}, {"bytes": 2.0}, {"bytes": 1 << 40}, {"sha256": "0" * 63}, {"sha256": 1}, {"x": 1}],
)
def test_a_file_entry_that_is_none(change):
    assert "manifest.json" in refusal(changed("files", 0, to={**FIELDS["files"][0], **change}))


@pytest.mark.parametrize(
    "graphs",
    [
        lambda graphs: [],
        lambda graphs: graphs[:2],
        lambda graphs: [*graphs, graphs[0]],
        lambda graphs: [{**graphs[0], "variant": "uint8"}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "role": "decoder"}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "file": "encoder.uint8.onnx"}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "file": "../encoder.onnx"}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "tolerance": {"z_mean": 1e-5}}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "tolerance": 1e-5}, *graphs[1:]],
        lambda graphs: [{**graphs[0], "parity": graphs[2]["parity"]}, *graphs[1:]],
    ],
)
def test_graphs_that_are_not_one_of_each_role_and_variant(graphs):
    assert "manifest.json" in refusal(changed("graphs", to=graphs(FIELDS["graphs"])))


def test_schema_1_says_the_same_in_the_records_of_schema_2():
    old = manifest.parse(json.dumps(as_schema_1(FIELDS)).encode(), "manifest.json")
    new = manifest.parse(json.dumps(FIELDS).encode(), "manifest.json")
    assert [graph.file for graph in old.graphs] == ["encoder.onnx", "decoder.onnx"]
    assert [graph for graph in new.graphs if graph.variant == "float32"] == list(old.graphs)
    assert old.parity == new.parity
    assert (old.name, old.data, old.metrics) == (new.name, new.data, new.metrics)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(graphs=[]),
        lambda fields: fields.pop("encoder"),
        lambda fields: fields.update(encoder=[]),
        lambda fields: fields["encoder"].update(outputs=fields["encoder"]["outputs"][:1]),
        lambda fields: fields["encoder"].update(file="decoder.onnx"),
        lambda fields: fields.update(latent_dim=True),
        lambda fields: fields.update(parity={"reports": [{}]}),
    ],
)
def test_schema_1_is_checked_as_strictly(change):
    fields = as_schema_1(FIELDS)
    change(fields)
    assert "manifest.json" in refusal(fields)


def test_a_key_that_stands_twice():
    text = json.dumps(FIELDS)[:-1] + ', "name": "other"}'
    with pytest.raises(BundleError, match="twice"):
        manifest.parse(text.encode(), "manifest.json")


def _one_output(fields):
    fields["graphs"][0].update(outputs=fields["graphs"][0]["outputs"][:1])


def _vast_pictures(fields):
    fields["pixels"].update(height=60_000, width=60_000)


@pytest.mark.parametrize(
    ("command", "change"),
    [
        ("verify", _one_output),
        ("embed", _one_output),
        ("embed", _vast_pictures),
        ("generate", _vast_pictures),
        ("inspect", lambda fields: fields.update(latent_dim=True)),
        ("inspect", lambda fields: fields.update(parity={"reports": [{}]})),
        ("verify", lambda fields: fields.update(name="\x1b]0;x\x07")),
        ("inspect", lambda fields: fields["metrics"].update(kl=float("nan"))),
        ("generate", lambda fields: fields.update(licence="\ud800")),
    ],
)
def test_a_command_refuses_in_one_sentence(stranger, vae_serve, tmp_path, command, change):
    edit_manifest(stranger, change)
    words = {
        "verify": [stranger],
        "inspect": [stranger],
        "embed": ["mnist", "--model", stranger, "--out", "out"],
        "generate": ["--grid", 2, "--model", stranger, "--out", "out.png"],
    }[command]
    done = vae_serve(command, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "manifest.json" in done.stderr
    assert done.stderr.rstrip("\n").isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stranger"]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["batch", "image", "encoder"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The path to every value in a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, below in items for inner in places(below, (*path, key)))]


PLACES = [path for path in places(FIELDS) if path]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_manifest_with_any_value_anywhere_is_read_or_refused(data):
    fields = copy.deepcopy(FIELDS)
    for path in data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        place = fields
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = data.draw(PLAIN)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    try:
        manifest.parse(json.dumps(fields).encode("utf-8", "surrogatepass"), "manifest.json")
    except BundleError as error:
        assert str(error).isprintable()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5000))
@example(b"\xff\xfe{\0}\0", 0)
@example(b"[" * 100_000, 0)
def test_any_bytes_in_a_manifest_are_read_or_refused(piece, at):
    text = (PACKAGED / bundle.MANIFEST).read_bytes()
    for contents in (piece, text[:at] + piece + text[at + len(piece) :]):
        try:
            manifest.parse(contents, "manifest.json")
        except BundleError as error:
            assert str(error).isprintable()
