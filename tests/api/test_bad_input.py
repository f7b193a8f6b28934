"""What a program may pass by mistake: each works, or is one of the project's errors that says what to do."""

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vae_serve
from vae_serve.errors import InputError, UsageError, VaeServeError
from vae_serve.images.pixels import to_model


@pytest.fixture(scope="module")
def model() -> vae_serve.Model:
    return vae_serve.load()


@pytest.fixture(scope="module")
def some(digits) -> np.ndarray:
    return digits[:40]


def same(one, other) -> bool:
    return all(a.tobytes() == b.tobytes() and a.shape == b.shape for a, b in zip(one, other, strict=True))


class WithArray:
    """As PyTorch's tensors, pandas' columns and Arrow's arrays are: NumPy may ask it for an array."""

    def __init__(self, answer) -> None:
        self._answer = answer

    def __array__(self, dtype=None, copy=None):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def read_only(array: np.ndarray) -> np.ndarray:
    other = array.copy()
    other.flags.writeable = False
    return other


@pytest.mark.parametrize(
    "made",
    [
        read_only,
        np.ma.MaskedArray,
        lambda images: np.ma.MaskedArray(images, mask=False),
        WithArray,
        lambda images: images[::-1][::-1],
        lambda images: np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 0, -1)), -1, 0),
        lambda images: to_model(images).astype(">f4"),
        lambda images: to_model(images).astype(">f8"),
        lambda images: to_model(images).astype(np.longdouble),
        lambda images: to_model(images).tolist(),
        list,
    ],
)
def test_any_form_of_the_same_pictures_gives_the_same_bits(model, some, made):
    given_images = made(some)
    before = np.array(np.asarray(given_images))
    assert same(model.encode(given_images), model.encode(some))
    assert np.array_equal(np.asarray(given_images), before)


def test_the_same_pictures_as_lists_of_bytes_are_refused_with_what_to_do(model, some):
    with pytest.raises(InputError, match=r"give uint8 0\.\.255, or float32 0\.\.1"):
        model.encode(some.tolist())


def test_half_precision_floats_are_taken_as_the_numbers_that_they_are(model, some):
    halves = to_model(some).astype(np.float16)
    assert same(model.encode(halves), model.encode(halves.astype(np.float32)))


def test_masked_values_are_refused(model, some):
    masked = np.ma.MaskedArray(some, mask=some == 0)
    with pytest.raises(InputError, match="masked"):
        model.encode(masked)
    with pytest.raises(InputError, match="masked"):
        model.decode(np.ma.MaskedArray(np.zeros((2, 2)), mask=[[True, False], [False, False]]))
    with pytest.raises(InputError, match="masked"):
        vae_serve.embed(masked)


@pytest.mark.parametrize("error", [RuntimeError("it requires grad"), TypeError("it is on a GPU"), KeyError("x")])
def test_what_an_object_raises_when_it_is_asked_for_its_array_is_told(model, error):
    for call in (model.encode, model.decode, vae_serve.embed, lambda z: vae_serve.generate(latents=z)):
        with pytest.raises(InputError, match="cannot be made an array"):
            call(WithArray(error))


