"""Which objects are below a prefix: pictures in order of their names, or Parquet files, as in a folder."""

import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from queue import Queue
from typing import Any, NamedTuple

import numpy as np

from vae_serve.errors import SourceError
from vae_serve.sources.listing import is_picture
from vae_serve.sources.names import PackedNames
from vae_serve.sources.objects.bucket import client, client_errors
from vae_serve.sources.objects.pictures import ListedObjects, Stamps
from vae_serve.sources.objects.stored import Stored, nanoseconds
from vae_serve.sources.own_process import Told
from vae_serve.storage.object_failure import failure
from vae_serve.storage.object_url import ObjectUrl

_CHUNK = 1000  # objects that come with one answer


class Listed(NamedTuple):
    """What is below a prefix."""

    pictures: ListedObjects
    tables: list[Stored]
    skipped: Counter[str]


def listed(folder: ObjectUrl, excluded: Sequence[ObjectUrl], told: Told, wanted: "Wanted | None" = None) -> Listed:
    """Everything below a prefix, but for what is below the ones `excluded`; with `wanted`, of what fits a pattern.

    Names and folders that begin with a dot are passed over, and counted, as in a local folder.

    Raises:
        SourceError: it cannot be listed, or holds a key that cannot be read.
    """
    sorting = _Sorting(wanted)
    left_out = tuple(f"{url.key}/" for url in excluded if (url.scheme, url.bucket) == (folder.scheme, folder.bucket))
    count, stamps = 0, array("q")
    tables: list[Stored] = []

    def pictures() -> Iterator[bytes]:
        nonlocal count
        for meta in _objects(folder):
            count += 1
            if count % _CHUNK == 0:
                told(count)
            key = meta["path"]
            if key.startswith(left_out):
                continue
            name = key[len(folder.key) + 1 :] if folder.key else key
            what = sorting.of(name.encode(), meta)
            if what == "picture":
                stamps.extend((meta["size"], nanoseconds(meta["last_modified"])))
                yield name.encode()
            elif what == "table":
                tables.append(_stored(folder, meta))

    names, order, twins = _sorted(pictures())
    numbers = np.frombuffer(stamps, np.int64).reshape(-1, 2)
    placed: Stamps = numbers.copy() if order is None else numbers[order]
    tables.sort(key=lambda stored: stored.url.key.encode())
    twins += [first.url.key.encode() for first, second in pairwise(tables) if first.url == second.url]
    if twins:
        raise SourceError(
            f"{folder} holds keys that differ from others by a `/` at the beginning or the end alone, which the client "
            f"passes over: {len(twins):,}, such as {_shown(twins[0].decode())}; rename them, or give a prefix without "
            "them"
        )
    return Listed(ListedObjects(folder, names, placed, 0), tables, +sorting.skipped)


def _sorted(names: Iterator[bytes]) -> tuple[PackedNames, Sequence[int] | None, list[bytes]]:
    """The names in order of their bytes, packed; which number each had before, where they came in another order; and
    those that came again.
    """
    last, in_order = b"", True
    twins: list[bytes] = []

    def looked_at() -> Iterator[bytes]:
        nonlocal last, in_order
        for name in names:
            if last >= name:
                in_order = in_order and last == name
                if last == name:
                    twins.append(name)
            last = name
            yield name

    packed = PackedNames(looked_at())
    if in_order:
        return packed, None, twins
    every = packed[range(packed.count)]
    order = sorted(range(len(every)), key=every.__getitem__)
    twins = [every[number] for before, number in pairwise(order) if every[before] == every[number]]
    return PackedNames(every[number] for number in order), order, twins


Wanted = Callable[[bytes], bool]


class _Sorting:
    """What an object is, by its name below the prefix."""

    def __init__(self, wanted: Wanted | None) -> None:
        self.skipped: Counter[str] = Counter()
        self._wanted = wanted
        self._hidden: set[bytes] = set()  # folders, each of which counts once

    def of(self, name: bytes, meta: Mapping[str, Any]) -> str:
        """`picture`, `table` or neither."""
        if self._wanted is not None:
            if not self._wanted(name):
                return ""
        elif name.startswith(b".") or b"/." in name:
            self._pass_over_hidden(name)
            return ""
        if is_picture(name):
            return "picture"
        if not name or (not meta["size"] and b"." not in name.rpartition(b"/")[2]):
            return ""  # what consoles make in place of an empty folder
        self.skipped["no picture's extension"] += 1
        shown = not name.startswith(b"_") and b"/_" not in name
        return "table" if shown and name.lower().endswith((b".parquet", b".pq")) else ""

    def _pass_over_hidden(self, name: bytes) -> None:
        parts = name.split(b"/")
        at = next(at for at, part in enumerate(parts) if part.startswith(b"."))
        folder = b"/".join(parts[: at + 1])
        if at < len(parts) - 1:
            if folder in self._hidden:
                return
            self._hidden.add(folder)
        self.skipped["hidden"] += 1


def _objects(folder: ObjectUrl) -> Iterator[Mapping[str, Any]]:
    """All objects below a prefix. The next answer is waited for while the last one is looked at."""
    import obstore

    answers: Queue[list[Any] | Exception | None] = Queue(maxsize=4)

    def ask() -> None:
        try:
            next(iter(obstore.list(client(folder, first=True), folder.key or None, chunk_size=1)), None)
            for answer in obstore.list(client(folder), folder.key or None, chunk_size=_CHUNK):
                answers.put(list(answer))
            answers.put(None)
        except Exception as error:  # noqa: BLE001  raised where the answers are taken
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        while (answer := answers.get()) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield from answer
    except client_errors() as error:
        if type(error).__name__ == "InvalidPathError":
            raise SourceError(
                f"{folder} holds a key that the client cannot name ({_key_in(str(error))}): with an empty part, "
                "`.`, `..` or a control character; rename it and others like it, or give a prefix without them"
            ) from None
        raise SourceError(failure(error, folder, "list").message) from None


def _key_in(text: str) -> str:
    """The key that obstore's message is about: it says `Path "KEY": ...` or `Path "KEY" contained ...`."""
    return _shown(text.partition('ath "')[2].partition("\n")[0].partition('" contained')[0].partition('": ')[0])


def _shown(key: str) -> str:
    from vae_serve.quoting import terminal

    return terminal(key)[:200]


def _stored(folder: ObjectUrl, meta: Mapping[str, Any]) -> Stored:
    url = ObjectUrl(folder.scheme, folder.bucket, meta["path"])
    return Stored(url, meta["size"], nanoseconds(meta["last_modified"]), meta["e_tag"])
