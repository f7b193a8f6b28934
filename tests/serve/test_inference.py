"""The Open Inference Protocol as its clients speak it: answers are ONNX Runtime's, to the bit."""

import gzip
import json

import numpy as np
import orjson
import pytest
from serving import binary, tensor

tritonclient = pytest.importorskip("tritonclient.http")

BATCHES = (1, 7, 64, 256)
ENCODER, DECODER = "mnist_encoder", "mnist_decoder"


@pytest.fixture(scope="module")
def client(service):
    with tritonclient.InferenceServerClient(service.at) as client:
        yield client


def asked(client, model, name, values, outputs, in_bytes=True, **more):
    """The outputs for one input, by tritonclient."""
    datatype = {"float32": "FP32", "uint8": "UINT8"}[values.dtype.name]
    given = tritonclient.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=in_bytes)
    wanted = [tritonclient.InferRequestedOutput(output, binary_data=in_bytes) for output in outputs]
    answer = client.infer(model, [given], outputs=wanted, **more)
    return [answer.as_numpy(output) for output in outputs]


@pytest.mark.parametrize("in_bytes", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("rows", BATCHES)
def test_the_encoder_answers_what_onnx_runtime_gives_to_the_bit(client, images, expected, rows, in_bytes):
    found = asked(client, ENCODER, "image", images[:rows], ["z_mean", "z_log_var"], in_bytes)
    for actual, right in zip(found, expected.encode(images[:rows]), strict=True):
        assert actual.dtype == np.float32
        assert actual.tobytes() == right.tobytes()


@pytest.mark.parametrize("in_bytes", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("rows", BATCHES)
def test_the_decoder_answers_what_onnx_runtime_gives_to_the_bit(client, points, expected, rows, in_bytes):
    [found] = asked(client, DECODER, "z", points[:rows], ["image"], in_bytes)
    assert found.tobytes() == expected.decode(points[:rows]).tobytes()
    assert found.shape == (rows, 28, 28, 1)


def test_bytes_are_taken_for_images_too_and_give_the_same(client, digits, images):
    of_bytes = asked(client, ENCODER, "image", digits[:64], ["z_mean", "z_log_var"])
    of_floats = asked(client, ENCODER, "image", images[:64], ["z_mean", "z_log_var"])
    assert [found.tobytes() for found in of_bytes] == [found.tobytes() for found in of_floats]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("in_bytes", [True, False], ids=["binary", "JSON"])
def test_requests_and_answers_may_be_packed(client, images, expected, coding, in_bytes):
    packed = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    [found] = asked(client, ENCODER, "image", images[:64], ["z_log_var"], in_bytes, **packed)
    assert found.tobytes() == expected.encode(images[:64])[1].tobytes()


def test_an_answer_is_packed_only_for_those_who_take_it(service, points):
    record = {"inputs": [tensor("z", points[:7])]}
    plain = service.infer(DECODER, record)
    packed = service.infer(DECODER, record, {"Accept-Encoding": "br, gzip;q=0.5"})
    refused = service.infer(DECODER, record, {"Accept-Encoding": "gzip;q=0, deflate;q=0"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == refused.body
    assert packed.headers["vary"] == "accept-encoding"


def test_only_the_outputs_asked_for_go_back_in_the_order_asked_for(service, images):
    inputs = [tensor("image", images[:1])]
    both = service.infer(ENCODER, {"inputs": inputs, "outputs": [{"name": "z_log_var"}, {"name": "z_mean"}]}).json
    one = service.infer(ENCODER, {"inputs": inputs, "outputs": [{"name": "z_mean"}]}).json
    assert [output["name"] for output in both["outputs"]] == ["z_log_var", "z_mean"]
    assert one["outputs"] == both["outputs"][1:]


def test_one_output_as_bytes_and_the_other_as_numbers(service, images, expected):
    outputs = [{"name": "z_mean", "parameters": {"binary_data": True}}, {"name": "z_log_var"}]
    body, headers = binary("image", images[:7], outputs=outputs)
    answer = service.post(f"/v2/models/{ENCODER}/infer", body, headers)
    size = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.body[:size])["outputs"]
    z_mean, z_log_var = expected.encode(images[:7])
    assert described[0]["parameters"] == {"binary_data_size": z_mean.nbytes}
    assert "data" not in described[0]
    assert answer.body[size:] == z_mean.tobytes()
    assert np.array(described[1]["data"], np.float32).tobytes() == z_log_var.tobytes()


def test_a_body_of_nothing_but_the_inputs_bytes(service, points, expected):
    answer = service.post(f"/v2/models/{DECODER}/infer", points[:7].tobytes(), {"Inference-Header-Content-Length": "0"})
    size = int(answer.headers["inference-header-content-length"])
    assert answer.body[size:] == expected.decode(points[:7]).tobytes()


def test_data_nested_as_the_shape_says_are_the_same_as_flat(service, points):
    flat = tensor("z", points[:3])
    nested = {**flat, "data": points[:3].tolist()}
    assert (
        service.infer(DECODER, {"inputs": [nested]}).json["outputs"]
        == service.infer(DECODER, {"inputs": [flat]}).json["outputs"]
    )


def test_an_id_comes_back_and_a_request_id_goes_through(service, points):
    record = {"id": "mine", "inputs": [tensor("z", points[:1])]}
    answer = service.infer(DECODER, record, {"X-Request-ID": "trace-7"})
    assert (answer.json["id"], answer.headers["x-request-id"]) == ("mine", "trace-7")
    others = [service.infer(DECODER, record, {"X-Request-ID": 'a"b c'}).headers["x-request-id"] for _ in range(2)]
    assert others[0] != others[1]
    assert 'a"b c' not in others


def test_what_a_request_does_not_ask_about_is_passed_over(service, points):
    record = {"inputs": [tensor("z", points[:1], more=1)], "parameters": {"priority": 3}, "else": [{}]}
    assert service.infer(DECODER, record).status == 200


def test_a_large_request_is_answered_whole_and_in_order(client, points, expected):
    many = np.concatenate([points * np.float32(scale) for scale in np.linspace(0.5, 2, 12)])
    [found] = asked(client, DECODER, "z", many, ["image"])
    assert found.tobytes() == expected.decode(many).tobytes()


@pytest.mark.parametrize("how", ["flat", "nested", "bytes"])
def test_many_megabytes_of_numbers_are_read_as_bytes_are(service, how):
    """JSON's limit is for what is no number of the input."""
    values = np.random.default_rng(0).random((1200, 28, 28, 1), np.float32)
    datatype = "FP32"
    if how == "bytes":
        values, datatype = (values * 255).astype(np.uint8), "UINT8"
        values = np.concatenate([values, values])
    text = orjson.dumps(values if how == "nested" else values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    if how == "bytes":
        text = text.replace(b",", b" , ")
    assert len(text) > 9 << 20
    head = {"name": "image", "shape": list(values.shape), "datatype": datatype}
    start = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [head]}).encode()[:-3]
    answer = service.post("/v2/models/mnist_encoder/infer", start + b', "data": ' + text + b"}]}")
    body, header = binary("image", values, datatype, parameters={"binary_data_output": True})
    assert answer.status == 200
    assert answer.body == service.post("/v2/models/mnist_encoder/infer", body, header).body


def test_health_and_metadata_are_as_the_client_expects_them(client, service):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(ENCODER)
    assert client.is_model_ready(DECODER, "1")
    assert client.get_server_metadata()["name"] == "vae-serve"
    assert client.get_model_metadata(ENCODER) == {
        "name": "mnist_encoder",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [
            {"name": "z_mean", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "z_log_var", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    assert client.get_model_metadata(DECODER, "1") == client.get_model_metadata(DECODER)


def test_a_model_or_a_version_that_is_not_there(client, service):
    assert not client.is_model_ready("mnist")
    assert not client.is_model_ready(ENCODER, "2")
    for path in ("mnist_classifier/infer", "mnist_encoder/versions/2/infer", "mnist_encoder/versions//infer"):
        answer = service.post(f"/v2/models/{path}", {})
        assert (answer.status, list(answer.json)) == (404, ["error"])


def test_the_configuration_is_the_layouts(client):
    config = client.get_model_config(DECODER)
    assert config["max_batch_size"] >= 256
    assert config["input"] == [{"name": "z", "data_type": "TYPE_FP32", "dims": [2]}]
    assert config["output"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [28, 28, 1]}]


def test_the_statistics_count_requests_rows_and_calls(client, points):
    def counted():
        [stats] = client.get_inference_statistics(DECODER)["model_stats"]
        return stats

    before = counted()
    asked(client, DECODER, "z", points[:200], ["image"])
    with pytest.raises(tritonclient.InferenceServerException):
        asked(client, DECODER, "z", points[:1] * np.float32(np.nan), ["image"])
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 200
    assert after["execution_count"] - before["execution_count"] == 4  # 64, 64, 64, 8
    for kind, count in (("success", 1), ("fail", 1)):
        assert after["inference_stats"][kind]["count"] - before["inference_stats"][kind]["count"] == count
    assert {batch["batch_size"] for batch in after["batch_stats"]} >= {8, 64}
    names = {stats["name"] for stats in client.get_inference_statistics()["model_stats"]}
    assert names == {ENCODER, DECODER}


def test_several_gzip_members_are_one_body(service, points):
    text = json.dumps({"inputs": [tensor("z", points[:2])]}).encode()
    packed = gzip.compress(text[:20]) + gzip.compress(text[20:])
    answer = service.post(f"/v2/models/{DECODER}/infer", packed, {"Content-Encoding": "gzip"})
    assert answer.json["outputs"] == service.post(f"/v2/models/{DECODER}/infer", text).json["outputs"]
