"""What can be trained on, and what is refused with a reason."""

import gzip
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vae_serve.errors import RunError, SourceError, UsageError
from vae_serve.images import mnist
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule
from vae_serve.training import data, read


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture
def few(digits):
    return digits[:40, :, :, 0]


def test_mnist_is_the_packaged_one():
    found = data.load("mnist")
    assert found.train_images.shape == (60_000, 28, 28, 1)
    assert found.test_images.shape == (10_000, 28, 28, 1)
    assert (found.train_images == mnist.load("train")[0]).all()


def test_floats_and_colour_come_out_as_bytes(tmp_path, few):
    colour = np.repeat(few[..., None], 3, axis=3)
    np.savez(tmp_path / "a.npz", x_train=(colour / 255).astype(np.float32), x_test=colour[:5])
    found = data.load(str(tmp_path / "a.npz"))
    assert (found.train_images == colour).all()
    assert found.train_labels is None
    assert found.image_shape == (28, 28, 3)


def test_without_a_test_set_the_last_tenth_becomes_one(tmp_path, few):
    np.savez(tmp_path / "a.npz", x_train=few, y_train=np.arange(40))
    found = data.load(str(tmp_path / "a.npz"))
    assert found.test_labels is not None
    assert found.test_labels.tolist() == [36, 37, 38, 39]
    assert len(found.train_images) == 36


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_alone_and_as_a_folder(tmp_path, few, zipped):
    pack, end = (gzip.compress, ".gz") if zipped else (bytes, "")
    for stem in ("train", "t10k"):
        (tmp_path / f"{stem}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(few)))
        (tmp_path / f"{stem}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(np.arange(40, dtype=np.uint8))))
    folder = data.load(str(tmp_path))
    assert (folder.train_images[..., 0] == few).all()
    assert folder.test_labels is not None
    assert folder.test_labels[7] == "7"
    alone = data.load(str(tmp_path / f"train-images-idx3-ubyte{end}"))
    assert len(alone.train_images) == 36


def test_a_folder_of_pictures_has_the_first_subfolder_as_label(digit_folder, digits):
    found = data.load(str(digit_folder))
    assert len(found.train_images) + len(found.test_images) == 300
    assert found.train_labels is not None
    known = {digits[int(file.stem)].tobytes(): file.parent.name for file in digit_folder.rglob("*.png")}
    for image, label in zip(found.train_images, found.train_labels, strict=True):
        assert known[image.tobytes()] == label
    assert len(set(found.test_labels)) > 5  # shuffled: the last tenth of the sorted files would be nines


def test_pictures_larger_than_the_memory_limit_are_mapped_from_a_file(digit_folder, monkeypatch):
    whole = data.load(str(digit_folder))
    monkeypatch.setattr(read, "IN_MEMORY", 1000)
    mapped = read.source(str(digit_folder), read.Fit(), print)[0].images
    assert isinstance(mapped, np.memmap)
    assert (mapped[:270] == whole.train_images).all()


def test_parquet_holds_pictures_and_labels(tmp_path, digit_folder):
    files = sorted(digit_folder.rglob("*.png"))[:30]
    encoded = [file.read_bytes() for file in files]
    for name, column in (("plain", encoded), ("nested", [{"bytes": one} for one in encoded])):
        pq.write_table(pa.table({"image": column, "label": list(range(30))}), tmp_path / f"{name}.parquet")
        found = data.load(str(tmp_path / f"{name}.parquet"))
        assert found.image_shape == (28, 28, 1)
        assert found.test_labels is not None
        expected = {np.asarray(Image.open(file)).tobytes(): str(row) for row, file in enumerate(files)}
        assert [expected[image.tobytes()] for image in found.test_images] == found.test_labels.tolist()


def test_image_size_makes_two_sizes_fit(tmp_path):
    for number in range(12):
        Image.new("RGB", (20 + number % 2, 30), (number, 0, 255)).save(tmp_path / f"{number:02}.png")
    with pytest.raises(SourceError, match=r"the first picture is 30x20, 01\.png is 30x21; give --image-size 30x20"):
        data.load(str(tmp_path))
    assert data.load(str(tmp_path), "16x8").image_shape == (16, 8, 3)
    assert data.load(str(tmp_path), "16x8x1").image_shape == (16, 8, 1)
    with pytest.raises(UsageError, match="--image-size 16: write HxW"):
        data.load(str(tmp_path), "16")


def test_one_picture_in_colour_gives_all_three_channels_and_it_is_said(tmp_path):
    for number in range(12):
        Image.new("RGB" if number == 7 else "L", (20, 30), number).save(tmp_path / f"{number:02}.png")
    notes: list[str] = []
    assert data.load(str(tmp_path), note=notes.append).image_shape == (30, 20, 3)
    assert len(notes) == 1
    assert "11 grey pictures beside pictures in colour (07.png is the first): all get 3 channels" in notes[0]
    assert data.load(str(tmp_path), "30x20x1", note=notes.append).image_shape == (30, 20, 1)
    (tmp_path / "07.png").unlink()
    assert data.load(str(tmp_path), note=notes.append).image_shape == (30, 20, 1)
    assert len(notes) == 1


def test_test_pictures_get_the_channels_of_the_training_pictures(tmp_path):
    for part, mode in (("train", "L"), ("test", "RGB")):
        (tmp_path / part).mkdir()
        for number in range(4):
            Image.new(mode, (6, 5), number).save(tmp_path / part / f"{number}.png")
    found = data.load(str(tmp_path))
    assert found.train_images.shape == found.test_images.shape == (4, 5, 6, 3)


def test_what_vae_serve_wrote_itself_is_no_data_unless_it_is_named(tmp_path):
    written = {
        "runs/a": ("run.json", "config.toml", "plots/latent.png"),
        "a-plots": ("latent.png", "grid.png", "posterior.png", "reconstructions.png"),
        "vectors": ("vectors.tsv", "projector_config.pbtxt", "sprite.png"),
        "a-reconstructed": ("errors.parquet", "sheet-00000.png", "sheet-00001.png"),
    }
    for folder, names in {"photos": tuple(f"{number}.png" for number in range(12)), **written}.items():
        for name in names:
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                Image.new("L", (6, 5), 9).save(file)
            else:
                file.write_text("{}")
    notes: list[str] = []
    found = data.load(str(tmp_path), note=notes.append)
    assert len(found.train_images) + len(found.test_images) == 12
    assert set(found.train_labels) == {"photos"}
    assert (
        "left out 8 pictures that vae-serve wrote itself (4 in plots, 1 in results of embed, 2 in results of"
        in notes[0]
    )
    (tmp_path / "runs" / "a" / "run.json").unlink()  # now it is a folder like any other
    (tmp_path / "photos" / "run.json").write_text("{}")  # and this alone makes no run
    found = data.load(str(tmp_path))
    assert len(found.train_images) + len(found.test_images) == 13
    for number in range(12):
        Image.new("L", (6, 5), 9).save(tmp_path / "a-plots" / f"{number}.png")
    named = data.load(str(tmp_path / "a-plots"))
    assert len(named.train_images) + len(named.test_images) == 16


@pytest.mark.parametrize("suffix", ["npy", "npz", "x_train"])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint16", ">u2", "int32", "uint32", "int64", "uint64", "deep"]
)
def test_pixels_of_any_plain_type_give_the_levels_they_mean(tmp_path, few, suffix, dtype):
    expected = few[..., None] // 2  # int8 holds 127 at most
    stored = expected.astype("uint16" if dtype == "deep" else dtype)
    if dtype == "bool":
        expected = np.where(expected > 0, 255, 0)
    if dtype == "deep":
        stored = stored * 257
    file = tmp_path / f"a.{suffix[:3]}" if suffix != "x_train" else tmp_path / "a.npz"
    if suffix == "npy":
        np.save(file, stored)
    else:
        np.savez(file, **{"x_train" if suffix == "x_train" else "images": stored})
    notes: list[str] = []
    found = data.load(str(file), note=notes.append)
    assert (np.concatenate([found.train_images, found.test_images]) == expected).all()
    assert ["scaled to 0 to 255" in note for note in notes] == [True] * (dtype == "deep")


def test_image_size_holds_for_arrays_and_packaged_data_as_for_pictures(tmp_path, few):
    np.savez(tmp_path / "a.npz", x_train=few, x_test=few[:3])
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    (tmp_path / "pictures" / "test").mkdir()
    for number, image in enumerate(few[:3]):
        for part in ("train", "test"):
            Image.fromarray(image).save(tmp_path / "pictures" / part / f"{number}.png")
    arrays, pictures = (data.load(str(tmp_path / name), "14x9x3") for name in ("a.npz", "pictures"))
    assert arrays.image_shape == pictures.image_shape == (14, 9, 3)
    assert sorted(image.tobytes() for image in arrays.test_images) == sorted(
        image.tobytes() for image in pictures.test_images
    )
    assert data.load("mnist", "7x7").image_shape == (7, 7, 1)


@pytest.fixture
def photographs(tmp_path):
    """Twenty JPEG files of 200 x 160, of which the decoder can leave 25 x 20."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(20):
        levels = np.random.default_rng(number).integers(0, 256, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(levels).resize((200, 160), Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg")
    return folder


def decoded(folder, rule):
    return sorted(decode(file.read_bytes(), rule).pixels.tobytes() for file in folder.iterdir())


def test_photographs_are_decoded_by_the_rule_that_the_run_and_its_bundle_have(photographs):
    found = data.load(str(photographs), "20x25")
    assert found.rule == PixelRule(20, 25, 3, decode="scaled")
    images = sorted(image.tobytes() for image in [*found.train_images, *found.test_images])
    assert images == decoded(photographs, found.rule)
    assert images != decoded(photographs, PixelRule(20, 25, 3))


def test_a_run_of_before_scaled_decoding_finds_its_images_again(photographs):
    older = data.load(str(photographs), rule=PixelRule(20, 25, 3))
    assert older.rule == PixelRule(20, 25, 3)
    record = {
        "config": {"data": str(photographs), "image_shape": [20, 25, 3]},
        "data": {"sha256": older.sha256},
        "pixels": PixelRule(20, 25, 3).to_json(),
    }
    assert data.load_again(record, "runs/a").sha256 == older.sha256
    record["pixels"] = PixelRule(20, 25, 3, decode="scaled").to_json()
    with pytest.raises(RunError, match="trained on other images"):
        data.load_again(record, "runs/a")


def test_arrays_have_no_files_to_decode_in_another_way(tmp_path, few):
    np.savez(tmp_path / "a.npz", x_train=few, x_test=few[:3])
    assert data.load(str(tmp_path / "a.npz"), "14x14").rule == PixelRule(14, 14, 1)
    assert data.load("mnist").rule == PixelRule(28, 28, 1)


def test_images_read_again_must_be_those_that_were_trained_on(tmp_path, few):
    np.savez(tmp_path / "a.npz", x_train=few, x_test=few[:3])
    first = data.load(str(tmp_path / "a.npz"))
    record = {
        "config": {"data": str(tmp_path / "a.npz"), "image_shape": [28, 28, 1]},
        "data": {"sha256": first.sha256},
    }
    assert data.load_again(record, "runs/a").sha256 == first.sha256
    np.savez(tmp_path / "a.npz", x_train=few, x_test=few[1:4])
    changed = data.load(str(tmp_path / "a.npz")).sha256
    with pytest.raises(
        RunError, match=rf"runs/a was trained on other images: .* {changed}, the record says {first.sha256}"
    ):
        data.load_again(record, "runs/a")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((40, 784), np.uint8)}, r"x_train has the shape \(40, 784\); images are \(n, H, W\)"),
        ({"x_train": np.zeros((40, 8, 8, 2), np.uint8)}, "with C 1 or 3"),
        ({"x_train": np.zeros((0, 8, 8), np.uint8)}, r"holds nothing: its shape is \(0, 8, 8\)"),
        ({"x_train": np.full((40, 8, 8), 256)}, "holds 256 to 256; integer pixels are 0 to 255"),
        ({"x_train": np.full((40, 8, 8), -1)}, "holds -1 to -1; integer pixels are 0 to 255"),
        ({"x_train": np.full((40, 8, 8), 4095, np.uint16)}, "holds values up to 4,095 in uint16: too much for 8 bits"),
        ({"x_train": np.full((40, 8, 8), 1j)}, "its type '<c16' is none of numbers or text"),
        ({"x_train": np.full((40, 8, 8), 1.5)}, "holds 1.5 to 1.5; float pixels are 0 to 1, divide them first"),
        ({"x_train": np.full((40, 8, 8), np.nan)}, "not numbers in 40 images, the first is 0"),
        ({"x_train": np.full((40, 8, 8), "a")}, "is of type <U1"),
        ({"x_train": np.zeros((40, 8, 8), np.uint8), "y_train": np.zeros(39)}, "39 labels for 40 images"),
        ({"x_train": np.zeros((40, 8, 8), np.uint8), "x_test": np.zeros((4, 8, 9), np.uint8)}, "must have one shape"),
        ({"x_train": np.zeros((4, 8, 8), np.uint8)}, "has too few images: 4"),
        ({"a": np.zeros(4), "b": np.zeros(4)}, r"holds 0 arrays of pictures \(a, b\)"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(SourceError, match=message):
        data.load(str(tmp_path / "bad.npz"))


def test_files_that_cannot_be_read_are_named(tmp_path, few, digit_folder):
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "short-idx3-ubyte").write_bytes(idx_bytes(few)[:-9])
    (tmp_path / "other-idx3-ubyte").write_bytes(b"P5 28 28 255")
    (tmp_path / "text.parquet").write_text("not parquet")
    pq.write_table(pa.table({"pixels": [1]}), tmp_path / "columns.parquet")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(sorted(digit_folder.rglob("*.png"))[0].read_bytes()[:-30])
    for name, message in {
        "text.npz": "text.npz cannot be read as a zip archive",
        "short-idx3-ubyte": r"is cut short: it declares \(40, 28, 28\), 31,360 bytes, and holds 31,351",
        "other-idx3-ubyte": "is not an IDX file of bytes",
        "text.parquet": "text.parquet cannot be read as Parquet",
        "columns.parquet": "columns.parquet has no columns of pictures",
        "notes.txt": "hello cannot be trained on: it cannot be read",  # a list of paths
        "empty": "empty holds no pictures",
        "broken": r"broken: a.png cannot be trained on: .*; remove it, or mend it",
        "nowhere": "nowhere is not there",
    }.items():
        with pytest.raises(SourceError, match=message):
            data.load(str(tmp_path / name))
    with pytest.raises(SourceError, match=r"--data fashion: no data set of that name \(mnist, fashion-mnist, cifar10"):
        data.load("fashion")
