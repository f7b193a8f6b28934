"""`Model`: a bundle's networks over arrays. The one place that knows pixel types, batches, threads and variants."""

import math
import operator
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from vae_serve.cores import cores
from vae_serve.errors import BundleError, InputError
from vae_serve.images.pixels import are_0_to_1, to_bytes, to_model
from vae_serve.model import samplers
from vae_serve.model.bundle import Bundle, load
from vae_serve.model.manifest import ROLES, Graph, Manifest, PixelType, Role
from vae_serve.model.sessions import GROUP, Convert, Done, Session, open_graph

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

MOST_THREADS = 256  # of one call, however many are asked for; there are rarely as many cores
BLOCK = 1 << 16  # rows that `sample` draws in one go

BATCH: dict[Role, int] = {"encoder": 128, "decoder": 64}  # rows a call; what a call needs then stays in a core's cache


class Model:
    """The encoder and the decoder of a bundle, over arrays of any number of rows; `vae_serve.load` makes one.

    Threads may share a model. It can be pickled (by the bundle's bytes) and used after a fork: each process opens its
    own sessions, when they are first needed. What goes in are NumPy arrays, or anything that `numpy.asarray` makes one
    of; no array that is given is changed. What comes out are new arrays in C order and this machine's byte order.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, batch: int | None = None) -> None:
        """`threads` that one call of `encode` or `decode` may use: all cores by default. Any number gives the same.

        `batch`: rows a call of a network, instead of what is fastest for small networks.

        Raises:
            InputError: one of them is not a whole number of 1 or more.
        """
        self._bundle = bundle
        self._given_threads = None if threads is None else _whole("threads", threads, 1)
        available = cores()
        self._threads = min(self._given_threads or available, max(MOST_THREADS, available))
        self._batch = None if batch is None else _whole("batch", batch, 1)
        self._sessions: dict[tuple[int, str], Session] = {}  # by process and file

    @classmethod
    def load(cls, path: "Place", *, threads: int | None = None, batch: int | None = None) -> "Model":
        """The model in a bundle's folder, checked.

        Raises:
            BundleError: names the file and the reason.
        """
        return cls(load(path), threads=threads, batch=batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._bundle, self._given_threads, self._batch)

    def __repr__(self) -> str:
        return f"<Model {self.manifest.name} of {self._bundle.path}>"

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest: where it comes from, its figures, its files. Read-only."""
        return self._bundle.manifest

    @property
    def bundle(self) -> Bundle:
        """The checked bundle behind it. For this package: what it is made of may change."""
        return self._bundle

    @property
    def latent_dim(self) -> int:
        """Dimensions of the latent space."""
        return self.manifest.latent_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.manifest.image_shape

    @property
    def variant(self) -> dict[Role, dict[PixelType, str]]:
        """Of each network, the variant that is run for images of each type; empty without ONNX files."""
        types: tuple[PixelType, ...] = ("uint8", "float32")
        return {
            role: {pixels: self._graph(role, pixels).variant for pixels in types}
            for role in ROLES
            if self.manifest.of_role(role)
        }

    def encode(self, images: npt.ArrayLike, *, check: bool = True) -> tuple[Floats, Floats]:
        """Images to z_mean and z_log_var, each (n, latent_dim) float32.

        `images`: (n, H, W, C), or (n, H, W) where C is 1; uint8 0..255, or floats 0..1. Bytes and the floats that they
        stand for (times float32(1/255)) give the same bits, and so does any number of rows at a time. `check=False`
        takes it on trust that floats are in 0..1. A damaged model can give NaN or infinity; that is told by the values
        alone.

        `z_mean` and `z_log_var` are the mean and the log of the variance of q(z|x), a normal distribution with a
        diagonal covariance (Kingma and Welling 2013, "Auto-encoding variational Bayes", equation 9): a sample is
        z_mean + exp(z_log_var / 2) * noise.

        Raises:
            InputError: another shape, type or range, masked values, or more than memory holds; says what to do.
            BundleError: the bundle has no ONNX files, or ONNX Runtime cannot run them.
        """
        rows = self._images(images)
        pixels: PixelType = "uint8" if rows.dtype == np.uint8 else "float32"
        graph = self._graph("encoder", pixels)
        session = self._session(graph)
        given = graph.inputs[0].dtype

        convert = None if given == pixels else to_model if pixels == "uint8" else to_bytes
        z_mean, z_log_var = (_room((len(rows), self.latent_dim), np.float32, "images") for _ in range(2))
        if check and rows.dtype != np.uint8:
            _require_range(rows)

        def keep(start: int, outputs: list[Array]) -> None:
            mean, log_var = outputs
            z_mean[start : start + len(mean)] = mean
            z_log_var[start : start + len(mean)] = log_var

        self._run("encoder", session, rows, keep, convert)
        return z_mean, z_log_var

    @overload
    def decode(self, z: npt.ArrayLike, dtype: Literal["float32"] = "float32", *, check: bool = True) -> Floats: ...

    @overload
    def decode(self, z: npt.ArrayLike, dtype: Literal["uint8"], *, check: bool = True) -> Bytes: ...

    @overload
    def decode(self, z: npt.ArrayLike, dtype: PixelType, *, check: bool = True) -> Floats | Bytes: ...

    def decode(self, z: npt.ArrayLike, dtype: PixelType = "float32", *, check: bool = True) -> Floats | Bytes:
        """Points of the latent space (n, latent_dim) to images (n, H, W, C): floats 0..1, or bytes 0..255, rounded.

        `z`: finite numbers of any size and type, taken as float32; the prior is the standard normal. `check=False`:
        where the decoder gives NaN or infinity, the floats alone tell.

        Raises:
            InputError: another shape or type, a point that is not finite, or more than memory holds; says what to do.
            BundleError: the bundle has no ONNX files, ONNX Runtime cannot run them, or the decoder gives NaN or
                infinity.
        """
        dtype = _pixel_type(dtype)
        points = _points(z, self.latent_dim, "z")
        session = self._session(self._graph("decoder", dtype))
        images = _room((len(points), *self.image_shape), np.dtype(dtype), "z")
        _require_finite_points(points, "z")

        def keep(start: int, outputs: list[Array]) -> None:
            image = outputs[0]
            room = images[start : start + len(image)]
            in_range = image.dtype == np.uint8 or are_0_to_1(image)
            if check and not in_range:
                _require_finite(image, points[start:])
            if image.dtype == images.dtype:
                room[:] = image
            elif dtype == "uint8":
                to_bytes(image, room, in_range=in_range)
            else:
                to_model(image, room)

        self._run("decoder", session, points, keep)
        return images

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Floats:
        """Samples `start` to `start + n` of the prior, the standard normal: (n, latent_dim) float32.

        Sample i depends on (seed, i, latent_dim) alone, see `vae_serve.model.samplers.sample_prior`: the first ten of a
        million are the ten of `sample(10)`.

        Raises:
            InputError: a negative number, a seed of more than 64 bits, or more samples than memory holds.
        """
        n, start = _whole("n", n, 0, 1 << 40), _whole("start", start, 0, 1 << 62)
        seed = _whole("seed", seed, 0, (1 << 64) - 1)
        z = _room((n, self.latent_dim), np.float32, "n samples")
        for first in range(0, n, BLOCK):
            last = min(first + BLOCK, n)
            z[first:last] = samplers.sample_prior(seed, start + first, start + last, self.latent_dim)
        return z

    def _graph(self, role: Role, pixels: PixelType) -> Graph:
        """What is run for images of a type: the graph of that type, or the other one and a conversion.

        Bytes out of the decoder are rounded from its floats here: one way to round, whatever a graph has inside.
        """
        graphs = {graph.variant: graph for graph in self.manifest.of_role(role)}
        preferred = (pixels, "float32", "uint8") if role == "encoder" else ("float32", "uint8")
        for variant in preferred:
            if variant in graphs:
                return graphs[variant]
        raise BundleError(f"{self._bundle.path} holds no ONNX files; export them: vae-serve export --format onnx")

    def _session(self, graph: Graph) -> Session:
        key = os.getpid(), graph.file
        if key not in self._sessions:
            opened = open_graph(self._bundle, graph)
            self._sessions.setdefault(key, opened)
        return self._sessions[key]

    def _run(self, role: Role, session: Session, rows: Array, keep: Done, convert: Convert | None = None) -> None:
        """The network over all rows, on as many threads as it may use. `keep(start, outputs)` is told of batches."""
        size = self._batch or BATCH[role]
        threads = min(self._threads, -(-len(rows) // size))
        if threads <= 1:
            session.each(rows, size, keep, convert)
            return
        from concurrent.futures import ThreadPoolExecutor  # here: `embed`, whose threads call, does without

        # Each thread takes several batches at a time: enough that handing them out costs little, few enough that all
        # threads end at about the same time
        several = size * max(1, min(GROUP, len(rows) // (size * threads * 4)))

        def run(first: int) -> None:
            session.each(
                rows[first : first + several], size, lambda start, outputs: keep(first + start, outputs), convert
            )

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(run, range(0, len(rows), several)):
                pass

    def _images(self, images: npt.ArrayLike) -> Array:
        """Images as (n, H, W, C), bytes or floats of this machine's byte order."""
        rows = as_array(images, "images")
        given, wanted = rows.shape, self.image_shape
        if rows.ndim == 3 and wanted[2] == 1:
            rows = rows[..., np.newaxis]
        if rows.shape[1:] != wanted or rows.ndim != 4:
            plain = f" or (n, {wanted[0]}, {wanted[1]})" if wanted[2] == 1 else ""
            raise InputError(
                f"images are of the shape {given}; give (n, {', '.join(map(str, wanted))}){plain}"
                + (": one image is images[np.newaxis]" if given in (wanted, wanted[:2]) else "")
            )
        if rows.dtype == np.uint8:
            return rows
        if rows.dtype.kind != "f":
            raise InputError(f"images are of the type {rows.dtype}; give uint8 0..255, or float32 0..1")
        return _as_float32(rows, "images")


def checked_points(values: npt.ArrayLike, latent_dim: int, name: str) -> Floats:
    """Points of a latent space, (n, latent_dim), of any type of numbers as float32; `name` stands for them in messages.

    Raises:
        InputError: another shape or type, or one that is not finite in float32.
    """
    points = _points(values, latent_dim, name)
    _require_finite_points(points, name)
    return points


def _points(values: npt.ArrayLike, latent_dim: int, name: str) -> Floats:
    points = as_array(values, name)
    if points.ndim != 2 or points.shape[1] != latent_dim:
        hint = f": one point is {name}[numpy.newaxis]" if points.shape == (latent_dim,) else ""
        raise InputError(f"{name} is of the shape {points.shape}; give (n, {latent_dim}){hint}")
    if points.dtype.kind not in "fiu":
        raise InputError(f"{name} is of the type {points.dtype}; give float32")
    return _as_float32(points, name)


def _require_finite_points(points: Floats, name: str) -> None:
    """Raises InputError where one of the points (n, d) is not finite."""
    if points.size and not (np.isfinite(points.min()) and np.isfinite(points.max())):  # either passes NaN on
        at = int(np.argmin(np.isfinite(points).all(axis=1)))
        raise InputError(f"{name}[{at}] is {points[at][:4].tolist()}, which is not finite in float32; leave it out")


def _require_range(images: Floats) -> None:
    """Raises InputError where one of the images (n, H, W, C) has floats that are not in 0..1."""
    if len(images) and not (images.min() >= 0 and images.max() <= 1):  # false for NaN, too
        flat = images.reshape(len(images), -1)
        at = int(np.argmax(~((flat.min(axis=1) >= 0) & (flat.max(axis=1) <= 1))))
        raise InputError(
            f"images[{at}] has values from {flat[at].min():g} to {flat[at].max():g}; floats are 0..1: "
            "give bytes as uint8, or images / 255"
        )


def as_array(values: Any, name: str) -> Array:
    """What NumPy makes an array of; `name` stands for it in messages.

    Raises:
        InputError: it is none, or values of a masked array are masked.
    """
    # `numpy.ma` is imported by its first use, which takes as long as decoding a plane: who has a masked array has it
    if "numpy.ma" in sys.modules and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array with values that are not there; leave them out, or fill them in")
    try:
        return np.asarray(values)
    except Exception as error:  # `__array__` is somebody else's code: PyTorch alone raises three kinds
        raise InputError(f"{name} cannot be made an array: {error}") from error


def _unpickled(bundle: Bundle, threads: int | None, batch: int | None) -> Model:
    return Model(bundle, threads=threads, batch=batch)


def _as_float32(values: Array, name: str) -> Floats:
    """Numbers that are beyond float32 become infinite."""
    try:
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    except MemoryError:
        raise _too_much(values.shape, np.dtype(np.float32), name) from None


def _room(shape: tuple[int, ...], dtype: npt.DTypeLike, what: str) -> Array:
    """Where the results for an array go."""
    kind = np.dtype(dtype)
    try:
        if math.prod(shape) * kind.itemsize > _physical_memory():
            raise MemoryError
        return np.empty(shape, kind)
    except (MemoryError, ValueError):  # ValueError: beyond what an address can say
        raise _too_much(shape, kind, what) from None


def _too_much(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> InputError:
    return InputError(
        f"{what}: an array {shape} of {dtype} takes {math.prod(shape) * dtype.itemsize:,} bytes, which is more than "
        "memory holds; go through it in parts"
    )


def _physical_memory() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number, NumPy's included."""
    wanted = f"give a whole number of {least}..{most}" if most is not None else f"give a whole number, {least} or more"
    try:
        if isinstance(value, bool | np.ndarray):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # what is none raises
    except TypeError:
        raise InputError(f"{name} is {value!r:.100}; {wanted}") from None
    if number < least or (most is not None and number > most):
        raise InputError(f"{name} is {number}; {wanted}")
    return number


def _pixel_type(dtype: object) -> PixelType:
    try:
        name = np.dtype(dtype).name if dtype is not None else None  # type: ignore[call-overload]  # what is none raises
    except (TypeError, ValueError, SyntaxError, RecursionError):
        name = None
    match name:
        case "float32":
            return "float32"
        case "uint8":
            return "uint8"
    raise InputError(f"dtype is {dtype!r:.100}; images are 'float32' 0..1 or 'uint8' 0..255")


def _require_finite(images: Floats, z: Floats) -> None:
    """Raises BundleError where the decoder has made NaN or infinity (n, H, W, C) of the first of the points `z`."""
    finite = np.isfinite(images)
    if finite.all():
        return
    at = int(np.argmin(finite.reshape(len(images), -1).all(axis=1)))
    point = ", ".join(f"{value:g}" for value in z[at, :4].tolist()) + (", ..." if z.shape[1] > 4 else "")
    raise BundleError(f"the decoder gives NaN or infinity for z = ({point}): the model is damaged, or z too far out")
