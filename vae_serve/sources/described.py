"""What a description is: small, frozen, pickled as it is, and opened where it is needed."""

from typing import Generic, Protocol, TypeVar

import msgspec

from vae_serve.errors import SourceError

T_co = TypeVar("T_co", covariant=True)


class Described(Protocol[T_co]):
    """A description of something that takes open files or memory."""

    def open(self) -> T_co:
        """What it describes. Of a source it raises SourceError where it cannot be read, or holds no pictures."""
        ...


class _Source(Protocol):
    """What all opened sources have."""

    @property
    def where(self) -> str:
        """For messages: the path."""
        ...

    def fingerprint(self) -> str:
        """Another one where the source is another one."""
        ...


SourceT = TypeVar("SourceT", bound=_Source)


class Unchanged(msgspec.Struct, Generic[SourceT], frozen=True):
    """A source that is opened once more, by another process than the one that planned the job."""

    source: Described[SourceT]
    fingerprint: str
    """Which it had then."""

    def open(self) -> SourceT:
        """Raises SourceError as the source does, or where it has changed since."""
        opened = self.source.open()
        if opened.fingerprint() != self.fingerprint:
            raise changed(opened.where)
        return opened


def changed(where: object, kind: type[SourceError] = SourceError) -> SourceError:
    """The error for a source that is another one than when the job was planned."""
    return kind(f"{where} has changed since the job began; choose another --out, or --overwrite")
