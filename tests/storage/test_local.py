"""A local store: what is created is there whole or not at all, once, and no link is followed."""

import os
from pathlib import Path

import pytest

from vae_serve.storage.local import LocalStore


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path / "store", ".scratch")
    store.folder(".scratch")
    return store


def writes(contents: bytes):
    return lambda file: file.write(contents)


def test_what_is_created_is_got_and_listed_and_deleted(store):
    store.create("a", writes(b"1"))
    store.create(".scratch/b", writes(b"2"))
    assert (store.get("a"), store.get(".scratch/b"), store.get("c"), store.get("no/such")) == (b"1", b"2", None, None)
    assert store.list() == [".scratch", "a"]
    assert store.list(".scratch") == ["b"]
    assert store.list("nowhere") == []
    store.delete("a")
    store.delete("a")
    assert store.list() == [".scratch"]


def test_a_name_with_the_same_bytes_is_success_and_with_others_an_error_that_keeps_them(store):
    store.create("a", writes(b"1"))
    store.create("a", writes(b"1"))
    with pytest.raises(FileExistsError):
        store.create("a", writes(b"2"))
    assert store.get("a") == b"1"
    assert store.list(".scratch") == []


def test_a_link_or_a_folder_in_the_place_of_a_file_is_kept(store, tmp_path):
    (tmp_path / "victim").write_bytes(b"1")
    (store.path / "link").symlink_to(tmp_path / "victim")
    (store.path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(FileExistsError):
            store.create(name, writes(b"1"))
        assert not store.exists(name)
    with pytest.raises(OSError, match="symbolic link"):
        store.get("link")
    assert (tmp_path / "victim").read_bytes() == b"1"


def test_a_linked_folder_below_is_not_entered(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("mine")
    (store.path / "sub").symlink_to(tmp_path / "elsewhere")
    for act in (
        lambda: store.create("sub/b", writes(b"1")),
        lambda: store.get("sub/a"),
        lambda: store.delete("sub/a"),
        lambda: store.delete_folder("sub"),
    ):
        with pytest.raises(OSError, match=r"Not a directory|symbolic link"):
            act()
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["a"]


def test_a_linked_store_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NotADirectoryError):
        LocalStore(tmp_path / "link", ".scratch")


def test_a_pipe_is_not_waited_for(store):
    os.mkfifo(store.path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        store.get("pipe")


def test_writing_that_fails_leaves_nothing(store):
    def write(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.create_all({"a": writes(b"1"), "b": write})
    assert store.list() == [".scratch"]
    assert store.list(".scratch") == []


def test_only_one_has_the_lock_and_a_folder_that_was_removed_cannot_be_locked(store):
    store.lock()
    with pytest.raises(BlockingIOError):
        LocalStore(store.path, ".scratch").lock()
    other = LocalStore(Path(store.path), ".scratch")
    store.delete_folder(".scratch")
    store.path.rmdir()
    store.close()
    with pytest.raises(FileNotFoundError):
        other.lock()
