"""THE CONTRACT in records: what a manifest may say, checked strictly. See docs/bundle-format.md.

An unknown, missing or mistyped field is refused; so are texts that cannot be printed, numbers that are not finite, and
tensors other than a variational autoencoder's. What is free-form (how a model was trained, its figures) is a bounded
tree of plain values, in which the fields that something here reads have their type.
"""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vae_serve.errors import BundleError
from vae_serve.model import plain

SCHEMA_VERSION = 1

Json = dict[str, Any]
Role = Literal["encoder", "decoder"]
PixelType = Literal["float32", "uint8"]
Form = Literal["blocks", "layers"]
ROLES: tuple[Role, ...] = ("encoder", "decoder")

SIDE_LIMIT = 8192  # pixels of an image's height or width
VALUES_LIMIT = 1 << 24  # height * width * channels of one image
LATENT_LIMIT = 8192  # dimensions
MEBIBYTE = 1 << 20

Text = Annotated[str, Meta(max_length=plain.TEXT)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=100)]
Word = Annotated[str, Meta(min_length=1, max_length=200)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=(1 << 62))]
Small = Annotated[int, Meta(ge=1, le=1000)]
Side = Annotated[int, Meta(ge=1, le=SIDE_LIMIT)]

# What a bundle may hold, and the most bytes of each. The largest network of this project, dcgan's decoder, has 174 MB.
FILES: tuple[tuple[str, int], ...] = (
    (r"README\.md", MEBIBYTE),
    (r"(encoder|decoder)\.(onnx|tflite)", 256 * MEBIBYTE),
    (r"saved_model/(encoder|decoder)/1/saved_model\.pb", 256 * MEBIBYTE),
    (r"saved_model/(encoder|decoder)/1/(fingerprint\.pb|variables/variables\.(index|data-00000-of-00001))", MEBIBYTE),
    (r"conformance/conformance\.json", MEBIBYTE),
    (r"conformance/(encoder|decoder)/(image|z|z_mean|z_log_var)\.npy", 64 * MEBIBYTE),
    (r"conformance/(encoder|decoder)/test_data_set_0/(input_0|output_[01])\.pb", 64 * MEBIBYTE),
)


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """What the records below have in common: nothing in them changes, and nothing unknown is in them."""


class TensorSpec(Record, frozen=True):
    """One input or output of a graph."""

    name: Word
    """As in the graph."""
    dtype: PixelType
    """`uint8` for an image of bytes 0..255; all else is `float32`."""
    shape: tuple[int | str, ...]
    """Begins with the one symbolic axis, "batch"."""


class GraphSpec(Record, frozen=True):
    """One exported network: its file within the bundle and its tensors, in order."""

    file: Word
    """Relative to the bundle."""
    inputs: tuple[TensorSpec, ...]
    """One."""
    outputs: tuple[TensorSpec, ...]
    """Of the encoder `z_mean` and `z_log_var`, of the decoder `image`."""


class FileEntry(Record, frozen=True):
    """A file of the bundle."""

    path: Word
    """Relative, with forward slashes; one of `FILES`."""
    bytes: Count
    """Its size."""
    sha256: Sha256
    """Of its contents, in lower-case hexadecimal digits."""


class ParityReport(Record, frozen=True):
    """How far one tensor of one copy was from the trained model's; see `vae_serve.model.parity`."""

    network: Role
    """Whose tensor it is."""
    copy: Word
    """What was run: `SavedModel`, `ONNX, full optimisation`, ..."""
    tensor: Literal["image", "z_mean", "z_log_var"]
    """The output."""
    rows: Annotated[int, Meta(ge=1)]
    """How many were compared."""
    largest: Annotated[float, Meta(ge=0)]
    """The largest difference, by the measure of the gate."""
    mean: Annotated[float, Meta(ge=0)]
    """The mean of the differences."""
    p999: Annotated[float, Meta(ge=0)]
    """Their 99.9th percentile."""
    index: Annotated[tuple[int, ...], Meta(max_length=4)]
    """Of the element with the largest difference."""
    expected: float
    """The trained model's value there."""
    actual: float
    """The copy's value there."""
    tolerance: Annotated[float, Meta(gt=0)] | None = None
    """What `largest` may be; None where it is the bundle's."""
    trained_float32: Annotated[float, Meta(ge=0)] | None = None
    """How far the trained model's own float32 is from `expected`, where that was measured."""


