"""What a job is: its plan, cut into shards.

A shard is a range of rows, made as one and written as one file, `part-00000...`, which is what Spark and Dask call it.
A share is what one of several machines makes of a job (`--shard I/N`): neighbouring shards.
"""

import json
from typing import Any

import msgspec

STATE = ".job"  # the folder, in a job's own, of all that is not the result

ROWS_PER_SHARD = 32_768  # what a kill can cost; large enough that a million rows are 31 files

Json = dict[str, Any]


class Shard(msgspec.Struct, frozen=True):
    """Rows `start` to `stop` of a job."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Plan(msgspec.Struct, frozen=True):
    """What a job is. Equal plans give equal bytes; nothing that leaves the bytes alone (workers, batch) is in it."""

    job: Json
    """Command, model, source and every option that changes a byte; JSON values only."""
    rows: int
    suffix: str = ".parquet"
    """Of a shard's file; "" where shards are written in place, into one larger whole."""
    results: tuple[str, ...] = ()
    """Files that the shards become in the end; () where the shards are the result, or are written in place."""
    rows_per_shard: int = ROWS_PER_SHARD
    share: tuple[int, int] = (1, 1)
    """This machine's I of N, counted from 1."""

    @property
    def shards(self) -> list[Shard]:
        """This share's shards: neighbours, so that the shares one after another are the whole."""
        which, shares = self.share
        count = -(-self.rows // self.rows_per_shard)
        return [
            Shard(number, number * self.rows_per_shard, min((number + 1) * self.rows_per_shard, self.rows))
            for number in range(count * (which - 1) // shares, count * which // shares)
        ]

    def part(self, shard: Shard) -> str:
        """The name of a shard's file in the job's folder."""
        home = f"{STATE}/" if self.results else ""
        return f"{home}part-{shard.number:05d}{self.suffix}"

    def to_json(self) -> Json:
        """As plan.json holds it, and as it comes back from there."""
        plan: Json = json.loads(json.dumps(msgspec.structs.asdict(self)))
        return plan


def differences(earlier: Json, now: Json, name: str = "") -> list[str]:
    """A phrase for each value that is not the same, innermost names first to last: `pixels.fit was pad, is crop`."""
    phrases = []
    for key in [*earlier, *(key for key in now if key not in earlier)]:
        before, after = earlier.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            phrases += differences(before, after, f"{name}{key}.")
        elif before != after:
            phrases.append(f"{(name + key).removeprefix('job.')} was {before!r} and is now {after!r}")
    return phrases
