"""The layout of `deploy triton` in a real Triton, and the same clients against Triton and `vae-serve serve`."""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import pytest
from object_servers import free_ports
from onnx import numpy_helper
from triton_server import Addresses, require_triton, triton, triton_command

from vae_serve.deploy.triton import stem
from vae_serve.images import pixels
from vae_serve.model import bundle as bundles

sys.path.append(str(Path(__file__).parents[1] / "serve"))
from serving import MNIST, serving, wait_for

http = pytest.importorskip("tritonclient.http")
grpc = pytest.importorskip("tritonclient.grpc")

CLIENTS = {"http": http, "grpc": grpc}
BATCHES = (1, 7, 64, 256)
DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8"}


class Running(NamedTuple):
    """A server, and the bundle whose networks it runs."""

    at: Addresses
    bundle: Path

    def session(self, role: str) -> ort.InferenceSession:
        """A network in ONNX Runtime, called directly."""
        opened = bundles.load(self.bundle)
        return ort.InferenceSession(opened.read(getattr(opened.manifest, role).file))

    def model(self, role: str) -> str:
        """A network's name on the server."""
        return f"{stem(bundles.load(self.bundle).manifest)}_{role}"


@pytest.fixture(scope="module")
def bundle(request, tmp_path_factory):
    """A bundle in a form, with floats or with bytes where it has networks for them."""
    form, _, pixels = request.param.partition("-")
    whole = MNIST if form == "blocks" else request.getfixturevalue("of_layers")
    return whole if not pixels else of_bytes(whole, tmp_path_factory.mktemp(form) / "bytes")


