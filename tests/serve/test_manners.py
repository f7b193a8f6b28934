"""Callers who send too much, too slowly, or nothing sensible, and the service that goes on."""

import http.client
import json
import socket
import time
from contextlib import ExitStack, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import pytest
from serving import MNIST, read_all, serving, tensor, wait_for

DECODER = "/v2/models/mnist_decoder/infer"
WITH_LIMITS = """
from vae_serve.serve import limits
class Limits(limits.Limits, frozen=True):
    {}
limits.Limits = Limits
from vae_serve.__main__ import run
run()
"""
QUICK = "header_seconds: float = 1.0; body_seconds: float = 1.0; answer_seconds: float = 2.0; connections: int = 20"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A service with short deadlines and low limits."""
    folder = tmp_path_factory.mktemp("hasty")
    (folder / "hasty.py").write_text(WITH_LIMITS.format(QUICK))
    with serving("--model", MNIST, cwd=folder, program=(str(folder / "hasty.py"),)) as running:
        yield running


def said(service, *parts: bytes) -> bytes:
    """What the service says to bytes on a bare connection until it closes it."""
    with service.connect() as connection:
        for part in parts:
            connection.sendall(part)
        return read_all(connection)


def refused(answer: bytes, status: int) -> str:
    """The sentence of a refusal, which is the last answer on a connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"connection: close" in head
    [sentence] = json.loads(body).values()
    return sentence


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "])
def test_a_header_that_does_not_come_in_time_is_408(hasty, sent):
    assert "the header did not come within 1 s" in refused(said(hasty, sent), 408)


def test_a_header_that_trickles_is_408_all_the_same(hasty):
    with hasty.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        answer = b""
        connection.settimeout(0.1)
        for _ in range(600):
            try:
                connection.sendall(b"X-A: b\r\n")
                answer += connection.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                break
            break
    assert b"408" in answer


def test_a_second_request_that_begins_and_does_not_go_on_is_408(hasty):
    with hasty.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\nGET /v2 HTT")
        answer = read_all(connection)
    first, _, second = answer.partition(b'{"live":true}')
    assert first.startswith(b"HTTP/1.1 200")
    refused(second, 408)


@pytest.mark.parametrize(
    "header",
    [
        b"X-Long: " + b"a" * (70 << 10),
        b"\r\n".join(b"X-%d: %s" % (at, b"a" * 1000) for at in range(70)),
        b"\r\n".join(b"X-%d: b" % at for at in range(20_000)),
    ],
)
def test_a_header_that_is_too_large_is_431(hasty, header):
    assert "65,536 bytes" in refused(said(hasty, b"GET /v2 HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n"), 431)


def test_an_address_that_is_too_long_is_431(hasty):
    refused(said(hasty, b"GET /" + b"a" * (70 << 10) + b" HTTP/1.1\r\nHost: a\r\n\r\n"), 431)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000]
)
def test_what_is_not_http_is_400(hasty, sent):
    refused(said(hasty, sent), 400)


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1",
        b"Content-Length: 1e3",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, identity",
    ],
)
def test_a_length_that_two_readers_could_take_differently_is_400(hasty, header):
    answer = said(hasty, b"POST " + DECODER.encode() + b" HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\nhello")
    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_in_time_is_408(hasty, framing):
    answer = said(hasty, b"POST " + DECODER.encode() + b" HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    assert "the body did not come within 1 s" in refused(answer, 408)


def test_ten_gigabytes_that_are_declared_are_refused_and_not_waited_for(hasty):
    head = b"POST " + DECODER.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n"
    assert "33,554,432 bytes" in refused(said(hasty, head + b"Expect: 100-continue\r\n\r\n"), 413)
    assert "33,554,432 bytes" in refused(said(hasty, head + b"\r\n"), 413)


def test_a_body_larger_than_the_limit_is_413_for_a_caller_who_sends_all_of_it(hasty):
    answer = hasty.post(DECODER, bytes(40 << 20))
    assert answer.status == 413
    chunks = http.client.HTTPConnection(*hasty.address, timeout=60)
    chunks.request("POST", DECODER, iter([bytes(1 << 20)] * 40), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert chunks.getresponse().status == 413
    chunks.close()


def test_a_caller_who_waits_to_be_asked_for_the_body_is_asked(hasty):
    body = json.dumps({"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [0, 1]}]}).encode()
    with hasty.connect() as connection:
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (DECODER.encode(), len(body)))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_requests_one_after_another_without_waiting_are_answered_in_order(hasty):
    paths = ["/v2/health/live", "/v2", "/nothing", "/v2/models/mnist_encoder", "/v2/health/live"]
    sent = b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode() for path in paths)
    answer = said(hasty, sent[:-2] + b"Connection: close\r\n\r\n")
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, 404, 200, 200]
    assert answer.count(b'{"live":true}') == 2


def test_too_many_requests_ahead_of_their_answers_are_refused_after_the_first_hundred(hasty):
    answer = said(hasty, b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
    assert answer.count(b"HTTP/1.1 200") == 101  # the one at hand, and those that wait
    refused(answer.rpartition(b'{"live":true}')[2], 503)


def test_what_is_not_http_after_a_request_is_400_after_that_request_s_answer(hasty):
    answer = said(hasty, b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\nwhatever\r\n\r\n")
    first, _, second = answer.partition(b'{"live":true}')
    assert first.startswith(b"HTTP/1.1 200")
    refused(second, 400)


def test_a_body_in_chunks_that_turn_to_something_else_is_400_and_the_request_is_given_up(hasty):
    head = b"POST " + DECODER.encode() + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(said(hasty, head + b"5\r\nhello\r\n", b"no number\r\n"), 400)
    wait_for(lambda: "vae_serve_in_flight 1.0" in hasty.get("/metrics").body.decode(), "the request to end")


def test_fields_that_follow_a_body_are_not_those_of_the_request_and_are_limited_too(hasty):
    head = b"POST /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    answer = said(hasty, head + b"X-Request-ID: late\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"x-request-id: late" not in answer
    refused(said(hasty, head + b"".join(b"X-%d: b\r\n" % at for at in range(20_000))), 431)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/health/live HTTP/1.0\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET http://a/v2/health/%6cive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_connection_that_is_not_to_be_kept_is_closed_after_the_answer(hasty, sent):
    head, _, body = said(hasty, sent, b"what follows is not read").partition(b"\r\n\r\n")
    fields = head.split(b"\r\n")
    assert (fields[0], body) == (b"HTTP/1.1 200 OK", b'{"live":true}')
    assert b"connection: close" in fields
    [date] = [field for field in fields if field.startswith(b"date: ")]
    assert abs(parsedate_to_datetime(date[6:].decode()).timestamp() - time.time()) < 60


def test_a_caller_who_reads_no_answer_is_let_go(hasty):
    values = np.zeros((5000, 2), np.float32)
    described = {"name": "z", "shape": [5000, 2], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    body = text + values.tobytes()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(hasty.address)
        connection.sendall(head % (DECODER.encode(), len(text), len(body)) + body)
        number = connection.getsockname()[1]
        wait_for(lambda: held(hasty, number) == 1, "the connection")
        wait_for(lambda: held(hasty, number) == 0, "the connection's end")


def held(service, port: int) -> int:
    """Connections of the service whose other end is at a port of this machine and which it has not closed."""
    lines = Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]
    inodes = set()
    for link in Path(f"/proc/{service.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            inodes.add(str(link.readlink()))
    return sum(
        int(words[2].split(":")[1], 16) == port and f"socket:[{words[9]}]" in inodes for words in map(str.split, lines)
    )


def test_one_connection_too_many_is_503_and_room_again_when_some_end(hasty):
    open_ones = []
    try:
        while True:
            connection = hasty.connect()
            open_ones.append(connection)
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = connection.recv(1 << 16)
            if b" 503 " in answer:
                break
            assert b" 200 " in answer
            assert len(open_ones) <= 21
        assert "retry-after: 1" in answer.decode()
    finally:
        for connection in open_ones:
            connection.close()
    wait_for(lambda: hasty.get("/v2/health/live").status == 200, "room")


def test_large_requests_that_would_take_too_much_memory_together_are_503(tmp_path):
    (tmp_path / "cramped.py").write_text(WITH_LIMITS.format("memory: int = 64 << 20"))
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (DECODER.encode(), 30 << 20)
    with (
        serving("--model", MNIST, cwd=tmp_path, program=(str(tmp_path / "cramped.py"),)) as cramped,
        ExitStack() as stack,
    ):
        for _ in range(2):
            stack.enter_context(cramped.connect()).sendall(head + bytes(25 << 20))  # and five MiB are to come
        with cramped.connect() as third:
            with suppress(OSError):  # it may be refused before all is sent
                third.sendall(head + bytes(25 << 20))
            assert read_all(third).startswith(b"HTTP/1.1 503 ")
        stack.close()
        wait_for(lambda: "vae_serve_held_bytes 0.0" in cramped.get("/metrics").body.decode(), "the memory")


def test_callers_who_go_away_at_any_moment_leave_nothing_behind(hasty):
    body = json.dumps({"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [0, 1]}]}).encode()
    request = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (DECODER.encode(), len(body)) + body
    for stop in range(0, len(request) + 1, 7):
        connection = hasty.connect()
        connection.sendall(request[:stop])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
        connection.close()
    wait_for(lambda: "vae_serve_in_flight 1.0" in hasty.get("/metrics").body.decode(), "all others to end")
    assert hasty.post(DECODER, {"inputs": [tensor("z", np.array([[0.0, 1.0]]))]}).status == 200
    assert not [line for line in hasty.lines if "Traceback" in line]


def test_pages_of_other_hosts_may_read_answers_only_when_asked(service, tmp_path):
    asks = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in service.get("/v2", asks).headers
    assert service.ask("OPTIONS", DECODER, headers=asks).status == 405
    with serving("--model", MNIST, "--allow-origin", "https://example.org", cwd=tmp_path) as open_one:
        allowed, other = open_one.get("/v2", asks), open_one.get("/v2", {"Origin": "https://example.com"})
        preflight = open_one.ask("OPTIONS", DECODER, headers=asks)
    assert allowed.headers["access-control-allow-origin"] == "https://example.org"
    assert "access-control-allow-origin" not in other.headers
    assert (preflight.status, preflight.headers["access-control-allow-methods"]) == (204, "POST")


def test_head_is_answered_as_get_is_without_the_body(service):
    whole, head = service.get("/v2"), service.ask("HEAD", "/v2")
    assert head.body == b""
    assert head.headers["content-length"] == str(len(whole.body))


def test_a_body_that_nobody_reads_does_not_become_the_next_request(service):
    with service.connect() as connection:
        inner = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner)
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = read_all(connection)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404]


def test_what_nobody_waits_for_any_more_is_not_computed(hasty):
    """200 callers ask for 12 MB each, and go away: their work is given up, and its memory with it."""
    values = np.zeros((4000, 2), np.float32)
    described = {"name": "z", "shape": [4000, 2], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    request = head % (DECODER.encode(), len(text), len(text) + values.nbytes) + text + values.tobytes()
    before = rows(hasty)
    for _ in range(200):
        with hasty.connect() as connection:
            connection.sendall(request)
    wait_for(lambda: "vae_serve_in_flight 1.0" in hasty.get("/metrics").body.decode(), "all of them to end")
    assert "vae_serve_waiting 0.0" in hasty.get("/metrics").body.decode()
    assert "vae_serve_held_bytes 0.0" in hasty.get("/metrics").body.decode()
    assert rows(hasty) - before < 100 * 4000
    status = Path(f"/proc/{hasty.process.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 500 * 1024


def rows(service) -> float:
    """Rows that the decoder has been run for."""
    [line] = [
        line for line in service.get("/metrics").body.decode().splitlines() if 'rows_total{model="mnist_dec' in line
    ]
    return float(line.split()[1])
