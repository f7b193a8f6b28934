"""Another bundle takes the place of the one that is served, while requests are answered."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.errors import VaeServeError
from vae_serve.model.bundle import MANIFEST
from vae_serve.serve.metrics import Metrics
from vae_serve.serve.served import Served, load

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

LOOK_SECONDS = 1.0  # between two looks at the bundle's folder

Say = Callable[[str], None]
Stamp = tuple[Path, int, int, int]


class Reloader:
    """Loads and checks a bundle beside the one that is served; a bad one is refused, and the old one goes on."""

    def __init__(self, find: Callable[[], "Place"], swap: Callable[[Served], None], metrics: Metrics, say: Say) -> None:
        """`find`: which bundle is to be served now; `swap`: puts it in the place of the other."""
        self._find, self._swap, self._metrics, self._say = find, swap, metrics, say
        self._one = asyncio.Lock()

    async def reload(self) -> None:
        """Loads what is there now. Nothing is raised: what is wrong is said."""
        async with self._one:
            try:
                path = self._find()
                served = await asyncio.to_thread(load, path)
            except (VaeServeError, OSError, MemoryError) as error:
                self._metrics.reloads["refused"] += 1
                self._say(f"the new bundle is refused, the old one is served on: {error}")
                return
            self._swap(served)
            self._metrics.reloads["swapped"] += 1
            self._say(f"serving {served.manifest.name} of {path} now ({', '.join(served.networks)})")

    async def watch(self) -> None:
        """Reloads when the manifest has changed, and has been as it is for one more look."""
        served = seen = self._stamp()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._stamp()
            if now is not None and now == seen and now != served:
                served = now
                await self.reload()
            seen = now

    def _stamp(self) -> Stamp | None:
        try:
            path = self._find()
            if not isinstance(path, Path):
                return None  # a place in an object store is not looked at
            about = (path / MANIFEST).stat()
        except (VaeServeError, OSError):
            return None
        return path, about.st_ino, about.st_size, about.st_mtime_ns
