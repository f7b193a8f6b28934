"""What goes back to a caller: an answer, or the refusal that becomes one."""

from typing import Any

import msgspec

Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
PNG = b"image/png"
BINARY = b"application/octet-stream"


class Answer:
    """A response: status, media type, body, and header fields beyond those that every response has."""

    __slots__ = ("body", "close", "headers", "media", "status")

    def __init__(self, body: bytes, media: bytes = JSON, status: int = 200, headers: Headers | None = None) -> None:
        self.body, self.media, self.status, self.headers = body, media, status, headers or []
        self.close = False  # whether what follows on the connection is not to be read


class Refusal(Exception):
    """A request that cannot be answered as asked: a status of 4xx or 5xx and one sentence for the caller.

    `kind` is a short stable word where the reason is a picture, as in the rows of `embed`.
    """

    def __init__(self, status: int, sentence: str, *, kind: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.kind, self.headers = status, sentence, kind, headers or []

    def answer(self) -> Answer:
        """In the protocol's error form, `{"error": "..."}`."""
        record: dict[str, Any] = {"error": self.sentence}
        if self.kind is not None:
            record["kind"] = self.kind
        return Answer(msgspec.json.encode(record), JSON, self.status, self.headers)


def busy(sentence: str) -> Refusal:
    """503: the caller may try again in a second."""
    return Refusal(503, sentence, headers=[(b"retry-after", b"1")])


def brief(value: object, most: int = 60) -> str:
    """A value of a caller's in a sentence: short, on one line, whatever it is."""
    try:
        shown = repr(value)
    except ValueError:  # a whole number of thousands of digits
        shown = "a number of very many digits"
    return shown if len(shown) <= most else f"{shown[:most]}..."
