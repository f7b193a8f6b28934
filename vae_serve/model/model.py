"""`Model`: a bundle's networks over arrays. The one place that knows pixel types, batches, threads and variants."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from vae_serve.cores import cores
from vae_serve.errors import BundleError
from vae_serve.images.pixels import are_0_to_1, to_bytes, to_model
from vae_serve.model import samplers
from vae_serve.model.arguments import (
    checked_images,
    latent_points,
    pixel_type,
    require_finite_points,
    require_range,
    room_for,
    whole,
)
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
        self._given_threads = None if threads is None else whole("threads", threads, 1)
        available = cores()
        self._threads = min(self._given_threads or available, max(MOST_THREADS, available))
        self._batch = None if batch is None else whole("batch", batch, 1)
        self._graphs: dict[tuple[Role, PixelType], Graph] = {}  # that have been chosen
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
        rows = checked_images(images, self.image_shape)
        pixels: PixelType = "uint8" if rows.dtype == np.uint8 else "float32"
        graph = self._graph("encoder", pixels)
        session = self._session(graph)
        convert = _conversion(graph, pixels)
        shape = len(rows), self._bundle.manifest.latent_dim
        z_mean, z_log_var = room_for(shape, np.float32, "images"), room_for(shape, np.float32, "images")
        if check and rows.dtype != np.uint8:
            require_range(rows)

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
        dtype = pixel_type(dtype)
        points = latent_points(z, self.latent_dim, "z")
        session = self._session(self._graph("decoder", dtype))
        images = room_for((len(points), *self.image_shape), np.dtype(dtype), "z")
        require_finite_points(points, "z")

        def keep(start: int, outputs: list[Array]) -> None:
            nonlocal images
            image = outputs[0]
            wanted = image.dtype == images.dtype
            in_range = (wanted and not check) or image.dtype == np.uint8 or are_0_to_1(image)
            if check and not in_range:
                _require_finite(image, points[start:])
            if not wanted:
                room = images[start : start + len(image)]
                if dtype == "uint8":
                    to_bytes(image, room, in_range=in_range)
                else:
                    to_model(image, room)
            elif len(image) == len(images):  # all of them: new arrays in C order already
                images = image
            else:
                images[start : start + len(image)] = image

        self._run("decoder", session, points, keep)
        return images

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Floats:
        """Samples `start` to `start + n` of the prior, the standard normal: (n, latent_dim) float32.

        Sample i depends on (seed, i, latent_dim) alone, see `vae_serve.model.samplers.sample_prior`: the first ten of a
        million are the ten of `sample(10)`.

        Raises:
            InputError: a negative number, a seed of more than 64 bits, or more samples than memory holds.
        """
        n, start = whole("n", n, 0, 1 << 40), whole("start", start, 0, 1 << 62)
        seed = whole("seed", seed, 0, (1 << 64) - 1)
        z = room_for((n, self.latent_dim), np.float32, "n samples")
        for first in range(0, n, BLOCK):
            last = min(first + BLOCK, n)
            z[first:last] = samplers.sample_prior(seed, start + first, start + last, self.latent_dim)
        return z

    def _graph(self, role: Role, pixels: PixelType) -> Graph:
        """What is run for images of a type: the graph of that type, or the other one and a conversion.

        Bytes out of the decoder are rounded from its floats here: one way to round, whatever a graph has inside.
        """
        chosen = self._graphs.get((role, pixels))
        if chosen is None:
            graphs = {graph.variant: graph for graph in self.manifest.of_role(role)}
            preferred = (pixels, "float32", "uint8") if role == "encoder" else ("float32", "uint8")
            chosen = next((graphs[variant] for variant in preferred if variant in graphs), None)
            if chosen is None:
                raise BundleError(
                    f"{self._bundle.path} holds no ONNX files; export them: vae-serve export --format onnx"
                )
            self._graphs[role, pixels] = chosen
        return chosen

    def _session(self, graph: Graph) -> Session:
        key = os.getpid(), graph.file
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions.setdefault(key, open_graph(self._bundle, graph))
        return session

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


def batch_function(model: Model, role: Role, pixels: PixelType) -> Callable[[Array], tuple[Array, ...]]:
    """A network as a function of one batch: what `encode` and `decode` of a model do without their checks.

    It takes what the network takes, float32 or, the encoder, images of `pixels`, and gives what it gives: the decoder's
    floats or bytes as its graph has them. Rows that are out of range are not noticed, nor is NaN.

    Raises:
        BundleError: the bundle has no ONNX files, or ONNX Runtime cannot run them.
    """
    graph = model._graph(role, pixels)
    session = model._session(graph)
    convert = _conversion(graph, pixels) if role == "encoder" else None
    if convert is None:
        return lambda rows: tuple(session(rows))
    return lambda rows: tuple(session(convert(rows)))


def _conversion(encoder: Graph, pixels: PixelType) -> Convert | None:
    """From images of a type to what an encoder takes; None where that is the same."""
    if encoder.inputs[0].dtype == pixels:
        return None
    return to_model if pixels == "uint8" else to_bytes


def _unpickled(bundle: Bundle, threads: int | None, batch: int | None) -> Model:
    return Model(bundle, threads=threads, batch=batch)


def _require_finite(images: Floats, z: Floats) -> None:
    """Raises BundleError where the decoder has made NaN or infinity (n, H, W, C) of the first of the points `z`."""
    finite = np.isfinite(images)
    if finite.all():
        return
    at = int(np.argmin(finite.reshape(len(images), -1).all(axis=1)))
    point = ", ".join(f"{value:g}" for value in z[at, :4].tolist()) + (", ..." if z.shape[1] > 4 else "")
    raise BundleError(f"the decoder gives NaN or infinity for z = ({point}): the model is damaged, or z too far out")
