"""`infer` of the Open Inference Protocol, version 2, over HTTP: in JSON, and with the binary tensor data extension.

The protocol: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
The extension: https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

import asyncio
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.serve.answers import BINARY, JSON, Answer, Refusal, brief
from vae_serve.serve.batching import Workers
from vae_serve.serve.body import ASIDE
from vae_serve.serve.limits import Limits
from vae_serve.serve.networks import DATATYPES, VERSION, Network
from vae_serve.serve.request import Request
from vae_serve.serve.tensors import as_bytes, from_bytes, from_json, rows_of

Array = npt.NDArray[Any]
Parameters = dict[str, Any]
Record = TypeVar("Record")

JSON_SHARE = 4  # the text of a number takes up to so many times its bytes as a float32
MOST_OBJECTS = 1000  # in the JSON of a large request
MOST_OUTPUTS = 16  # that a request may list; a network has two at most

_UNSAID = (
    b"",
    b"application/x-www-form-urlencoded",
    b"text/plain",
)  # what curl -d and JavaScript's fetch say of any text
_MEDIA = (JSON, BINARY, b"text/json", *_UNSAID)
_REFUSED = ("shared_memory_region", "classification")  # what would change the answer, and is not there


Size = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]  # what reaches a message can be written in it


class InputTensor(msgspec.Struct):
    """A tensor of a request."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class Numbers(msgspec.Struct):
    """A tensor of a request: its data alone."""

    data: msgspec.Raw = msgspec.Raw()


class AllNumbers(msgspec.Struct):
    """A request: the data of its inputs alone."""

    inputs: list[Numbers]


