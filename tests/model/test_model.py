"""`Model` over arrays: what it takes, what it gives, what it refuses, in threads, after a fork and a pickle."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.model.conftest import PACKAGED, make_schema_1
from vae_serve.errors import BundleError, InputError
from vae_serve.images.pixels import to_bytes, to_model
from vae_serve.model import bundle, samplers
from vae_serve.model.model import Model

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))
import linear_bundle


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(PACKAGED)


@pytest.fixture(scope="module")
def encoded(model, digits) -> tuple[np.ndarray, np.ndarray]:
    return model.encode(digits[:300])


def same(one, other) -> bool:
    return all(a.tobytes() == b.tobytes() and a.shape == b.shape for a, b in zip(one, other, strict=True))


def test_what_it_says_of_itself(model):
    assert (model.latent_dim, model.image_shape, model.manifest.name) == (2, (28, 28, 1), "mnist")
    assert model.variant == {
        "encoder": {"uint8": "uint8", "float32": "float32"},
        "decoder": {"uint8": "float32", "float32": "float32"},
    }


def test_encode_gives_what_the_conformance_vectors_say(model):
    folder = PACKAGED / "conformance" / "encoder"
    found = model.encode(np.load(folder / "image.npy"))
    for array, name in zip(found, ("z_mean", "z_log_var"), strict=True):
        assert array.dtype == np.float32
        assert np.abs(array - np.load(folder / f"{name}.npy")).max() < 1e-5


@pytest.mark.parametrize(
    "given",
    [
        lambda images: images[..., 0],
        lambda images: np.repeat(images, 2, axis=0)[::2],
        np.asfortranarray,
        to_model,
        lambda images: to_model(images).astype(">f4"),
        lambda images: to_model(images).astype(np.float64),
        lambda images: np.ascontiguousarray(to_model(images)[::-1])[::-1],
    ],
)
def test_any_layout_and_byte_order_gives_the_same_bits(model, digits, encoded, given):
    assert same(model.encode(given(digits[:300])), encoded)


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_batch_and_any_threads_give_the_same_bits(digits, encoded, batch, threads):
    other = Model.load(PACKAGED, threads=threads, batch=batch)
    assert same(other.encode(digits[:300]), encoded)
    z = encoded[0]
    assert same([other.decode(z)], [Model.load(PACKAGED).decode(z)])


def test_empty_arrays_give_empty_results(model):
    assert [a.shape for a in model.encode(np.zeros((0, 28, 28), np.uint8))] == [(0, 2), (0, 2)]
    assert model.decode(np.zeros((0, 2))).shape == (0, 28, 28, 1)
    assert model.sample(0).shape == (0, 2)


def test_bytes_are_the_rounded_floats(model):
    z = model.sample(200, seed=3)
    images = model.decode(z)
    assert images.dtype == np.float32
    assert np.array_equal(model.decode(z, "uint8"), to_bytes(images))


def test_samples_are_those_of_the_sampler(model):
    assert np.array_equal(model.sample(10, seed=7, start=4090), samplers.sample_prior(7, 4090, 4100, 2))
    assert np.array_equal(model.sample(5, seed=7, start=2), model.sample(7, seed=7)[2:])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((28, 28), np.uint8), "images[np.newaxis]"),
        (np.zeros((28, 28, 1), np.uint8), "images[np.newaxis]"),
        (np.zeros((2, 28, 28, 3), np.uint8), "(n, 28, 28, 1)"),
        (np.zeros((2, 27, 28), np.uint8), "(n, 28, 28, 1) or (n, 28, 28)"),
        (np.zeros((2, 1, 28, 28), np.uint8), "(2, 1, 28, 28)"),
        (np.uint8(3), "shape ()"),
        (np.zeros((2, 28, 28), np.int64), "int64"),
        (np.zeros((2, 28, 28), bool), "bool"),
        (np.zeros((2, 28, 28), complex), "complex128"),
        (np.zeros((2, 28, 28), object), "object"),
        (np.full((2, 28, 28), "a"), "<U1"),
        (np.full((2, 28, 28), 255.0), "images / 255"),
        (np.full((2, 28, 28), -0.1, np.float32), "images[0]"),
        (np.full((2, 28, 28), 1e300), "images[0]"),
        (np.where(np.arange(3)[:, None, None] == 1, np.nan, np.zeros((3, 28, 28))), "images[1]"),
        ([[1, 2], [3]], "array"),
        (None, "shape ()"),
        ({"a": 1}, "shape ()"),
    ],
)
def test_images_that_are_none_are_refused_with_what_to_do(model, images, words):
    with pytest.raises(InputError) as caught:
        model.encode(images)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.zeros(2), "(n, 2)"),
        (np.zeros((1, 3)), "(n, 2)"),
        (np.zeros((1, 2), bool), "bool"),
        (np.array([["a", "b"]]), "<U1"),
        ([[0.0, np.nan]], "z[0]"),
        ([[0.0, 0.0], [np.inf, 0.0]], "z[1]"),
        ([[1e300, 0.0]], "not finite in float32"),
        (None, "shape ()"),
    ],
)
def test_points_that_are_none_are_refused_with_what_to_do(model, z, words):
    with pytest.raises(InputError) as caught:
        model.decode(z)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.decode([[0.0, 0.0]], "float16"),
        lambda model: model.sample(-1),
        lambda model: model.sample(1.5),
        lambda model: model.sample(True),
        lambda model: model.sample(1, seed=-1),
        lambda model: model.sample(1, seed=1 << 64),
        lambda model: model.sample(1, start=-1),
        lambda model: Model.load(PACKAGED, threads=0),
        lambda model: Model.load(PACKAGED, batch=1.5),
    ],
)
def test_other_arguments_that_make_no_sense(model, call):
    with pytest.raises(InputError):
        call(model)


def test_points_of_whole_numbers_and_of_either_byte_order_work(model):
    expected = model.decode(np.array([[1, -2]], np.float32))
    for z in (np.array([[1, -2]]), np.array([[1, -2]], ">f8"), [[1.0, -2.0]]):
        assert np.array_equal(model.decode(z), expected)


def test_sixteen_threads_share_one_model(digits, encoded):
    model = Model.load(PACKAGED, threads=1)
    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(lambda _: model.encode(digits[:300]), range(32)):
            assert same(found, encoded)


def test_a_pickled_model_works_without_its_folder(tmp_path, stranger, digits, encoded):
    model = Model.load(stranger)
    model.encode(digits[:1])
    contents = pickle.dumps(model)
    stranger.rename(tmp_path / "gone")
    assert same(pickle.loads(contents).encode(digits[:300]), encoded)


def test_a_model_that_was_used_works_in_a_forked_process(tmp_path, encoded):
    program = f"""
