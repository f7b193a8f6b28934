from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras import Layer, Model

def clone_model(model: Model, *, clone_function: Callable[[Layer], Layer] | None = None) -> Model: ...
def load_model(
    filepath: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Model: ...
