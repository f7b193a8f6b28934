"""Processes that decode pictures for the service, one for each core at most, started when the first picture comes.

Fresh ones, not forked: the service has threads. What a decoder does to its process, crash, run for ever, take all
memory, happens to no other request: the process is ended and the picture fails with its kind.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from vae_serve.errors import ImageError
from vae_serve.images.pixels import Picture, PixelRule
from vae_serve.serve.answers import busy
from vae_serve.serve.limits import Limits
from vae_serve.serve.picture_process import LENGTH, LENGTHS, READY, Decoded

CRASHES = 2  # at as many a picture fails; the first may have been chance
START_SECONDS = 30.0  # for a process to import what it needs
BESIDE = 1 << 16  # bytes of an answer that are no pixels

_PACKAGE = Path(__file__).parents[2]


class _Process:
    """One of them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101  they are pipes
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, limits: Limits) -> "_Process":
        paths = [str(_PACKAGE), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        started = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "vae_serve.serve.picture_process"),
                *(str(limits.picture_pixels), str(limits.picture_memory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await started._stdout.readexactly(len(READY))
        except BaseException:
            await started.end()
            raise
        return started

    async def ask(self, rule: bytes, data: bytes, most: int) -> Decoded:
        """What became of a picture; raises IncompleteReadError or OSError where the process has ended."""
        self._stdin.writelines((LENGTHS.pack(len(rule), len(data)), rule, data))
        await self._stdin.drain()
        [length] = LENGTH.unpack(await self._stdout.readexactly(LENGTH.size))
        if length > most:
            raise ConnectionError("its answer is longer than any")
        return msgspec.msgpack.decode(await self._stdout.readexactly(length), type=Decoded)

    async def end(self) -> None:
        """Ends it, whatever it is at."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()
        await self._process.wait()


class PicturePool:
    """Decodes pictures by a rule."""

    def __init__(self, limits: Limits, count: int) -> None:
        """At most `count` at once. To be made on the event loop."""
        self._limits = limits
        self._places = asyncio.Semaphore(count)
        self._idle: list[_Process] = []
        self._running: set[_Process] = set()
        self.in_flight = 0
        """Pictures that are decoded or wait for it."""

    async def decode(self, data: bytes, rule: PixelRule) -> Picture:
        """One picture.

        Raises:
            ImageError: it is none that can be read, by kind; `crashed` and `timeout` as in `embed`.
            Refusal: 503, too many wait.
        """
        if self.in_flight >= self._limits.pictures:
            raise busy(f"{self.in_flight} pictures are being decoded or wait; try again in a second")
        self.in_flight += 1
        try:
            await self._place()
            try:
                return await self._decoded(data, rule)
            finally:
                self._places.release()
        finally:
            self.in_flight -= 1

    async def stop(self) -> None:
        """Ends all processes."""
        for process in [*self._idle, *self._running]:
            await process.end()

    async def _place(self) -> None:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise busy("no process was free to decode the picture; try again") from None

    async def _decoded(self, data: bytes, rule: PixelRule) -> Picture:
        text, shape = msgspec.json.encode(rule.to_json()), rule.shape
        most = int(np.prod(shape)) + BESIDE
        for _ in range(CRASHES):
            process = self._idle.pop() if self._idle else await self._start()
            self._running.add(process)
            answer = None
            try:
                async with asyncio.timeout(self._limits.picture_seconds):
                    answer = await process.ask(text, data, most)
            except TimeoutError:
                raise ImageError("timeout", f"decoding it took more than {self._limits.picture_seconds:g} s") from None
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
                continue
            finally:
                self._running.discard(process)
                if answer is None:
                    await process.end()
                else:
                    self._idle.append(process)
            if answer.kind:
                raise ImageError(answer.kind, answer.message)
            pixels = np.frombuffer(answer.pixels, np.uint8).reshape(shape)
            return Picture(pixels, answer.size, answer.notes)
        raise ImageError("crashed", f"the decoder crashed at it {CRASHES} times")

    async def _start(self) -> _Process:
        try:
            return await _Process.start(self._limits)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise busy("no process could be started to decode the picture; try again") from None
