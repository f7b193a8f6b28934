"""What all endpoints share: limits, workers, the processes that decode pictures, and how busy it is."""

from vae_serve.serve.batching import Workers
from vae_serve.serve.limits import Limits
from vae_serve.serve.picture_pool import PicturePool
from vae_serve.serve.request import Room


class Service:
    """The state of a running service, apart from the bundle."""

    def __init__(self, limits: Limits, workers: int) -> None:
        """To be made on the event loop. `workers`: threads for networks, and processes for pictures."""
        self.limits = limits
        self.workers = Workers(workers, limits.waiting, limits.answer_seconds)
        self.pool = PicturePool(limits, workers)
        self.room = Room(limits.memory)
        self.in_flight = 0
        """Requests that are being answered."""
        self.ending = False
        """Whether it has been told to end."""

    @property
    def alone(self) -> bool:
        """Whether the request at hand is the only one."""
        return self.in_flight == 1

    async def stop(self) -> None:
        """Ends threads and processes."""
        self.workers.stop()
        await self.pool.stop()
