"""A bundle in an object store: read as one in a folder is, with the same checks and limits."""

import json
from pathlib import Path

import numpy as np
import pytest

import vae_serve as api
from vae_serve.errors import BundleError, UsageError
from vae_serve.model.bundle import load
from vae_serve.storage.object_url import parse_object_url

MODEL = Path(__file__).parent.parent.parent / "exports" / "mnist"


@pytest.fixture(scope="module")
def files():
    return {str(file.relative_to(MODEL)): file.read_bytes() for file in MODEL.rglob("*") if file.is_file()}


@pytest.fixture
def server(seaweed, monkeypatch):
    for name, value in seaweed.environment("reader").items():
        monkeypatch.setenv(name, value)
    return seaweed


@pytest.fixture
def placed(server, files, request):
    """Puts a bundle, with some files changed or left out, into a bucket: placed(changed) is its URL."""
    bucket = "m" + "".join(char for char in request.node.name.lower() if char.isalnum())[-40:]

    def put(changed):
        objects = {**files, **changed}
        server.make_bucket(bucket, {f"mnist/{name}": data for name, data in objects.items() if data is not None})
        return f"s3://{bucket}/mnist"

    return put


def test_a_model_by_its_url_gives_the_bits_of_the_same_in_a_folder(placed, digits):
    url = placed({})
    near, far = api.load(MODEL), api.load(url)
    for here, there in zip(near.encode(digits[:100]), far.encode(digits[:100]), strict=True):
        assert np.array_equal(here, there)
    assert np.array_equal(near.decode(near.sample(10, seed=1)), far.decode(far.sample(10, seed=1)))
    assert url in repr(far)


def test_a_model_in_azure_is_read_as_well(azurite, files, monkeypatch):
    for name, value in azurite.environment().items():
        monkeypatch.setenv(name, value)
    url = azurite.make_bucket("models", {f"mnist/{name}": data for name, data in files.items()}) + "/mnist"
    assert load(parse_object_url(url)).graphs == load(MODEL).graphs


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder.onnx": None}, "/mnist/encoder.onnx is missing"),
        ({"encoder.onnx": b"short"}, "/mnist/encoder.onnx has 5 bytes where the manifest says"),
        ({"extra.txt": b"x"}, "/mnist/extra.txt is not named in the manifest; take it away"),
        ({"manifest.json": None}, "/mnist is not a bundle: it has no manifest.json"),
        ({"manifest.json": b"x" * ((1 << 20) + 1)}, "/mnist/manifest.json has 1,048,577 bytes, which is larger than"),
        ({"a/b/c/d/e/f/g/h/i": b""}, "holds more than 4,096 files, or folders 8 deep"),
    ],
)
def test_a_damaged_bundle_is_refused_as_in_a_folder(changed, message, placed):
    with pytest.raises(BundleError, match=message):
        load(parse_object_url(placed(changed)))


def test_a_changed_byte_is_found(placed, files):
    wrong = bytearray(files["encoder.onnx"])
    wrong[len(wrong) // 2] ^= 1
    with pytest.raises(
        BundleError, match=r"encoder\.onnx is not the file that the manifest names: its SHA-256 differs"
    ):
        load(parse_object_url(placed({"encoder.onnx": bytes(wrong)})))


def test_another_file_of_it_is_read_again_and_checked(placed, server):
    url = parse_object_url(placed({}))
    loaded = load(url)
    assert loaded.read("README.md") == (MODEL / "README.md").read_bytes()
    server.client(url.bucket).put("mnist/README.md", b"other")
    with pytest.raises(BundleError, match=r"README\.md has 5 bytes where the manifest says"):
        loaded.read("README.md")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://not-there/mnist", "there is no bucket 'not-there'"),
        ("s3://lone/mnist", "s3://lone/mnist is not a bundle: it has no manifest.json"),
    ],
)
def test_a_place_without_a_bundle_is_told(url, message, server):
    server.make_bucket("lone")
    with pytest.raises(BundleError, match=message):
        api.load(url)


def test_a_url_with_a_secret_is_refused(server):
    with pytest.raises(UsageError, match="may be secret"):
        api.load("s3://key:hush@lone/mnist")


def test_every_command_that_takes_a_bundle_takes_its_url(placed, server, vae_serve, tmp_path):
    url = placed({})

    def run(*words):
        done = vae_serve(*words, cwd=tmp_path, env=server.environment("reader"))
        assert done.returncode == 0, done.stderr
        return done

    assert json.loads(run("inspect", url, "--json").stdout)["path"] == url
    assert f"{url} is sound" in run("verify", url).stderr
    pytest.importorskip("matplotlib")
    assert json.loads(run("evaluate", url, "--images", 20, "--json", "--quiet").stdout)["model"] == url
    run("deploy", "triton", url, "--out", "triton")
    run("generate", "--grid", 3, "--model", url, "--out", "plane.png")
    run("generate", "--grid", 3, "--model", MODEL, "--out", "near.png")
    assert (tmp_path / "plane.png").read_bytes() == (tmp_path / "near.png").read_bytes()
    run("reconstruct", "near.png", "--model", url, "--out", "reconstructed")
    assert json.loads(run("embed", "near.png", "--model", url, "--out", "v", "--json").stdout)["model"] == url


def test_a_service_watches_folders_only(placed, server, vae_serve, tmp_path):
    url = placed({})
    done = vae_serve("serve", "--model", url, "--watch", cwd=tmp_path, env=server.environment("reader"))
    assert done.returncode == 2
    assert f"--watch looks at a folder, and {url} is none; send SIGHUP when the bundle has changed" in done.stderr
