"""A bundle on disk: loaded and checked before anything in it is used. Its manifest is in `manifest`.

    NAME/manifest.json        names every other file with size and SHA-256, see `vae_serve.model.manifest`
         encoder.onnx         image (batch, H, W, C) float32 0..1 -> z_mean, z_log_var (batch, d)
         encoder.uint8.onnx   the same network for bytes 0..255
         decoder.onnx         z (batch, d) -> image (batch, H, W, C) float32 0..1
         saved_model/encoder/1/, saved_model/decoder/1/       the same names in serving_default
         conformance/         inputs and expected outputs
         README.md            a model card

Loading needs only the packages of the serving side. A bundle is untrusted until `load` has checked it: no file that
the manifest does not name, no link, no path that leads out of the folder, no file with another hash.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from vae_serve.errors import BundleError
from vae_serve.model import onnx
from vae_serve.model.files import Files, open_folder
from vae_serve.model.memory import CallMemory

if TYPE_CHECKING:
    from vae_serve.model.manifest import FileEntry, GraphSpec, Manifest
    from vae_serve.storage.object_url import Place

AnyPlace = TypeVar("AnyPlace", bound="Place | str")

# The records are imported where a manifest is read: `--help` does without what they are made of.

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes; a manifest is some ten kilobytes


class Bundle(msgspec.Struct, frozen=True):
    """A checked bundle. The graphs are the very bytes that were hashed, so nothing can change in between."""

    path: "Place"
    """A folder, or a place in an object store."""
    manifest: "Manifest"
    graphs: dict[str, bytes]
    """By file."""
    memory: dict[str, CallMemory]
    """What a call of each graph takes, by file."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of its files, as the manifest names them."""
        return tuple(entry.path for entry in self.manifest.files)

    def read(self, path: str) -> bytes:
        """Another file of the bundle, by its path in the manifest, checked while it is read.

        Raises:
            BundleError: the manifest does not name it, or it has changed since.
        """
        for entry in self.manifest.files:
            if entry.path == path:
                with _opened(self.path) as folder:
                    return folder.read_checked(path, entry.bytes, entry.sha256)
        raise BundleError(f"{self.path} has no {path}; export it again")


def load(path: "Place") -> Bundle:
    """Reads and checks a bundle, in a folder or in an object store: every file and every graph against the manifest.

    The graphs are kept in memory. The other files are read once, in chunks, to compare their hashes;
    `Bundle.read` reads one again.

    Raises:
        BundleError: names the file and the reason.
    """
    with _opened(path) as folder:
        manifest = _read_manifest(folder)
        named = {entry.path: entry for entry in manifest.files}
        for file in folder.files():
            if file not in named and file != MANIFEST:
                raise BundleError(f"{path / file} is not named in the manifest; take it away")
        graphs = {graph.file: graph for graph in manifest.graphs}
        contents: dict[str, bytes] = {}
        memory: dict[str, CallMemory] = {}
        for entry in manifest.files:
            if spec := graphs.get(entry.path):
                contents[entry.path], memory[entry.path] = _graph(folder, entry, spec, manifest)
            else:
                folder.check(entry.path, entry.bytes, entry.sha256)
    return Bundle(path, manifest, contents, memory)


def read_manifest(file: Path) -> "Manifest":
    """The manifest alone, its schema checked, no other file opened."""
    with _opened(file.parent) as folder:
        return _read_manifest(folder, file.name)


@contextmanager
def _opened(path: "Place") -> Iterator[Files]:
    if not isinstance(path, Path):
        from vae_serve.model.objects import open_objects

        with open_objects(path) as objects:
            yield objects
        return
    try:
        with open_folder(path) as folder:
            yield folder
    except FileNotFoundError:
        raise BundleError(f"{path} is not a bundle: there is no such folder") from None


def _read_manifest(folder: Files, name: str = MANIFEST) -> "Manifest":
    try:
        contents = folder.read(name, MANIFEST_LIMIT)
    except FileNotFoundError:
        raise BundleError(f"{folder.path} is not a bundle: it has no {name}") from None
    from vae_serve.model import manifest_file

    return manifest_file.parse(contents, str(folder.path / name))


def _graph(folder: Files, entry: "FileEntry", spec: "GraphSpec", manifest: "Manifest") -> tuple[bytes, CallMemory]:
    """The bytes of a graph that agrees with the manifest, and what a call takes."""
    contents = folder.read_checked(entry.path, entry.bytes, entry.sha256)
    where = folder.path / entry.path
    file = onnx.read(contents, str(where))
    _check_graph(file, spec, manifest, where)
    return contents, file.memory


def _check_graph(file: onnx.OnnxFile, spec: "GraphSpec", manifest: "Manifest", where: "Place") -> None:
    for side, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        stated = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
        actual = [(value.name, value.dtype, value.shape) for value in getattr(file, side)]
        if stated != actual:
            raise BundleError(f"{where} has the {side} {actual!r:.300} where the manifest says {stated}")
    if (file.opset, file.ir_version) != (manifest.opset, manifest.ir_version):
        raise BundleError(
            f"{where} has opset {file.opset} and IR version {file.ir_version} where the manifest says "
            f"{manifest.opset} and {manifest.ir_version}"
        )


def with_files(manifest: "Manifest", folder: Path) -> "Manifest":
    """The manifest with an entry for every file of the folder but itself, sorted by path."""
    from vae_serve.model.manifest import FileEntry

    entries = []
    with open_folder(folder) as opened:
        for path in sorted(opened.files()):
            if path != MANIFEST:
                size = (folder / path).stat().st_size
                entries.append(FileEntry(path, size, opened.sha256(path, size)))
    return msgspec.structs.replace(manifest, files=tuple(entries))


def find(model: AnyPlace | None, exports: Path = Path("exports")) -> AnyPlace | Path:
    """The bundle that a command serves: `model`, else the newest one under `exports`, else the one of the package."""
    if model is not None:
        return model
    # [!.]: a name that begins with a dot is an export that has not finished
    changed: dict[Path, int] = {}
    for file in exports.glob(f"[!.]*/{MANIFEST}"):
        with suppress(OSError):  # gone since, or a link to nowhere, which glob gives from Python 3.12 on
            changed[file.parent] = file.stat().st_mtime_ns
    if changed:
        return max(sorted(changed), key=lambda folder: changed[folder])
    return packaged_bundle()


def packaged_bundle() -> Path:
    """The bundle that comes with the package.

    Raises:
        BundleError: there is none.
    """
    packaged = Path(str(package_files("vae_serve"))) / "default_model"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[2] / "exports" / "mnist"
    if checkout.is_dir():
        return checkout
    raise BundleError("no bundle under exports/ and none in the package; make one: vae-serve train, vae-serve export")
