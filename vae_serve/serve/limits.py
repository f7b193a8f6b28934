"""How much of everything one caller, and all callers together, may ask for."""

import msgspec

KIB, MIB = 1 << 10, 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """The limits of a service. Sizes are bytes, times are seconds."""

    header_bytes: int = 64 * KIB
    """The request line and all header fields together; more is answered with 431."""
    header_seconds: float = 10.0
    """From a request's first byte, or from the connection's start, to the end of its header fields; then 408."""
    body_bytes: int = 32 * MIB
    """A body as it comes and as it is unpacked; more is answered with 413."""
    json_bytes: int = 8 * MIB
    """What a request has in JSON besides its input's numbers, which are parsed in parts: parsed, it takes 16 times its
    text."""
    body_seconds: float = 30.0
    """For the whole of a body; then 408."""
    picture_bytes: int = 16 * MIB
    """A picture file."""
    picture_pixels: int = 16_000_000
    """Width times height that a picture file declares."""
    picture_seconds: float = 10.0
    """For decoding one picture."""
    picture_memory: int = 512 * MIB
    """That decoding may add to a process."""
    answer_bytes: int = 32 * MIB
    """The tensors of an answer; in JSON a quarter of it, since a number takes up to four times its bytes there."""
    answer_seconds: float = 30.0
    """That a request waits for a network, and that its caller takes to read what does not fit into a send buffer."""
    idle_seconds: float = 75.0
    """That a connection is kept without a request: longer than the 60 s after which proxies let go of theirs."""
    connections: int = 1000
    """Open at once; one more is answered with 503."""
    waiting: int = 512
    """Requests that wait for a network at once; one more is answered with 503."""
    pictures: int = 64
    """Pictures that are decoded or wait for it at once; one more is answered with 503."""
    memory: int = 256 * MIB
    """Of the bodies and answers of all large requests in flight; one more is answered with 503."""
    grace_seconds: float = 30.0
    """That requests in flight have when the service is told to end."""