class OutputRequest(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct):
    """The JSON of a request; what else stands in it is passed over."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[OutputRequest] = []


_request = msgspec.json.Decoder(InferRequest)
_numbers = msgspec.json.Decoder(AllNumbers)


def parse(text: bytes, limits: Limits) -> InferRequest:
    """The JSON of a request, but for the numbers of its inputs.

    Raises:
        Refusal: 400, says where it is wrong; 413 where it is too large without those numbers.
    """
    if len(text) > limits.json_bytes and _besides_numbers(text) > limits.json_bytes:
        raise Refusal(413, f"the JSON has more than {limits.json_bytes:,} bytes; send tensors as binary data")
    return _read(text, _request)


def _besides_numbers(text: bytes) -> int:
    """Bytes of a request's JSON without the numbers of its inputs; all of it where it has so many objects that to find
    those would take long.
    """
    if text.count(b"{") > MOST_OBJECTS:
        return len(text)
    return len(text) - sum(len(bytes(tensor.data)) for tensor in _read(text, _numbers).inputs)


def _read(text: bytes, decoder: "msgspec.json.Decoder[Record]") -> Record:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"the request is not as the protocol has it: {error}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(400, f"the request is no JSON: {error}") from None
    except RecursionError:
        raise Refusal(400, "the request is nested too deep") from None


async def infer(
    request: Request, body: bytes, network: Network, workers: Workers, limits: Limits, alone: bool
) -> Answer:
    """The answer to an infer request whose body has been read.

    Raises:
        Refusal: what is wrong with it.
    """
    if request.media not in _MEDIA:
        raise Refusal(
            415, f"the Content-Type {brief(request.media.decode('latin-1'))} is not known; send {JSON.decode()}"
        )
    header = request.headers.get(b"inference-header-content-length")
    if header is None:
        text, binary = body, None
    else:
        size = _header_size(header, len(body))
        view = memoryview(body)
        text, binary = body[:size], view[size:]
        if not size:
            return await _raw(request, view, network, workers, limits, alone)
    asked = parse(text, limits)
    wanted = _wanted(asked, network)
    whole = all(in_bytes for _, in_bytes in wanted)
    answer_bytes = limits.answer_bytes if whole else limits.answer_bytes // JSON_SHARE
    rows = await _input(request, asked, binary, network, network.rows_limit(answer_bytes))
    network.check(rows)
    request.hold(len(rows) * network.output_bytes * (2 if whole else JSON_SHARE + 1))  # the outputs and their copy
    return _answer(asked.id, network, wanted, await network.run(workers, rows, alone))


def _header_size(header: bytes, most: int) -> int:
    if not header.isdigit() or len(header) > 20 or int(header) > most:
        raise Refusal(
            400,
            f"the Inference-Header-Content-Length {brief(header.decode('latin-1'))} is not a number of bytes within "
            f"the body's {most:,}",
        )
    return int(header)


async def _raw(
    request: Request, data: memoryview, network: Network, workers: Workers, limits: Limits, alone: bool
) -> Answer:
    """A body that is nothing but the one input's bytes; the answer is the same with all outputs."""
    datatype = DATATYPES[network.input.dtype]
    each = network.values * (4 if datatype == "FP32" else 1)
    if not data or len(data) % each:
        raise Refusal(400, f"the body has {len(data):,} bytes; a row of {network.input.name} takes {each:,}")
    shape = [len(data) // each, *network.row_shape]
    count, dtype = rows_of(network, network.input.name, datatype, shape, network.rows_limit(limits.answer_bytes))
    rows = from_bytes(network, data, count, dtype)
    network.check(rows)
    request.hold(count * network.output_bytes * 2)
    wanted = [(at, True) for at in range(len(network.outputs))]
    return _answer("", network, wanted, await network.run(workers, rows, alone))


async def _input(
    request: Request, asked: InferRequest, binary: memoryview | None, network: Network, most: int
) -> Array:
    """The rows of the one input."""
    if len(asked.inputs) != 1:
        names = [tensor.name for tensor in asked.inputs]
        raise Refusal(400, f"the inputs are {brief(names)}; {network.name} takes one, {network.input.name}, once")
    [tensor] = asked.inputs
    rows, dtype = rows_of(network, tensor.name, tensor.datatype, tensor.shape, most)
    _check_parameters(tensor.parameters, tensor.name)
    size = tensor.parameters.get("binary_data_size")
    data = bytes(tensor.data)
    if size is None:
        if not data:
            raise Refusal(400, f"{tensor.name} has neither data nor a binary_data_size")
        if binary:
            raise Refusal(400, f"{len(binary):,} bytes follow the JSON, and no input has a binary_data_size")
        if len(data) <= ASIDE:
            return from_json(network, data, rows, dtype)
        request.hold(2 * len(data))  # its copies on the way
        return await asyncio.to_thread(from_json, network, data, rows, dtype)
    if data:
        raise Refusal(400, f"{tensor.name} has both data and a binary_data_size; give one of them")
    if binary is None:
        raise Refusal(400, f"{tensor.name} has a binary_data_size, and there is no Inference-Header-Content-Length")
    if not isinstance(size, int) or isinstance(size, bool) or size != len(binary):
        raise Refusal(400, f"the binary_data_size of {tensor.name} is {brief(size)}; {len(binary):,} bytes follow")
    return from_bytes(network, binary, rows, dtype)


def _check_parameters(parameters: Parameters, name: str) -> None:
    for word in _REFUSED:
        if word in parameters:
            raise Refusal(400, f"{brief(name)} has the parameter {word}, which is not supported here")


def _wanted(asked: InferRequest, network: Network) -> list[tuple[int, bool]]:
    """Which of the network's outputs go back, and whether as bytes; all of them where none is listed."""
    default = _flag(asked.parameters, "binary_data_output", False)
    if not asked.outputs:
        return [(at, default) for at in range(len(network.outputs))]
    if len(asked.outputs) > MOST_OUTPUTS:
        raise Refusal(400, f"{len(asked.outputs)} outputs are asked for; {network.name} has {len(network.outputs)}")
    names = [output.name for output in network.outputs]
    wanted: list[tuple[int, bool]] = []
    for output in asked.outputs:
        if output.name not in names:
            raise Refusal(400, f"there is no output {brief(output.name)}; {network.name} has {', '.join(names)}")
        at = names.index(output.name)
        if any(at == other for other, _ in wanted):
            raise Refusal(400, f"the output {output.name} is asked for twice; ask once")
        _check_parameters(output.parameters, output.name)
        wanted.append((at, _flag(output.parameters, "binary_data", default)))
    return wanted


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(400, f"the parameter {name} is {brief(value)}; give true or false")
    return value


def _answer(id_: str, network: Network, wanted: list[tuple[int, bool]], outputs: tuple[Array, ...]) -> Answer:
    import orjson

    tensors: list[dict[str, Any]] = []
    parts: list[memoryview] = []
    for at, in_bytes in wanted:
        spec, values = network.outputs[at], outputs[at]
        tensor: dict[str, Any] = {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(values.shape)}
        if in_bytes:
            parts.append(as_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = np.ascontiguousarray(values).reshape(-1)
        tensors.append(tensor)
    record: dict[str, Any] = {"model_name": network.name, "model_version": VERSION, "outputs": tensors}
    if id_:
        record["id"] = id_
    text = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)
    if not parts:
        return Answer(text)
    headers = [(b"inference-header-content-length", str(len(text)).encode())]
    return Answer(b"".join((text, *parts)), BINARY, headers=headers)
