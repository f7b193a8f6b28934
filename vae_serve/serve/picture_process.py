"""The process in which pictures of strangers are decoded: limited in memory, ended when it takes too long.

    python -P -m vae_serve.serve.picture_process MOST_PIXELS MOST_MEMORY

It reads requests from stdin, each a pixel rule as JSON and a file, and writes to stdout what became of it: lengths of
four bytes, little-endian, before each part. It ends with its stdin.
"""

import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import msgspec

from vae_serve.errors import ImageError
from vae_serve.forks import limit_memory
from vae_serve.images import memory
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import PixelRule

LENGTHS = struct.Struct("<II")
LENGTH = struct.Struct("<I")
READY = b"ready\n"


class Decoded(msgspec.Struct):
    """What became of a picture."""

    pixels: bytes = b""
    """(H, W, C) as the rule has them."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the file's picture."""
    notes: tuple[str, ...] = ()
    """What was done that a reader should know of."""
    kind: str = ""
    """Why there are no pixels; empty where there are."""
    message: str = ""
    """In words."""


def main() -> None:
    """Decodes until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service decides
    pixels, most = map(int, sys.argv[1:])
    memory.limit_pixels(pixels)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    decoders: dict[bytes, Decoder] = {}
    Decoder(PixelRule(1, 1, 1)).prepare()
    limit_memory(most)
    answers.write(READY)
    answers.flush()
    while header := requests.read(LENGTHS.size):
        rule_size, size = LENGTHS.unpack(header)
        rule, data = requests.read(rule_size), requests.read(size)
        if rule not in decoders:
            decoders.clear()
            decoders[rule] = Decoder(PixelRule.from_json(msgspec.json.decode(rule, type=dict[str, Any])))
        _write(answers, decode(decoders[rule], data))


def decode(decoder: Decoder, data: bytes) -> Decoded:
    """What becomes of one file. Nothing is raised."""
    try:
        plain = decoder.as_it_is(data)
        if plain is not None:
            return Decoded(plain.tobytes(), (decoder.rule.width, decoder.rule.height))
        picture = decoder(data)
    except ImageError as error:
        return Decoded(kind=error.kind, message=str(error))
    except MemoryError:
        return Decoded(kind="too_large", message="decoding it takes more memory than a decoding process may have")
    except Exception as error:  # noqa: BLE001  one picture must not end the process
        return Decoded(kind="damaged", message=f"it cannot be decoded: {type(error).__name__}: {error}")
    return Decoded(picture.pixels.tobytes(), picture.size, picture.notes)


def _write(answers: BinaryIO, decoded: Decoded) -> None:
    contents = msgspec.msgpack.encode(decoded)
    answers.write(LENGTH.pack(len(contents)) + contents)
    answers.flush()


if __name__ == "__main__":
    main()
