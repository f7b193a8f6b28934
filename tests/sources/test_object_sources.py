"""Sources in object stores, on real servers: the rows are those of the same files in a local folder, byte for byte."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import ROOT, run_command
from faulty_proxy import Answer, error, faulty
from PIL import Image

from vae_serve.sources.names import PackedNames
from vae_serve.sources.objects.pictures import ListedObjects
from vae_serve.storage.object_url import ObjectUrl

ROWS = 2000
SHARD = 450


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def tree(digits):
    """Objects by key: pictures of ten classes, and all that is not one or cannot be read."""
    objects = {f"{index % 10}/{index:05}.png": png(digits[index, :, :, 0]) for index in range(ROWS)}
    return objects | {
        "9/torn.png": objects["0/00000.png"][:90],
        "9/nothing.png": b"",
        "9/é +&=#;'()100%.PNG": objects["0/00010.png"],
        "9/[1]*.png": objects["0/00020.png"],
        "top.png": objects["1/00001.png"],
        "0.png": objects["1/00011.png"],  # before 0/: stores of folders list it after
        "notes.txt": b"no picture",
        ".hidden/a.png": b"x",
        ".hidden/deep/b.png": b"x",
        "3/.also.png": b"x",
        "3/_kept/a.png": objects["1/00021.png"],
    }


@pytest.fixture(scope="module")
def local(tree, tmp_path_factory):
    """The same as files; and as archives, an array and tables."""
    root = tmp_path_factory.mktemp("local")
    for name, contents in tree.items():
        file = root / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents)
    pictures = {name: contents for name, contents in tree.items() if not name.startswith(".")}
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(root / name, "w", method) as archive:
            for key in reversed(pictures) if method else pictures:  # names in another order than members
                archive.writestr(key, pictures[key])
    with tarfile.open(root / "all.tar", "w") as tar:
        for key, contents in pictures.items():
            about = tarfile.TarInfo(key)
            about.size = len(contents)
            tar.addfile(about, io.BytesIO(contents))
    np.save(root / "digits.npy", np.arange(ROWS * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(ROWS, 28, 28))
    deep = np.arange(600 * 28 * 28, dtype=np.uint32).astype(np.uint16).reshape(600, 28, 28)
    np.save(root / "deep.npy", deep)
    for number, half in enumerate((list(pictures)[:900], list(pictures)[900:])):
        file = root / "table" / f"year={number}" / "rows.parquet"
        file.parent.mkdir(parents=True)
        table = pa.table({"label": [key.split("/")[0] for key in half], "image": [pictures[key] for key in half]})
        pq.write_table(table, file, row_group_size=230)
    (root / "one.png").write_bytes(tree["top.png"])
    return root


@pytest.fixture(scope="module")
def seaweed_root(seaweed, local):
    return seaweed, _stored(seaweed, local, "sources")


@pytest.fixture(scope="module")
def azurite_root(azurite, local):
    return azurite, _stored(azurite, local, "sources")


def _stored(server, local, bucket):
    url = server.make_bucket(bucket)
    client = server.client(bucket)
    for file in sorted(local.rglob("*")):
        if file.is_file():
            client.put(f"in/{file.relative_to(local)}", file.read_bytes())
    return f"{url}/in"


def embed(source, out, *words, env=None, cwd=None):
    return run_command(
        *("embed", source, "--out", out, "--rows-per-shard", SHARD, "--json", "--workers", 2, *words),
        cwd=cwd or out.parent,
        env=env,
    )


def parts(out):
    return {file.name: file.read_bytes() for file in sorted(out.glob("part-*"))}


def figures(done):
    about = json.loads(done.stdout)
    return {name: about[name] for name in ("images", "failed", "errors", "notes", "skipped")}


KINDS = [
    "tree",
    "stored.zip",
    "deflated.zip",
    "all.tar",
    "digits.npy",
    "deep.npy",
    "table",
    "one.png",
    "tree/[0-4]/*.png",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_in_a_store_gives_the_bytes_of_the_same_source_on_disk(kind, seaweed_root, local, tmp_path):
    server, url = seaweed_root
    here = embed(local / kind, tmp_path / "here")
    there = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment("reader"))
    assert there.returncode == here.returncode, there.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")
    assert len(parts(tmp_path / "there")) >= (1 if kind == "one.png" else 2)
    assert figures(there) == figures(here)


@pytest.mark.parametrize("kind", ["tree", "stored.zip", "digits.npy", "table"])
def test_azure_gives_the_same(kind, azurite_root, local, tmp_path):
    server, url = azurite_root
    here = embed(local / kind, tmp_path / "here")
    there = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment())
    assert there.returncode == here.returncode, there.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


def test_a_finished_job_is_found_finished_and_a_changed_picture_is_noticed(seaweed, tree, tmp_path):
    url = seaweed.make_bucket("again", {key: tree[key] for key in list(tree)[:600]})
    out, env = tmp_path / "out", seaweed.environment("reader")
    assert embed(url, out, env=env).returncode == 0
    done = embed(url, out, env=env)
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    seaweed.client("again").put("0/00010.png", tree["top.png"])
    done = embed(url, out, env=env)
    assert done.returncode == 1
    assert "have changed since" in done.stderr


def test_no_secret_is_written_or_said(seaweed_root, tmp_path):
    server, url = seaweed_root
    done = embed(f"{url}/tree", tmp_path / "out", "--debug", env=server.environment("reader"))
    written = [done.stdout, done.stderr, *map(str, parts(tmp_path / "out").values())]
    written += [str(file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file()]
    assert done.returncode == 3
    assert not any("reader-secret" in text for text in written)


@pytest.mark.parametrize("secret", ["s3://key:hush@bucket/x", "s3://bucket/x?X-Amz-Signature=hush"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(secret, tmp_path):
    done = embed(secret, tmp_path / "out")
    assert done.returncode == 2
    assert "may be secret" in done.stderr
    assert "hush" not in done.stderr


# --- what goes wrong


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


def test_a_damaged_archive_table_or_array_is_refused(seaweed, local, tmp_path):
    cut = {name: (local / name).read_bytes()[:-20_000] for name in ("stored.zip", "all.tar", "digits.npy")}
    objects = {
        **cut,
        "cut.parquet": (local / "table/year=0/rows.parquet").read_bytes()[:-300],
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


def test_a_picture_that_is_gone_or_forbidden_is_a_failed_row(seaweed_root, local, tmp_path):
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
def test_errors_that_pass_are_never_rows(kind, seaweed_root, local, tmp_path):
    server, url = seaweed_root
    assert embed(local / kind, tmp_path / "here").returncode == 3
    with faulty(server.endpoint, lambda request: Answer(503) if request.number % 10 == 3 else None) as proxy:
        done = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment("reader", proxy.endpoint))
    assert done.returncode == 3, done.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


@pytest.mark.parametrize(("kind", "after"), [("tree", 700), ("table", 10)])
def test_credentials_that_end_are_an_error_and_no_row_and_the_same_command_goes_on(
    kind, after, seaweed_root, local, tmp_path
):
    server, url = seaweed_root
    ends = {"after": after}

    def rule(request):
        ended = ends["after"] and request.number > ends["after"]
        return Answer(400, error("ExpiredToken")) if ended else None

    assert embed(local / kind, tmp_path / "here").returncode == 3
    with faulty(server.endpoint, rule) as proxy:
        env = server.environment("reader", proxy.endpoint)
        done = embed(f"{url}/{kind}", tmp_path / "there", env=env)
        assert done.returncode == 1
        assert "the credentials have expired" in done.stderr
        ends["after"] = 0
        done = embed(f"{url}/{kind}", tmp_path / "there", env=env)
    assert done.returncode == 3, done.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


def test_an_archive_that_is_replaced_while_it_is_read_ends_the_job(seaweed, local, tmp_path):
    seaweed.make_bucket("replaced", {"a.zip": (local / "stored.zip").read_bytes()})
    client = seaweed.client("replaced")

    def rule(request):
        if request.headers.get("range", request.headers.get("Range", "")).startswith("bytes=0-"):
            client.put("a.zip", (local / "deflated.zip").read_bytes())

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed("s3://replaced/a.zip", tmp_path / "out", env=seaweed.environment("reader", proxy.endpoint))
    refused_after_start(done, "has changed since the job began")


def refused_after_start(done, sentence):
    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr


PROGRAM = """
import sys
import obstore
from obstore.store import S3Store
import vae_serve

