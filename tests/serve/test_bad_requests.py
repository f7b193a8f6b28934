"""Every field of a request wrong in turn: a status of 4xx and one sentence in the protocol's form, and nothing else."""

import gzip
import json

import numpy as np
import pytest
from serving import tensor

DECODER, ENCODER = "mnist_decoder", "mnist_encoder"
Z = {"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1.0]}
IMAGE = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "FP32", "data": [0.5] * 784}


def refused(answer, status, words):
    """Holds an answer against what it must be."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["error"]
    sentence = answer.json["error"]
    assert words in sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert len(sentence) < 300


WRONG = [  # what is wrong with z, and what the sentence has
    ({"name": "x"}, "the input is called 'x'"),
    ({"name": None}, "Expected `str`"),
    ({"name": ""}, "the input is called ''"),
    ({"name": "z" * 100_000}, "the input is called"),
    ({"shape": [1, 3]}, "give [n, 2]"),
    ({"shape": [2]}, "give [n, 2]"),
    ({"shape": []}, "give [n, 2]"),
    ({"shape": [2, 2]}, "[2, 2] takes 4 numbers"),
    ({"shape": [0, 2], "data": []}, "z has 0 rows"),
    ({"shape": [-1, 2]}, "z has -1 rows"),
    ({"shape": [1.0, 2]}, "Expected `int`"),
    ({"shape": ["1", 2]}, "Expected `int`"),
    ({"shape": [True, 2]}, "Expected `int`"),
    ({"shape": [1, 2, 1]}, "give [n, 2]"),
    ({"shape": [10**30, 2]}, "Expected `int` <= 4611686018427387904"),
    ({"parameters": {"binary_data_size": 10**4000}, "data": None}, ""),
    ({"shape": [10**12, 2]}, ""),
    ({"shape": "1,2"}, "Expected `array`"),
    ({"datatype": "FP64"}, "'FP64'; give FP32"),
    ({"datatype": "UINT8"}, "give FP32"),
    ({"datatype": "fp32"}, "give FP32"),
    ({"datatype": 32}, "Expected `str`"),
    ({"data": [0.5]}, "1 numbers"),
    ({"data": [0.5, 1, 2]}, "3 numbers"),
    ({"data": []}, "0 numbers"),
    ({"data": [[0.5], [1]]}, "nested as [2, 1]"),
    ({"data": [[0.5, 1], [1]]}, "ragged"),
    ({"data": [0.5, "1"]}, "something else than numbers"),
    ({"data": ["a", "b"]}, "something else than numbers"),
    ({"data": [None, 1]}, "something else than numbers"),
    ({"data": [True, False]}, "something else than numbers"),
    ({"data": [{}, {}]}, "something else than numbers"),
    ({"data": "0.5, 1"}, "something else than numbers"),
    ({"data": {"0": 1, "1": 2}}, "something else than numbers"),
    ({"data": 3}, "1 numbers"),
    ({"data": None}, "something else than numbers"),
    ({"data": [1e300, 1]}, "not finite"),
    ({"data": [10**400, 1]}, ""),
    ({"parameters": {"binary_data_size": 8}}, "both data and a binary_data_size"),
    ({"parameters": {"shared_memory_region": "r"}}, "not supported"),
    ({"parameters": []}, "Expected `object`"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[json.dumps(change)[:40] for change, _ in WRONG])
def test_a_wrong_field_of_an_input(service, change, words):
    answer = service.infer(DECODER, {"inputs": [{**Z, **change}]})
    refused(answer, 413 if change == {"shape": [10**12, 2]} else 400, words)


@pytest.mark.parametrize("missing", ["name", "shape", "datatype", "data"])
def test_a_missing_field_of_an_input(service, missing):
    given = {name: value for name, value in Z.items() if name != missing}
    refused(service.infer(DECODER, {"inputs": [given]}), 400, missing if missing != "data" else "neither data")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "missing required field `inputs`"),
        ({"inputs": []}, "takes one, z"),
        ({"inputs": [Z, Z]}, "takes one, z, once"),
        ({"inputs": [Z, {**Z, "name": "y"}]}, "takes one, z"),
        ({"inputs": Z}, "Expected `array`"),
        ({"inputs": [[]]}, "Expected `object`"),
        ([], "Expected `object`"),
        (None, "Expected `object`"),
        ("inputs", "Expected `object`"),
        ({"inputs": [Z], "id": 7}, "Expected `str`"),
        ({"inputs": [Z], "outputs": [{"name": "x"}]}, "there is no output 'x'"),
        ({"inputs": [Z], "outputs": [{"name": "image"}, {"name": "image"}]}, "asked for twice"),
        ({"inputs": [Z], "outputs": [{"name": "image"}] * 1000}, "1000 outputs"),
        ({"inputs": [Z], "outputs": [{}]}, "missing required field `name`"),
        ({"inputs": [Z], "outputs": "image"}, "Expected `array`"),
        ({"inputs": [Z], "outputs": [{"name": "image", "parameters": {"binary_data": 1}}]}, "give true or false"),
        ({"inputs": [Z], "outputs": [{"name": "image", "parameters": {"classification": 3}}]}, "not supported"),
        ({"inputs": [Z], "parameters": {"binary_data_output": "yes"}}, "give true or false"),
        ({"inputs": [Z], "parameters": None}, "Expected `object`"),
    ],
)
def test_a_wrong_field_of_a_request(service, record, words):
    refused(service.infer(DECODER, record), 400, words)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"inputs",
        b'{"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [NaN, 1]}]}',
        b'{"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [Infinity, 1]}]}',
        b'{"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [1e999, 1]}]}',
        b'{"inputs": "\xff\xfe"}',
        b'{"inputs": "\\ud800"}',
        b"\x00" * 100,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"inputs":[{"name":"z","shape":[1,2],"datatype":"FP32","data":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}",
        b'{"inputs":[{"name":"z","shape":[1,2],"datatype":"FP32","data":' + b"[" * 70 + b"1" + b"]" * 70 + b"}]}",
        b'{"a":' * 50_000,
        b'{"inputs": [{"name": "z", "shape": [' + b"9" * 5000 + b', 2], "datatype": "FP32", "data": [0, 1]}]}',
        b'{"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [' + b"9" * 5000 + b", 1]}]}",
        b'{"inputs": []} and more',
    ],
    ids=range(17),
)
def test_what_is_not_json_or_not_the_protocol(service, text):
    refused(service.post(f"/v2/models/{DECODER}/infer", text), 400, "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5] * 783 + [1.5], "row 0 of image has values from 0.5 to 1.5; floats are 0..1"),
        ([0.5] * 783 + [-0.1], "floats are 0..1"),
        ([0.5] * 783 + [1e39], "floats are 0..1"),
    ],
)
def test_an_image_out_of_range(service, values, words):
    refused(service.infer(ENCODER, {"inputs": [{**IMAGE, "data": values}]}), 400, words)


@pytest.mark.parametrize("values", [[0.5] * 784, [256] * 784, [-1] * 784, [1.0] * 784])
def test_bytes_out_of_range(service, values):
    given = {**IMAGE, "datatype": "UINT8", "data": values}
    refused(service.infer(ENCODER, {"inputs": [given]}), 400, "whole numbers of 0..255")


def test_the_row_that_is_wrong_is_named(service, images):
    bad = images[:5].copy()
    bad[3, 14, 14, 0] = np.nan
    body = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [5, 28, 28, 1],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": bad.nbytes},
                }
            ]
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))}
    refused(service.post(f"/v2/models/{ENCODER}/infer", body + bad.tobytes(), headers), 400, "row 3 of image")


def in_bytes(size, shape=(1, 2), length=None, tail=b"\0" * 8, **more):
    """A request whose input has a binary_data_size."""
    given = {"name": "z", "shape": list(shape), "datatype": "FP32", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [given | more]}).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text) if length is None else length)}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (in_bytes(7), "is 7; 8 bytes follow"),
        (in_bytes(9), "is 9; 8 bytes follow"),
        (in_bytes(-8), "is -8; 8 bytes follow"),
        (in_bytes("8"), "is '8'; 8 bytes follow"),
        (in_bytes(8.0), "is 8.0; 8 bytes follow"),
        (in_bytes(None, data=[0, 0]), "no input has a binary_data_size"),
        (in_bytes(10**10), "is 10000000000"),
        (in_bytes(10**4000), "is 1000"),
        (in_bytes(8, (2, 2)), "[2, 2] takes 16"),
        (in_bytes(4, tail=b"\0" * 4), "[1, 2] takes 8"),
        (in_bytes(8, tail=b"\0\0\xc0\x7f" * 2), "not finite"),
        (in_bytes(8, length=10**9), "not a number of bytes within"),
        (in_bytes(8, length="-1"), "not a number of bytes within"),
        (in_bytes(8, length="1e3"), "not a number of bytes within"),
        (in_bytes(8, length="9" * 5000), "not a number of bytes within"),
        (in_bytes(8, length=5), ""),
        (in_bytes(8, length=0), "a row of z takes 8"),
        (in_bytes(8, data=[0, 0]), "both data and a binary_data_size"),
    ],
)
def test_a_wrong_binary_tensor(service, request_, words):
    body, headers = request_
    refused(service.post(f"/v2/models/{DECODER}/infer", body, headers), 400, words)


def test_a_binary_size_without_the_header_field(service):
    body, _ = in_bytes(8, tail=b"")
    refused(service.post(f"/v2/models/{DECODER}/infer", body), 400, "no Inference-Header-Content-Length")


def test_more_rows_than_an_answer_may_have(service):
    many = np.zeros((100_000, 2), np.float32)
    body, headers = in_bytes(many.nbytes, many.shape, tail=many.tobytes())
    refused(service.post(f"/v2/models/{DECODER}/infer", body, headers), 413, "send several")


def test_json_beyond_its_limit_is_told_to_come_as_bytes(service):
    refused(service.infer(DECODER, {"inputs": [Z], "filler": "a" * (9 << 20)}), 413, "binary data")
    refused(service.infer(DECODER, {"inputs": [{**Z, "shape": [1] * (4 << 20)}]}), 413, "binary data")
    refused(service.infer(DECODER, {"inputs": [{}] * (4 << 20)}), 413, "binary data")
    refused(service.infer(DECODER, b'{"inputs": [{"data": [' + b"0," * (5 << 20)), 400, "no JSON")


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (b"0.5", 200),
        (b"0.5, 0.5", 400),
        (b'"0.5"', 400),
        (b"true", 400),
        (b"1.5", 400),
        (b"[0.5]", 400),
        (b"9" * 400, 400),
    ],
)
def test_the_last_of_many_megabytes_of_numbers_is_looked_at_as_any_other(service, last, status):
    head = b'{"inputs": [{"name": "image", "shape": [1200, 28, 28, 1], "datatype": "FP32", "data": ['
    body = head + b"0.1234567," * (1200 * 784 - 1) + last + b"]}]}"
    answer = service.post(f"/v2/models/{ENCODER}/infer", body)
    assert answer.status == status, answer.body[:1000]


@pytest.mark.parametrize("media", ["multipart/form-data; boundary=x", "text/html", "image/png", "application/xml"])
def test_a_media_type_that_infer_does_not_take(service, media):
    refused(service.infer(DECODER, {"inputs": [Z]}, {"Content-Type": media}), 415, "send application/json")


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip"])
def test_a_coding_that_is_not_known(service, coding):
    answer = service.infer(DECODER, {"inputs": [Z]}, {"Content-Encoding": coding})
    refused(answer, 415, "send gzip, deflate or none")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", gzip.compress(b"{}" * 1000, mtime=0)[:-9]),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"trailing"),
        ("gzip", b""),
        ("deflate", gzip.compress(b"{}", mtime=0)),
    ],
    ids=["no gzip", "cut short", "more after it", "empty", "gzip in place of deflate"],
)
def test_a_packed_body_that_is_damaged(service, coding, body):
    refused(service.post(f"/v2/models/{DECODER}/infer", body, {"Content-Encoding": coding}), 400, coding)


def test_a_bomb_is_unpacked_no_further_than_the_limit(service):
    bomb = gzip.compress(b" " * (300 << 20), 9)
    assert len(bomb) < 1 << 20
    refused(
        service.post(f"/v2/models/{DECODER}/infer", bomb, {"Content-Encoding": "gzip"}), 413, "unpacks to more than"
    )
    twice = gzip.compress(b"\0" * (20 << 20)) * 2
    refused(
        service.post(f"/v2/models/{DECODER}/infer", twice, {"Content-Encoding": "gzip"}), 413, "unpacks to more than"
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v2/models/mnist_decoder/infer", "POST"),
        ("POST", "/v2/models/mnist_decoder", "GET, HEAD"),
        ("DELETE", "/v2/health/live", "GET, HEAD"),
        ("PUT", "/v1/encode", "POST"),
        ("OPTIONS", "/v1/grid.png", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
    ],
)
def test_a_method_that_an_endpoint_does_not_take(service, method, path, allow):
    answer = service.ask(method, path)
    refused(answer, 405, allow)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/models", "/v3", "//", "/v2/models//infer", "/v2/%00", "/%2e%2e/etc/passwd"]
)
def test_a_path_where_nothing_is(service, path):
    refused(service.get(path), 404, "there is no")


@pytest.mark.parametrize("query", ["?a=1", "?z=1&z=2", "?%ff=1", "?" + "&".join(f"a{i}=1" for i in range(200))])
def test_parameters_that_are_not_known(service, query):
    refused(service.get(f"/v2/health/live{query}"), 400, "")
    refused(service.get(f"/v1/decode.png{query}"), 400, "")


def test_after_all_that_the_service_answers_as_before(service, expected):
    z = np.array([Z["data"]], np.float32)
    answer = service.infer(DECODER, {"inputs": [tensor("z", z)]}).json
    assert np.array(answer["outputs"][0]["data"], np.float32).tobytes() == expected.decode(z).tobytes()
