"""A job whose result appears under its name when it is whole: until then it is made in NAME.partial."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vae_serve.errors import OutputError
from vae_serve.jobs.folder import Fields, Job, open_job
from vae_serve.jobs.plan import STATE, Plan
from vae_serve.storage.publish import Destination, IsEarlier, settled


def partial_folder(out: Path) -> Path:
    """Where the result of that name is made."""
    out = settled(out)
    return out.with_name(f"{out.name}.partial") if out.name else out


class StagedJob:
    """A destination and the plan of what goes there."""

    def __init__(
        self, out: Path, kind: str, is_earlier: IsEarlier, plan: Plan, record: Fields, overwrite: bool
    ) -> None:
        """As `Destination`. Raises OutputError where `out` exists and may not be replaced."""
        self.out, self.partial = out, partial_folder(out)
        self._plan, self._record, self._overwrite = plan, record, overwrite
        try:
            self._destination = Destination(out, kind, is_earlier, overwrite)
        except OutputError:
            self._sweep()
            raise

    @contextmanager
    def open(self) -> Iterator[Job]:
        """The job, locked. What is done stays for the next run where something goes wrong.

        Raises:
            OutputError: as `open_job`, or it cannot be written.
        """
        with open_job(self.partial, self._plan, self._record, self._overwrite) as job:
            try:
                self._destination.refuse_existing()  # another run may have ended since
            except OutputError:
                if not job.records:
                    job.remove()
                raise
            try:
                yield job
            except OSError as error:
                raise OutputError(
                    f"{self.out} cannot be written: {error.strerror or error}; what is done stays in {self.partial}: "
                    "run the same command again"
                ) from error

    def publish(self, job: Job, name: str) -> None:
        """Gives what is finished under this name in the job's state its own name, and removes the rest."""
        self._destination.publish(name, job.local_store.folder(STATE), self.partial / STATE / name)
        job.remove()

    def _sweep(self) -> None:
        """Removes the job's folder of a finished output, left by a run that was killed just after publishing."""
        if self.partial.is_dir():
            with suppress(OutputError), open_job(self.partial, self._plan, self._record) as job:
                if all(name.endswith(".json") for name in job.store.list(STATE)):
                    job.remove()