def test_a_table_s_columns_can_be_latents(model):
    column = pa.array([0.5, -0.5])
    z = np.stack([column, column], axis=1)
    assert model.decode(z).shape == (2, 28, 28, 1)
    with pytest.raises(InputError, match="shape"):
        model.decode(column)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays.arrays(
        dtype=arrays.scalar_dtypes() | arrays.unicode_string_dtypes() | arrays.byte_string_dtypes(),
        shape=arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
        | st.sampled_from([(2, 28, 28), (1, 28, 28, 1), (0, 28, 28), (2, 2), (1, 28, 28, 3)]),
    )
)
def test_any_array_at_all_is_encoded_and_decoded_or_refused(model, array):
    for call in (model.encode, model.decode):
        try:
            outputs = call(array)
        except InputError as error:
            assert "give" in str(error) or "leave it out" in str(error)
        else:
            assert all(len(output) == len(array) for output in (outputs if isinstance(outputs, tuple) else [outputs]))
            assert all(np.isfinite(output).all() for output in outputs)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
    | st.complex_numbers() | st.fractions() | st.just(object()) | st.just(Path("x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING)
def test_anything_at_all_is_no_reason_for_another_exception(model, value):
    for call in (
        model.encode,
        model.decode,
        lambda value: model.decode([[0.0, 0.0]], value),
        lambda value: model.sample(0, seed=value),
        lambda value: model.sample(value, start=1 << 80),
        lambda value: vae_serve.Model(model.bundle, threads=value),
        lambda value: vae_serve.Model(model.bundle, batch=value),
        lambda value: vae_serve.embed([], value),
        lambda value: vae_serve.load(value) if value is not None else None,
    ):
        try:
            call(value)
        except VaeServeError:
            pass
        except MemoryError:
            pytest.fail("it should have said how much is asked for")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            "format",
            "outputs",
            "seed",
            "fit",
            "invert",
            "shard",
            "workers",
            "batch",
            "rows_per_shard",
            "max_errors",
            "picture_timeout",
            "overwrite",
            "engine",
            "progress",
            "note",
            "out",
        ]
    ),
    value=ANYTHING,
)
def test_no_option_of_embed_raises_another_exception(some, name, value, tmp_path_factory):
    if name == "out" and isinstance(value, str | Path):
        return  # it may be one
    try:
        vae_serve.embed(some, **{"out": tmp_path_factory.mktemp("out") / "v", name: value})
    except VaeServeError as error:
        assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (vae_serve.generate, {"grid": "15"}),
        (vae_serve.generate, {"grid": 2.0}),
        (vae_serve.generate, {"count": None}),
        (vae_serve.generate, {"count": True}),
        (vae_serve.generate, {"count": 1 << 70}),
        (vae_serve.generate, {"count": 1, "seed": -1}),
        (vae_serve.generate, {"count": 1, "workers": 0}),
        (vae_serve.generate, {"count": 1, "shard": (2, 1)}),
        (vae_serve.generate, {"count": 1, "shard": "1/2"}),
        (vae_serve.generate, {"latents": [[0.0, np.nan]]}),
        (vae_serve.generate, {"latents": np.zeros((0, 2))}),
        (vae_serve.generate, {"latents": np.zeros((3, 5))}),
        (vae_serve.generate, {"latents": 3}),
        (vae_serve.generate, {"interpolate": "ab"}),
        (vae_serve.generate, {"interpolate": (1, 2)}),
        (vae_serve.generate, {"grid": 2, "span": "wide"}),
        (vae_serve.generate, {"grid": 2, "span": float("nan")}),
        (vae_serve.generate, {"grid": 2, "slice": (0,)}),
        (vae_serve.generate, {"grid": 2, "slice": (0, 0)}),
        (vae_serve.generate, {"grid": 2, "axes": 1}),
        (vae_serve.generate, {"grid": 2, "out": 7}),
        (vae_serve.generate, {"grid": 2, "out": ""}),
        (vae_serve.generate, {"grid": 2, "progress": 7}),
        (vae_serve.reconstruct, {"source": None}),
        (vae_serve.reconstruct, {"source": b"photos"}),
        (vae_serve.reconstruct, {"source": "nul\0"}),
        (vae_serve.reconstruct, {"source": "mnist", "workers": 1.5}),
        (vae_serve.embed, {"source": "mnist", "out": "v", "engine": "slurm"}),
        (vae_serve.embed, {"source": "mnist", "format": "npy"}),
        (vae_serve.embed, {"source": "mnist", "overwrite": True}),
        (vae_serve.embed, {"source": ""}),
        (vae_serve.embed, {"source": np.zeros((0, 28, 28), np.uint8)}),
        (vae_serve.embed, {"source": np.zeros((3, 9, 9), np.uint8)}),
        (vae_serve.embed, {"source": np.zeros((3, 28, 28), object)}),
        (vae_serve.load, {"source": "nowhere"}),
        (vae_serve.load, {"source": 5}),
        (vae_serve.load, {"threads": 0}),
        (vae_serve.train, {"data": np.zeros((3, 28, 28), np.uint8)}),
        (vae_serve.train, {"epochs": "1"}),
        (vae_serve.train, {"epochs": 0}),
        (vae_serve.train, {"beta": None, "clip_norm": "x"}),
        (vae_serve.train, {"overwrite": 1}),
        (vae_serve.train, {"config": "nowhere.toml"}),
        (vae_serve.export, {"run": 5}),
        (vae_serve.export, {"opset": "13"}),
        (vae_serve.export, {"check": 1}),
    ],
)
def test_an_argument_that_makes_no_sense_is_an_error_of_the_project_and_writes_nothing(
    function, options, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VaeServeError) as caught:
        function(**options)
    assert str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_numpy_s_whole_numbers_are_whole_numbers(model, some):
    odd = vae_serve.Model(model.bundle, threads=np.int8(2), batch=np.uint16(7))
    assert same(odd.encode(some), model.encode(some))
    assert np.array_equal(
        model.sample(np.int64(3), seed=np.uint64(2**64 - 1), start=np.int32(2)), model.sample(3, 2**64 - 1, 2)
    )
    [batch] = vae_serve.embed(some, model, batch=np.int64(3), workers=np.int8(1), seed=np.uint32(1))
    assert len(batch) == 40


