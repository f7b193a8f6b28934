"""A picture file as the body of a request: its vectors, or its reconstruction."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError
from vae_serve.images import pixels, png
from vae_serve.images.pixels import Picture
from vae_serve.serve import body
from vae_serve.serve.answers import PNG, Answer, Refusal, brief
from vae_serve.serve.networks import VERSION
from vae_serve.serve.request import Request
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service

Array = npt.NDArray[Any]

# What says that the body is something else than the file itself, and what to do
_FORMS = (b"multipart/form-data", b"text/html", b"application/json")
_HOW = "send the file itself as the body: curl --data-binary @picture.png"


class Pictures:
    """The endpoints that take a picture file."""

    def __init__(self, service: Service, served: Served) -> None:
        self._service, self._served = service, served

    async def encode(self, request: Request) -> Answer:
        """`POST /v1/encode`: z_mean and z_log_var of a picture, as a row of `embed` has them."""
        request.parameters()
        picture = await self._picture(request)
        z_mean, z_log_var = await self._encoded(picture)
        record = {
            "model": self._served.encoder.name,
            "version": VERSION,
            "width": picture.size[0],
            "height": picture.size[1],
            "notes": list(picture.notes),
            "z_mean": _numbers(z_mean[0]),
            "z_log_var": _numbers(z_log_var[0]),
        }
        return Answer(msgspec.json.encode(record))

    async def reconstruct(self, request: Request) -> Answer:
        """`POST /v1/reconstruct`: what the decoder makes of a picture's z_mean, as PNG."""
        parameters = request.parameters("beside")
        beside = parameters.get("beside", "false")
        if beside not in ("true", "false"):
            raise Refusal(400, f"beside is {brief(beside)}; give true to see the picture at the left, or false")
        picture = await self._picture(request)
        z_mean, _ = await self._encoded(picture)
        service = self._service
        [image] = await self._served.decoder.run(service.workers, z_mean, service.alone)
        shown = image[0] if image.dtype == np.uint8 else pixels.to_bytes(image[0])
        both = np.concatenate([picture.pixels, shown], axis=1) if beside == "true" else shown
        return Answer(png.encode(both), PNG)

    async def _picture(self, request: Request) -> Picture:
        if request.media in _FORMS:
            raise Refusal(415, f"the Content-Type is {request.media.decode('latin-1')}; {_HOW}")
        limits = self._service.limits
        data = await body.read(request, limits, limits.picture_bytes)
        if not data:
            raise Refusal(422, f"the file is empty; {_HOW}", kind="empty")
        try:
            return await self._service.pool.decode(data, self._served.rule)
        except ImageError as error:
            raise Refusal(413 if error.kind == "too_large" else 422, str(error), kind=error.kind) from None

    async def _encoded(self, picture: Picture) -> tuple[Array, ...]:
        service = self._service
        rows = picture.pixels[np.newaxis]
        outputs = await self._served.encoder.run(service.workers, rows, service.alone)
        return outputs


def _numbers(row: Array) -> list[float]:
    """Floats whose text reads back as the same float32."""
    return [float(str(value)) for value in row]
