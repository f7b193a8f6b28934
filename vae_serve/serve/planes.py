"""Points of the latent space as pictures: one point, or the plane, as PNG."""

import asyncio
import math
import re

import numpy as np

from vae_serve.images import pixels, png
from vae_serve.model import samplers
from vae_serve.serve.answers import PNG, Answer, Refusal, brief
from vae_serve.serve.networks import Network
from vae_serve.serve.request import Request
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service

MOST_SIDE = 64  # pictures along a side of the plane
MOST_PIXELS = 1 << 22  # of the plane
SIDE, SPAN = 15, 4.0  # of the plane, where nothing is said
NUMBER = r"[+-]?([0-9]{1,20}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?"
FARTHEST = 1e6  # a coordinate; nothing is to be seen beyond some tens


async def decoded(service: Service, served: Served, request: Request) -> Answer:
    """`GET /v1/decode.png?z=0.5,-1.2`: the picture at a point."""
    text = request.parameters("z").get("z")
    d = served.manifest.latent_dim
    if text is None:
        raise Refusal(400, f"say at which point: ?z= and {d} numbers with commas between")
    z = np.array([_numbers(text, d)], np.float32)
    return Answer(png.encode((await _images(service, served.decoder, z))[0]), PNG)


async def grid(service: Service, served: Served, request: Request) -> Answer:
    """`GET /v1/grid.png`: the plane as `generate --grid` draws it, the first dimension to the right, the second up."""
    given = request.parameters("side", "span", "slice", "quantiles")
    side = _side(given.get("side", str(SIDE)), served)
    span = _numbers(given.get("span", str(SPAN)), 1)[0]
    quantiles = given.get("quantiles", "false")
    if quantiles not in ("true", "false"):
        raise Refusal(400, f"quantiles is {brief(quantiles)}; give true or false")
    if quantiles == "true" and "span" in given:
        raise Refusal(400, "span and quantiles do not go together; the quantiles reach as far as the side asks for")
    if not span > 0:
        raise Refusal(400, f"span is {span:g}; give a number above 0, such as 4")
    axis = samplers.quantile_axis(side) if quantiles == "true" else samplers.linear_axis(side, span)
    points = samplers.lift(samplers.lattice(axis), _slice(given.get("slice"), served), served.manifest.latent_dim)
    request.hold(len(points) * served.decoder.output_bytes)
    images = await _images(service, served.decoder, points)
    return Answer(await asyncio.to_thread(lambda: png.encode(pixels.tile(images, side))), PNG)


async def _images(service: Service, decoder: Network, z: samplers.Floats) -> pixels.Bytes:
    """The pictures (n, H, W, C) at points (n, d)."""
    [images] = await decoder.run(service.workers, z, service.alone)
    return images if images.dtype == np.uint8 else pixels.to_bytes(images)


def most_side(served: Served) -> int:
    """The most pictures along a side of the plane, by their size."""
    height, width, _ = served.manifest.image_shape
    return max(1, min(MOST_SIDE, math.isqrt(MOST_PIXELS // (height * width))))


def _side(text: str, served: Served) -> int:
    most = most_side(served)
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= most):
        raise Refusal(400, f"side is {brief(text)}; give a whole number of 1..{most}")
    return int(text)


def _slice(text: str | None, served: Served) -> tuple[int, int]:
    d = served.manifest.latent_dim
    if text is None:
        if d < 2:
            raise Refusal(400, "the latent space has one dimension; a plane needs two")
        return 0, 1
    words = text.split(",")
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):
        first, second = map(int, words)
        if first != second and first < d > second:
            return first, second
    raise Refusal(400, f"slice is {brief(text)}; give two different dimensions of 0..{d - 1}, such as 0,1")


def _numbers(text: str, count: int) -> list[float]:
    """So many numbers with commas between."""
    words = text.split(",")
    if len(words) == count and all(re.fullmatch(NUMBER, word) for word in words):
        numbers = [float(word) for word in words]
        if all(abs(number) <= FARTHEST for number in numbers):
            return numbers
    wanted = "a number" if count == 1 else f"{count} numbers with commas between"
    raise Refusal(400, f"{brief(text)} is not {wanted}, each from -{FARTHEST:,.0f} to {FARTHEST:,.0f}")
