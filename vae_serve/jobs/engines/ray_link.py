"""The process that is connected to a Ray cluster. It takes orders from the one that plans, through a pipe, and ends
with it; Ray's own threads and messages are here alone.
"""

import os
import pickle
import signal
import socket
import threading
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from vae_serve.errors import EngineError

if TYPE_CHECKING:
    from vae_serve.jobs.engines.ray_schedule import Schedule

REACH = 5.0  # seconds in which a cluster's address answers
TICK = 0.02  # seconds that a new shard may wait for

_RUN_THERE = "run the command on one of the cluster's nodes, or send it there: ray job submit -- vae-serve ..."


def main(orders: int, events: int) -> NoReturn:
    """The life of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming: SimpleQueue[tuple[str, Any, bytes]] = SimpleQueue()
    listening, telling = Connection(orders, writable=False), Connection(events, readable=False)

    def tell(*event: Any) -> None:
        telling.send_bytes(pickle.dumps(event, pickle.HIGHEST_PROTOCOL))

    threading.Thread(target=_listen, args=(listening, incoming), daemon=True).start()
    try:
        _, address, wanted = incoming.get()
        where = _connect(address)
        from vae_serve.jobs.engines.ray_schedule import Schedule

        _serve(Schedule(wanted, tell, where), incoming)
    except EngineError as error:
        tell("error", error)
    except BrokenPipeError:
        pass
    os._exit(0)


def _listen(orders: Connection, incoming: "SimpleQueue[tuple[str, Any, bytes]]") -> None:
    """Takes leave as soon as there is nobody to take orders from."""
    try:
        while True:
            incoming.put(pickle.loads(orders.recv_bytes()))  # noqa: S301  from the process that started this one
    except (EOFError, OSError):
        import ray

        ray.shutdown()
        os._exit(0)


def _serve(schedule: "Schedule", incoming: "SimpleQueue[tuple[str, Any, bytes]]") -> NoReturn:
    while True:
        idle = not schedule.under_way
        while True:
            try:
                kind, what, contents = incoming.get(timeout=TICK) if idle else incoming.get_nowait()
            except Empty:
                break
            idle = False
            if kind == "shared":
                schedule.share(what, contents)
            else:
                schedule.add(what, contents)
        schedule.step(TICK)


def _connect(address: str | None) -> str:
    """Joins the cluster, and returns where it is, for messages.

    Raises:
        EngineError: there is no cluster that this process could join.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "auto":
        _refuse_unreachable(address)
        where = f"at {address}"
    else:
        where = "of this machine"
    import logging

    import ray

    try:
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as error:  # what Ray raises is of many kinds
        if where == "of this machine" and isinstance(error, ConnectionError):
            raise EngineError(
                "no Ray cluster runs on this machine: start one with `ray start --head`, or give --address HOST:PORT"
            ) from error
        raise EngineError(f"the Ray cluster {where} cannot be joined: {_first_line(error)}; {_RUN_THERE}") from error
    return where


def _refuse_unreachable(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        raise EngineError(
            f"--address {address}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379; {_RUN_THERE}"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH):
            pass
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); `ray status` on its "
            "head tells the address"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".")[:300] if lines else type(error).__name__
