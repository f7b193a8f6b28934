"""A request as the endpoints see it."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl

from vae_serve.serve.answers import Refusal, brief, busy

MOST_PARAMETERS = 100
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
    """Method, path, header fields and parameters, and the body as it comes. `body.read` reads it."""

    # fmt: off
    __slots__ = (
        "_arrival", "_ask", "_dropping", "_failure", "_most", "_parts", "_unread",
        "begun", "client", "complete", "given_up", "headers", "id", "keep", "method", "path", "query", "size",
    )
    # fmt: on

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: dict[bytes, bytes],
        client: str | None,
        room: Room,
        ask: "Callable[[Request], None]",
    ) -> None:
        """`headers`: names are in lower case. `ask`: is told when the rest of the body is waited for."""
        super().__init__(room)
        self.method, self.path, self.query, self.headers, self.client = method, path, query, headers, client
        self.id = ""
        self.keep = True  # whether its connection may have another request
        self.begun = self.given_up = False  # of the work on it
        self.size = 0  # of the body as it came, so far
        self.complete = False  # whether all of the body has come
        self._ask = ask
        self._parts: list[bytes] = []  # of the body
        self._unread = 0  # bytes of them that came before somebody waited
        self._dropping = False
        self._arrival: asyncio.Future[None] | None = None  # of the rest, where somebody has waited

    def feed(self, part: bytes) -> int:
        """A part of the body has come. How many bytes wait to be asked for."""
        self.size += len(part)
        if not self._dropping:
            self._parts.append(part)
        if self._arrival is None:
            self._unread += len(part)
        elif self.size > self._most:
            self._wake()
        elif not self._dropping:
            try:
                self._hold_body()
            except Refusal as refusal:
                self._wake(refusal)
        return self._unread

    def finish(self) -> None:
        """All of the body has come."""
        self.complete = True
        self._wake()

    async def arrived(self, most: int, seconds: float) -> bytes | None:
        """All of the body; None where it has more than `most` bytes.

        Raises:
            TimeoutError: it has not come within so many seconds.
            Refusal: 503 where memory is short.
        """
        if self.size <= most:
            self._hold_body()
            if not self.complete:
                await self._rest(most, seconds)
        parts, self._parts = self._parts, []
        if self.size > most:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drop(self, most: int, seconds: float) -> None:
        """The rest of the body comes and is dropped, up to `most` bytes.

        Raises:
            TimeoutError: it has not come within so many seconds.
        """
        self._dropping, self._parts = True, []
        if not self.complete:
            await self._rest(self.size + most, seconds)

    async def _rest(self, most: int, seconds: float) -> None:
        """Waits for what is still to come."""
        loop = asyncio.get_running_loop()
        self._most, self._unread = most, 0
        self._failure: Exception | None = None
        self._arrival = loop.create_future()
        timer = loop.call_later(seconds, self._wake, TimeoutError())
        self._ask(self)
        try:
            await self._arrival
        finally:
            timer.cancel()
        if self._failure is not None:
            raise self._failure

    def _wake(self, failure: Exception | None = None) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._failure = failure
            self._arrival.set_result(None)

    def _hold_body(self) -> None:
        self.hold(self.size - self.held)

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
            query = self.query.decode("ascii")
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
