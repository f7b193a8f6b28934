"""`vae-serve generate --out s3://...`: the bytes of a local file; and what cannot be written to a store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "exports" / "mnist"


@pytest.mark.parametrize("name", ["plane.png", "a b.zip", "samples.npz", "samples.parquet"])
def test_generate_stores_a_file_with_the_bytes_of_a_local_one(name, vae_serve, seaweed, bucket, tmp_path):
    what = ("--grid", 3) if name.endswith(".png") else ("--count", 20, "--seed", 1)
    words = ("generate", *what, "--model", MODEL, "--out")
    assert vae_serve(*words, name, cwd=tmp_path).returncode == 0
    done = vae_serve(*words, f"s3://{bucket}/made/{name}", "--json", cwd=tmp_path, env=seaweed.environment())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == f"s3://{bucket}/made/{name}"
    assert seaweed.objects(bucket) == {f"made/{name}": (tmp_path / name).read_bytes()}
    again = vae_serve(*words, f"s3://{bucket}/made/{name}", cwd=tmp_path, env=seaweed.environment())
    assert again.returncode == 1
    assert f"s3://{bucket}/made/{name} exists; choose another --out" in again.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]


def test_generate_that_is_killed_goes_on_with_the_same_command_and_keeps_a_second_one_off(
    vae_serve, seaweed, bucket, tmp_path
):
    words = ("generate", "--count", "20000", "--rows-per-shard", "100", "--model", str(MODEL), "--workers", "1")
    out = f"s3://{bucket}/samples.zip"
    here = tmp_path / "temporary"
    here.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(here), **seaweed.environment()}

    def records() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in here.glob("*/*/samples.zip.partial/.job/part-*.json")}

    def started_until(count: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "vae_serve", *words, "--out", out, "-q"]
        run = subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        while len(records()) < count:
            assert run.poll() is None, run.stderr and run.stderr.read()
        return run

    first = started_until(20)
    beside = vae_serve(*words, "--out", out, cwd=tmp_path, env={"TMPDIR": str(here), **seaweed.environment()})
    assert beside.returncode == 1
    assert f"{out} is being made by another run on this machine" in beside.stderr
    first.kill()
    first.communicate()
    done = records()
    assert seaweed.objects(bucket) == {}
    second = started_until(len(done) + 1)
    assert {name: time for name, time in records().items() if name in done} == done
    assert second.communicate()[1] == ""
    assert vae_serve(*words, "--out", "here.zip", "-q", cwd=tmp_path).returncode == 0
    assert seaweed.objects(bucket) == {"samples.zip": (tmp_path / "here.zip").read_bytes()}
    assert not [*here.glob("*/*")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("generate", "--count", 5, "--out", "s3://given/folder"),
            "write s3://given/folder.zip or s3://given/folder.p",
        ),
        (("generate", "--grid", 2, "--out", "s3://given/x.png", "--overwrite"), "--overwrite is for results on this"),
        (
            ("reconstruct", "mnist", "--out", "s3://given/folder"),
            "is a URL, and this result is a folder written on this",
        ),
        (("deploy", "triton", MODEL, "--out", "s3://given/folder"), "is a URL, and this result is a folder written on"),
    ],
)
def test_what_cannot_appear_whole_in_a_store_is_refused_with_what_to_do(words, message, vae_serve, seaweed, tmp_path):
    seaweed.make_bucket("given")
    model = () if words[0] == "deploy" else ("--model", MODEL)
    done = vae_serve(*words, *model, cwd=tmp_path, env=seaweed.environment())
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
