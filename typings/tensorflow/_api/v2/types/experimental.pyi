from collections.abc import Sequence
from typing import Generic, ParamSpec, TypeVar

from tensorflow import TensorSpec

_P = ParamSpec("_P")
_R = TypeVar("_R")

class PolymorphicFunction(Generic[_P, _R]):  # generic here alone: quote its parameters
    input_signature: Sequence[TensorSpec] | None
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