@pytest.mark.parametrize("threads", [1 << 20, 1 << 40])
def test_more_threads_than_there_can_be_are_no_fault(model, some, threads):
    odd = vae_serve.Model(model.bundle, threads=threads, batch=1)
    assert same(odd.encode(some), model.encode(some))


def test_a_batch_of_more_rows_than_there_are_is_one_call(model, some):
    assert same(vae_serve.Model(model.bundle, batch=1 << 62).encode(some), model.encode(some))


def test_more_than_memory_holds_is_refused_at_once_with_the_size(model):
    with pytest.raises(InputError, match=r"8,796,093,022,208 bytes.*in parts"):
        model.sample(1 << 40)
    with pytest.raises(InputError, match="in parts"):
        model.decode(np.broadcast_to(np.float32(0), (1 << 38, 2)), "uint8", check=False)
    with pytest.raises(InputError, match="bytes"):
        model.encode(np.broadcast_to(np.uint8(0), (1 << 40, 28, 28)))


@pytest.mark.parametrize("dtype", ["uint8", np.uint8, np.dtype("uint8")])
def test_a_type_may_be_named_as_numpy_has_it(model, dtype):
    assert model.decode([[0.0, 0.0]], dtype).dtype == np.uint8


@pytest.mark.parametrize("dtype", [None, "float64", float, int, "uint16", "nonsense", 3, np.zeros(2), [("a", "u1")]])
def test_another_type_is_refused(model, dtype):
    with pytest.raises(InputError, match=r"'float32' 0\.\.1 or 'uint8' 0\.\.255"):
        model.decode([[0.0, 0.0]], dtype)


def test_a_model_loaded_twice_copied_and_pickled_gives_the_same_bits(model, some):
    expected = model.encode(some)
    for other in (vae_serve.load(), copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(other.encode(some), expected)
        assert repr(other) == repr(model)


def test_sixteen_threads_that_use_a_fresh_model_at_once_agree(some):
    fresh = vae_serve.load()
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: (*fresh.encode(some), fresh.decode(fresh.sample(70))), range(48)))
    assert all(same(result, results[0]) for result in results)


def encoded_elsewhere(model: vae_serve.Model, images: np.ndarray) -> tuple[int, bytes]:
    return os.getpid(), model.encode(images)[0].tobytes()


def test_a_used_model_crosses_into_a_spawned_process(model, some):
    expected = model.encode(some)[0].tobytes()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        process, found = pool.apply(encoded_elsewhere, (model, some))
    assert process != os.getpid()
    assert found == expected


@pytest.mark.parametrize("error", [errors for errors in vars(vae_serve.errors).values() if isinstance(errors, type)])
def test_every_error_can_be_pickled(error):
    given_words = ("train", "it") if error is vae_serve.errors.MissingExtra else ("empty", "no bytes")
    made = error(*given_words) if error in (vae_serve.errors.MissingExtra, vae_serve.errors.ImageError) else error("x")
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again), vars(again)) == (type(made), str(made), vars(made))


def test_a_fraction_is_no_whole_number():
    with pytest.raises(UsageError, match=r"--batch Fraction\(1, 2\): give a whole number from 1"):
        vae_serve.embed("mnist", batch=Fraction(1, 2))
