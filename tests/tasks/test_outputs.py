"""What embed, generate and reconstruct do with what is at --out: nothing is lost, no link is followed."""

import fcntl
import json
import os
import shutil
import zipfile
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest
from interrupting import events_of, meanwhile
from PIL import Image

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear", image_shape=SHAPE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, digits) -> Path:
    folder = tmp_path_factory.mktemp("source") / "pictures"
    folder.mkdir()
    for row in range(20):
        Image.fromarray(digits[row, :, :, 0]).save(folder / f"{row:02}.png")
    return folder


def words(task: str, bundle: Path, pictures: Path) -> list[object]:
    """A command that writes a folder or file called `out`, or `out.npy`, ...; without --out."""
    command, _, suffix = task.partition(" ")
    options = {"generate": ["--count", 50], "reconstruct": [pictures], "embed": [pictures]}[command]
    return [command, *options, "--model", bundle, "--out", f"out{suffix}"]


STAGED = ["generate", "generate .npy", "generate .npz", "generate .zip", "generate .parquet", "reconstruct"]


@pytest.mark.parametrize("task", STAGED)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_while_the_work_runs_is_kept_and_so_is_the_result(
    vae_serve, bundle, pictures, tmp_path, task, overwrite
):
    command = [*words(task, bundle, pictures), *["--overwrite"][: int(overwrite)]]
    out = tmp_path / str(words(task, bundle, pictures)[-1])
    total = events_of(*command, cwd=tmp_path)
    out.rename(tmp_path.parent / f"{tmp_path.name}-earlier")
    action = f"os.mkdir({str(out)!r}); open({str(out / 'thesis')!r}, 'w').close()"
    done = meanwhile(action, *command, cwd=tmp_path, at=total // 2)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert [file.name for file in out.iterdir()] == ["thesis"]
    where = Path(done.stderr.strip().rpartition("the finished result is ")[2])
    assert (tmp_path / where).exists()
    if not overwrite:
        shutil.rmtree(out)
        assert vae_serve(*command, cwd=tmp_path).returncode == 0
        assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_a_plane_that_appears_while_it_is_drawn_is_kept_and_so_is_the_result(bundle, tmp_path):
    command = ["generate", "--grid", 3, "--model", bundle, "--out", "out.png"]
    done = meanwhile(f"open({str(tmp_path / 'out.png')!r}, 'w').write('mine')", *command, cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "out.png").read_text() == "mine"
    where = Path(done.stderr.strip().rpartition("the finished result is ")[2])
    with Image.open(tmp_path / where) as picture:
        assert picture.size == (84, 84)


@pytest.mark.parametrize("task", STAGED)
def test_a_second_run_at_once_is_refused(vae_serve, bundle, pictures, tmp_path, task):
    command = words(task, bundle, pictures)
    partial = tmp_path / f"{command[-1]}.partial"
    partial.mkdir()
    held = os.open(partial, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = vae_serve(*command, cwd=tmp_path)
    os.close(held)
    assert done.returncode == 1
    assert f"another run is writing to {partial.name}; wait for it, or choose another --out" in done.stderr


@pytest.mark.parametrize("task", STAGED)
@pytest.mark.parametrize("where", [".partial", ".partial/.job"])
def test_a_planted_link_is_not_followed(vae_serve, bundle, pictures, tmp_path, task, where):
    command = words(task, bundle, pictures)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis").touch()
    link = tmp_path / f"{command[-1]}{where}"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "victim")
    for options in ([], ["--overwrite"]):
        done = vae_serve(*command, *options, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("vae-serve: error: ")
        assert "Traceback" not in done.stderr
    assert [file.name for file in (tmp_path / "victim").iterdir()] == ["thesis"]


@pytest.mark.parametrize("task", [*STAGED, "embed"])
def test_out_that_is_a_link_is_not_followed(vae_serve, bundle, pictures, tmp_path, task):
    command = words(task, bundle, pictures)
    assert vae_serve(*command, cwd=tmp_path).returncode == 0
    out = tmp_path / str(command[-1])
    out.rename(tmp_path / "real")
    out.symlink_to("real")
    done = vae_serve(*command, "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{out.name} is a link, which is not followed" in done.stderr
    assert out.is_symlink()


@pytest.mark.parametrize("task", ["generate", "reconstruct"])
def test_a_folder_of_photographs_is_no_earlier_result(vae_serve, bundle, pictures, tmp_path, task):
    shutil.copytree(pictures, tmp_path / "out")
    Image.new("RGB", (30, 30)).save(tmp_path / "out" / "000000.png", dpi=(300, 300))  # as a camera numbers them
    before = sorted(file.name for file in (tmp_path / "out").iterdir())
    done = vae_serve(*words(task, bundle, pictures), "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert f"out is not a result of {task} and is not overwritten" in done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == before


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".zip", ".parquet"])
def test_a_file_of_somebody_else_is_no_earlier_result(vae_serve, bundle, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    match suffix:
        case ".png":
            Image.new("L", (9, 9)).save(out, dpi=(72, 72))
        case ".npy":
            np.save(out, np.zeros((3, 4), np.float32))
        case ".npz":
            np.savez(out, weights=np.zeros(3))
        case ".zip":
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr("thesis.tex", "years")
        case ".parquet":
            import pyarrow as pa

            pq.write_table(pa.table({"income": [1]}), out)
    before = out.read_bytes()
    what = ["--grid", 3] if suffix == ".png" else ["--count", 3]
    done = vae_serve("generate", *what, "--model", bundle, "--out", out, "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not overwritten" in done.stderr
    assert out.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("task", STAGED)
def test_an_earlier_result_is_overwritten_and_an_empty_file_or_folder_too(vae_serve, bundle, pictures, tmp_path, task):
    command = words(task, bundle, pictures)
    out = tmp_path / str(command[-1])
    if out.suffix:
        out.touch()
    else:
        out.mkdir()
    for _ in range(2):
        done = vae_serve(*command, "--overwrite", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("out", [".", "./", "..", "/"])
@pytest.mark.parametrize("task", ["generate", "reconstruct", "embed"])
def test_the_current_folder_and_the_root_are_refused_in_a_sentence(vae_serve, bundle, pictures, tmp_path, task, out):
    here = tmp_path / "here"
    here.mkdir()
    (here / "thesis").touch()
    command = words(task, bundle, pictures)[:-1]
    for options in ([], ["--overwrite"]):
        done = vae_serve(*command, out, *options, "-q", cwd=here)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["here"]
    assert [file.name for file in here.iterdir()] == ["thesis"]


@pytest.mark.parametrize("task", ["generate", "reconstruct", "embed"])
def test_a_slash_at_the_end_changes_nothing(vae_serve, bundle, pictures, tmp_path, task):
    command = words(task, bundle, pictures)[:-1]
    assert vae_serve(*command, "out/", cwd=tmp_path).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("source", [".", "**/*.png"])
def test_a_result_inside_the_source_is_none_of_its_pictures(vae_serve, bundle, pictures, tmp_path, source):
    shutil.copytree(pictures, tmp_path / "here")
    command = ["embed", source, "--model", bundle, "--out", "v", "--format", "projector", "--json"]
    first = vae_serve(*command, cwd=tmp_path / "here")
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "here" / "v" / "sprite.png").exists()
    again = vae_serve(*command, cwd=tmp_path / "here")
    assert again.returncode == 0, again.stderr
    assert {**json.loads(again.stdout), "this_run": None, "skipped": None} == {
        **json.loads(first.stdout),
        "this_run": None,
        "skipped": None,
    }


@pytest.mark.parametrize("planted", ["link", "file"])
def test_what_is_planted_in_the_place_of_a_shard_is_kept_and_not_followed(
    vae_serve, bundle, pictures, tmp_path, planted
):
    command = words("embed", bundle, pictures)
    victim, shard = tmp_path / "victim", tmp_path / "out" / "part-00000.parquet"
    victim.write_text("mine")
    action = f"os.symlink({str(victim)!r}, {str(shard)!r})" if planted == "link" else f"open({str(shard)!r}, 'w')"
    done = meanwhile(action, *command, cwd=tmp_path, at=5)
    assert done.returncode == 1
    assert "part-00000.parquet is there already, with other contents than this job's" in done.stderr
    assert victim.read_text() == "mine"
    shard.unlink()
    assert vae_serve(*command, cwd=tmp_path).returncode == 0
    assert pq.read_table(shard).num_rows == 20


def test_a_result_of_the_earlier_layout_says_that_it_cannot_be_resumed(vae_serve, bundle, pictures, tmp_path):
    out = tmp_path / "out"
    (out / "_job").mkdir(parents=True)
    (out / "_job" / "plan.json").write_text(json.dumps({"job": {"command": "embed"}, "results": []}))
    for name in ("_stats.json", "_job/part-00000.json", "part-00000.parquet", "notes.txt"):
        (out / name).write_text("{}")
    command = words("embed", bundle, pictures)
    done = vae_serve(*command, "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "out was written by an earlier version of vae-serve (it has a folder _job) and cannot be resumed" in done.stderr
    )
    assert vae_serve(*command, "--overwrite", cwd=tmp_path).returncode == 0
    assert sorted(file.name for file in out.iterdir()) == [".job.parquet", "notes.txt", "part-00000.parquet"]


def test_a_job_of_another_command_is_not_overwritten(vae_serve, bundle, pictures, tmp_path):
    assert vae_serve(*words("embed", bundle, pictures), cwd=tmp_path).returncode == 0
    (tmp_path / "out").rename(tmp_path / "out.partial")
    done = vae_serve(*words("generate", bundle, pictures), "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert "out.partial holds a job of 'embed', and is not overwritten" in done.stderr


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "[" * 100_000, '"text"', "{}", '{"rows": "many"}', '{"job": 1, "results": 3}', "\0"]
)
@pytest.mark.parametrize("name", [".job/plan.json", ".job/part-00000.json", ".job.parquet"])
def test_a_damaged_state_is_one_sentence_and_overwrite_starts_again(
    vae_serve, bundle, pictures, tmp_path, name, damage
):
    command = [*words("embed", bundle, pictures), "-q", "--format", "parquet" if name == ".job.parquet" else "npy"]
    assert vae_serve(*command, cwd=tmp_path).returncode == 0
    (tmp_path / "out" / name).write_text(damage)
    done = vae_serve(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "--overwrite" in done.stderr
    assert vae_serve(*command, "--overwrite", cwd=tmp_path).returncode == 0


def test_nothing_is_left_of_a_full_disk(bundle, pictures, tmp_path):
    total = events_of(*words("reconstruct", bundle, pictures), cwd=tmp_path)
    shutil.rmtree(tmp_path / "out")
    action = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))"
    done = meanwhile(action, *words("reconstruct", bundle, pictures), cwd=tmp_path, at=total // 3)
    assert done.returncode == 1
    assert "run the same command again" in done.stderr
    assert not list(tmp_path.rglob("partial-*"))