import os, sys
import numpy as np
from pathlib import Path
from vae_serve.images import mnist
from vae_serve.model.model import Model
model = Model.load(Path({str(PACKAGED)!r}))
digits = mnist.load("test")[0][:300]
first = model.encode(digits)
if os.fork() == 0:
    again = model.encode(digits)
    os._exit(0 if all(a.tobytes() == b.tobytes() for a, b in zip(first, again)) else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_a_bundle_of_schema_1_gives_the_same_bits(stranger, digits, encoded):
    old = Model.load(make_schema_1(stranger))
    assert old.variant["encoder"] == {"uint8": "float32", "float32": "float32"}
    assert same(old.encode(digits[:300]), encoded)


def test_a_bundle_of_bytes_alone_takes_and_gives_floats_too(tmp_path):
    folder = linear_bundle.write(tmp_path / "raw", variant="uint8")
    model = Model.load(folder)
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 1), dtype=np.uint8)
    assert model.variant["encoder"] == {"uint8": "uint8", "float32": "uint8"}
    assert same(model.encode(to_model(images)), model.encode(images))
    assert np.abs(model.encode(images)[0] - linear_bundle.encoded(images)).max() < 1e-5
    z = model.sample(40)
    assert np.array_equal(model.decode(z, "uint8"), linear_bundle.decoded(z))
    assert np.array_equal(model.decode(z), to_model(model.decode(z, "uint8")))


def test_a_bundle_without_graphs_says_how_to_get_them(stranger, signed):
    for file in stranger.glob("*.onnx"):
        file.unlink()
    signed(stranger)
    from tests.model.conftest import edit_manifest

    edit_manifest(stranger, lambda fields: fields.update(graphs=[], opset=None, ir_version=None))
    model = Model(bundle.load(stranger))
    assert model.variant == {}
    with pytest.raises(BundleError, match="export --format onnx"):
        model.encode(np.zeros((1, 28, 28), np.uint8))
