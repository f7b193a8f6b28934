"""A request as the endpoints see it."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from vae_serve.serve.answers import Refusal, brief, busy

Receive = Callable[[], Awaitable[Any]]

MOST_PARAMETERS = 100
TASK = "vae_serve.task"  # in a request's scope: the task that answers it
SMALL = 1 << 16  # bytes that a request may take without asking


class Room:
    """The memory of all large requests together."""

    __slots__ = ("most", "taken")

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self, size: int) -> None:
        """Raises Refusal, 503, where there is not so much left."""
        if self.taken + size > self.most:
            raise busy("large requests are being answered and take all memory set aside for them; try again")
        self.taken += size


class Holding:
    """What one request takes of the room."""

    __slots__ = ("_room", "held")

    def __init__(self, room: Room) -> None:
        self._room, self.held = room, 0

    def hold(self, size: int) -> None:
        """Takes room for so many bytes until the request is answered. Small requests need none: there are not so many.

        Raises:
            Refusal: 503 where all large requests together take too much.
        """
        if size + self.held > SMALL:
            self._room.take(size)
            self.held += size

    def release(self) -> None:
        """Gives back what the request holds."""
        self._room.taken -= self.held
        self.held = 0


class Request(Holding):
    """Method, path, header fields and parameters. Its body is read by `body.read`."""

    __slots__ = ("complete", "headers", "id", "method", "path", "receive", "scope", "size")

    def __init__(self, scope: Any, receive: Receive, room: "Room") -> None:
        super().__init__(room)
        self.scope, self.receive = scope, receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])  # names are in lower case; of two alike the last
        self.id = ""
        self.size = 0  # of the body, as it came
        self.complete = b"content-length" not in self.headers and b"transfer-encoding" not in self.headers

    @property
    def media(self) -> bytes:
        """The media type of the body, without its parameters, in lower case; empty where none is stated."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    def parameters(self, *known: str) -> dict[str, str]:
        """The parameters of the address.

        Raises:
            Refusal: 400 where one is not known, comes twice, or is no UTF-8.
        """
        found: dict[str, str] = {}
        try:
            query = self.scope["query_string"].decode("ascii")
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS, errors="strict")
        except ValueError:
            raise Refusal(400, f"the parameters of the address cannot be read; give {_listed(known)}") from None
        for name, value in pairs:
            if name not in known:
                raise Refusal(400, f"the parameter {brief(name)} is not known; give {_listed(known)}")
            if name in found:
                raise Refusal(400, f"the parameter {name} comes twice; give it once")
            found[name] = value
        return found


def _listed(known: tuple[str, ...]) -> str:
    return f"some of {', '.join(known)}" if known else "none"
