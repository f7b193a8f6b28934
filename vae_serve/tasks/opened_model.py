"""The model of a spec's bundle, opened once in a process that makes one shard after another."""

from typing import TYPE_CHECKING

from vae_serve.jobs import decode_server
from vae_serve.model.bundle import Bundle

if TYPE_CHECKING:
    from vae_serve.model.model import Model

_kept: "list[tuple[Bundle, int | None, Model]]" = []  # the last one


def opened_model(bundle: Bundle, batch: int | None = None) -> "Model":
    """For threads that call it at the same time, each call on one core.

    Sessions take as long to open as some thousand rows to encode. A process that has a server of decoders makes shard
    after shard, mostly with one bundle; any other makes all with one work, and must not hold a bundle for ever.
    """
    from vae_serve.model.model import Model

    if decode_server.running() is None:
        return Model(bundle, threads=1, batch=batch)
    for kept, rows, model in _kept:
        if kept is bundle and rows == batch:
            return model
    _kept[:] = [(bundle, batch, Model(bundle, threads=1, batch=batch))]
    return _kept[0][2]
