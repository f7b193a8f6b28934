"""What becomes of a shard that another process was to make."""

import pickle

import msgspec

from vae_serve.errors import EngineError, VaeServeError
from vae_serve.jobs.plan import Json, Shard
from vae_serve.jobs.task import ShardResult

DEATHS = 3  # of the processes that make one shard: then something is wrong with it


class Made(msgspec.Struct, frozen=True):
    """A shard."""

    contents: dict[str, bytes]
    record: Json


class Refused(msgspec.Struct, frozen=True):
    """A shard that cannot be made, by anybody."""

    error: VaeServeError


class Broken(msgspec.Struct, frozen=True):
    """A shard at which something that was not foreseen has happened."""

    traceback: str


class Ended(msgspec.Struct, frozen=True):
    """A shard at which the process has ended."""

    how: str


Outcome = Made | Refused | Broken | Ended


def packed(outcome: Outcome) -> bytes:
    """As it is sent."""
    return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)


def unpacked(answer: bytes) -> Outcome:
    """As it was sent, by a process of ours."""
    outcome: Outcome = pickle.loads(answer)  # noqa: S301
    return outcome


def result_of(outcome: Outcome, shard: Shard) -> ShardResult:
    """The shard, or what it raises."""
    match outcome:
        case Made(contents, record):
            return ShardResult.of(contents, record)
        case Refused(error):
            raise error
        case Broken(traceback):
            raise RuntimeError(f"shard {shard.number} could not be made in another process:\n{traceback}")
        case Ended(how):
            raise EngineError(
                f"{DEATHS} processes have ended ({how}) while they made shard {shard.number}, rows {shard.start:,} to "
                f"{shard.stop - 1:,}; they may lack memory: try a smaller --rows-per-shard or fewer --workers. The "
                "finished shards stay: run the same command again"
            )
