"""`vae-serve embed`, the same bytes however it comes to them: any batch, any workers, killed, resumed, in parts."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from digit_files import write_digits
from interrupting import events_of, interrupted, moments

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "exports" / "mnist"  # a real encoder: its sums could depend on the batch
ROWS = 700
SHARD = ("--rows-per-shard", 64)
KILLS = int(os.environ.get("VAE_SERVE_KILLS", "6"))  # of one job, spread over all that it does to the disk

Embed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """700 digits, every hundredth of them broken."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    write_digits(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def embed(vae_serve, pictures) -> Embed:
    def run(out: Path, *options: object, source: object = pictures) -> "subprocess.CompletedProcess[str]":
        return vae_serve("embed", source, "--model", MODEL, "--out", out, *SHARD, *options, cwd=out.parent)

    return run


def results(out: Path) -> dict[str, bytes]:
    """The files of a finished job, by name; those with the clock's figures in them by name alone."""
    files = {file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    clocked = {name for name in files if name.startswith(".job") and name != ".job/plan.json"}
    return {name: b"" if name in clocked else data for name, data in files.items()}


@pytest.fixture(scope="module")
def whole(embed, tmp_path_factory) -> dict[str, bytes]:
    """The result of one uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = embed(out)
    assert done.returncode == 3, done.stderr
    found = results(out)
    assert len([name for name in found if name.startswith("part-")]) == 11
    return found


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (7, 4), (256, 2), (128, 1)])
def test_batch_and_workers_change_no_byte(embed, whole, tmp_path, batch, workers):
    embed(tmp_path / "out", "--batch", batch, "--workers", workers)
    assert results(tmp_path / "out") == whole


def test_parts_of_three_machines_put_together_are_the_whole(embed, whole, tmp_path):
    for part in (1, 2, 3):
        done = embed(tmp_path / f"part{part}", "--shard", f"{part}/3")
        assert done.returncode == 3, done.stderr
    together: dict[str, bytes] = {}
    for part in (1, 2, 3):
        found = {name: data for name, data in results(tmp_path / f"part{part}").items() if name.startswith("part-")}
        assert 3 <= len(found) <= 4
        assert not set(found) & set(together)
        together |= found
    assert together == {name: data for name, data in whole.items() if name.startswith("part-")}


def test_a_finished_job_run_again_does_nothing_and_says_so(embed, tmp_path):
    embed(tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    done = embed(tmp_path / "out")
    assert done.returncode == 3  # its result has failed rows
    assert "all there already" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before


def test_a_lost_shard_is_made_again_and_no_other(embed, whole, tmp_path):
    out = tmp_path / "out"
    embed(out)
    (out / "part-00004.parquet").unlink()
    kept = (out / "part-00003.parquet").stat().st_mtime_ns
    done = embed(out, "--json")
    assert results(out) == whole
    assert (out / "part-00003.parquet").stat().st_mtime_ns == kept
    assert json.loads(done.stdout)["this_run"]["images"] == 64
    assert json.loads(done.stdout)["images"] == ROWS


def command(out: Path, source: Path, *options: object) -> list[object]:
    return ["embed", source, "--model", MODEL, "--out", out, *SHARD, *options, "-q"]


def kill_resume_and_compare(kills: int, embed: Embed, pictures: Path, work: Path, *options: object) -> None:
    """Kills a run at so many of the things that it does to the disk, resumes it and compares."""
    reference = work / "reference"
    total = events_of(*command(reference, pictures, *options), cwd=work)
    expected = results(reference)
    for moment in moments(total, kills):
        out = work / f"out{moment}"
        killed = interrupted(*command(out, pictures, *options), cwd=work, at=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = embed(out, *options)
        assert done.returncode == 3, done.stderr
        assert results(out) == expected
        shutil.rmtree(out)


@pytest.mark.slow
def test_a_job_killed_at_any_moment_comes_to_the_same_result(embed, pictures, tmp_path):
    kill_resume_and_compare(KILLS, embed, pictures, tmp_path)


@pytest.mark.slow
def test_a_job_of_several_results_killed_at_any_moment_comes_to_the_same(embed, pictures, tmp_path):
    kill_resume_and_compare(KILLS, embed, pictures, tmp_path, "--format", "projector")


def finished_rows(out: Path) -> int:
    """Of the shards that have a record, in any order; the last one is shorter."""
    numbers = [int(file.stem.removeprefix("part-")) for file in out.glob(".job/part-*.json")]
    return sum(min(64, ROWS - 64 * number) for number in numbers)


def test_ctrl_c_is_said_in_a_word_and_the_next_run_goes_on(embed, pictures, tmp_path):
    out = tmp_path / "out"
    total = events_of(*command(tmp_path / "whole", pictures), cwd=tmp_path)
    stopped = interrupted(*command(out, pictures), cwd=tmp_path, at=total // 2, by=signal.SIGINT)
    assert (stopped.returncode, stopped.stderr) == (130, "vae-serve: interrupted\n")
    finished = finished_rows(out)
    assert 0 < finished < ROWS
    assert list(out.rglob("partial-*")) == []
    done = embed(out, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["this_run"]["images"] == ROWS - finished


def test_when_only_the_parent_is_killed_the_same_command_goes_on_at_once(embed, pictures, whole, tmp_path):
    """Its processes do not hold its lock, and end: `interrupted` waits until nobody holds its stderr any more."""
    out = tmp_path / "out"
    total = events_of(*command(tmp_path / "whole", pictures), cwd=tmp_path)
    killed = interrupted(*command(out, pictures), cwd=tmp_path, at=total // 2, group=False)
    assert killed.returncode == -signal.SIGKILL
    assert 0 < finished_rows(out) < ROWS
    assert embed(out).returncode == 3
    assert results(out) == whole


def test_leftovers_of_a_killed_run_are_cleared_away(embed, whole, tmp_path):
    out = tmp_path / "out"
    embed(out)
    (out / "part-00010.parquet").unlink()
    (out / ".job").mkdir()
    (out / ".job" / "partial-0123456789abcdef").write_bytes(b"half")
    embed(out)
    assert results(out) == whole


def test_a_second_run_at_once_is_refused(embed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    held = os.open(out, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = embed(out, "-q")
    os.close(held)
    assert done.returncode == 1
    assert done.stderr == f"vae-serve: error: another run is writing to {out}; wait for it, or choose another --out\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--invert", "yes"), "pixels.invert was 'no' and is now 'yes'"),
        (("--format", "csv"), "format was 'parquet' and is now 'csv'"),
        (("--outputs", "z_mean"), "outputs was ['z_mean', 'z_log_var'] and is now ['z_mean']"),
        (("--shard", "1/2"), "share was [1, 1] and is now [1, 2]"),
        (("--rows-per-shard", 65), "rows_per_shard was 64 and is now 65"),
    ],
)
def test_another_job_in_the_same_folder_is_refused_with_the_difference(finished, embed, options, said):
    done = embed(finished, *options, "-q")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def finished(embed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    embed(out)
    return out


def test_another_model_is_refused_with_the_difference(finished, vae_serve, pictures, tmp_path):
    import linear_bundle

    other = linear_bundle.write(tmp_path / "other", image_shape=(28, 28, 1))
    done = vae_serve("embed", pictures, "--model", other, "--out", finished, *SHARD, "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert "model.encoder_sha256 was" in done.stderr


def test_a_new_picture_in_the_source_is_refused_with_the_difference(finished, embed, pictures, tmp_path):
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    shutil.copy(more / "0" / "0000.png", more / "0" / "new.png")
    done = embed(finished, "-q", source=more)
    assert done.returncode == 1
    assert "source.pictures was 700 and is now 701" in done.stderr


def test_a_picture_changed_since_its_shard_was_written_is_refused(embed, pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    embed(tmp_path / "out", source=copy)
    (copy / "0" / "0000.png").write_bytes((copy / "1" / "0001.png").read_bytes())
    done = embed(tmp_path / "out", "-q", source=copy)
    assert done.returncode == 1
    assert "pictures have changed since" in done.stderr
    assert "between 0/0000.png and" in done.stderr


def test_overwrite_replaces_another_job_and_nothing_else(embed, whole, tmp_path):
    out = tmp_path / "out"
    embed(out, "--format", "npy")
    (out / "notes.txt").write_text("mine")
    done = embed(out, "--overwrite")
    assert done.returncode == 3
    assert results(out) == {**whole, "notes.txt": b"mine"}


def test_a_folder_with_other_files_is_refused(embed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    done = embed(tmp_path / "out", "--overwrite", "-q")
    assert done.returncode == 1
    assert "holds other files, such as 'thesis.doc'" in done.stderr


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/0", "a/b"])
def test_a_part_that_is_none_is_wrong_usage(embed, tmp_path, part):
    done = embed(tmp_path / "out", "--shard", part)
    assert done.returncode == 2
    assert f"--shard {part}" in done.stderr


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(embed, whole, pictures, tmp_path):
    out = tmp_path / "out"
    largest = max(len(data) for name, data in whole.items() if name.startswith("part-"))
    # The system's own limit on a file's size stands in for the end of the disk: writing past it is refused likewise.
    script = (
        "import resource, sys; from vae_serve.cli import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest - 1}, {largest - 1})); main(sys.argv[1:])"
    )
    words = ["embed", pictures, "--model", MODEL, "--out", out, *SHARD, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no room to write" in done.stderr
    assert "run the same command again" in done.stderr
    assert not list(out.rglob("partial-*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != largest - 1
    assert embed(out).returncode == 3
    assert results(out) == whole


def test_drawn_samples_depend_on_seed_and_row_alone(embed, tmp_path):
    import pyarrow.parquet as pq

    for out, options in (("a", ("--batch", 7)), ("b", ("--shard", "2/2")), ("c", ("--seed", 2))):
        embed(tmp_path / out, "--outputs", "z_mean,z_log_var,z", *options)
    a, b, c = (pq.read_table(tmp_path / out).to_pylist() for out in "abc")
    by_path = {row["path"]: row for row in a}
    assert all(by_path[row["path"]] == row for row in b)
    assert [row["z_mean"] for row in a] == [row["z_mean"] for row in c]
    fine = [row for row in a if row["status"] == "ok"]
    mean, log_var, z = (np.array([row[name] for row in fine]) for name in ("z_mean", "z_log_var", "z"))
    noise = (z - mean) / np.exp(log_var / 2)
    assert abs(noise.mean()) < 0.1  # 1,386 numbers: three standard errors are 0.08
    assert abs(noise.std() - 1) < 0.06
    assert not np.array_equal(z, np.array([row["z"] for row in c if row["status"] == "ok"]))
