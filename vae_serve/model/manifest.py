"""A manifest as typed records. See docs/bundle-format.md.

Free-form fields (how a model was trained, its figures) are a bounded tree of plain values. `manifest_file` reads and
checks these records.
"""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vae_serve.model import plain

SCHEMA_VERSION = 2

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
ImageSide = Annotated[int, Meta(ge=1, le=SIDE_LIMIT)]

# What a bundle may hold, and the most bytes of each. The largest network of this project, dcgan's decoder, has 174 MB.
FILES: tuple[tuple[str, int], ...] = (
    (r"README\.md", MEBIBYTE),
    (r"(encoder|decoder)(\.uint8)?\.onnx", 256 * MEBIBYTE),
    (r"(encoder|decoder)\.tflite", 256 * MEBIBYTE),
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
    """One network as an ONNX file: where it is within the bundle, and its tensors, in order."""

    role: Role
    """Which network it is."""
    variant: Literal["float32", "uint8"]
    """What an image is to it: floats 0..1, or bytes 0..255. No two graphs share role and variant."""
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


class Graph(GraphSpec, frozen=True):
    """A graph that has been through the gate."""

    tolerance: dict[Word, Annotated[float, Meta(gt=0)]]
    """Of each output, the difference that no element may exceed."""
    parity: Annotated[tuple[ParityReport, ...], Meta(max_length=100)]
    """What was measured: one report for each output and level of ONNX Runtime's optimisation."""


class Parity(Record, frozen=True):
    """How the gate measured, and what it measured of copies that are not ONNX files."""

    tolerance: Annotated[float, Meta(gt=0)]
    """The difference that no element may exceed."""
    measure: Text
    """The formula of a difference."""
    reports: Annotated[tuple[ParityReport, ...], Meta(max_length=1000)]
    """One for each such copy and output: the folded Keras model, SavedModels, LiteRT files."""
    bound: Text = ""
    """In words, what a difference may be where it is not `tolerance` alone."""


class Manifest(Record, frozen=True):
    """The description of a bundle. Dates and machines are not in it: the same run gives the same bytes."""

    schema_version: int
    """Of this record."""
    name: Name
    """Letters, digits, dots, underscores and hyphens: it becomes a part of file names, commands and addresses."""
    arch: Name
    """The architecture: conv, mlp, ..."""
    latent_dim: Annotated[int, Meta(ge=1, le=LATENT_LIMIT)]
    """Of the latent space."""
    image_shape: tuple[ImageSide, ImageSide, ImageSide]
    """Height, width, channels."""
    pixels: Json
    """A `vae_serve.images.pixels.PixelRule`, from a picture to the model's input; its size is `image_shape`."""
    graphs: Annotated[tuple[Graph, ...], Meta(max_length=16)]
    """Every ONNX file of the bundle; none when ONNX was not asked for. Nothing else is run."""
    signature_pixels: PixelType
    """What an image is to the SavedModels and LiteRT files, in their signature `serving_default`."""
    opset: Small | None
    """Of all graphs."""
    ir_version: Small | None
    """Of all graphs."""
    parameters: dict[Literal["encoder", "decoder", "trainable"], Count]
    """Numbers of weights in the trained model; `trainable` are those of both without BatchNorm's statistics."""
    weights_sha256: Sha256
    """A fingerprint of the trained weights."""
    data: Json
    """What it was trained on: name, licence, counts, fingerprint."""
    training: Json
    """How: schedule, seed, epochs, the command."""
    metrics: Json
    """Test figures, with their unit and kind of target."""
    parity: Parity
    """What the gate measured, beside that of `graphs`."""
    versions: Annotated[dict[Name, Word], Meta(max_length=100)]
    """Of the packages that trained and exported."""
    licence: Word
    """Of the weights."""
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=100)]
    """Every file of the bundle but the manifest."""
    form: Form
    """Of the graphs: layer by layer as trained, or with narrow maps in blocks of pixels."""

    @property
    def encoder(self) -> Graph | None:
        """The encoder for a runtime elsewhere: of floats, where there is one."""
        return next(iter(self.of_role("encoder")), None)

    @property
    def decoder(self) -> Graph | None:
        """The decoder, likewise."""
        return next(iter(self.of_role("decoder")), None)

    @property
    def reports(self) -> tuple[ParityReport, ...]:
        """Everything that the gate measured."""
        return (*self.parity.reports, *(report for graph in self.graphs for report in graph.parity))

    def of_role(self, role: Role) -> list[Graph]:
        """The variants of one network, that of floats first."""
        return sorted((graph for graph in self.graphs if graph.role == role), key=lambda graph: graph.variant)

    def to_json(self) -> str:
        """The text of manifest.json: keys in the order above, UTF-8, ends with a line feed."""
        return json.dumps(msgspec.to_builtins(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def graph_spec(role: Role, variant: PixelType, image_shape: tuple[int, int, int], latent_dim: int) -> GraphSpec:
    """The contract of a network whose images are `float32` 0..1 or `uint8` 0..255."""
    file = f"{role}.onnx" if variant == "float32" else f"{role}.{variant}.onnx"
    image = (TensorSpec("image", variant, ("batch", *image_shape)),)
    if role == "encoder":
        heads = tuple(_latent(name, latent_dim) for name in ("z_mean", "z_log_var"))
        return GraphSpec(role, variant, file, image, heads)
    return GraphSpec(role, variant, file, (_latent("z", latent_dim),), image)


def _latent(name: str, latent_dim: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", latent_dim))


def size_limit(path: str) -> int | None:
    """The most bytes of a file at this path of a bundle; None where no bundle has a file."""
    return next((limit for pattern, limit in FILES if re.fullmatch(pattern, path, re.ASCII)), None)
