"""`vae-serve generate`, typed as a person types it, over models whose answer is known."""

from pathlib import Path

import linear_bundle
import numpy as np
import pytest
from PIL import Image

from vae_serve import latents


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


def read(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_grid_is_the_latent_plane_first_axis_to_the_right_second_one_up(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--grid", 15, "--model", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    picture = read(tmp_path / "plane-15x15.png")
    assert picture.shape == (15 * 6, 15 * 5)
    # the tutorial's loop: grid_y = linspace(-4, 4, n)[::-1], row i shows grid_y[i], column j shows grid_x[j]
    grid_x, grid_y = np.linspace(-4, 4, 15), np.linspace(-4, 4, 15)[::-1]
    for i, yi in enumerate(grid_y):
        for j, xi in enumerate(grid_x):
            cell = picture[i * 6 : (i + 1) * 6, j * 5 : (j + 1) * 5]
            assert np.array_equal(cell, linear_bundle.decoded(np.array([[xi, yi]]))[0, :, :, 0])


def test_says_on_stderr_which_model_drew_and_what_it_wrote(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--grid", 2, "--model", bundle, cwd=tmp_path)
    assert done.stdout == ""
    assert str(bundle) in done.stderr
    assert "plane-2x2.png" in done.stderr


def test_drawn_pictures_are_the_decoded_draws_of_the_seed(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--count", 7, "--seed", 3, "--model", bundle, "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "drawn").glob("*.png"))
    expected = linear_bundle.decoded(latents.draws(3, 0, 7, 2))
    assert [file.name for file in files] == [f"{index:06}.png" for index in range(7)]
    assert np.array_equal(np.stack([read(file) for file in files]), expected[..., 0])


@pytest.mark.parametrize("grid", [0, -3, 100_000])
def test_a_grid_that_cannot_be_drawn_is_wrong_usage(vae_serve, bundle, tmp_path, grid):
    done = vae_serve("generate", "--grid", grid, "--model", bundle, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"vae-serve: error: --grid {grid} ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_plane_of_a_model_with_more_dimensions_says_what_to_do(vae_serve, tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "wide", latent_dim=5)
    done = vae_serve("generate", "--grid", 3, "--model", bundle, cwd=tmp_path)
    assert done.returncode == 2
    assert "5 dimensions" in done.stderr
    assert "--count" in done.stderr


@pytest.mark.parametrize("words", [["--grid", 3], ["--count", 3]])
def test_what_is_there_is_replaced_only_when_asked(vae_serve, bundle, tmp_path, words):
    out = tmp_path / ("out.png" if "--grid" in words else "out")
    words = ["generate", *words, "--model", bundle, "--out", out]
    assert vae_serve(*words, cwd=tmp_path).returncode == 0
    refused = vae_serve(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    assert vae_serve(*words, "--overwrite", cwd=tmp_path).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_a_folder_of_other_things_is_never_replaced(vae_serve, bundle, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    done = vae_serve("generate", "--count", 3, "--model", bundle, "--out", "precious", "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert "precious" in done.stderr
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "years of work"


def test_without_a_wish_it_says_what_can_be_wished_for(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--model", bundle, cwd=tmp_path)
    assert done.returncode == 2
    assert "--grid 15" in done.stderr
