"""Files by folder, pattern, list or name, and what must never be waited for."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from opened import contents_of, labels, names_of, rows

from vae_serve.errors import SourceError, UsageError
from vae_serve.sources import files
from vae_serve.sources.listing import pictures_below
from vae_serve.sources.lists import listed
from vae_serve.sources.opening import describe, open_source


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())


def found(source: str) -> list[str]:
    return names_of(open_source(source))


def test_a_file_needs_a_dot_before_its_extension():
    put("d/a.png", "d/png", "d/.png", "d/e/JPG")
    source = open_source("d")
    assert names_of(source) == ["a.png"]
    assert source.skipped == {"no picture's extension": 2, "hidden": 1}


def test_one_picture_is_a_source():
    put("cat/1.PNG")
    assert rows("cat/1.PNG") == {"1.PNG": b"cat/1.PNG"}
    assert labels("cat/1.PNG") == [None]


def test_an_empty_word_is_no_source():
    with pytest.raises(UsageError, match="an empty word"):
        open_source("")


def test_mnist_is_refused_where_a_folder_may_be_meant():
    put("mnist/a.png")
    with pytest.raises(UsageError, match=r"say \./mnist for the folder"):
        open_source("mnist")
    assert found("./mnist") == ["a.png"]


@pytest.mark.parametrize("state", [".job", "_job"])
def test_mnist_is_the_packaged_set_beside_its_own_result(state):
    Path(f"mnist/{state}").mkdir(parents=True)
    assert open_source("mnist").names.count == 10_000


def test_a_folder_of_any_depth_is_read():
    for count in (1000, 2500):  # the paths of the second are longer than the system takes
        folder = os.open(".", os.O_RDONLY)
        for _ in range(count):
            if not Path(f"/proc/self/fd/{folder}/d").exists():
                os.mkdir("d", dir_fd=folder)
            deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        file = os.open("a.png", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
        os.write(file, b"%d" % count)
        os.close(file)
        os.close(folder)
    assert rows(".") == {"d/" * 1000 + "a.png": b"1000", "d/" * 2500 + "a.png": b"2500"}
    subprocess.run(["rm", "-r", "d"], check=True)


def test_a_folder_that_cannot_be_read_is_a_failed_row():
    """As another user than root, who may read everything."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        for name in ("cat/1.png", "dog/2.png"):
            (Path(base) / name).parent.mkdir()
            (Path(base) / name).write_bytes(b"picture")
        (Path(base) / "dog").chmod(0o000)
        answers, answer = os.pipe()
        process = os.fork()
        if not process:
            if os.getuid() == 0:
                os.setuid(65534)
            os.chdir(base)
            for word in (".", "**/*.png"):
                source = open_source(word)
                os.write(answer, repr([*zip(names_of(source), contents_of(source), strict=True)]).encode() + b"\n")
            os._exit(0)
        os.close(answer)
        os.waitpid(process, 0)
        with os.fdopen(answers) as read:
            assert read.read() == "[('cat/1.png', b'picture'), ('dog/', 'unreadable')]\n" * 2
        (Path(base) / "dog").chmod(0o755)


def test_a_pattern_gives_each_file_once_whatever_its_links_and_stars():
    put("d/a.png", "d/e/b.png", "d/e/.c.png", "d/.f/g.png", "d/e/notes.txt")
    Path("d/link").symlink_to(".")
    Path("d/e/link").symlink_to("../e")
    for text in ("d/**/*.png", "d/**/**/*.png", "./d/**/**", "d/**"):
        assert found(text) == ["a.png", "e/b.png"], text
    assert found("d/**/e/*") == ["e/b.png"]
    assert found("d/*/*") == ["e/b.png"]
    assert found("**/b.png") == ["d/e/b.png"]
    assert found("d/e/.*") == [".c.png"]
    assert found("d/.f/*.p?g") == ["g.png"]
    assert open_source("d/e/*").skipped == {"no picture's extension": 1}


def test_a_part_of_a_pattern_that_exists_is_no_pattern():
    put("photos[1]/a.png", "photos1/b.png", "d/x[2].png")
    assert found("photos[1]/*.png") == ["a.png"]
    assert found("photos[[]1]/*.png") == ["photos[1]/a.png"]
    assert found("*/x[2].png") == ["d/x[2].png"]
    assert found("d/x[[]?].png") == ["x[2].png"]


def test_a_question_mark_is_one_character_of_any_alphabet():
    put("d/é.png")
    assert found("d/?.png") == ["é.png"]


