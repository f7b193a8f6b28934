"""A program that asks by KServe's client; test_kserve.py runs it in an environment of its own.

python kserve_client.py URL GRPC INPUTS OUTPUTS

INPUTS is an .npz with an array NAME/ROWS for each request, OUTPUTS one with NAME/ROWS/HOW/OUTPUT for each answer.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

MODELS = {"image": "mnist_encoder", "z": "mnist_decoder"}


def request(name, values, binary):
    """An infer request for one input."""
    given = InferInput(name, list(values.shape), "FP32")
    given.set_data_from_numpy(values, binary_data=binary)
    parameters = {"binary_data_output": True} if binary else None
    return InferRequest(MODELS[name], [given], parameters=parameters)


async def main(url, grpc_address, inputs, outputs):
    """All requests in every way."""
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    grpc = InferenceGRPCClient(grpc_address, retries=0)
    assert await rest.is_server_ready(url)
    assert await rest.is_server_live(url)
    assert await grpc.is_server_ready()
    answers: dict[str, np.ndarray] = {}
    with np.load(inputs) as given:
        for key, values in given.items():
            name = key.split("/")[0]
            assert await rest.is_model_ready(url, MODELS[name])
            assert await grpc.is_model_ready(MODELS[name])
            for how, answer in (
                ("json", await rest.infer(url, request(name, values, False), MODELS[name])),
                ("binary", await rest.infer(url, request(name, values, True), MODELS[name])),
                ("grpc", await grpc.infer(request(name, values, True))),
            ):
                answers |= {f"{key}/{how}/{output.name}": output.as_numpy() for output in answer.outputs}
    np.savez(outputs, **answers)
    await rest.close()
    await grpc.close()


asyncio.run(main(*sys.argv[1:]))
