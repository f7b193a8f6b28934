"""What an engine has done so far, for the progress of a job whose shards are made elsewhere."""

from vae_serve.jobs.plan import Json, Shard
from vae_serve.jobs.task import Progress


class Tally:
    """Rows by finished shards."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._failed = 0

    def add(self, shard: Shard, record: Json) -> None:
        """One shard more."""
        self._done += len(shard)
        self._failed += record.get("failed", 0)
        self.tick()

    def tick(self, **figures: float | str) -> None:
        """A report, with figures worth seeing."""
        self._progress(self._done, self._failed, **figures)
