"""vae-serve takes a variational autoencoder from training to use. The Python API, by name; see `docs/python.md`.

    model = vae_serve.load("exports/mnist")
    z_mean, z_log_var = model.encode(images)
    vae_serve.embed("photos", model, out="vectors")

What `__all__` names is public, and stable under semantic versioning; everything else is private. Importing the package
imports nothing heavy: a name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_serve import errors

if TYPE_CHECKING:
    from vae_serve.api.embed import embed
    from vae_serve.api.export import export
    from vae_serve.api.generate import generate
    from vae_serve.api.models import load
    from vae_serve.api.reconstruct import reconstruct
    from vae_serve.api.summaries import (
        EmbedSummary,
        ExportCheck,
        ExportSummary,
        GenerateSummary,
        ReconstructSummary,
        Run,
    )
    from vae_serve.api.train import train
    from vae_serve.model.model import Model

__version__ = "0.1.0"

__all__ = [
    "EmbedSummary",
    "ExportCheck",
    "ExportSummary",
    "GenerateSummary",
    "Model",
    "ReconstructSummary",
    "Run",
    "__version__",
    "embed",
    "errors",
    "export",
    "generate",
    "load",
    "reconstruct",
    "train",
]

_MODULES = {  # of the names that are loaded when they are first used
    "EmbedSummary": "api.summaries",
    "ExportCheck": "api.summaries",
    "ExportSummary": "api.summaries",
    "GenerateSummary": "api.summaries",
    "Model": "model.model",
    "ReconstructSummary": "api.summaries",
    "Run": "api.summaries",
    "embed": "api.embed",
    "export": "api.export",
    "generate": "api.generate",
    "load": "api.models",
    "reconstruct": "api.reconstruct",
    "train": "api.train",
}


if not TYPE_CHECKING:  # a type checker knows the names from above, and that there are no others

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
