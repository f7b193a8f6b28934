"""The latent explorer at `/`: the page of `deploy web`, made when somebody first asks for it.

It runs the networks in the browser, from the bundle's own graphs; where the browser cannot, it asks the service.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.resources import files

from vae_serve.deploy import web
from vae_serve.errors import BundleError
from vae_serve.serve.answers import Answer, Refusal
from vae_serve.serve.request import Request
from vae_serve.serve.routes import Handler
from vae_serve.serve.served import Served

INDEX = "index.html"
TYPES = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "mjs": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "json": b"application/json",
    "svg": b"image/svg+xml",
    "gz": b"application/gzip",
    "txt": b"text/plain; charset=utf-8",
}
# As the page's own policy, and nobody may frame it, which a page cannot say of itself.
POLICY = (
    b"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
]


class Explorer:
    """The page for one bundle."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._page: asyncio.Task[dict[str, bytes]] | None = None

    def add(self, add: Callable[[str, Handler], None]) -> None:
        """Adds an endpoint for each file of the page."""
        add("/", partial(self._file, INDEX))
        for name in sorted(self._names()):
            add(f"/{name}", partial(self._file, name))

    def _names(self) -> set[str]:
        """Of the page's files, which are not made yet."""
        manifest = self._served.manifest
        own = files("vae_serve.deploy") / "page"
        names = {entry.name for entry in own.iterdir() if entry.is_file()} | {"model.json"}
        names |= {f"runtime/{_unpacked(entry.name)}" for entry in (own / "runtime").iterdir()}
        names |= {graph.file for graph in (manifest.encoder, manifest.decoder) if graph}
        names |= {path for path in self._served.model.bundle.paths if path.startswith("conformance/")}
        return names | {"scatter/z.npy", "scatter/labels.npy"}

    async def _file(self, name: str, request: Request) -> Answer:
        request.parameters()
        if self._page is None:
            self._page = asyncio.create_task(asyncio.to_thread(self._made))
        try:
            page = await asyncio.shield(self._page)
        except BundleError as error:
            raise Refusal(404, f"there is no page to explore this bundle: {error}") from None
        if name not in page:
            raise Refusal(404, f"the page for this bundle has no {name}")
        return Answer(page[name], TYPES.get(name.rpartition(".")[2], b"application/octet-stream"), headers=[*HEADERS])

    def _made(self) -> dict[str, bytes]:
        names = {network.role: network.name for network in self._served.networks.values()}
        return web.page(self._served.model.bundle, names)


def _unpacked(name: str) -> str:
    return f"{name.removesuffix('.xz')}.gz" if name.endswith(".wasm.xz") else name.removesuffix(".xz")
