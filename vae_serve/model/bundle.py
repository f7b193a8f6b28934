"""THE CONTRACT: what an exported model is, what it says of itself, and how it is checked when loaded.

    NAME/manifest.json        this module's `Manifest` as JSON; names every other file with size and SHA-256
         encoder.onnx         image (batch, H, W, C) -> z_mean, z_log_var (batch, d)
         decoder.onnx         z (batch, d) -> image (batch, H, W, C)
         saved_model/encoder/1/, saved_model/decoder/1/       the same names in serving_default
         conformance/         inputs and expected outputs
         README.md            a model card

Loading needs the serving side's packages alone. A bundle is a stranger's until `load` has checked it: nothing that
the manifest does not name, no link, no path that leads out of the folder, no file that is not what its hash says.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Any

from vae_serve.errors import BundleError
from vae_serve.model import onnx

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes; a manifest is some ten kilobytes

Json = dict[str, Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph. `shape` begins with the symbolic axis "batch"."""

    name: str
    dtype: str  # "float32", or "uint8" in the raw-pixel variant
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One exported network: its file within the bundle and its tensors, in order."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle; `path` is relative, with forward slashes."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. Dates and machines are not in it: the same run gives the same bytes."""

    schema_version: int
    name: str
    arch: str
    latent_dim: int
    image_shape: tuple[int, int, int]  # height, width, channels
    pixels: Json  # the rule from a picture to the model's input, see `vae_serve.images.pixels.PixelRule`
    encoder: GraphSpec | None  # None when ONNX was not asked for
    decoder: GraphSpec | None
    opset: int | None
    ir_version: int | None
    parameters: Json  # {"encoder": n, "decoder": n, "trainable": n} of the trained model
    weights_sha256: str  # fingerprint of the trained weights
    data: Json  # what it was trained on: name, licence, counts, fingerprint
    training: Json  # recipe, seed, epochs, the command
    metrics: Json  # test figures, each with its unit and kind of target
    parity: Json  # what the gate measured
    versions: Json  # of the packages that trained and exported
    licence: str
    files: tuple[FileEntry, ...]
    form: str = "layers"  # of the graphs: "layers" as trained, or "blocks" of pixels, see export.passes.space_to_depth

    def to_json(self) -> str:
        """The text of manifest.json: keys in the order above, UTF-8, ends with a line feed."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. The graphs are the very bytes that were hashed, so nothing can change in between."""

    path: Path
    manifest: Manifest
    encoder: bytes | None
    decoder: bytes | None

    def read(self, path: str) -> bytes:
        """Another file of the bundle, by its path in the manifest, checked once more.

        Raises:
            BundleError: the manifest names none, or it is no longer what it says.
        """
        for entry in self.manifest.files:
            if entry.path == path:
                return _read_checked(self.path, entry)
        raise BundleError(f"{self.path} has no {path}; export it again")


def load(path: Path) -> Bundle:
    """Reads and checks a bundle: every file against the manifest, the graphs against what it says of them.

    Raises:
        BundleError: names the file and the reason.
    """
    manifest = read_manifest(path / MANIFEST)
    _refuse_strangers(path, {entry.path for entry in manifest.files})
    contents = {entry.path: _read_checked(path, entry) for entry in manifest.files}

    def graph(spec: GraphSpec | None) -> bytes | None:
        if spec is None:
            return None
        if spec.file not in contents:
            raise BundleError(f"{path / MANIFEST} has a graph in {spec.file!r}, which is not among its files")
        _check_graph(onnx.read(contents[spec.file], str(path / spec.file)), spec, manifest, path)
        return contents[spec.file]

    return Bundle(path, manifest, graph(manifest.encoder), graph(manifest.decoder))


def read_manifest(file: Path) -> Manifest:
    """The manifest alone, its schema checked, no other file opened."""
    if file.is_symlink():
        raise BundleError(f"{file} is a link; a bundle holds plain files")
    try:
        with file.open("rb") as opened:
            text = opened.read(MANIFEST_LIMIT + 1)
    except FileNotFoundError:
        raise BundleError(f"{file.parent} is no bundle: it has no {MANIFEST}") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if len(text) > MANIFEST_LIMIT:
        raise BundleError(f"{file} is larger than {MANIFEST_LIMIT:,} bytes; no manifest is")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or "schema_version" not in found:
        raise BundleError(f"{file} is no manifest: it has no schema_version")
    if found["schema_version"] != SCHEMA_VERSION:
        raise BundleError(
            f"{file} has schema version {found['schema_version']!r}; this vae-serve reads {SCHEMA_VERSION}"
        )
    try:
        return _manifest(found)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file} is not a valid manifest: {error}") from error


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("schema_version", "latent_dim"), int),
    **dict.fromkeys(("name", "arch", "weights_sha256", "licence", "form"), str),
    **dict.fromkeys(("pixels", "parameters", "data", "training", "metrics", "parity", "versions"), dict),
    **dict.fromkeys(("opset", "ir_version"), (int, type(None))),
    **dict.fromkeys(("encoder", "decoder"), (dict, type(None))),
    **dict.fromkeys(("image_shape", "files"), list),
}


