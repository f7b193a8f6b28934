"""What a plan and its records say of the source, and whether pictures have changed since."""

import hashlib
import time

import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, SourceError
from vae_serve.jobs.folder import Job
from vae_serve.jobs.opened import Opened
from vae_serve.jobs.plan import Json, Shard
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import GONE, Pictures
from vae_serve.sources.names import shown


def opened_source(source: Pictures | Arrays) -> Opened[Pictures | Arrays]:
    """For a spec."""
    return Opened(source, lambda: source.select(range(source.names.count)))


def source_json(source: Pictures | Arrays) -> Json:
    """The source in a plan."""
    return {"kind": source.kind, "pictures": source.names.count, "fingerprint": source.fingerprint()}


def lengths_sha256(lengths: npt.NDArray[np.int64]) -> str:
    """Of the sizes (n,) in bytes of a shard's files."""
    return hashlib.sha256(np.ascontiguousarray(lengths).tobytes()).hexdigest()


def refuse_changed(job: Job, source: Pictures | Arrays) -> None:
    """A resumed job must not mix pictures of two days. Its records hold `begun_ns` and `lengths_sha256`.

    Raises:
        OutputError: pictures of finished shards have changed.
    """
    now = time.time_ns()
    for shard in job.plan.shards:
        record = job.records.get(shard.number)
        rows = range(shard.start, shard.stop)
        stamps = None if record is None or isinstance(source, Arrays) else source.stamps(rows)
        if record is None or stamps is None:
            continue
        lengths, changed_ns = np.array([*stamps], np.int64).T
        changed_since = np.logical_and(changed_ns > record["begun_ns"], changed_ns <= now)
        if changed_since.any() or lengths_sha256(lengths) != record["lengths_sha256"]:
            first, last = source.names[rows[:1]][0], source.names[rows[-1:]][0]
            raise OutputError(
                f"between {shown(first)} and {shown(last)} pictures have changed since {job.folder} was written; "
                "choose another --out, or --overwrite"
            )


def refuse_unseen(source: Pictures | Arrays, shard: Shard, record: Json) -> None:
    """A shard of which every picture was gone where it was made, and is not gone here, is none.

    Raises:
        SourceError: it is one.
    """
    if record["failed"] < len(shard) or isinstance(source, Arrays):
        return
    if record["lengths_sha256"] != lengths_sha256(np.full(len(shard), GONE[0], np.int64)):
        return
    rows = range(shard.start, shard.stop)
    stamps = source.stamps(rows)
    if stamps is not None and any(stamp != GONE for stamp in stamps):
        first = source.names[rows[:1]][0]
        raise SourceError(
            f"{source.where} is here and not where shard {shard.number} was made, from {shown(first)} on; every node "
            "must have it under this path. The finished shards stay: run the same command again"
        )
