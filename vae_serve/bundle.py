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
from dataclasses import asdict, dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Any

from vae_serve.errors import BundleError

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
    form: str = "layers"  # of the graphs: "layers" as trained, or "blocks" of pixels, see vae_serve.export.blocks

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


def load(path: Path) -> Bundle:
    """Reads and checks a bundle.

    Raises:
        BundleError: names the file and the reason.
    """
    manifest = read_manifest(path / MANIFEST)
    contents = {entry.path: _read_checked(path, entry) for entry in manifest.files}
    return Bundle(
        path=path,
        manifest=manifest,
        encoder=contents[manifest.encoder.file] if manifest.encoder else None,
        decoder=contents[manifest.decoder.file] if manifest.decoder else None,
    )


def read_manifest(file: Path) -> Manifest:
    """The manifest alone, its schema checked, no other file opened."""
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
        version = found["schema_version"]
        if version != SCHEMA_VERSION:
            raise BundleError(f"{file} has schema version {version!r}; this vae-serve reads {SCHEMA_VERSION}")
        return _manifest(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{file} is not a valid manifest: {error!r}") from error


def _manifest(found: Json) -> Manifest:
    return Manifest(
        **{
            **found,
            "image_shape": tuple(found["image_shape"]),
            "encoder": _graph(found["encoder"]),
            "decoder": _graph(found["decoder"]),
            "files": tuple(FileEntry(**entry) for entry in found["files"]),
        }
    )


def _graph(found: Json | None) -> GraphSpec | None:
    if found is None:
        return None

    def specs(side: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(one["name"], one["dtype"], tuple(one["shape"])) for one in found[side])

    return GraphSpec(found["file"], specs("inputs"), specs("outputs"))


def _read_checked(root: Path, entry: FileEntry) -> bytes:
    relative = PurePosixPath(entry.path)
    file = root / relative
    if relative.is_absolute() or ".." in relative.parts or "\\" in entry.path:
        raise BundleError(f"{root / MANIFEST} names a file outside its folder: {entry.path!r}")
    if any(part.is_symlink() for part in [file, *file.parents][: len(relative.parts)]):
        raise BundleError(f"{file} is a link; a bundle holds plain files")
    try:
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
    checkout = Path(__file__).parent.parent / "exports" / "mnist"
    if checkout.is_dir():
        return checkout
    raise BundleError(
        f"no bundle under {exports}/ and none in the package; make one: vae-serve train, vae-serve export"
    )
