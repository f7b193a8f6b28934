"""Sources in object stores, on real servers: the rows are those of the same files in a local folder, byte for byte."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from command_line import ROOT, run_command
from embed_objects import SHARD, embed, figures, parts

from vae_serve.sources.names import PackedNames
from vae_serve.sources.objects.pictures import ListedObjects
from vae_serve.storage.object_url import ObjectUrl

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
def test_a_source_in_a_store_gives_the_bytes_of_the_same_source_on_disk(kind, seaweed_root, local_sources, tmp_path):
    server, url = seaweed_root
    here = embed(local_sources / kind, tmp_path / "here")
    there = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment("reader"))
    assert there.returncode == here.returncode, there.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")
    assert len(parts(tmp_path / "there")) >= (1 if kind == "one.png" else 2)
    assert figures(there) == figures(here)


@pytest.mark.parametrize("kind", ["tree", "stored.zip", "digits.npy", "table"])
def test_azure_gives_the_same(kind, azurite_root, local_sources, tmp_path):
    server, url = azurite_root
    here = embed(local_sources / kind, tmp_path / "here")
    there = embed(f"{url}/{kind}", tmp_path / "there", env=server.environment())
    assert there.returncode == here.returncode, there.stderr
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


def test_a_finished_job_is_found_finished_and_a_changed_picture_is_noticed(seaweed, object_tree, tmp_path):
    url = seaweed.make_bucket("again", {key: object_tree[key] for key in list(object_tree)[:600]})
    out, env = tmp_path / "out", seaweed.environment("reader")
    assert embed(url, out, env=env).returncode == 0
    done = embed(url, out, env=env)
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    seaweed.client("again").put("0/00010.png", object_tree["top.png"])
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


def test_a_program_that_uses_the_client_itself_does_not_hang(seaweed_root, object_tree, tmp_path):
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
    rows = len([key for key in object_tree if key.lower().endswith(".png") and "/." not in f"/{key}"])
    assert done.stdout.split() == [str(rows), str(rows), str(rows + 2)], done.stderr  # a table has no hidden names


def test_reconstruct_reads_a_store_too(seaweed_root, local_sources, tmp_path):
    server, url = seaweed_root
    words = ("reconstruct", "--quiet")
    here = run_command(*words, local_sources / "table", "--out", tmp_path / "here", cwd=tmp_path)
    there = run_command(*words, f"{url}/table", "--out", tmp_path / "there", cwd=tmp_path, env=server.environment())
    assert there.returncode == here.returncode, there.stderr
    written = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert written
    for name in written:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_source_bundle_and_result_may_all_lie_in_a_store(seaweed_root, local_sources, tmp_path):
    server, url = seaweed_root
    client = server.client("sources")
    for file in (ROOT / "exports" / "mnist").rglob("*"):
        if file.is_file():
            client.put(f"bundle/{file.relative_to(ROOT / 'exports' / 'mnist')}", file.read_bytes())
    words = ("--rows-per-shard", SHARD, "--workers", 2, "--quiet")
    for kind in ("tree", "stored.zip", "digits.npy"):
        here = embed(local_sources / kind, tmp_path / kind)
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
