"""Every error that a user can meet, one tree.

    VaeServeError               could not do it
    ├── UsageError              an option's value makes no sense
    ├── MissingExtra            a command needs packages that are not installed
    ├── InputError              an array given to the Python API has another shape, type or range than it takes
    ├── SourceError             the images, latents or data to work on cannot be used
    │   ├── ImageError          one image cannot be used; in a batch it becomes a row, with `kind`
    │   └── SourceLost          the source has changed, or is out of reach, while it was read; that is no row's failure
    ├── OutputError             the place to write to cannot be used: it exists, is read-only, is full
    ├── EngineError             the place where a job's shards are to be made cannot make them
    ├── BundleError             an exported model is damaged, untrue, hostile or not there
    ├── ParityError             two copies of a model disagree
    ├── ServiceError            the service cannot be started: its port is taken, or not allowed
    ├── RunError                a training run is missing, unfinished or damaged
    └── DivergedError           training met a number that is not finite

A message says what was wrong, with the value and the file, and what to do next. `vae_serve.cli` alone turns an error
into a sentence and an exit code.
"""


class VaeServeError(Exception):
    """The root: what vae-serve raises on purpose."""


class UsageError(VaeServeError):
    """An option's value makes no sense, or two options do not go together."""


class InputError(VaeServeError):
    """An argument of the Python API has another shape, type or range than it takes."""


class MissingExtra(VaeServeError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'vae-serve[{extra}]'")
        self._arguments = extra, what

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return MissingExtra, self._arguments


class SourceError(VaeServeError):
    """The images, latents or data to work on cannot be used."""


class ImageError(SourceError):
    """One image cannot be used. `kind` is a short stable word (`empty`, `truncated`, ...) that results count by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (self.kind, str(self))


class SourceLost(SourceError):
    """The source has changed, or is out of reach, while it was read: that ends the job, and is no row's failure."""


class DecodersLost(SourceError):
    """The decoding processes have ended in a way that no picture explains."""


class OutputError(VaeServeError):
    """The place to write to cannot be used."""


class EngineError(VaeServeError):
    """The place where a job's shards are to be made cannot make them: no cluster, other packages, lost machines."""


class BundleError(VaeServeError):
    """An exported model is damaged, untrue, hostile or not there."""


class ParityError(VaeServeError):
    """Two copies of a model disagree."""


class ServiceError(VaeServeError):
    """The service cannot be started."""


class RunError(VaeServeError):
    """A training run is missing, unfinished or damaged."""


class DivergedError(VaeServeError):
    """Training met a number that is not finite."""
