"""`vae-serve generate`, typed as a person types it, over models whose answer is known."""

import io
import json
import zipfile
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vae_serve.images import pixels
from vae_serve.model import samplers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


def read(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def read_folder(folder: Path) -> np.ndarray:
    return np.stack([read(file) for file in sorted(folder.glob("*.png"))])


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
    expected = linear_bundle.decoded(samplers.sample_prior(3, 0, 7, 2))
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


def test_without_options_it_says_what_can_be_asked_for(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--model", bundle, cwd=tmp_path)
    assert done.returncode == 2
    assert "--grid 15" in done.stderr


# --- the formats ---


def test_every_format_holds_the_same_pictures(vae_serve, bundle, tmp_path):
    expected = linear_bundle.decoded(samplers.sample_prior(5, 0, 600, 2))
    for out in ("a.npy", "a.npz", "a.zip", "a.parquet", "a"):
        done = vae_serve("generate", "--count", 600, "--seed", 5, "--model", bundle, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.npy", "a.npz", "a.parquet", "a.zip"]
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["pictures"], expected)
        assert np.array_equal(arrays["z"], samplers.sample_prior(5, 0, 600, 2))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{index:06}.png" for index in range(600)]
        zipped = [read(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert np.array_equal(np.stack(zipped), expected[..., 0])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["index"].to_pylist() == list(range(600))
    assert np.array_equal(np.float32(table["z"].to_pylist()), samplers.sample_prior(5, 0, 600, 2))
    rows = table["image"].to_pylist()
    assert [row["path"] for row in rows[:2]] == ["000000.png", "000001.png"]
    assert np.array_equal(np.stack([read(io.BytesIO(row["bytes"])) for row in rows]), expected[..., 0])
    assert np.array_equal(read_folder(tmp_path / "a"), expected[..., 0])


@pytest.mark.parametrize("name", ["a.npz", "a.zip", "a.parquet"])
def test_the_same_bytes_for_any_number_of_workers(vae_serve, bundle, tmp_path, name):
    for workers in (1, 3):
        words = ["generate", "--count", 700, "--model", bundle, "--workers", workers, "--out", f"{workers}/{name}"]
        assert vae_serve(*words, cwd=tmp_path).returncode == 0
    assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_a_picture_depends_on_the_seed_and_its_index_alone(vae_serve, bundle, tmp_path):
    for count in (10, 300):
        words = ["generate", "--count", count, "--seed", 2, "--model", bundle, "--out", f"{count}.npy"]
        assert vae_serve(*words, cwd=tmp_path).returncode == 0
    assert np.array_equal(np.load(tmp_path / "10.npy"), np.load(tmp_path / "300.npy")[:10])


def test_the_parts_of_three_machines_are_the_whole(vae_serve, bundle, tmp_path):
    words = ["generate", "--count", 10, "--grid", 2, "--seed", 3, "--model", bundle]
    assert vae_serve(*words, "--out", "whole", cwd=tmp_path).returncode == 0
    assert vae_serve(*words, "--out", "whole.npy", cwd=tmp_path).returncode == 0
    arrays = []
    for part in (1, 2, 3):
        for out in (f"part{part}", f"part{part}.npy", f"part{part}.parquet"):
            assert vae_serve(*words, "--shard", f"{part}/3", "--out", out, cwd=tmp_path).returncode == 0
        arrays.append(np.load(tmp_path / f"part{part}.npy"))
    assert np.array_equal(np.concatenate(arrays), np.load(tmp_path / "whole.npy"))
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert {file.name: file.read_bytes() for file in tmp_path.glob("part[123]/*")} == whole
    indices = [pq.read_table(tmp_path / f"part{part}.parquet")["index"].to_pylist() for part in (1, 2, 3)]
    assert indices == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_pictures_in_colour_keep_their_channels(vae_serve, tmp_path):
    shape = (4, 6, 3)
    bundle = linear_bundle.write(tmp_path / "exports" / "colour", latent_dim=3, image_shape=shape)
    expected = linear_bundle.decoded(samplers.sample_prior(0, 0, 9, 3), shape)
    assert vae_serve("generate", "--count", 9, "--out", "a", cwd=tmp_path).returncode == 0
    assert np.array_equal(read_folder(tmp_path / "a"), expected)
    done = vae_serve("generate", "--count", 1, "--grid", 3, "--out", "a.png", "--model", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read(tmp_path / "a.png"), pixels.tile(expected, 3))


# --- what is drawn ---


def test_sheets_tile_the_drawn_pictures_in_order(vae_serve, bundle, tmp_path):
    done = vae_serve("generate", "--grid", 3, "--count", 2, "--seed", 1, "--model", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = linear_bundle.decoded(samplers.sample_prior(1, 0, 18, 2))
    sheets = read_folder(tmp_path / "sheets-3x3-seed1")
    assert np.array_equal(sheets, np.stack([pixels.tile(drawn[:9], 3), pixels.tile(drawn[9:], 3)])[..., 0])


def test_span_and_quantiles_set_the_planes_coordinates(vae_serve, bundle, tmp_path):
    words = ["generate", "--grid", 4, "--model", bundle]
    assert vae_serve(*words, "--span", 1.5, "--out", "span.npy", cwd=tmp_path).returncode == 0
    assert vae_serve(*words, "--quantiles", "--out", "quantiles.npy", cwd=tmp_path).returncode == 0
    equal_steps = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
    eighths = np.array([-1.1503494, -0.31863936, 0.31863936, 1.1503494], np.float32)  # of probability: 1/8, 3/8, ...
    for name, axis in (("span", equal_steps), ("quantiles", eighths)):
        points = np.array([[x, y] for y in axis[::-1] for x in axis])
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), linear_bundle.decoded(points))


def test_slice_moves_two_dimensions_and_holds_the_others_at_zero(vae_serve, tmp_path):
    linear_bundle.write(tmp_path / "exports" / "five", latent_dim=5)
    done = vae_serve("generate", "--grid", 3, "--slice", "4,1", "--out", "slice.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = [[0, y, 0, 0, x] for y in (4, 0, -4) for x in (-4, 0, 4)]
    assert np.array_equal(np.load(tmp_path / "slice.npy"), linear_bundle.decoded(np.array(points)))


def test_axes_put_the_plane_unchanged_into_a_white_margin(vae_serve, bundle, tmp_path):
    words = ["generate", "--grid", 15, "--model", bundle]
    assert vae_serve(*words, "--out", "bare.png", cwd=tmp_path).returncode == 0
    assert vae_serve(*words, "--axes", "--out", "axes.png", cwd=tmp_path).returncode == 0
    bare, labelled = read(tmp_path / "bare.png"), read(tmp_path / "axes.png")
    windows = np.lib.stride_tricks.sliding_window_view(labelled, bare.shape)
    places = [at for at in np.argwhere(windows[:, :, 0, 0] == bare[0, 0]) if np.array_equal(windows[tuple(at)], bare)]
    assert len(places) == 1
    assert (labelled[0] == 255).all()
    assert (labelled[-12:] == 0).any()  # the name of the axis


def test_interpolation_walks_between_the_means_of_two_pictures(vae_serve, bundle, tmp_path):
    rng = np.random.default_rng(3)
    ends = rng.integers(0, 256, (2, 6, 5), np.uint8)
    for name, picture in zip("ab", ends, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    means = ends.reshape(2, -1) / 255 @ linear_bundle.decoder_weights(2, (6, 5, 1)).T / 30
    points = np.array([means[0] * (1 - t) + means[1] * t for t in (0, 0.25, 0.5, 0.75, 1)])
    words = ["generate", "--interpolate", "a.png", "b.png", "--steps", 5, "--model", bundle]
    assert vae_serve(*words, "--out", "line.npy", cwd=tmp_path).returncode == 0
    assert vae_serve(*words, cwd=tmp_path).returncode == 0
    pictures = linear_bundle.decoded(points)
    assert np.array_equal(np.load(tmp_path / "line.npy"), pictures)
    assert np.array_equal(read(tmp_path / "a-to-b.png"), pixels.tile(pictures, 5)[..., 0])


def test_latents_are_read_from_npy_csv_and_its_own_parquet(vae_serve, bundle, tmp_path):
    points = samplers.sample_prior(9, 0, 20, 2)
    np.save(tmp_path / "points.npy", points)
    lines = [",".join(map(repr, map(float, row))) for row in points]
    (tmp_path / "bare.csv").write_text("\n".join(lines) + "\n")
    named = ["path,z_mean_0,z_mean_1,z_log_var_0", *(f"digit,{line},7" for line in lines)]
    (tmp_path / "named.csv").write_text("\r\n".join(named) + "\r\n")
    words = ["generate", "--model", bundle]
    assert vae_serve(*words, "--count", 20, "--seed", 9, "--out", "own.parquet", cwd=tmp_path).returncode == 0
    for name in ("points.npy", "bare.csv", "named.csv", "own.parquet"):
        done = vae_serve(*words, "--latents", name, "--out", f"{name}.out.npy", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(tmp_path / f"{name}.out.npy"), linear_bundle.decoded(points))


@pytest.mark.parametrize("form", ["parquet", "npy", "csv"])
def test_an_embed_result_is_decoded_row_by_row_failed_ones_black_and_listed(vae_serve, bundle, tmp_path, digits, form):
    folder = tmp_path / "digits"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(digits[index, :6, 10:15, 0] + np.uint8(index)).save(folder / f"{index}.png")
    (folder / "2.png").write_text("no picture")
    words = ["--model", bundle, "--format", form]
    assert vae_serve("embed", "digits", "--out", "vectors", *words, cwd=tmp_path).returncode == 3
    done = vae_serve("generate", "--latents", "vectors", "--out", "a.npy", "--model", bundle, "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["missing"] == [2]
    assert "1 rows of vectors have no vector" in done.stderr
    pictures = np.load(tmp_path / "a.npy")
    images = np.stack([digits[index, :6, 10:15, 0] + np.uint8(index) for index in (0, 1, 3)]).reshape(3, -1)
    z_mean = images / 255 @ linear_bundle.decoder_weights(2, (6, 5, 1)).T / 30
    assert (pictures[2] == 0).all()
    assert np.array_equal(pictures[[0, 1, 3]], linear_bundle.decoded(z_mean))


def test_every_format_is_a_source_of_embed(vae_serve, bundle, tmp_path):
    vectors = []
    for out in ("a.npy", "a.npz", "a.zip", "a.parquet", "a"):
        assert vae_serve("generate", "--count", 5, "--out", out, "--model", bundle, cwd=tmp_path).returncode == 0
        done = vae_serve("embed", out, "--out", f"{out}-vectors", "--model", bundle, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        vectors.append(pq.read_table(tmp_path / f"{out}-vectors")["z_mean"].to_pylist())
    assert all(found == vectors[0] for found in vectors)


def test_given_points_fill_sheets_and_leave_the_last_gaps_black(vae_serve, bundle, tmp_path):
    points = samplers.sample_prior(9, 0, 5, 2)
    np.save(tmp_path / "points.npy", points)
    done = vae_serve(
        "generate", "--latents", "points.npy", "--grid", 2, "--out", "a.npy", "--model", bundle, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    images = np.concatenate([linear_bundle.decoded(points), np.zeros((3, 6, 5, 1), np.uint8)])
    assert np.array_equal(
        np.load(tmp_path / "a.npy"), np.stack([pixels.tile(images[:4], 2), pixels.tile(images[4:], 2)])
    )