@pytest.mark.parametrize("text", ["gone/*.png", "d/*.bmp", "d/*/../*.png", "*"])
def test_a_pattern_that_nothing_fits_is_refused(text):
    put("d/a.png")
    with pytest.raises(SourceError):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"./cat/1.png\n", {"./cat/1.png": b"cat"}),
        (b".//./cat/1.png\n./2.png", {".//./cat/1.png": b"cat", "./2.png": None}),
        (b"../a/cat/1.png", {"../a/cat/1.png": b"a"}),
        (b"/data/cat/1.png", {"/data/cat/1.png": None}),
        (b"cat/1.png\r\n\r\n  \r\ncat/2.png\r\n", {"cat/1.png": b"cat", "cat/2.png": b"cat"}),
        (b"cat/1.png\0a b\n.png\0", {"a b\n.png": None, "cat/1.png": b"cat"}),
        (b"\xef\xbb\xbfcat/1.png", {"cat/1.png": b"cat"}),
        ("\ufeffcafé/1.png\r\n".encode("utf-16-le"), {"café/1.png": "café".encode()}),
        ("\ufeffcafé/1.png\r\n".encode("utf-16-be"), {"café/1.png": "café".encode()}),
        ("\ufeffcafé/1.png\n".encode("utf-32-le"), {"café/1.png": "café".encode()}),
    ],
)
def test_a_list_is_read_in_any_encoding_and_labelled_by_its_first_real_folder(text, expected):
    Path("list.txt").write_bytes(text)
    assert dict(zip(found("list.txt"), labels("list.txt"), strict=True)) == expected


@pytest.mark.parametrize("text", ["a.png\nb.png\n".encode("utf-16-le"), "a.png\n".encode("utf-16-be"), b"\xff\xfea"])
def test_a_list_that_is_no_text_is_refused(text):
    with pytest.raises(SourceError, match="UTF-16"):
        listed(text, "list")


def test_a_line_of_a_list_is_a_row_whatever_it_names():
    put("d/a.png")
    os.mkfifo("p.png")
    Path("list.txt").write_bytes(b"d\nd/a.png\nd/a.png\np.png\n/dev/zero\ngone.png\n" + b"x" * 300 + b".png")
    source = open_source("list.txt")
    assert list(zip([name[:8] for name in names_of(source)], contents_of(source), strict=True)) == [
        ("/dev/zer", "not_a_file"),
        ("d", "not_a_file"),
        ("d/a.png", b"d/a.png"),
        ("d/a.png", b"d/a.png"),
        ("gone.png", "unreadable"),
        ("p.png", "not_a_file"),
        ("xxxxxxxx", "unreadable"),
    ]


def test_a_file_that_grows_or_never_ends_is_stopped_at_the_limit(monkeypatch):
    monkeypatch.setattr(files, "FILE_LIMIT", 1 << 17)
    monkeypatch.setattr(files, "GROWTH", 1 << 16)
    put("a.png")
    with Path("a.png").open("wb") as file:
        file.truncate(1 << 16)
    Path("endless.png").symlink_to("/proc/self/pagemap")  # declares no size and has gigabytes
    with Path("b.png").open("wb") as file:
        file.truncate(1 << 18)
    found = rows(".")
    assert found["a.png"] == bytes(1 << 16)
    assert found["b.png"] == "too_large"
    assert found["endless.png"] in {"too_large", "unreadable"}


NAMES = ["x.zip", "x.tar", "x.tar.gz", "x.npy", "x.npz", "x-ubyte", "x-ubyte.gz", "x.parquet", "x.txt", "x.npz:x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "gone"])
def test_a_pipe_or_a_device_in_the_place_of_a_source_is_answered_at_once(name, kind):
    file = name.partition(":")[0]
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        Path(file).symlink_to("/dev/zero")
    elif kind == "folder":
        Path(file).mkdir()
    with pytest.raises(SourceError, match=f"is a {kind}|is not there|holds no pictures"):
        open_source(name)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "a\0b.npz:x", "x" * 5000, "*\0", "gone/x.zip"])
def test_a_word_that_is_no_path_is_refused(name):
    with pytest.raises(SourceError):
        open_source(name)


@pytest.mark.parametrize(
    "name", ["x.zip", "x.tar", "x.npz", "x.npy", "x-ubyte", "x.parquet", "x.txt", "x.png", "mnist"]
)
def test_a_description_can_be_pickled_before_anything_is_opened(name):
    put(name)
    described = describe(name)
    assert pickle.loads(pickle.dumps(described)) == described


def test_standard_input_that_is_closed_is_refused(tmp_path):
    code = "import sys\nfrom vae_serve.sources.opening import open_source\nopen_source('-')"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, code],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith("vae_serve.errors.SourceError: standard input")


def test_listing_counts_what_it_passes_over(here):
    put("d/.a.png", "d/.b/c.png", "d/e.txt")
    Path("d/broken").symlink_to("nowhere")
    names, skipped = pictures_below(here / "d")
    assert (names.count, skipped) == (0, {"hidden": 2, "no picture's extension": 2})
