"""Sources in object stores that cannot be read, or not as they should: a sentence or a failed row, and nothing lost."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_objects import embed, figures, parts
from faulty_proxy import Answer, error, faulty
from PIL import Image


def refused(done, sentence):
    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") <= 1  # one sentence, after what says that it lists


@pytest.mark.parametrize(
    ("user", "source", "sentence"),
    [
        ("reader", "s3://no-such-bucket/x", "no bucket"),
        ("reader", "s3://sources/in/nowhere/", "holds no pictures"),
        ("reader", "s3://sources/in/notes.txt", "read from a local disk alone"),
        ("reader", "s3://sources/in/missing.zip", "holds no pictures"),
        ("reader", "s3://sources/in/tree/*.webp", "no picture fits"),
        ("getter", "s3://sources/in/tree", "no permission to list"),
        ("lister", "s3://sources/in/tree", "no permission to read"),
        ("nobody", "s3://sources/in/tree", "credentials"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_sentence(user, source, sentence, seaweed_root, tmp_path):
    server, _ = seaweed_root
    refused(embed(source, tmp_path / "out", env=server.environment(user)), sentence)


def test_a_damaged_archive_table_or_array_is_refused(seaweed, local_sources, tmp_path):
    cut = {name: (local_sources / name).read_bytes()[:-20_000] for name in ("stored.zip", "all.tar", "digits.npy")}
    objects = {
        **cut,
        "cut.parquet": (local_sources / "table/year=0/rows.parquet").read_bytes()[:-300],
        "packed.tar.gz": b"\x1f\x8b\x08\0" + bytes(100),
        "turned.npy": _npy(np.asfortranarray(np.zeros((5, 28, 28), np.uint8))),
    }
    seaweed.make_bucket("damaged", objects)
    sentences = ["no directory", "cut short", "cut short", "cannot be read as Parquet", "is compressed", "Fortran"]
    for key, sentence in zip(objects, sentences, strict=True):
        done = embed(f"s3://damaged/{key}", tmp_path / "out", env=seaweed.environment("reader"))
        refused(done, sentence)


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_objects_without_any_bytes_are_failed_rows_without_a_request(seaweed, tmp_path):
    seaweed.make_bucket("empty", {f"{index:05}.png": b"" for index in range(1500)})
    with faulty(seaweed.endpoint, lambda request: None) as proxy:
        done = embed("s3://empty", tmp_path / "out", env=seaweed.environment("reader", proxy.endpoint))
    assert done.returncode == 3
    assert figures(done)["errors"] == {"empty": 1500}
    assert not [request.path for request in proxy.requests if request.method == "GET" and "/0" in request.path]


@pytest.mark.parametrize(
    ("bucket", "keys", "sentence"),
    [
        (
            "empty-part",
            ["1.png", "cat//2.png"],
            "holds a key that the client cannot name (in/cat//2.png): with an empty part, ",
        ),
        (
            "dots",
            ["1.png", "cat/../2.png"],
            "holds a key that the client cannot name (in/cat/../2.png): with an empty part, ",
        ),
        (
            "twins",
            ["1.png", "1.png/", "2.png", "3.png", "3.png/"],
            "holds keys that differ from others by a `/` at the beginning or the end alone, which the client passes "
            "over: 2, such as 1.png; rename them",
        ),
    ],
)
def test_keys_that_the_client_cannot_name_are_told(bucket, keys, sentence, azurite, tmp_path):
    azurite.make_bucket(bucket)
    for key in keys:
        azurite.put_blob(bucket, f"in/{key}", b"picture")
    refused(embed(f"az://{bucket}/in", tmp_path / "out", env=azurite.environment()), sentence)


def test_a_key_of_which_the_client_passes_over_a_slash_is_a_failed_row_or_refused(azurite, tmp_path):
    file = io.BytesIO()
    Image.new("L", (28, 28)).save(file, "PNG")
    azurite.make_bucket("slashes", {"2.png": file.getvalue()})
    azurite.put_blob("slashes", "/1.png", file.getvalue())
    azurite.put_blob("slashes", "3.png/", file.getvalue())
    done = embed("az://slashes", tmp_path / "out", env=azurite.environment())
    assert (done.returncode, figures(done)["errors"]) == (3, {"unreadable": 2})
    azurite.put_blob("slashes", "/2.png", file.getvalue())
    done = embed("az://slashes", tmp_path / "again", env=azurite.environment())
    refused(done, "at the beginning or the end alone, which the client passes over: 1, such as 2.png; rename them")


def test_a_picture_that_is_gone_or_forbidden_is_a_failed_row(seaweed_root, local_sources, tmp_path):
    server, url = seaweed_root

    def rule(request):
        if request.method == "GET" and "00123.png" in request.path:
            return Answer(404, error("NoSuchKey"))
        if request.method == "GET" and "00124.png" in request.path:
            return Answer(403, error("AccessDenied"))
        return None

    with faulty(server.endpoint, rule) as proxy:
        done = embed(f"{url}/tree", tmp_path / "out", env=server.environment("reader", proxy.endpoint))
    assert done.returncode == 3, done.stderr
    rows = pa.concat_tables(map(pq.read_table, sorted((tmp_path / "out").glob("part-*")))).to_pylist()
    errors = {row["path"]: row["error"] for row in rows if row["path"] in ("3/00123.png", "4/00124.png")}
    assert errors == {
        "3/00123.png": f"unreadable: it cannot be read: {os.strerror(2)}",
        "4/00124.png": f"unreadable: it cannot be read: {os.strerror(13)}",
    }


@pytest.mark.parametrize("kind", ["tree", "stored.zip"])
def test_errors_that_pass_are_never_rows(kind, seaweed_root, local_sources, tmp_path):
    server, url = seaweed_root
    assert embed(local_sources / kind, tmp_path / "here").returncode == 3
    with faulty(server.endpoint, lambda request: Answer(503) if request.number % 10 == 3 else None) as proxy:
        done = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment("reader", proxy.endpoint))
    assert done.returncode == 3, done.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


@pytest.mark.parametrize(("kind", "after"), [("tree", 700), ("table", 10)])
def test_credentials_that_end_are_an_error_and_no_row_and_the_same_command_goes_on(
    kind, after, seaweed_root, local_sources, tmp_path
):
    server, url = seaweed_root
    ends = {"after": after}

    def rule(request):
        ended = ends["after"] and request.number > ends["after"]
        return Answer(400, error("ExpiredToken")) if ended else None

    assert embed(local_sources / kind, tmp_path / "here").returncode == 3
    with faulty(server.endpoint, rule) as proxy:
        env = server.environment("reader", proxy.endpoint)
        done = embed(f"{url}/{kind}", tmp_path / "there", env=env)
        assert done.returncode == 1
        assert "the credentials have expired" in done.stderr
        ends["after"] = 0
        done = embed(f"{url}/{kind}", tmp_path / "there", env=env)
    assert done.returncode == 3, done.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


def test_an_archive_that_is_replaced_while_it_is_read_ends_the_job(seaweed, local_sources, tmp_path):
    seaweed.make_bucket("replaced", {"a.zip": (local_sources / "stored.zip").read_bytes()})
    client = seaweed.client("replaced")

    def rule(request):
        if request.headers.get("range", request.headers.get("Range", "")).startswith("bytes=0-"):
            client.put("a.zip", (local_sources / "deflated.zip").read_bytes())

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed("s3://replaced/a.zip", tmp_path / "out", env=seaweed.environment("reader", proxy.endpoint))
    refused_after_start(done, "has changed since the job began")


def refused_after_start(done, sentence):
    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr
