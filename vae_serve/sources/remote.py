"""A source in an object store, by its URL.

It is looked at in a forked process (`bucket` says why), which sends a description back that can be opened without any
request. Keys have no kinds: a name that ends like a file's is an object, all others are prefixes.
"""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from vae_serve.errors import SourceError
from vae_serve.sources.folders import TABLES
from vae_serve.sources.listing import LISTS, TARS, is_picture
from vae_serve.sources.own_process import Answer, Told, told_nothing
from vae_serve.storage.object_url import ObjectUrl, parse_object_url

if TYPE_CHECKING:
    from vae_serve.sources.arrays import Arrays
    from vae_serve.sources.described import Described
    from vae_serve.sources.files import Pictures
    from vae_serve.sources.objects.pictures import ListedObjects
    from vae_serve.sources.objects.stored import Stored

    Found = Described[Pictures | Arrays]

_LOCAL_ONLY = {
    (".npz",): "an .npz file: save the array as .npy",
    LISTS: "a list: give a prefix or a pattern, or pack the pictures into a zip without compression",
    ("-ubyte", "-ubyte.gz", ".idx", ".idx3", ".idx.gz", ".idx3.gz"): "an IDX file: save the array as .npy",
}


class RemoteSource(msgspec.Struct, frozen=True):
    """What a URL names."""

    url: str
    exclude: tuple[ObjectUrl, ...] = ()
    """Prefixes below it that are left out, such as the one that is written to."""

    def begin(self) -> "Answer[Found]":
        """Begins to look at it, in a process of its own."""
        ended = SourceError(f"{self.url}: the process that looked at it was ended")
        return Answer(partial(_found, self.url, self.exclude), ended)

    def open(self, begun: "Answer[Found] | None" = None, told: Told = told_nothing) -> "Pictures | Arrays":
        """What `begun` has found out, or what is found out now.

        Raises:
            SourceError: it is not there, cannot be read, or holds no pictures.
        """
        return (begun or self.begin()).result(told).open()


def remote_source(word: str, exclude: Iterable[object]) -> RemoteSource:
    """The source that a URL names.

    Raises:
        UsageError: it is no URL of an object store, or can hold a secret.
    """
    parse_object_url(word)
    excluded = tuple(place for place in exclude if isinstance(place, ObjectUrl))
    return RemoteSource(word, excluded)


def _found(word: str, excluded: tuple[ObjectUrl, ...], told: Told) -> "Found":
    url = parse_object_url(word)
    if set(url.key) & set("*?["):
        return _pattern(url, excluded, told)
    name = url.name.lower() if url.key and not word.endswith("/") else ""
    for endings, what in _LOCAL_ONLY.items():
        if name.endswith(endings):
            raise SourceError(f"{url} is read from a local disk alone, as {what}")
    if name.endswith((".zip", *TARS, *TABLES, ".npy")) or is_picture(name.encode()):
        from vae_serve.sources.objects.bucket import look

        stored = look(url)
        if stored is not None:
            return _object(stored, name)
    return _prefix(url, excluded, told)


def _object(stored: "Stored", name: str) -> "Found":
    if name.endswith(".zip"):
        from vae_serve.sources.zip_archive import ZipSource

        return ZipSource(stored).open().listed
    if name.endswith(TARS):
        from vae_serve.sources.tar_archive import TarSource

        return TarSource(stored).open().listed
    if name.endswith(TABLES):
        from vae_serve.sources.remote_tables import described

        return described([stored])
    if name.endswith(".npy"):
        from vae_serve.sources.objects.array import described as described_array

        return described_array(stored)
    import numpy as np

    from vae_serve.sources.names import PackedNames
    from vae_serve.sources.objects.pictures import ListedObjects

    folder, _, last = stored.url.key.rpartition("/")
    names = PackedNames([last.encode()])
    place = ObjectUrl(stored.url.scheme, stored.url.bucket, folder)
    return ListedObjects(place, names, np.array([stored.stamp], np.int64), 0)


def _prefix(url: ObjectUrl, excluded: tuple[ObjectUrl, ...], told: Told) -> "Found":
    from vae_serve.sources.files import known_extensions, passed_over
    from vae_serve.sources.objects.listing import listed

    pictures, tables, skipped = listed(url, excluded, told)
    if pictures.names.count:
        _try_reading(url, pictures)
        return msgspec.structs.replace(pictures, skipped=skipped)
    if not tables:
        raise SourceError(f"{url} holds no pictures{passed_over(skipped)}; known are {known_extensions()}")
    from vae_serve.sources.remote_tables import described

    return described(tables)


def _pattern(url: ObjectUrl, excluded: tuple[ObjectUrl, ...], told: Told) -> "Found":
    from vae_serve.sources.files import known_extensions, passed_over
    from vae_serve.sources.objects.listing import listed
    from vae_serve.sources.patterns import fitting

    parts = url.key.split("/")
    first = next(at for at, part in enumerate(parts) if set(part) & set("*?["))
    folder = ObjectUrl(url.scheme, url.bucket, "/".join(parts[:first]))
    pictures, _, skipped = listed(folder, excluded, told, fitting(parts[first:]))
    if not pictures.names.count:
        raise SourceError(f"no picture fits the pattern {url}{passed_over(skipped)}; known are {known_extensions()}")
    _try_reading(folder, pictures)
    return msgspec.structs.replace(pictures, skipped=skipped)


def _try_reading(url: ObjectUrl, pictures: "ListedObjects") -> None:
    """Raises SourceError where the store lists pictures that it does not let anybody read: three out of all."""
    from vae_serve.sources.objects.bucket import refusal

    count = pictures.names.count
    refusals = []
    for row in sorted({0, count // 2, count - 1}):
        name = pictures.names[range(row, row + 1)][0].decode()
        refusals.append(refusal(url.joined(name)))
        if refusals[-1] is None:
            return
    raise SourceError(str(refusals[0]))
