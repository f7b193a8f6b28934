from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar, TypeVarTuple

from tensorflow import Tensor

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Arguments = TypeVarTuple("_Arguments")

class _PerReplica(Generic[_T_co]): ...

class ReplicaContext:
    @property
    def replica_id_in_sync_group(self) -> int | Tensor: ...

class Strategy:
    @property
    def num_replicas_in_sync(self) -> int: ...
    def experimental_local_results(self, value: _PerReplica[_T]) -> tuple[_T, ...]: ...
    def run(self, fn: Callable[[*_Arguments], _T], args: tuple[*_Arguments]) -> _PerReplica[_T]: ...
    def scope(self) -> AbstractContextManager[Any]: ...

class MirroredStrategy(Strategy):
    def __init__(self, devices: Sequence[str] | None = None) -> None: ...

def get_replica_context() -> ReplicaContext | Any: ...  # None outside of `Strategy.run`
def get_strategy() -> Strategy: ...
