"""`Model`: a bundle's networks over arrays. The one place that knows pixel types, batches, threads and variants."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.cores import cores
from vae_serve.errors import BundleError, InputError
from vae_serve.images.pixels import to_bytes, to_model
from vae_serve.model import samplers
from vae_serve.model.bundle import Bundle, load
from vae_serve.model.manifest import ROLES, Graph, Manifest, PixelType, Role
from vae_serve.model.sessions import Session, open_graph

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

BATCH: dict[Role, int] = {"encoder": 128, "decoder": 64}  # rows a call; what a call needs then stays in a core's cache


class Model:
    """The encoder and the decoder of a bundle, over arrays of any number of rows.

    Threads may share a model. It can be pickled (by the bundle's bytes) and used after a fork: each process opens its
    own sessions, when they are first needed.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, batch: int | None = None) -> None:
        """`threads` that one call of `encode` or `decode` may use: all cores by default. Any number gives the same.

        `batch`: rows a call of a network, instead of what is fastest for small networks.
        """
        for name, value in (("threads", threads), ("batch", batch)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is {value!r}; give 1 or more")
        self._bundle, self._threads, self._batch = bundle, threads, batch
        self._sessions: dict[tuple[int, str], Session] = {}  # by process and file

    @classmethod
    def load(cls, path: Path, *, threads: int | None = None, batch: int | None = None) -> "Model":
        """The model in a bundle's folder, checked.

        Raises:
            BundleError: names the file and the reason.
        """
        return cls(load(path), threads=threads, batch=batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._bundle, self._threads, self._batch)

    def __repr__(self) -> str:
        return f"<Model {self.manifest.name} of {self._bundle.path}>"

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._bundle.manifest

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
        stand for (times float32(1/255)) give the same bits. `check=False` takes it on trust that floats are in 0..1.
        A damaged model can give NaN or infinity; that is told by the values alone.

        Raises:
            InputError: another shape, type or range; says what to do.
            BundleError: the bundle has no ONNX files.
        """
        rows = self._images(images, check)
        pixels: PixelType = "uint8" if rows.dtype == np.uint8 else "float32"
        graph = self._graph("encoder", pixels)
        session = self._session(graph)
        given = graph.inputs[0].dtype

        def run(batch: Array) -> list[Array]:
            if given != pixels:
                batch = to_model(batch) if pixels == "uint8" else to_bytes(batch)
            return session(batch)

        z_mean, z_log_var = (np.empty((len(rows), self.latent_dim), np.float32) for _ in range(2))
        for start, outputs in self._batches("encoder", rows, run):
            for whole, part in zip((z_mean, z_log_var), outputs, strict=True):
                whole[start : start + len(part)] = part
        return z_mean, z_log_var

    def decode(self, z: npt.ArrayLike, dtype: PixelType = "float32", *, check: bool = True) -> Array:
        """Points of the latent space (n, latent_dim) to images (n, H, W, C): floats 0..1, or bytes 0..255, rounded.

        `check=False`: where the decoder gives NaN or infinity, the floats alone tell.

        Raises:
            InputError: another shape or type, or a point that is not finite; says what to do.
            BundleError: the bundle has no ONNX files, or the decoder gives NaN or infinity.
        """
        if dtype not in ("float32", "uint8"):
            raise InputError(f"dtype is {dtype!r}; images are 'float32' 0..1 or 'uint8' 0..255")
        points = self._points(z)
        session = self._session(self._graph("decoder", dtype))
        images = np.empty((len(points), *self.image_shape), dtype)

        def run(batch: Floats) -> list[Array]:
            return session(batch)

        for start, (image,) in self._batches("decoder", points, run):
            room = images[start : start + len(image)]
            if check and image.dtype != np.uint8:
                _require_finite(image, points[start:])
            if image.dtype == images.dtype:
                room[:] = image
            elif dtype == "uint8":
                to_bytes(image, room)
            else:
                to_model(image, room)
        return images

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Floats:
        """Samples `start` to `start + n` of the prior, the standard normal: (n, latent_dim).

        Sample i depends on (seed, i) alone, see `vae_serve.model.samplers.draws`.

        Raises:
            InputError: a negative number, or a seed of more than 64 bits.
        """
        for name, value, most in (("n", n, 1 << 40), ("seed", seed, (1 << 64) - 1), ("start", start, 1 << 62)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= most:
                raise InputError(f"{name} is {value!r}; give a whole number of 0..{most}")
        return samplers.draws(int(seed), int(start), int(start) + int(n), self.latent_dim)

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

    def _batches(
        self, role: Role, rows: Array, run: Callable[[Array], list[Array]]
    ) -> Iterator[tuple[int, list[Array]]]:
        """Where each batch starts, and the network's outputs for it, in order; on as many threads as may be used."""
        size = self._batch or BATCH[role]
        starts = range(0, len(rows), size)
        threads = min(self._threads or cores(), len(starts))
        if threads <= 1:
            for start in starts:
                yield start, run(rows[start : start + size])
            return
        with ThreadPoolExecutor(threads) as pool:
            left = iter(starts)
            waiting = [(start, pool.submit(run, rows[start : start + size])) for start in islice(left, 2 * threads)]
            while waiting:
                start, outputs = waiting.pop(0)
                yield start, outputs.result()
                waiting += [(start, pool.submit(run, rows[start : start + size])) for start in islice(left, 1)]

    def _images(self, images: npt.ArrayLike, check: bool) -> Array:
        """Images as (n, H, W, C), bytes or floats of this machine's byte order."""
        rows = _array(images, "images")
        wanted = self.image_shape
        if rows.ndim == 3 and wanted[2] == 1:
            rows = rows[..., np.newaxis]
        if rows.shape[1:] != wanted or rows.ndim != 4:
            plain = f" or (n, {wanted[0]}, {wanted[1]})" if wanted[2] == 1 else ""
            raise InputError(
                f"images are of the shape {np.shape(images)}; give (n, {', '.join(map(str, wanted))}){plain}"
                + (": one image is images[np.newaxis]" if np.shape(images) in (wanted, wanted[:2]) else "")
            )
        if rows.dtype == np.uint8:
            return rows
        if rows.dtype.kind != "f":
            raise InputError(f"images are of the type {rows.dtype}; give uint8 0..255, or float32 0..1")
        with np.errstate(over="ignore"):
            rows = rows.astype(np.float32, copy=False)
        if check and len(rows) and not (rows.min() >= 0 and rows.max() <= 1):  # false for NaN, too
            flat = rows.reshape(len(rows), -1)
            at = int(np.argmax(~((flat.min(axis=1) >= 0) & (flat.max(axis=1) <= 1))))
            raise InputError(
                f"images[{at}] has values from {flat[at].min():g} to {flat[at].max():g}; floats are 0..1: "
                "give bytes as uint8, or images / 255"
            )
        return rows

    def _points(self, z: npt.ArrayLike) -> Floats:
        points = _array(z, "z")
        if points.ndim != 2 or points.shape[1] != self.latent_dim:
            raise InputError(f"z is of the shape {points.shape}; give (n, {self.latent_dim})")
        if points.dtype.kind not in "fiu":
            raise InputError(f"z is of the type {points.dtype}; give float32")
        with np.errstate(over="ignore"):
            floats = points.astype(np.float32, copy=False)
        if not np.isfinite(floats).all():
            at = int(np.argmin(np.isfinite(floats).all(axis=1)))
            raise InputError(f"z[{at}] is {points[at][:4].tolist()}, which is not finite in float32; leave it out")
        return floats


def _unpickled(bundle: Bundle, threads: int | None, batch: int | None) -> Model:
    return Model(bundle, threads=threads, batch=batch)


def _array(values: npt.ArrayLike, name: str) -> Array:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} cannot be made an array: {error}") from error


def _require_finite(images: Floats, z: Floats) -> None:
    """Raises BundleError where the decoder has made NaN or infinity (n, H, W, C) of the first of the points `z`."""
    if np.isfinite(images.max()) and np.isfinite(images.min()):  # either passes NaN on
        return
    at = int(np.argmin(np.isfinite(images).reshape(len(images), -1).all(axis=1)))
    point = ", ".join(f"{value:g}" for value in z[at, :4].tolist()) + (", ..." if z.shape[1] > 4 else "")
    raise BundleError(f"the decoder gives NaN or infinity for z = ({point}): the model is damaged, or z too far out")
