"""The Open Inference Protocol over gRPC: the same checks, the same batches and the same bits as over HTTP."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from vae_serve.errors import ServiceError, VaeServeError
from vae_serve.serve import metadata
from vae_serve.serve.access_log import say
from vae_serve.serve.answers import Refusal, brief
from vae_serve.serve.grpc_messages import DATA_TYPES, SERVICE, messages
from vae_serve.serve.networks import DATATYPES, VERSION, Network
from vae_serve.serve.request import Holding
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service
from vae_serve.serve.tensors import as_bytes, from_bytes, from_numbers, rows_of

Array = npt.NDArray[Any]

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcService:
    """The service `inference.GRPCInferenceService` at a port."""

    def __init__(self, service: Service, served: Callable[[], Served]) -> None:
        """`served`: the bundle that is served now."""
        self._service, self._served = service, served
        self._messages = messages()
        limits = service.limits
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", 2 * limits.answer_bytes),
                ("grpc.max_metadata_size", limits.header_bytes),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=limits.waiting,
        )
        answers: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": self._infer,
        }
        handlers = {name: self._handler(name, answer) for name, answer in answers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, host: str, port: int) -> int:
        """Listens, and says at which port.

        Raises:
            ServiceError: the port cannot be had.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            bound: int = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise ServiceError(f"--grpc-port {port} of {host} cannot be had: it is taken, or not allowed")
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Ends after what is in flight."""
        await self._server.stop(grace)

    def _handler(self, name: str, answer: Callable[[Any], Awaitable[Any]]) -> Any:
        """One method, whose refusals become gRPC's."""

        async def handled(request: Any, context: Any) -> Any:
            service = self._service
            service.in_flight += 1
            try:
                return await answer(request)
            except Refusal as refusal:
                code = _CODES.get(refusal.status, grpc.StatusCode.INTERNAL)
                await context.abort(code, refusal.sentence)
            except (VaeServeError, MemoryError) as error:
                say(f"error: gRPC {name}: {error}")
                await context.abort(grpc.StatusCode.INTERNAL, f"the model could not be run: {error}")
            except Exception as error:  # noqa: BLE001  gRPC would send its text to the caller
                say(f"error: gRPC {name}: {type(error).__name__}: {error}")
                await context.abort(
                    grpc.StatusCode.INTERNAL, "the service has met a fault of its own; its log says which"
                )
            finally:
                service.in_flight -= 1

        return grpc.unary_unary_rpc_method_handler(
            handled,
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=self._messages[f"{name}Response"].SerializeToString,
        )

    def _answer(self, name: str, /, **fields: Any) -> Any:
        return self._messages[f"{name}Response"](**fields)

    def _network(self, name: str, version: str) -> Network:
        networks = self._served().networks
        if name not in networks:
            raise Refusal(404, f"there is no model {brief(name)}; there are {' and '.join(networks)}")
        if version not in ("", VERSION):
            raise Refusal(404, f"{name} has no version {brief(version)}; it has {VERSION}")
        return networks[name]

    async def _live(self, request: Any) -> Any:
        return self._answer("ServerLive", live=True)

    async def _ready(self, request: Any) -> Any:
        return self._answer("ServerReady", ready=not self._service.ending)

    async def _model_ready(self, request: Any) -> Any:
        self._network(request.name, request.version)
        return self._answer("ModelReady", ready=not self._service.ending)

    async def _server_metadata(self, request: Any) -> Any:
        return self._answer("ServerMetadata", **metadata.server())

    async def _model_metadata(self, request: Any) -> Any:
        return self._answer("ModelMetadata", **metadata.model(self._network(request.name, request.version)))

    async def _model_config(self, request: Any) -> Any:
        record = metadata.configuration(self._network(request.name, request.version), self._service.limits)
        tensors = {
            side: [{**tensor, "data_type": DATA_TYPES[tensor["data_type"]]} for tensor in record[side]]
            for side in ("input", "output")
        }
        names = ("name", "platform", "backend", "max_batch_size")
        return self._answer("ModelConfig", config={**{name: record[name] for name in names}, **tensors})

    async def _model_statistics(self, request: Any) -> Any:
        networks = self._served().networks
        chosen = [self._network(request.name, request.version)] if request.name else list(networks.values())
        return self._answer("ModelStatistics", **metadata.statistics(chosen))

    async def _infer(self, request: Any) -> Any:
        begun = time.perf_counter_ns()
        network = self._network(request.model_name, request.model_version)
        holding = Holding(self._service.room)
        try:
            holding.hold(sum(map(len, request.raw_input_contents)))
            answer = await self._inferred(request, network, holding)
        except BaseException:
            network.counts.fail += 1
            network.counts.fail_ns += time.perf_counter_ns() - begun
            raise
        finally:
            holding.release()
        network.counts.success += 1
        network.counts.success_ns += time.perf_counter_ns() - begun
        network.counts.last = time.time_ns() // 1_000_000
        return answer

    async def _inferred(self, request: Any, network: Network, holding: Holding) -> Any:
        wanted = _wanted(request, network)
        rows = _rows(request, network, network.rows_limit(self._service.limits.answer_bytes))
        network.check(rows)
        holding.hold(len(rows) * network.output_bytes * 2)  # the outputs and their copy
        outputs = await network.run(self._service.workers, rows)
        described = [
            {
                "name": network.outputs[at].name,
                "datatype": DATATYPES[network.outputs[at].dtype],
                "shape": outputs[at].shape,
            }
            for at in wanted
        ]
        return self._answer(
            "ModelInfer",
            model_name=network.name,
            model_version=VERSION,
            id=request.id,
            outputs=described,
            raw_output_contents=[bytes(as_bytes(outputs[at])) for at in wanted],
        )


def _wanted(request: Any, network: Network) -> list[int]:
    names = [output.name for output in network.outputs]
    wanted: list[int] = []
    for output in request.outputs:
        if output.name not in names:
            raise Refusal(400, f"there is no output {brief(output.name)}; {network.name} has {', '.join(names)}")
        at = names.index(output.name)
        if at in wanted:
            raise Refusal(400, f"the output {output.name} is asked for twice; ask once")
        _check_parameters(output)
        wanted.append(at)
    return wanted or list(range(len(names)))


def _check_parameters(tensor: Any) -> None:
    for word in ("shared_memory_region", "classification"):
        if word in tensor.parameters:
            raise Refusal(400, f"{brief(tensor.name)} has the parameter {word}, which is not supported here")


def _rows(request: Any, network: Network, most: int) -> Array:
    if len(request.inputs) != 1:
        names = [tensor.name for tensor in request.inputs]
        raise Refusal(400, f"the inputs are {brief(names)}; {network.name} takes one, {network.input.name}, once")
    [tensor] = request.inputs
    rows, dtype = rows_of(network, tensor.name, tensor.datatype, list(tensor.shape), most)
    _check_parameters(tensor)
    raw, contents = request.raw_input_contents, tensor.contents
    field = contents.uint_contents if dtype == np.uint8 else contents.fp32_contents
    if raw and field:
        raise Refusal(400, f"{tensor.name} has both contents and raw_input_contents; give one of them")
    if len(raw) > 1:
        raise Refusal(400, f"there are {len(raw)} raw_input_contents for one input")
    if raw:
        return from_bytes(network, memoryview(raw[0]), rows, dtype)
    return from_numbers(network, np.fromiter(field, np.int64 if dtype == np.uint8 else np.float32), rows, dtype)
