"""From what a caller says of a model to the checked bundle behind it."""

import os
from typing import TYPE_CHECKING

from vae_serve.api import arguments
from vae_serve.api.arguments import StrPath
from vae_serve.errors import UsageError

if TYPE_CHECKING:
    from vae_serve.model.bundle import Bundle
    from vae_serve.model.model import Model


def load(source: StrPath | None = None, *, threads: int | None = None, batch: int | None = None) -> "Model":
    """The model of a bundle, every file checked; without one, the model that comes with the package.

    `source`: the bundle's folder, or its URL in an object store (s3://, gs:// or az://, with the extra `remote`).
    `threads`: that one call of `encode` or `decode` may use, all cores by default; any number gives the same bits.
    `batch`: rows a call of a network, instead of what is fastest for small networks.

    Raises:
        BundleError: it is not a bundle, or damaged, or not what its manifest says; names the file and the reason.
        UsageError, InputError: an argument is none.
    """
    bundle = checked_bundle(source)
    from vae_serve.model.model import Model

    return Model(bundle, threads=threads, batch=batch)


def place_of(model: "Model | StrPath | None") -> object:
    """Where a model is, or was read from."""
    return getattr(getattr(model, "bundle", None), "path", model)


def fetched(model: "Model | StrPath | None") -> "Model | StrPath | None":
    """A model by its URL, read; any other as it is."""
    from vae_serve.jobs.engines import default_for

    return load(model) if isinstance(model, str) and default_for(model) != "inline" else model


def checked_bundle(model: "Model | StrPath | None") -> "Bundle":
    """The bundle of a model, or of the folder at a path, or of the package."""
    from vae_serve.model import bundle as bundles

    if model is None:
        return bundles.load(bundles.packaged_bundle())
    if isinstance(model, str | os.PathLike):
        return bundles.load(arguments.place("model", model))
    from vae_serve.model.model import Model

    if isinstance(model, Model):
        return model.bundle
    raise UsageError(f"the model is {model!r:.100}; give a vae_serve.Model, the path of a bundle, or None")
