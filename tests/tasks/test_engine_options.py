"""--engine and --address, where no cluster is needed to say that they are wrong."""

import sys
from pathlib import Path

import linear_bundle
import numpy as np
import pytest

import vae_serve
from vae_serve import errors
from vae_serve.jobs.engines import default_for


@pytest.fixture
def array(tmp_path):
    linear_bundle.write(tmp_path / "exports" / "linear")
    np.save(tmp_path / "x.npy", np.zeros((4, 6, 5), np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("--engine", "ray", "--address", "127.0.0.1:1"),
            1,
            "no Ray cluster answers at 127.0.0.1:1 (Connection refused)",
        ),
        (("--engine", "ray", "--address", "ray://head:10001"), 1, "--address ray://head:10001: give HOST:PORT of"),
        (("--engine", "ray", "--address", "head"), 1, "--address head: give HOST:PORT of the cluster's head"),
        (
            ("--engine", "processes", "--address", "h:1"),
            2,
            "--address h:1 is a Ray cluster's; give --engine ray as well",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_in_one_sentence(vae_serve, array, words, code, sentence):
    pytest.importorskip("ray")
    for command in (("embed", "x.npy", "--out", "out"), ("generate", "--count", 9, "--out", "out.zip")):
        ran = vae_serve(*command, *words, "-q", cwd=array)
        assert ran.returncode == code
        assert ran.stderr.startswith(f"vae-serve: error: {sentence}")
        assert ran.stderr.count("\n") == 1
    assert not [*array.glob("out*/part-*")]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_cluster_is_not_joined_where_there_is_nothing_to_do(vae_serve, array):
    """Joining begins before the source is looked at."""
    pytest.importorskip("ray")
    ran = vae_serve("embed", "missing.npy", "--out", "out", "--engine", "ray", "-q", cwd=array)
    assert (ran.returncode, ran.stderr) == (1, "vae-serve: error: missing.npy is not there\n")
    left = [file for file in Path("/proc").glob("[0-9]*/cmdline") if b"ray_link" in file.read_bytes()]
    assert not [file for file in left if file.with_name("cwd").resolve() == array]


def test_ray_that_is_not_installed_is_named_with_its_extra(array, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        errors.MissingExtra, match=r"--engine ray needs the extra 'ray': pip install 'vae-serve\[ray\]'"
    ):
        vae_serve.generate(array / "exports" / "linear", count=9, out=array / "out.zip", engine="ray")


@pytest.mark.parametrize("place", ["out", "model"])
def test_decoders_are_not_forked_off_a_process_that_uses_an_object_store(array, place):
    places = {"out": array / "out", "model": array / "exports" / "linear", place: "s3://bucket/there"}
    with pytest.raises(errors.UsageError, match=r"--engine inline decodes .* s3://bucket/there.*--engine processes"):
        vae_serve.embed(array, engine="inline", **places)


def test_an_engine_is_for_a_result_on_disk(array):
    with pytest.raises(errors.UsageError, match="--engine and --address are for a result on disk"):
        vae_serve.embed(array / "x.npy", array / "exports" / "linear", engine="processes")


@pytest.mark.parametrize(
    ("places", "engine"),
    [
        (("photos", "vectors"), "inline"),
        (("C:/photos", "a:b"), "inline"),
        (("s3://bucket/photos", "vectors"), "processes"),
        (("photos", "az://container"), "processes"),
    ],
)
def test_shards_are_made_in_other_processes_where_something_is_remote(places, engine):
    assert default_for(*places) == engine
