"""The fuzzer finds a fault of each kind, goes on after a crash, and keeps an input that shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    paths = [ROOT, ROOT / "scripts", Path(__file__).parent]
    return subprocess.run(
        [sys.executable, "-m", "fuzzing", "--registry", "broken_parsers", "--engine", "mutation", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_sound_parser_has_no_findings_and_every_execution_is_counted(tmp_path):
    done = fuzz("--executions", 300, "--findings", tmp_path / "findings", "sound", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    count = int(re.search(r"\| sound \| (\d+) \|", done.stdout)[1])
    assert 1 <= count <= 300
    assert not (tmp_path / "findings").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("raises", "KeyError at "),
        ("crashes", "SIGSEGV"),
        ("spins", "takes more processor time"),
        ("waits", "waits for more than 1 s"),
        ("takes", "MemoryError at "),
        ("leaves", "SystemExit at "),
    ],
)
def test_a_fault_of_each_kind_is_found_and_its_input_shows_it_again(target, said, tmp_path):
    done = fuzz(
        "--executions", 3 if target == "waits" else 12, "--findings", tmp_path / "findings", target, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert f"{target}: " in done.stdout
    assert said in done.stdout
    (kept,) = (tmp_path / "findings" / target).glob("*.bin")
    assert len(kept.read_bytes()) > 5
    assert target not in {"raises", "takes", "leaves"} or len(kept.read_bytes()) == 6  # made as small as it can be
    assert f"scripts/fuzz {target} --run {kept}" in done.stdout


def test_findings_of_an_earlier_run_are_not_those_of_this_one(tmp_path):
    fuzz("--executions", 12, "--findings", tmp_path, "raises", cwd=tmp_path)
    (kept,) = (tmp_path / "raises").glob("*.bin")
    kept.rename(tmp_path / "raises" / "earlier.bin")
    fuzz("--executions", 12, "--findings", tmp_path, "raises", cwd=tmp_path)
    assert not (tmp_path / "raises" / "earlier.bin").exists()


def test_one_input_is_run_again_with_its_outcome(tmp_path):
    (tmp_path / "input").write_bytes(b"damaged")
    refused = fuzz("sound", "--run", tmp_path / "input", cwd=tmp_path)
    raised = fuzz("raises", "--run", tmp_path / "input", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (0, "refused: SourceError: it is not sound\n")
    assert raised.returncode == 1
    assert "KeyError: b'dam'" in raised.stderr
    assert fuzz("--run", tmp_path / "input", cwd=tmp_path).returncode == 2


def test_an_unknown_target_is_wrong_usage(tmp_path):
    done = fuzz("nothing", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no target nothing" in done.stderr
