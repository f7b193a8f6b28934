"""A bundle held against what it says of itself, with the serving side's packages alone."""

from pathlib import Path

from vae_serve import bundle
from vae_serve.batch import runtime
from vae_serve.bundle import Bundle


def verify(path: Path) -> Bundle:
    """Loads a bundle through all its checks and opens its graphs in ONNX Runtime.

    Raises:
        BundleError: names the file and the reason.
    """
    loaded = bundle.load(path)
    if loaded.encoder:
        runtime.open_encoder(loaded)
    if loaded.decoder:
        runtime.open_decoder(loaded)
    return loaded
