from collections.abc import Callable, Mapping
from typing import Any

from tensorflow import Module, Tensor

class _Loaded:
    @property
    def signatures(self) -> Mapping[str, Callable[..., dict[str, Tensor]]]: ...

def load(export_dir: str) -> _Loaded: ...
def save(
    obj: Module, export_dir: str, signatures: Callable[..., Any] | Mapping[str, Callable[..., Any]] | None = None
) -> None: ...
