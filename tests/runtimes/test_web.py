"""The page of `vae-serve deploy web`, used in a real Chromium as a person would use it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scripts.conformance.runners import browser
from vae_serve.model.model import Model

CONFORMANCE = Path(__file__).parents[2] / "scripts" / "conformance"

MINUS = "\N{MINUS SIGN}"

pytestmark = pytest.mark.slow


def in_browser(script: str, *words: object) -> dict:
    if browser() is None or not (CONFORMANCE.parents[1] / "node_modules" / "playwright-core").is_dir():
        pytest.skip("there is no Chromium or no playwright-core; scripts/test installs them where it can")
    command = ["node", CONFORMANCE / script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def page(of_mnist, vae_serve, tmp_path_factory) -> Path:
    """The folder that `deploy web` writes."""
    folder = tmp_path_factory.mktemp("deployed")
    done = vae_serve("deploy", "web", of_mnist, "--out", "web", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "web"


@pytest.fixture(scope="module")
def visit(page) -> dict:
    """What somebody saw who dragged, drew, walked and checked; see page.mjs."""
    seen = in_browser("page.mjs", page)
    print(
        f"first picture after {seen['first_picture_ms']:.0f} ms, a digit in {seen['decode_ms']['median']:.1f} ms at "
        f"the median of {seen['decode_ms']['count']}, {seen['bytes'] / 1e6:.1f} MB, Chromium {seen['chromium']}"
    )
    return seen


def numbers(text: str) -> list[float]:
    """The numbers with a decimal point; the page writes a minus sign where it can."""
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace(MINUS, "-"))]


def test_a_dragged_point_follows_the_mouse_and_shows_what_the_decoder_gives_there(visit, of_mnist):
    point = numbers(visit["dragged"]["point"])
    span = visit["span"]
    assert point == pytest.approx([(2 * 0.62 - 1) * span, (1 - 2 * 0.41) * span], abs=0.02)  # to a pixel
    [expected] = Model.load(of_mnist).decode([point])
    shown = np.array(visit["dragged"]["pixels"]) / 255
    # the page shows bytes, and prints the point to two decimals
    assert np.abs(shown - expected.ravel()).max() < 1 / 255 + 0.01


def test_arrow_keys_move_the_point(visit):
    assert numbers(visit["keys"]["point"]) == [0.10, 0.50]


def test_a_drawn_digit_lands_where_the_encoder_puts_it_and_the_point_goes_there(visit, of_mnist):
    image = np.array(visit["drawn"]["pixels"], np.float32).reshape(1, 28, 28, 1) / 255
    z_mean, z_log_var = Model.load(of_mnist).encode(image)
    mean_0, deviation_0, mean_1, deviation_1 = numbers(visit["drawn"]["landed"])
    assert [mean_0, mean_1] == pytest.approx(z_mean[0], abs=0.02)  # of 8-bit pixels here, of floats there
    assert [deviation_0, deviation_1] == pytest.approx(np.exp(z_log_var[0] / 2), abs=0.02)
    assert numbers(visit["drawn"]["point"]) == [mean_0, mean_1]


def test_a_drawing_is_scaled_and_centred_as_mnist_is(visit):
    image = np.array(visit["drawn"]["pixels"], float).reshape(28, 28)
    rows, columns = (np.flatnonzero(image.sum(axis=axis)) for axis in (1, 0))
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22  # 20, and the soft edge of the stroke
    centre = [(np.indices((28, 28))[axis] * image).sum() / image.sum() for axis in (0, 1)]
    assert centre == pytest.approx([13.5, 13.5], abs=0.2)


def test_the_pad_is_drawn_on_by_keyboard_too(visit):
    image = np.array(visit["typed"]["pixels"]).reshape(28, 28)
    assert np.ptp(np.flatnonzero(image.max(axis=1))) > 3 * np.ptp(np.flatnonzero(image.max(axis=0)))  # a vertical line
    assert visit["typed"]["landed"] != visit["drawn"]["landed"]
    assert visit["typed"]["sample"].startswith("Lands at")


def test_a_walk_goes_from_the_start_to_the_end(visit):
    end = numbers(visit["walked"]["end"])
    assert numbers(visit["walked"]["arrived"]) == end
    assert numbers(visit["walked"]["left"])[0] < end[0]


def test_the_self_check_runs_the_conformance_vectors_and_shows_the_largest_difference(visit):
    rows = visit["check"]["rows"]
    assert {(name, batch) for name, batch, *_ in rows} == {
        (name, batch) for name in ("z_mean", "z_log_var", "image") for batch in ("1", "7")
    }
    assert [row for row in rows if float(row[2]) > 1e-5] == []
    largest = max(float(row[2]) for row in rows)
    assert numbers(visit["check"]["verdict"])[0] == float(f"{largest:.1e}".split("e")[0])
    assert visit["check"]["verdict"].startswith("Yes")


def test_nothing_is_said_in_the_console_and_no_other_host_is_asked(visit):
    assert visit["console"] == []
    assert [url for url in visit["requests"] if not url.startswith(visit["origin"])] == []


def test_the_policy_stops_inline_scripts(visit, page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (page / "index.html").read_text())[1]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy
    assert "unsafe-inline" not in policy
    assert visit["policy"] == {"inline": False, "violated": "script-src-elem"}


def test_a_touch_moves_the_point_on_a_phone_where_nothing_is_wider_than_the_screen(visit):
    span = visit["span"]
    assert numbers(visit["touched"]["point"]) == pytest.approx([-span / 2, -span / 2], abs=0.05)  # to a pixel
    assert visit["touched"]["overflow"] == 0
    assert visit["touched"]["pictureVisible"]


def test_at_night_the_page_is_dark(visit):
    red, green, blue = map(int, re.findall(r"\d+", visit["touched"]["background"]))
    assert max(red, green, blue) < 64


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("no-simd", "This browser has no WebAssembly SIMD"),
        ("no-runtime", "ort-wasm-simd-threaded.wasm.gz could not be loaded: the server did not answer"),
    ],
)
def test_a_page_that_cannot_run_shows_a_sentence_in_place_of_an_empty_plane(page, case, sentence):
    shown = in_browser("refusal.mjs", page, case)
    assert sentence in shown["status"]
    assert not shown["shown"]


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("decoder.onnx", "changed", "decoder.onnx is damaged"),
        ("encoder.onnx", "cut short", "encoder.onnx is damaged"),
        ("runtime/ort-wasm-simd-threaded.wasm.gz", "cut short", "cannot be unpacked"),
        ("decoder.onnx", "missing", "decoder.onnx could not be loaded: the server answered 404"),
        ("model.js", "missing", "a script could not be loaded"),
    ],
)
def test_a_damaged_folder_shows_a_sentence(page, tmp_path, file, damage, sentence):
    damaged = tmp_path / "damaged"
    shutil.copytree(page, damaged)
    contents = (damaged / file).read_bytes()
    half = len(contents) // 2
    match damage:
        case "missing":
            (damaged / file).unlink()
        case "cut short":
            (damaged / file).write_bytes(contents[:half])
        case "changed":
            (damaged / file).write_bytes(contents[:half] + bytes([contents[half] ^ 1]) + contents[half + 1 :])
    shown = in_browser("refusal.mjs", damaged, "as-it-is")
    assert sentence in shown["status"]
    assert not shown["shown"]


def test_a_page_of_raw_pixels_checks_its_bytes_and_draws(raw, vae_serve, tmp_path):
    done = vae_serve("deploy", "web", raw, "--out", "web", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = in_browser("page.mjs", tmp_path / "web")
    assert seen["check"]["verdict"].startswith("Yes")
    assert seen["drawn"]["landed"].startswith("Lands at")
    assert seen["console"] == []
