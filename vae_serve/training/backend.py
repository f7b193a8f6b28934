"""Imports TensorFlow: without its messages, or with one sentence if it is not installed."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from vae_serve.errors import MissingExtra


def start(command: str) -> None:
    """Imports TensorFlow and Keras for `command`; further calls cost nothing.

    TensorFlow 2.21 writes some lines to stderr while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says. They are held
    back, and shown only where the import fails. What it has to say later goes by that level; one that is set stays.

    Raises:
        MissingExtra: the extra `train` is not installed.
    """
    if sys.modules.get("tensorflow") and sys.modules.get("keras"):
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _stderr_held_back():
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name in ("tensorflow", "keras"):
            raise MissingExtra("train", command) from None
        raise


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    # C++ writes to the file descriptor, below sys.stderr
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