url, bucket = sys.argv[1:]
if __name__ == "__main__":
    S3Store(bucket, client_options={"allow_http": True}).head("in/one.png")  # this process has used the client
    sources = [f"{url}/{kind}" for kind in ("tree", "stored.zip", "table")]
    rows = [sum(batch.num_rows for batch in vae_serve.embed(source)) for source in sources]
    summary = vae_serve.embed(f"{url}/tree", out="out")
    assert summary.images == rows[0]
    print(*rows)
"""


def test_a_program_that_uses_the_client_itself_does_not_hang(seaweed_root, tree, tmp_path):
    server, url = seaweed_root
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", url, "sources"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **server.environment("reader")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    rows = len([key for key in tree if key.lower().endswith(".png") and "/." not in f"/{key}"])
    assert done.stdout.split() == [str(rows), str(rows), str(rows + 2)], done.stderr  # a table has no hidden names


def test_reconstruct_reads_a_store_too(seaweed_root, local, tmp_path):
    server, url = seaweed_root
    words = ("reconstruct", "--quiet")
    here = run_command(*words, local / "table", "--out", tmp_path / "here", cwd=tmp_path)
    there = run_command(*words, f"{url}/table", "--out", tmp_path / "there", cwd=tmp_path, env=server.environment())
    assert there.returncode == here.returncode, there.stderr
    written = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert written
    for name in written:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_source_bundle_and_result_may_all_lie_in_a_store(seaweed_root, local, tmp_path):
    server, url = seaweed_root
    client = server.client("sources")
    for file in (ROOT / "exports" / "mnist").rglob("*"):
        if file.is_file():
            client.put(f"bundle/{file.relative_to(ROOT / 'exports' / 'mnist')}", file.read_bytes())
    words = ("--rows-per-shard", SHARD, "--workers", 2, "--quiet")
    for kind in ("tree", "stored.zip", "digits.npy"):
        here = embed(local / kind, tmp_path / kind)
        there = run_command(
            *("embed", f"{url}/{kind}", "--model", "s3://sources/bundle", "--out", f"s3://sources/out/{kind}", *words),
            cwd=tmp_path,
            env=server.environment(),
        )
        assert there.returncode == here.returncode, there.stderr
        made = server.objects("sources", f"out/{kind}")
        assert {key.rpartition("/")[2]: made[key] for key in made if "/part-" in key} == parts(tmp_path / kind)


FORKED = """
import os
from vae_serve.errors import SourceLost
from vae_serve.sources.objects.bucket import whole
from vae_serve.storage.object_client import open_bucket
from vae_serve.storage.object_url import ObjectUrl

url = ObjectUrl("s3", "sources", "in")
open_bucket(url).head("in/one.png")
if os.fork():
    os.wait()
else:
    try:
        whole(url, "one.png", 5)
    except SourceLost as error:
        print(error)
"""


def test_a_process_forked_off_one_that_has_used_the_client_says_so_and_does_not_hang(seaweed_root, tmp_path):
    server, _ = seaweed_root
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        env={**os.environ, "PYTHONPATH": str(ROOT), **server.environment("reader")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "choose --engine processes" in done.stdout, done.stderr


def test_what_is_sent_for_a_shard_has_its_names_alone(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    names = [f"{row:05}.png".encode() for row in range(1000)]
    stamps = np.array([(7, 1_000_000 + row) for row in range(1000)])
    pictures = ListedObjects(ObjectUrl("s3", "bucket", "photos"), PackedNames(names), stamps, 0).open()
    sent = pickle.dumps(pictures.select(range(100, 200)))
    assert [name for name in names if name in sent] == names[100:200]
    assert b"hush" not in sent
    opened = pickle.loads(sent).open()
    assert opened.names[range(150, 152)] == names[150:152]
    assert list(opened.stamps(range(150, 152))) == [(7, 1_000_150), (7, 1_000_151)]
