"""The service's life: it starts or says why not, takes another bundle in place, and ends when it is told to."""

import json
import shutil
import signal
import socket
import threading
from pathlib import Path

import linear_bundle
import numpy as np
import pytest
from serving import MNIST, Reply, Service, serving, tensor, wait_for

from vae_serve.images.pixels import to_bytes

Z = {"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1.0]}]}


def started(vae_serve, *words: object, cwd: Path):
    """A start that fails: its one sentence."""
    done = vae_serve("serve", *words, cwd=cwd)
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert done.stdout == ""
    return line


def test_a_port_in_use_is_one_sentence(vae_serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = started(vae_serve, "--model", MNIST, "--port", port, cwd=tmp_path)
    assert line == (
        f"vae-serve: error: port {port} of 127.0.0.1 is taken by another program; end it, or choose another: "
        f"--port {port + 1}"
    )


def test_a_host_that_is_not_of_this_machine_is_one_sentence(vae_serve, tmp_path):
    assert "not an address of this machine" in started(vae_serve, "--host", "192.0.2.1", cwd=tmp_path)
    assert "not an address of this machine" in started(vae_serve, "--host", "no such host", cwd=tmp_path)


def test_a_bundle_that_fails_its_check_is_one_sentence(vae_serve, tmp_path):
    damaged = shutil.copytree(MNIST, tmp_path / "damaged")
    contents = bytearray((damaged / "decoder.onnx").read_bytes())
    contents[len(contents) // 2] ^= 1
    (damaged / "decoder.onnx").write_bytes(contents)
    line = started(vae_serve, "--model", damaged, "--port", 0, cwd=tmp_path)
    assert "decoder.onnx is not the file that the manifest names" in line
    assert "is not a bundle" in started(vae_serve, "--model", tmp_path, "--port", 0, cwd=tmp_path)


@pytest.mark.parametrize("words", [["--port", 70000], ["--port", -1], ["--workers", 0], ["--picture-timeout", 0]])
def test_options_that_make_no_sense_are_wrong_usage(vae_serve, tmp_path, words):
    done = vae_serve("serve", *words, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_word_when_other_machines_can_reach_it(tmp_path):
    with serving("--model", MNIST, "--host", "0.0.0.0", cwd=tmp_path) as service:
        service.said("other machines can reach it")
        assert service.told["loopback"] is False


def test_it_says_what_it_serves_and_where(tmp_path):
    with serving("--model", MNIST, cwd=tmp_path) as service:
        service.said(f"serving mnist of {MNIST} at {service.url} (mnist_encoder, mnist_decoder)")
        assert not any("other machines" in line for line in service.lines)
        assert service.told == {
            "url": service.url,
            "grpc": None,
            "model": "mnist",
            "bundle": str(MNIST),
            "networks": ["mnist_encoder", "mnist_decoder"],
            "loopback": True,
        }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_end_answers_what_is_in_flight_and_leaves_with_0(tmp_path, number):
    body = json.dumps(Z).encode()
    head = b"POST /v2/models/mnist_decoder/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving("--model", MNIST, cwd=tmp_path) as service, service.connect() as caller, service.connect() as idle:
        caller.sendall(head + body[:10])
        wait_for(lambda: "vae_serve_in_flight 2.0" in service.get("/metrics").body.decode(), "the request's beginning")
        service.signal(number)
        assert idle.recv(1) == b""  # it is closed
        with pytest.raises(ConnectionError):
            service.connect()
        caller.sendall(body[10:])
        answer = caller.recv(1 << 16)
        while b'"outputs"' not in answer or not answer.endswith(b"}"):
            answer += caller.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200")
        assert service.process.wait(60) == 0
        assert len(service.lines) == 1


def test_a_pipe_that_nobody_reads_holds_up_no_answer(tmp_path):
    with serving("--model", MNIST, "--access-log", cwd=tmp_path) as service:
        for _ in range(3000):  # more than the pipe holds
            assert service.get("/v2/health/live").status == 200
        assert service.end() == 0


def test_the_access_log_is_a_line_of_json_for_each_request(tmp_path):
    with serving("--model", MNIST, "--access-log", cwd=tmp_path) as service:
        service.post("/v2/models/mnist_decoder/infer", Z, {"X-Request-ID": "mine"})
        service.get("/nothing\x7f?secret=1".replace("\x7f", "%7f%0a%e2%80%ae"))
        service.get("/v1/encode")
        assert service.end() == 0
        text = service.process.stdout.read().decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["status"]) for line in lines] == [("POST", 200), ("GET", 404), ("GET", 405)]
    assert lines[0]["id"] == "mine"
    assert lines[0]["client"] == "127.0.0.1"
    assert lines[0]["bytes_in"] == len(json.dumps(Z))
    assert lines[1]["path"] == "/nothing\x7f\n\u202e"
    assert "secret" not in text
    assert text.replace("\n", "").isprintable()


def answer_of(service: Service, model: str) -> Reply:
    return service.infer(model, Z)


def replaced(folder: Path, seed: int) -> Path:
    """A bundle at `folder`, in the place of the one that is there, moved there as a whole."""
    new = linear_bundle.write(folder.with_name("new"), weights_seed=seed)
    if folder.exists():
        folder.rename(folder.with_name("old"))
    new.rename(folder)
    shutil.rmtree(folder.with_name("old"), ignore_errors=True)
    return folder


@pytest.mark.parametrize("how", ["SIGHUP", "--watch"])
def test_a_new_bundle_takes_the_place_of_the_old_one_and_a_bad_one_is_refused(tmp_path, how):
    folder = replaced(tmp_path / "bundle", 0)
    z = np.array([[0.5, -1.0]], np.float32)
    with serving("--model", folder, *([how] if how == "--watch" else []), cwd=tmp_path) as service:
        [decoder] = [name for name in service.told["networks"] if name.endswith("decoder")]
        first = answer_of(service, decoder).json
        wrong: list[Reply] = []
        asking = True

        def keep_asking():
            while asking:
                answer = answer_of(service, decoder)
                if answer.status != 200:
                    wrong.append(answer)

        callers = [threading.Thread(target=keep_asking) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            replaced(folder, 1)
            if how == "SIGHUP":
                service.signal(signal.SIGHUP)
            service.said("now (")
            second = answer_of(service, decoder).json
            manifest = folder / "manifest.json"
            manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0', 1))
            if how == "SIGHUP":
                service.signal(signal.SIGHUP)
            service.said("the new bundle is refused, the old one is served on")
            third = answer_of(service, decoder).json
        finally:
            asking = False
            for caller in callers:
                caller.join()
        metrics = service.get("/metrics").body.decode()
    assert wrong == []
    assert first != second == third
    shown = np.array(second["outputs"][0]["data"], np.float32).reshape(1, 6, 5, 1)
    assert (to_bytes(shown) == linear_bundle.decoded(z, seed=1)).all()
    assert 'vae_serve_reloads_total{result="swapped"} 1.0' in metrics
    assert 'vae_serve_reloads_total{result="refused"} 1.0' in metrics


def test_a_bundle_of_bytes_is_served_as_the_layout_names_its_types(tmp_path):
    folder = linear_bundle.write(tmp_path / "raw", variant="uint8")
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 1), np.uint8)
    with serving("--model", folder, cwd=tmp_path) as service:
        encoder, decoder = service.told["networks"]
        described = service.get(f"/v2/models/{encoder}").json["inputs"]
        z = service.infer(encoder, {"inputs": [tensor("image", images, "UINT8")]}).json["outputs"][0]
        shown = service.infer(decoder, {"inputs": [tensor("z", np.array(z["data"]).reshape(3, 2))]}).json["outputs"][0]
    assert described == [{"name": "image", "datatype": "UINT8", "shape": [-1, 6, 5, 1]}]
    assert np.abs(np.array(z["data"]).reshape(3, 2) - linear_bundle.encoded(images)).max() < 1e-5
    assert (shown["datatype"], shown["shape"]) == ("UINT8", [3, 6, 5, 1])
    assert set(map(type, shown["data"])) == {int}
