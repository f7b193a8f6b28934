"""The three commands of the README, typed in that order with nothing else, use one another's results."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vae_serve.model.model import Model


def shown_in_the_readme(command: str) -> list[str]:
    """The lines below `$ vae-serve COMMAND` in the README, every number as #."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    return without_numbers(readme.split(f"\n$ vae-serve {command}\n")[1].split("\n$ ")[0].split("\n```")[0])


def without_numbers(text: str) -> list[str]:
    return re.sub(r"\d+(\.\d+)?(e-\d+)?", "#", text).splitlines()


@pytest.mark.slow
def test_train_export_generate_use_one_anothers_results(vae_serve, tmp_path: Path):
    trained = vae_serve("train", "--epochs", 1, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert set(shown_in_the_readme("train")) <= set(without_numbers(trained.stderr))
    (run,) = (tmp_path / "runs").iterdir()

    exported = vae_serve("export", "--format", "onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert set(shown_in_the_readme("export --format onnx")) <= set(without_numbers(exported.stderr))
    (bundle,) = (tmp_path / "exports").iterdir()
    assert bundle.name == run.name

    generated = vae_serve("generate", "--grid", 15, cwd=tmp_path)
    assert generated.returncode == 0, generated.stderr
    assert without_numbers(generated.stderr) == shown_in_the_readme("generate --grid 15")
    assert str(Path("exports") / bundle.name) in generated.stderr  # says which model it took

    sheet = Image.open(tmp_path / "plane-15x15.png")
    assert (sheet.size, sheet.mode) == ((420, 420), "L")
    assert any(sheet.histogram()[201:])  # there is ink: digits, not an empty canvas


def test_the_committed_model_draws_what_it_is_told_to(vae_serve, tmp_path: Path):
    """The centre of the 15 x 15 plane is the decoder's picture of the origin."""
    from vae_serve.images.pixels import to_bytes

    done = vae_serve("generate", "--grid", 15, "--out", "grid.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    import numpy as np

    from vae_serve.model.bundle import find

    expected = Model.load(find(None, exports=tmp_path / "none")).decode(np.zeros((1, 2)))
    centre = np.asarray(Image.open(tmp_path / "grid.png"))[7 * 28 : 8 * 28, 7 * 28 : 8 * 28]
    assert np.array_equal(centre, to_bytes(expected)[0, :, :, 0])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["generate", "--grid", "0"], 2, "--grid"),
        (["generate", "--grid", "-3"], 2, "--grid"),
        (["generate", "--grid", "100000"], 2, "--grid"),
        (["generate", "--grid", "x"], 2, "--grid"),
        (["generate", "--grid", "15", "--model", "nowhere"], 1, "nowhere"),
        (["generate", "--count", "3", "--out", "-"], 2, "--out -: give a path; ./- is a file of that name"),
        (["generate", "--grid", "8", "--count", "64", "--out", "s.png"], 2, "give --grid N --count 1"),
        (["embed", "nowhere", "--out", "v"], 1, "nowhere"),
        (["export", "nowhere"], 1, "nowhere"),
        (["export", "--licence", "two\nlines"], 2, "--licence"),
        (["export"], 1, "runs"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_one_clear_sentence_and_the_right_code(vae_serve, tmp_path: Path, words, code, said):
    done = vae_serve(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing half-made


def test_short_options_and_a_list_of_commands_without_cut_lines(vae_serve, tmp_path: Path):
    listed = vae_serve("-h", cwd=tmp_path)
    assert listed.returncode == 0
    assert listed.stdout == vae_serve("--help", cwd=tmp_path).stdout
    assert "..." not in listed.stdout.partition("Commands:")[2]
    assert vae_serve("generate", "-h", cwd=tmp_path).stdout.startswith("Usage: vae-serve generate")
    assert vae_serve("-V", cwd=tmp_path).stdout == vae_serve("--version", cwd=tmp_path).stdout


def test_debug_shows_the_traceback(vae_serve, tmp_path: Path):
    done = vae_serve("export", "nowhere", "--debug", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_changed_byte_in_the_bundle_is_refused_by_the_files_name(vae_serve, exported: Path, tmp_path: Path):
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    model = bytearray((damaged / "decoder.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (damaged / "decoder.onnx").write_bytes(model)

    done = vae_serve("generate", "--grid", 3, "--model", damaged, "--out", "grid.png", cwd=tmp_path)

    assert done.returncode == 1
    assert "decoder.onnx" in done.stderr
    assert not (tmp_path / "grid.png").exists()


def test_nothing_is_written_into_the_user_s_home(vae_serve, tmp_path: Path):
    (tmp_path / "home").mkdir()
    done = vae_serve("generate", "--grid", 2, cwd=tmp_path, env={"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""})
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home").rglob("*")) == []