def _manifest(found: Json) -> Manifest:
    if set(found) != set(_KINDS):
        raise ValueError(f"its fields are {sorted(set(found) ^ set(_KINDS))} away from schema {SCHEMA_VERSION}")
    for field, kind in _KINDS.items():
        if not isinstance(found[field], kind) or isinstance(found[field], bool):
            raise ValueError(f"{field} is {found[field]!r:.80}")
    shape = found["image_shape"]
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in [*shape, found["latent_dim"]]):
        raise ValueError(f"image_shape {shape!r:.80}, latent_dim {found['latent_dim']}")
    files = tuple(FileEntry(**entry) for entry in found["files"])
    for entry in files:
        if not (type(entry.path) is str and type(entry.bytes) is int and type(entry.sha256) is str):
            raise ValueError(f"files: {entry!r:.120}")
    if len({entry.path for entry in files}) != len(files):
        raise ValueError("files: one is named twice")
    return Manifest(
        **{
            **found,
            "image_shape": tuple(shape),
            "encoder": _graph(found["encoder"]),
            "decoder": _graph(found["decoder"]),
            "files": files,
        }
    )


def _graph(found: Json | None) -> GraphSpec | None:
    if found is None:
        return None

    def specs(side: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(one["name"], one["dtype"], tuple(one["shape"])) for one in found[side])

    return GraphSpec(found["file"], specs("inputs"), specs("outputs"))


def _check_graph(file: onnx.OnnxFile, spec: GraphSpec, manifest: Manifest, path: Path) -> None:
    if len(spec.inputs) != 1:
        raise BundleError(f"{path / MANIFEST}: {spec.file} has {len(spec.inputs)} inputs; a bundle's networks have one")
    for side, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        stated = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
        found = [(value.name, value.dtype, value.shape) for value in getattr(file, side)]
        if stated != found:
            raise BundleError(f"{path / spec.file} has the {side} {found} where the manifest says {stated}")
    if (file.opset, file.ir_version) != (manifest.opset, manifest.ir_version):
        raise BundleError(
            f"{path / spec.file} has opset {file.opset} and IR version {file.ir_version} where the manifest says "
            f"{manifest.opset} and {manifest.ir_version}"
        )
    shapes = {tensor.name: tensor.shape for tensor in (*spec.inputs, *spec.outputs)}
    for tensor, shape in shapes.items():
        if shape != ("batch", *(manifest.image_shape if tensor == "image" else (manifest.latent_dim,))):
            raise BundleError(f"{path / MANIFEST}: {tensor} of shape {shape} does not fit its image_shape, latent_dim")


def _refuse_strangers(root: Path, named: set[str]) -> None:
    """No file that the manifest does not name, and nothing that is neither a file nor a folder."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            if file.is_symlink():
                raise BundleError(f"{file} is a link; a bundle holds plain files")
            if name in names and relative not in named | {MANIFEST}:
                raise BundleError(f"{file} is not named in the manifest; take it away")


_KINDS_OF_FILES = re.compile(
    r"README\.md"
    r"|(encoder|decoder)\.(onnx|tflite)"
    r"|saved_model/(encoder|decoder)/1/(saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-00000-of-00001))"
    r"|conformance/[\w./-]+\.(json|npy|pb)"
)


def _read_checked(root: Path, entry: FileEntry) -> bytes:
    relative = PurePosixPath(entry.path)
    file = root / relative
    plain = entry.path == relative.as_posix() and "\\" not in entry.path and "\0" not in entry.path
    if relative.is_absolute() or ".." in relative.parts or not plain:
        raise BundleError(f"{root / MANIFEST} names a file outside its folder: {entry.path!r}")
    if not _KINDS_OF_FILES.fullmatch(entry.path):
        raise BundleError(f"{file} is a kind of file that no bundle has")
    if not 0 <= entry.bytes <= onnx.SIZE_LIMIT:
        raise BundleError(
            f"{root / MANIFEST}: {entry.path} of {entry.bytes:,} bytes; more than {onnx.SIZE_LIMIT:,} are not loaded"
        )
    if any(part.is_symlink() for part in [file, *file.parents][: len(relative.parts)]):
        raise BundleError(f"{file} is a link; a bundle holds plain files")
    try:
        if not file.is_file():
            raise BundleError(f"{file} is missing, or is no file")
        if file.stat().st_size != entry.bytes:
            raise BundleError(f"{file} has {file.stat().st_size:,} bytes where the manifest says {entry.bytes:,}")
        contents = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if hashlib.sha256(contents).hexdigest() != entry.sha256:
        raise BundleError(f"{file} is not the file that the manifest names: its SHA-256 differs")
    return contents


def with_files(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with an entry for every file of the folder but itself, sorted by path."""
    paths = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    entries = []
    for path in paths:
        if path != MANIFEST:
            contents = (folder / path).read_bytes()
            entries.append(FileEntry(path, len(contents), hashlib.sha256(contents).hexdigest()))
    return replace(manifest, files=tuple(entries))


def find(model: Path | None, exports: Path = Path("exports")) -> Path:
    """The bundle to serve: `model`, else the newest one under `exports`, else the one inside the package."""
    if model is not None:
        return model
    if exports.is_dir():
        # [!.]: a name that begins with a dot is an export that has not finished
        manifests = sorted(exports.glob(f"[!.]*/{MANIFEST}"), key=lambda file: file.stat().st_mtime_ns)
        if manifests:
            return manifests[-1].parent
    packaged = Path(str(package_files("vae_serve"))) / "default_model"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[2] / "exports" / "mnist"
    if checkout.is_dir():
        return checkout
    raise BundleError(
        f"no bundle under {exports}/ and none in the package; make one: vae-serve train, vae-serve export"
    )
