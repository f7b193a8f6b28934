"""A file or folder appears whole under its name or not at all, and nothing that has the name is lost."""

import os
import stat
from pathlib import Path

import pytest

from vae_serve.errors import OutputError
from vae_serve.storage import rename
from vae_serve.storage.publish import Destination, publish_file, publish_folder, replace_file

KIND = "a result of a test"


def is_earlier(path: Path) -> bool:
    return (path / "mark").exists() if path.is_dir() else path.read_bytes() in (b"old", b"")


def destination(out: Path, overwrite: bool = False) -> Destination:
    return Destination(out, KIND, is_earlier, overwrite)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_folder_appears_when_the_block_ends_and_with_the_usual_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    with publish_folder(destination(tmp_path / "out")) as folder:
        (folder / "a").write_text("a")
        assert "out" not in names(tmp_path)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(tmp_path) == ["out", "usual"]
    assert names(tmp_path / "out") == ["a"]
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_block_that_raises_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), publish_folder(destination(tmp_path / "out")) as folder:
        (folder / "a").write_text("a")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_what_exists_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(OutputError, match="out exists; choose another --out, or replace it with --overwrite"):
        destination(tmp_path / "out")


def test_overwrite_replaces_an_earlier_result_and_nothing_else(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    publish_file(destination(tmp_path / "out", overwrite=True), lambda file: file.write(b"new"))
    assert (tmp_path / "out").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]
    with pytest.raises(OutputError, match="out is not a result of a test and is not overwritten"):
        destination(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "empty folder", "folder", "link", "link to nothing"])
def test_what_appears_meanwhile_is_kept_and_the_message_says_where_the_result_is(tmp_path, kind, overwrite):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").write_text("years")
    out = tmp_path / "out"
    with pytest.raises(OutputError) as raised, publish_folder(destination(out, overwrite)) as folder:
        (folder / "a").write_text("result")
        match kind:
            case "file":
                out.write_text("mine")
            case "empty folder":
                out.mkdir()
            case "folder":
                (tmp_path / "precious").rename(out)
            case _:
                out.symlink_to(tmp_path / ("precious" if kind == "link" else "nowhere"))
    where = next(folder for folder in tmp_path.iterdir() if folder.name.startswith(".out."))
    assert f"the finished result is {where}" in str(raised.value)
    assert (where / "a").read_text() == "result"
    assert out.is_symlink() == kind.startswith("link")
    if kind == "file":
        assert out.read_text() == "mine"
    if "folder" in kind:
        assert names(out) == (["thesis"] if kind == "folder" else [])


def test_a_result_that_has_become_something_else_meanwhile_is_put_back(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mark").touch()
    with (
        pytest.raises(OutputError, match="has changed while the work went on, and is kept"),
        publish_folder(destination(tmp_path / "out", overwrite=True)) as folder,
    ):
        (folder / "a").touch()
        (tmp_path / "out" / "mark").rename(tmp_path / "out" / "thesis")
    assert names(tmp_path / "out") == ["thesis"]


def test_a_link_in_the_place_of_a_result_is_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mark").touch()
    (tmp_path / "out").symlink_to("real")
    with pytest.raises(OutputError, match="out is a link, which is not followed"):
        destination(tmp_path / "out", overwrite=True)


def test_a_swapped_folder_around_the_result_leads_nowhere_else(tmp_path):
    (tmp_path / "around").mkdir()
    (tmp_path / "elsewhere").mkdir()
    goal = destination(tmp_path / "around" / "out")
    (tmp_path / "around").rename(tmp_path / "moved")
    (tmp_path / "around").symlink_to("elsewhere")
    publish_file(goal, lambda file: file.write(b"new"))
    assert names(tmp_path / "elsewhere") == []
    assert (tmp_path / "moved" / "out").read_bytes() == b"new"


@pytest.mark.parametrize("out", ["/", "//"])
def test_the_root_is_no_name_for_a_result(out):
    with pytest.raises(OutputError, match="is the root of the file system"):
        destination(Path(out), overwrite=True)


@pytest.mark.parametrize("out", [".", "..", "sub/..", "sub/."])
def test_a_path_without_a_name_of_its_own_is_the_folder_that_it_leads_to(tmp_path, monkeypatch, out):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="exists"):
        destination(Path(out))


def test_a_record_is_replaced_whole_and_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "record").symlink_to("victim")
    replace_file(tmp_path / "record", lambda file: file.write(b"new"))
    assert (tmp_path / "record").read_bytes() == b"new"
    assert (tmp_path / "victim").read_text() == "mine"
    assert names(tmp_path) == ["record", "victim"]


def fails(file: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_old_record_and_nothing_else(tmp_path):
    (tmp_path / "record").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "record", fails)
    with pytest.raises(OutputError, match="out cannot be written: No space left on device"):
        publish_file(destination(tmp_path / "out"), fails)
    assert names(tmp_path) == ["record"]
    assert (tmp_path / "record").read_bytes() == b"old"


@pytest.mark.parametrize("by", [rename.rename_new, rename._rename_portably])
@pytest.mark.parametrize("source", ["file", "folder"])
@pytest.mark.parametrize("target", ["file", "empty", "full", "link", "absent"])
def test_a_rename_never_replaces_anything(tmp_path, by, source, target):
    (tmp_path / "file").write_text("file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    make = {
        "file": lambda path: path.write_text("there"),
        "empty": lambda path: path.mkdir(),
        "full": lambda path: (path / "b").mkdir(parents=True),
        "link": lambda path: path.symlink_to("folder"),
        "absent": lambda path: None,
    }
    make[target](tmp_path / "target")
    folder = os.open(tmp_path, os.O_RDONLY)
    before = names(tmp_path)
    try:
        if target == "absent":
            by(source, "target", folder, folder)
            assert names(tmp_path) == sorted({*before, "target"} - {source})
        else:
            with pytest.raises(FileExistsError):
                by(source, "target", folder, folder)
            assert names(tmp_path) == before
    finally:
        os.close(folder)
