from collections.abc import Callable
from typing import TypeVar

_C = TypeVar("_C", bound=type)

def register_keras_serializable(package: str = "Custom") -> Callable[[_C], _C]: ...
