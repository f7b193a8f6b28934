"""The order in which a process starts, seen from inside of it."""

import json
import subprocess
import sys
from pathlib import Path

RECORD = """
import gc, json, os, sys
import vae_serve.cli

LATER = {"numpy", "onnxruntime", "pyarrow"}
forks = []
fork = os.fork

def recorded():
    forks.append(sorted(LATER & sys.modules.keys()))
    return fork()

os.fork = recorded
try:
    vae_serve.cli.main(json.loads(sys.argv[1]))
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "forks": forks, "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
                  "threshold": gc.get_threshold()[0]}))
"""


def started(*words: object, cwd: Path, env: dict[str, str] | None = None) -> dict:
    """What a command did at its start: which heavy packages were loaded at each fork, and its settings."""
    import os

    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", RECORD, json.dumps([*map(str, words)])],
        cwd=cwd,
        env={**environment, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_embed_forks_to_list_before_numpy_and_to_decode_before_onnx_runtime(digit_folder, tmp_path):
    seen = started("embed", digit_folder, "--out", "v", "--workers", 2, "--batch", 8, cwd=tmp_path)
    assert seen["code"] == 0
    assert seen["forks"][0] == []
    assert all(loaded in ([], ["numpy"]) for loaded in seen["forks"])


def test_commands_that_serve_keep_blas_to_one_thread_and_the_collector_from_looking_for_nothing(digit_folder, tmp_path):
    for words in (
        ("embed", digit_folder, "--out", "vectors"),
        ("generate", "--grid", 2, "--out", "plane.png"),
        ("reconstruct", digit_folder, "--out", "pairs"),
    ):
        seen = started(*words, cwd=tmp_path)
        assert (seen["code"], seen["blas"], seen["threshold"]) == (0, "1", 100_000)


def test_a_number_of_threads_that_the_user_chose_is_kept(tmp_path):
    seen = started("generate", "--grid", 2, cwd=tmp_path, env={"OPENBLAS_NUM_THREADS": "3"})
    assert seen["blas"] == "3"


def test_output_to_a_full_disk_is_not_lost_in_silence(tmp_path):
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "vae_serve", "inspect", "--json"]
        done = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
