"""The Open Inference Protocol over gRPC: the same answers as over HTTP, and refusals with gRPC's codes."""

import re

import numpy as np
import pytest
from serving import MNIST, serving

from vae_serve.serve.grpc_messages import messages

grpc = pytest.importorskip("grpc")
tritonclient = pytest.importorskip("tritonclient.grpc")

BATCHES = (1, 7, 64, 256)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A service that answers gRPC, too."""
    with serving("--model", MNIST, "--grpc-port", 0, cwd=tmp_path_factory.mktemp("grpc")) as running:
        yield running


@pytest.fixture(scope="module")
def client(both):
    with tritonclient.InferenceServerClient(both.told["grpc"]) as client:
        yield client


def asked(client, model, name, values, outputs=(), datatype=None, **more):
    given = tritonclient.InferInput(
        name, list(values.shape), datatype or {"f": "FP32", "u": "UINT8"}[values.dtype.kind]
    )
    given.set_data_from_numpy(values)
    wanted = [tritonclient.InferRequestedOutput(output) for output in outputs]
    return client.infer(model, [given], outputs=wanted or None, **more)


@pytest.mark.parametrize("rows", BATCHES)
def test_both_networks_answer_what_onnx_runtime_gives_to_the_bit(client, images, points, expected, rows):
    found = asked(client, "mnist_encoder", "image", images[:rows])
    for name, right in zip(("z_mean", "z_log_var"), expected.encode(images[:rows]), strict=True):
        assert found.as_numpy(name).tobytes() == right.tobytes()
    [decoded] = [asked(client, "mnist_decoder", "z", points[:rows], ["image"]).as_numpy("image")]
    assert decoded.tobytes() == expected.decode(points[:rows]).tobytes()
    assert decoded.shape == (rows, 28, 28, 1)


def test_bytes_and_packed_messages_give_the_same(client, digits, images):
    of_bytes = asked(client, "mnist_encoder", "image", digits[:64], ["z_mean"], compression_algorithm="gzip")
    of_floats = asked(client, "mnist_encoder", "image", images[:64], ["z_mean"])
    assert of_bytes.as_numpy("z_mean").tobytes() == of_floats.as_numpy("z_mean").tobytes()
    assert of_bytes.as_numpy("z_log_var") is None


def test_health_metadata_configuration_and_statistics_are_those_of_http(client, both):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mnist_encoder", "1")
    over_http = both.get("/v2/models/mnist_encoder").json
    over_grpc = client.get_model_metadata("mnist_encoder", as_json=True)
    assert [tensor["name"] for tensor in over_grpc["outputs"]] == [tensor["name"] for tensor in over_http["outputs"]]
    assert over_grpc["inputs"] == [{**over_http["inputs"][0], "shape": ["-1", "28", "28", "1"]}]
    config = client.get_model_config("mnist_decoder").config
    assert (config.name, config.backend, list(config.output[0].dims)) == ("mnist_decoder", "onnxruntime", [28, 28, 1])
    assert config.max_batch_size == both.get("/v2/models/mnist_decoder/config").json["max_batch_size"]
    before = both.get("/v2/models/mnist_decoder/stats").json["model_stats"][0]["inference_count"]
    asked(client, "mnist_decoder", "z", np.zeros((5, 2), np.float32))
    [stats] = client.get_inference_statistics("mnist_decoder").model_stats
    assert stats.inference_count == before + 5
    assert len(client.get_inference_statistics().model_stats) == 2


def request_of(**fields):
    return messages()["ModelInferRequest"](**{"model_name": "mnist_decoder", **fields})


Z = {"name": "z", "datatype": "FP32", "shape": [1, 2]}
RAW = np.zeros((1, 2), np.float32).tobytes()


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model_name": "mnist"}, "NOT_FOUND", "there is no model 'mnist'"),
        ({"model_version": "2"}, "NOT_FOUND", "it has 1"),
        ({"inputs": []}, "INVALID_ARGUMENT", "takes one, z"),
        ({"inputs": [Z, Z]}, "INVALID_ARGUMENT", "takes one, z, once"),
        ({"inputs": [{**Z, "name": "x"}]}, "INVALID_ARGUMENT", "the input is called 'x'"),
        ({"inputs": [{**Z, "datatype": "FP64"}]}, "INVALID_ARGUMENT", "give FP32"),
        ({"inputs": [{**Z, "shape": [1, 3]}]}, "INVALID_ARGUMENT", "give [n, 2]"),
        ({"inputs": [{**Z, "shape": [-1, 2]}]}, "INVALID_ARGUMENT", "-1 rows"),
        ({"inputs": [{**Z, "shape": [1 << 62, 2]}]}, "RESOURCE_EXHAUSTED", "send several"),
        ({"raw_input_contents": [RAW[:7]]}, "INVALID_ARGUMENT", "7 bytes"),
        ({"raw_input_contents": [RAW, RAW]}, "INVALID_ARGUMENT", "2 raw_input_contents"),
        ({"raw_input_contents": []}, "INVALID_ARGUMENT", "0 numbers"),
        ({"raw_input_contents": [b"\0\0\xc0\x7f" * 2]}, "INVALID_ARGUMENT", "not finite"),
        ({"inputs": [{**Z, "contents": {"fp32_contents": [0, 0]}}]}, "INVALID_ARGUMENT", "both contents"),
        ({"outputs": [{"name": "x"}]}, "INVALID_ARGUMENT", "there is no output 'x'"),
        ({"outputs": [{"name": "image"}, {"name": "image"}]}, "INVALID_ARGUMENT", "twice"),
        (
            {"inputs": [{**Z, "parameters": {"shared_memory_region": {"string_param": "r"}}}]},
            "INVALID_ARGUMENT",
            "not supported",
        ),
    ],
)
def test_every_field_wrong_in_turn_is_a_code_and_a_sentence(both, fields, code, words):
    request = request_of(**{"inputs": [Z], "raw_input_contents": [RAW], **fields})
    with grpc.insecure_channel(both.told["grpc"]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(request.SerializeToString(), timeout=60)
    assert refused.value.code().name == code
    assert words in refused.value.details()
    assert "\n" not in refused.value.details()


def test_numbers_in_place_of_bytes(both, expected):
    request = request_of(inputs=[{**Z, "contents": {"fp32_contents": [0.5, -1.0]}}])
    with grpc.insecure_channel(both.told["grpc"]) as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(request.SerializeToString())
    [raw] = messages()["ModelInferResponse"].FromString(answer).raw_output_contents
    assert raw == expected.decode(np.array([[0.5, -1.0]], np.float32)).tobytes()


def test_a_message_larger_than_the_limit_is_refused_packed_or_not(both):
    zeros = bytes(60 << 20)
    request = request_of(inputs=[Z], raw_input_contents=[zeros]).SerializeToString()
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(both.told["grpc"], options=[("grpc.max_send_message_length", -1)]) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as refused:
                call(request, compression=compression, timeout=60)
        assert refused.value.code().name == "RESOURCE_EXHAUSTED"


def test_every_field_is_the_published_one():
    from tritonclient.grpc import model_config_pb2, service_pb2

    nested = {
        "TensorMetadata": service_pb2.ModelMetadataResponse.TensorMetadata,
        "InferInputTensor": service_pb2.ModelInferRequest.InferInputTensor,
        "InferRequestedOutputTensor": service_pb2.ModelInferRequest.InferRequestedOutputTensor,
        "InferOutputTensor": service_pb2.ModelInferResponse.InferOutputTensor,
    }
    for name, ours in messages().items():
        theirs = nested.get(name) or getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
        for field in ours.DESCRIPTOR.fields:
            published = theirs.DESCRIPTOR.fields_by_name[field.name]
            enumeration = published.enum_type is not None  # sent as the same integer
            assert field.number == published.number
            assert field.is_repeated == published.is_repeated
            assert enumeration or field.type == published.type, (name, field.name)
    for name, number in (("TYPE_UINT8", 2), ("TYPE_FP32", 11)):
        assert model_config_pb2.DataType.Value(name) == number


def test_a_grpc_port_in_use_is_one_sentence(vae_serve, both, tmp_path):
    port = re.search(r":(\d+)$", both.told["grpc"])[1]
    done = vae_serve("serve", "--model", MNIST, "--port", 0, "--grpc-port", port, cwd=tmp_path)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("vae-serve")]
    assert f"--grpc-port {port}" in line