class Parity(Record, frozen=True):
    """What the gate measured."""

    tolerance: Annotated[float, Meta(gt=0)]
    """The difference that no element may exceed."""
    measure: Text
    """The formula of a difference."""
    reports: Annotated[tuple[ParityReport, ...], Meta(max_length=1000)]
    """One for each copy and output."""
    bound: Text = ""
    """In words, what a difference may be where it is not `tolerance` alone."""


class _Data(Struct):
    """The fields of `Manifest.data` that something here reads."""

    name: Text
    licence: Text = ""


class _Metrics(Struct):
    """Those of `Manifest.metrics`."""

    negative_elbo: float | None = None
    reconstruction: float | None = None
    kl: float | None = None
    unit: Word = "nats per image"


class Manifest(Record, frozen=True):
    """What a bundle says of itself. Dates and machines are not in it: the same run gives the same bytes."""

    schema_version: int
    """Of this record."""
    name: Name
    """Letters, digits, dots, underscores and hyphens: it becomes a part of file names, commands and addresses."""
    arch: Name
    """The architecture: conv, mlp, ..."""
    latent_dim: Annotated[int, Meta(ge=1, le=LATENT_LIMIT)]
    """Of the latent space."""
    image_shape: tuple[Side, Side, Side]
    """Height, width, channels."""
    pixels: Json
    """A `vae_serve.images.pixels.PixelRule`, from a picture to the model's input; its size is `image_shape`."""
    encoder: GraphSpec | None
    """None when ONNX was not asked for."""
    decoder: GraphSpec | None
    """Likewise."""
    opset: Small | None
    """Of both graphs."""
    ir_version: Small | None
    """Of both graphs."""
    parameters: dict[Literal["encoder", "decoder", "trainable"], Count]
    """Numbers of weights in the trained model; `trainable` are those of both without BatchNorm's statistics."""
    weights_sha256: Sha256
    """A fingerprint of the trained weights."""
    data: Json
    """What it was trained on: name, licence, counts, fingerprint."""
    training: Json
    """How: recipe, seed, epochs, the command."""
    metrics: Json
    """Test figures, with their unit and kind of target."""
    parity: Parity
    """What the gate measured."""
    versions: Annotated[dict[Name, Word], Meta(max_length=100)]
    """Of the packages that trained and exported."""
    licence: Word
    """Of the weights."""
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=100)]
    """Every file of the bundle but the manifest."""
    form: Form
    """Of the graphs: layer by layer as trained, or with narrow maps in blocks of pixels."""

    def to_json(self) -> str:
        """The text of manifest.json: keys in the order above, UTF-8, ends with a line feed."""
        return json.dumps(msgspec.to_builtins(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def contract(
    role: Role, pixels: PixelType, image_shape: tuple[int, int, int], latent_dim: int
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and the outputs of a network whose images are `float32` 0..1 or `uint8` 0..255."""
    image = (TensorSpec("image", pixels, ("batch", *image_shape)),)
    if role == "encoder":
        return image, tuple(_latent(name, latent_dim) for name in ("z_mean", "z_log_var"))
    return (_latent("z", latent_dim),), image


def _latent(name: str, latent_dim: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", latent_dim))


def size_limit(path: str) -> int | None:
    """The most bytes of a file at this path of a bundle; None where no bundle has a file."""
    return next((limit for pattern, limit in FILES if re.fullmatch(pattern, path, re.ASCII)), None)


def parse(contents: bytes, where: str) -> Manifest:
    """The manifest in a file's contents; `where` stands for the file in messages.

    Raises:
        BundleError: it is not one; says what is wrong in it.
    """
    try:
        document = plain.parse(contents)
    except ValueError as error:
        raise BundleError(f"{where} is not valid JSON, or holds what no manifest does: {error}") from None
    if "schema_version" not in document:
        raise BundleError(f"{where} is no manifest: it has no schema_version")
    version = document["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleError(f"{where} has schema version {version!r:.40}; this vae-serve reads {SCHEMA_VERSION}")
    try:
        return _checked(document)
    except (msgspec.ValidationError, BundleError, ValueError) as error:
        raise BundleError(f"{where} is not a valid manifest: {error}") from None


def _checked(document: Json) -> Manifest:
    from vae_serve.images.pixels import PixelRule  # brings numpy, which a command's --help does without

    manifest = msgspec.convert(document, Manifest)
    _convert("data", manifest.data, _Data)
    _convert("metrics", manifest.metrics, _Metrics)
    if set(manifest.parameters) != {"encoder", "decoder", "trainable"}:
        raise ValueError(f"the fields of parameters are {sorted(manifest.parameters)}")
    if set(manifest.pixels) != set(PixelRule.__dataclass_fields__):
        raise ValueError(f"the fields of pixels are {sorted(manifest.pixels)!r:.200}")
    rule = PixelRule.from_json(msgspec.to_builtins(_convert("pixels", manifest.pixels, PixelRule)))
    height, width, channels = manifest.image_shape
    if rule.shape != manifest.image_shape:
        raise ValueError(f"pixels is of the shape {rule.shape}, image_shape is {manifest.image_shape}")
    if height * width * channels > VALUES_LIMIT:
        raise ValueError(f"image_shape {manifest.image_shape} has more than {VALUES_LIMIT:,} values")
    for role in ROLES:
        graph: GraphSpec | None = getattr(manifest, role)
        if graph is not None:
            _check_graph(role, graph, manifest)
    if manifest.encoder and (manifest.opset is None or manifest.ir_version is None):
        raise ValueError("it has graphs, but no opset or no ir_version")
    if (manifest.encoder is None) != (manifest.decoder is None):
        raise ValueError("it has one of encoder and decoder alone")
    _check_files(manifest.files)
    return manifest


def _convert(field: str, value: Json, kind: Any) -> Any:
    """A free-form field's value as a record of `kind`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{field}: {error}") from None


def _check_graph(role: Role, graph: GraphSpec, manifest: Manifest) -> None:
    """Names, number, order, types and shapes of the tensors are those of the contract."""
    stated = [tensor.dtype for tensor in (*graph.inputs, *graph.outputs) if tensor.name == "image"]
    pixels: PixelType = "uint8" if stated == ["uint8"] else "float32"
    inputs, outputs = contract(role, pixels, manifest.image_shape, manifest.latent_dim)
    if graph.file != f"{role}.onnx":
        raise ValueError(f"the file of {role} is {graph.file!r}, not '{role}.onnx'")
    for side, found, wanted in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs)):
        if found != wanted:
            raise ValueError(f"{graph.file} has the {side} {_told(found)}; a bundle's {role} has {_told(wanted)}")
    if not any(entry.path == graph.file for entry in manifest.files):
        raise ValueError(f"{graph.file} is not among its files")


def _told(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)[:300] or "none"


def _check_files(files: tuple[FileEntry, ...]) -> None:
    for entry in files:
        limit = size_limit(entry.path)
        if limit is None:
            raise ValueError(f"{entry.path!r} is a kind of file that no bundle has, or outside its folder")
        if entry.bytes > limit:
            raise ValueError(f"{entry.path} of {entry.bytes:,} bytes; more than {limit:,} are not loaded")
    if len({entry.path for entry in files}) != len(files):
        raise ValueError("files: one is named twice")
