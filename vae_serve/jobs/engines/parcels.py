"""What is sent to a process that makes shards: a request for each, and once what all of them share."""

import io
import pickle
from typing import Any

from vae_serve.jobs.opened import Opened
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Spec


def request_for(spec: Spec[Any, Any], shard: Shard) -> bytes:
    """All that a process of this machine needs for one shard."""
    return pickle.dumps((spec.for_shard(shard), shard), pickle.HIGHEST_PROTOCOL)


class Packer:
    """Makes requests for other machines, in which what all shards share stands by its key."""

    def __init__(self) -> None:
        self.shared: dict[str, bytes] = {}
        """Pickled, by key."""

    def request_for(self, spec: Spec[Any, Any], shard: Shard) -> bytes:
        """All that is needed for one shard beside what is `shared`."""
        file = io.BytesIO()
        _Pickler(file, self.shared).dump((spec.for_shard(shard), shard))
        return file.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shared: dict[str, bytes]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._shared = shared

    def persistent_id(self, value: object) -> str | None:
        if not isinstance(value, Opened) or not value.key:
            return None
        if value.key not in self._shared:
            self._shared[value.key] = pickle.dumps(value.open(), pickle.HIGHEST_PROTOCOL)
        return value.key


def unpacked(request: bytes, shared: dict[str, Any]) -> tuple[Spec[Any, Any], Shard]:
    """The spec and the shard of a request."""
    spec, shard = _Unpickler(io.BytesIO(request), shared).load()
    return spec, shard


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: dict[str, Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, key: str) -> Opened[Any]:
        value = self._shared[key]

        def is_here() -> Any:
            raise TypeError(f"{key} stays in this process")

        return Opened(value, is_here, key)
