"""What a spec holds of things that are opened: here they are open already, elsewhere they are opened by description."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vae_serve.sources.described import Described

T = TypeVar("T")


class Opened(Generic[T]):
    """What this process has open. A copy that is pickled is the description.

    With a `key` the value itself can be sent to other machines, once for all shards: it can be pickled, and an equal
    value has an equal key.
    """

    def __init__(self, value: T, describe: Callable[[], Described[T]], key: str = "") -> None:
        self._value, self._describe, self.key = value, describe, key

    def open(self) -> T:
        """What is open."""
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return _described, (self._describe(),)


def _described(description: Described[T]) -> Described[T]:
    return description