@pytest.fixture(scope="session")
def of_layers(trained, vae_serve, tmp_path_factory):
    """A bundle in the other form than the committed one, with both networks for bytes, too."""
    out = tmp_path_factory.mktemp("layers") / "layers"
    words = ("export", trained, "--form", "layers", "--format", "onnx", "--pixels", "uint8", "--out", out)
    done = vae_serve(*words, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out


def of_bytes(bundle, folder):
    """A copy of a bundle in which a role that has a network for bytes has no other, and bytes as its vectors."""
    copy = shutil.copytree(bundle, folder)
    manifest = json.loads((copy / "manifest.json").read_text())
    roles = {graph["role"] for graph in manifest["graphs"] if graph["variant"] == "uint8"}
    for role in roles:
        vectors = copy / "conformance" / role
        levels = pixels.to_bytes(np.load(vectors / "image.npy"))
        np.save(vectors / "image.npy", levels)
        place = "input_0.pb" if role == "encoder" else "output_0.pb"
        (vectors / "test_data_set_0" / place).write_bytes(numpy_helper.from_array(levels, "image").SerializeToString())
        (copy / f"{role}.onnx").unlink()
    left_out = {f"{role}.onnx" for role in roles}
    manifest["graphs"] = [graph for graph in manifest["graphs"] if graph["file"] not in left_out]
    manifest["files"] = [file for file in manifest["files"] if file["path"] not in left_out]
    for file in manifest["files"]:
        contents = (copy / file["path"]).read_bytes()
        file |= {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def deploy(vae_serve, bundle, folder):
    """The layout of a bundle."""
    done = vae_serve("deploy", "triton", bundle, "--out", "layout", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "layout"


@pytest.fixture(scope="module")
def server(request, bundle, vae_serve, tmp_path_factory):
    """Triton, or this project's own service."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "serve":
        with serving("--model", bundle, "--grpc-port", 0, cwd=folder) as service:
            yield Running(Addresses(service.at, service.told["grpc"], ""), bundle)
        return
    require_triton()
    with triton(deploy(vae_serve, bundle, folder), folder) as addresses:
        yield Running(addresses, bundle)


@pytest.fixture(scope="module")
def of_mnist(vae_serve, tmp_path_factory):
    """Triton over the layout of the committed bundle, and the folder with both."""
    require_triton()
    folder = tmp_path_factory.mktemp("mnist")
    with triton(deploy(vae_serve, MNIST, folder), folder) as addresses:
        yield Running(addresses, MNIST), folder


def rows_for(session, count, seed=5):
    """Input rows for a network: pictures of noise, or samples of the prior."""
    [described] = session.get_inputs()
    shape, random = (count, *described.shape[1:]), np.random.default_rng(seed)
    if described.type == "tensor(uint8)":
        return random.integers(0, 256, shape, np.uint8)
    values = random.random(shape) if described.name == "image" else random.standard_normal(shape)
    return values.astype(np.float32)


def asked(client, protocol, model, session, rows):
    """All outputs of a network for some rows, in the graph's order."""
    [described] = session.get_inputs()
    given = CLIENTS[protocol].InferInput(described.name, list(rows.shape), DATATYPES[described.type])
    given.set_data_from_numpy(rows)
    answer = client.infer(model, [given])
    return [answer.as_numpy(output.name) for output in session.get_outputs()]


def require_same(found, session, rows):
    """Requires outputs to be ONNX Runtime's, to the bit."""
    expected = session.run(None, {session.get_inputs()[0].name: rows})
    for actual, right in zip(found, expected, strict=True):
        assert (actual.shape, actual.dtype) == (right.shape, right.dtype)
        assert actual.tobytes() == right.tobytes()


@pytest.mark.parametrize("count", BATCHES)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("server", ["triton", "serve"], indirect=True)
@pytest.mark.parametrize(
    "bundle",
    ["blocks", "blocks-bytes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("layers", "layers-bytes"))],
    indirect=True,
)
def test_both_networks_answer_what_onnx_runtime_gives_to_the_bit(server, protocol, count):
    with CLIENTS[protocol].InferenceServerClient(getattr(server.at, protocol)) as client:
        for role in ("encoder", "decoder"):
            session = server.session(role)
            rows = rows_for(session, count)
            require_same(asked(client, protocol, server.model(role), session, rows), session, rows)


def test_the_metadata_of_both_servers_describe_the_same_tensors(of_mnist, tmp_path):
    with serving("--model", MNIST, cwd=tmp_path) as service:
        for role in ("encoder", "decoder"):
            described = []
            for address in (of_mnist[0].at.http, service.at):
                with http.InferenceServerClient(address) as client:
                    described.append(client.get_model_metadata(of_mnist[0].model(role)))
            theirs, ours = described
            assert (theirs["name"], theirs["versions"]) == (ours["name"], ours["versions"])
            assert (theirs["inputs"], theirs["outputs"]) == (ours["inputs"], ours["outputs"])


def test_callers_whose_requests_share_a_batch_each_get_their_own_rows(of_mnist):
    server, _ = of_mnist
    session, model = server.session("decoder"), server.model("decoder")

    def call(number):
        with http.InferenceServerClient(server.at.http) as client:
            for turn in range(20):
                rows = rows_for(session, 1 + (number + turn) % 5, seed=100 * number + turn)
                require_same(asked(client, "http", model, session, rows), session, rows)

    def counted():
        with http.InferenceServerClient(server.at.http) as client:
            [stats] = client.get_inference_statistics(model)["model_stats"]
            return stats["inference_stats"]["success"]["count"], stats["execution_count"]

    before = counted()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(call, range(16)))
    requests, executions = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    assert requests == 320
    assert executions < requests


def test_the_request_of_the_readme_is_answered(of_mnist):
    server, folder = of_mnist
    lines = (folder / "layout" / "README.md").read_text().replace("\\\n", "").splitlines()
    [words] = [shlex.split(line) for line in lines if line.startswith("    curl")]
    words[1] = words[1].replace("localhost:8000", server.at.http)
    done = subprocess.run([*words, "--silent", "--show-error"], capture_output=True, text=True, check=True, timeout=60)
    [image] = json.loads(done.stdout)["outputs"]
    assert (image["name"], image["shape"]) == ("image", [1, 28, 28, 1])
    require_same(
        [np.array(image["data"], np.float32).reshape(1, 28, 28, 1)],
        server.session("decoder"),
        np.zeros((1, 2), np.float32),
    )


def test_the_server_of_the_readme_listens_on_loopback_alone(of_mnist):
    ports = {int(address.rsplit(":", 1)[1]) for address in of_mnist[0].at}
    listening = {}
    for table, loopback in (("tcp", "0100007F"), ("tcp6", "0000000000000000FFFF00000100007F")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, port = fields[1].split(":")
            if fields[3] == "0A" and int(port, 16) in ports:  # TCP_LISTEN
                listening[int(port, 16)] = host == loopback
    assert listening == dict.fromkeys(ports, True)


def test_a_configuration_that_is_not_the_graphs_is_refused(vae_serve, tmp_path):
    require_triton()
    layout = deploy(vae_serve, MNIST, tmp_path)
    config = layout / "models" / "mnist_decoder" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [2]", "dims: [3]"))
    command = triton_command(layout, tmp_path, free_ports(3))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "failed to load 'mnist_decoder' version 1: Internal: ValueError: the configuration has [('z'," in done.stderr


def test_a_new_version_is_seen_at_the_next_start_or_while_it_runs_with_polling(vae_serve, tmp_path):
    require_triton()
    layout = deploy(vae_serve, MNIST, tmp_path)
    for folder in (first := tmp_path / "first", second := tmp_path / "second"):
        folder.mkdir()
    decoder = layout / "models" / "mnist_decoder"
    options = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with triton(layout, first, *options) as at, http.InferenceServerClient(at.http) as client:
        assert client.get_model_metadata("mnist_decoder")["versions"] == ["1"]
        shutil.copytree(decoder / "1", tmp_path / "2")
        (tmp_path / "2").rename(decoder / "2")
        wait_for(lambda: client.is_model_ready("mnist_decoder", "2"), "version 2")
    with triton(layout, second) as at, http.InferenceServerClient(at.http) as client:
        assert client.get_model_metadata("mnist_decoder")["versions"] == ["2"]
