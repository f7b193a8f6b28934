"""One object of a store as it was when it was looked at."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from vae_serve.storage.object_url import ObjectUrl


class Stored(msgspec.Struct, frozen=True):
    """An object, and which one it was when it was looked at."""

    url: ObjectUrl
    size: int
    """Bytes."""
    changed_ns: int
    etag: str | None = None

    def __str__(self) -> str:
        return str(self.url)

    @property
    def stamp(self) -> tuple[int, int]:
        """As a file's."""
        return self.size, self.changed_ns

    @property
    def mark(self) -> str:
        """Another one, another object."""
        return f"{self.size} {_bare(self.etag) if self.etag else self.changed_ns}"

    def is_same(self, meta: Mapping[str, Any]) -> bool:
        """Whether the store tells of this very object."""
        if meta["size"] != self.size:
            return False
        if self.etag and meta["e_tag"]:
            return bool(_bare(meta["e_tag"]) == _bare(self.etag))
        return nanoseconds(meta["last_modified"]) == self.changed_ns


def _bare(etag: str) -> str:
    """Without its quotes, which Azure leaves out where it lists."""
    return etag.removeprefix("W/").strip('"')


def nanoseconds(time: datetime) -> int:
    """A store's time since 1970; they count milliseconds at most."""
    return round((time - _EPOCH).total_seconds() * 1000) * 1_000_000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
