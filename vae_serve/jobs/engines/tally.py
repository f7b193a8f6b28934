"""What an engine has done so far, for the progress of a job whose shards are made elsewhere."""

from collections import Counter

from vae_serve.jobs.plan import Json, Shard
from vae_serve.jobs.task import Progress


class Tally:
    """Rows by finished shards."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._failed = 0
        self._kinds: Counter[str] = Counter()  # of what has failed

    def add(self, shard: Shard, record: Json) -> None:
        """One shard more."""
        self._done += len(shard)
        self._failed += record.get("failed", 0)
        self._kinds.update(record.get("errors", {}))
        self.tick()

    def tick(self, **figures: float | str) -> None:
        """A report, with how many rows have failed for each reason, and other figures worth seeing."""
        self._progress(self._done, self._failed, **self._kinds, **figures)
