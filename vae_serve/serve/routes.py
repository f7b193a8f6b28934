"""From a path and a method to an endpoint: one look into a table, which is made anew with each bundle."""

from collections.abc import Awaitable, Callable

import msgspec

from vae_serve.serve.answers import Answer, Refusal, brief
from vae_serve.serve.networks import VERSION, Network
from vae_serve.serve.request import Request

Handler = Callable[[Request], Awaitable[Answer]]

MODELS = "/v2/models"


class Route(msgspec.Struct, frozen=True):
    """An endpoint at a path."""

    label: str
    """Its path with the names of models left open, by which metrics count."""
    methods: dict[str, Handler]
    """What answers each method. HEAD is answered as GET is, without the body."""

    @property
    def allow(self) -> bytes:
        """The value of the header field Allow."""
        names = [*self.methods, *(["HEAD"] if "GET" in self.methods else [])]
        return ", ".join(names).encode()


class Routes:
    """The table."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._models: list[str] = []

    def add(self, method: str, path: str, handler: Handler, label: str = "") -> None:
        """An endpoint at a path of its own."""
        route = self._routes.setdefault(path, Route(label or path, {}))
        route.methods[method] = handler

    def add_of_model(self, method: str, network: Network, ending: str, handler: Handler) -> None:
        """An endpoint of a model, with and without its version."""
        if network.name not in self._models:
            self._models.append(network.name)
        label = f"{MODELS}/{{model}}{ending}"
        self.add(method, f"{MODELS}/{network.name}{ending}", handler, label)
        self.add(method, f"{MODELS}/{network.name}/versions/{VERSION}{ending}", handler, label)

    def listed(self) -> set[tuple[str, str, str]]:
        """Every method, path and label."""
        return {(method, path, route.label) for path, route in self._routes.items() for method in route.methods}

    def find(self, path: str) -> Route:
        """The endpoint at a path.

        Raises:
            Refusal: 404, says what there is.
        """
        route = self._routes.get(path)
        if route is None:
            raise self._unknown(path)
        return route

    def handler(self, route: Route, method: str) -> Handler:
        """What answers a method.

        Raises:
            Refusal: 405, says which methods there are.
        """
        handler = route.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allow = route.allow
            raise Refusal(405, f"{route.label} takes {allow.decode()}", headers=[(b"allow", allow)])
        return handler

    def _unknown(self, path: str) -> Refusal:
        words = path.removeprefix(f"{MODELS}/").split("/")
        if path.startswith(f"{MODELS}/"):
            models = " and ".join(self._models)
            if words[0] not in self._models:
                return Refusal(404, f"there is no model {brief(words[0])}; there are {models}")
            if words[1:2] == ["versions"] and words[2:3] != [VERSION]:
                version = brief(words[2]) if len(words) > 2 else "''"
                return Refusal(404, f"{words[0]} has no version {version}; it has {VERSION}")
        return Refusal(404, f"there is nothing at {brief(path)}; /openapi.json lists what there is")
