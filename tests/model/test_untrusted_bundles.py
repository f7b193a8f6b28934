"""An untrusted bundle is refused with a sentence that names file and reason; nothing of it is run or allocated."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.model.conftest import PACKAGED, edit_manifest, refused
from vae_serve.errors import BundleError, RunError
from vae_serve.model import bundle
from vae_serve.model.verify import verify
from vae_serve.training import runs


def test_a_sound_bundle_passes(stranger):
    loaded, reports = verify(stranger)
    assert {report.tensor for report in reports} == {"z_mean", "z_log_var", "image"}
    assert loaded.graphs == {file.name: file.read_bytes() for file in stranger.glob("*.onnx")}


def test_a_changed_byte(stranger):
    contents = bytearray((stranger / "decoder.onnx").read_bytes())
    contents[-100] ^= 1
    (stranger / "decoder.onnx").write_bytes(contents)
    refused(stranger, "decoder.onnx", "SHA-256")


def test_a_missing_file(stranger):
    (stranger / "encoder.onnx").unlink()
    refused(stranger, "encoder.onnx", "missing")


def test_a_file_cut_short(stranger):
    contents = (stranger / "encoder.onnx").read_bytes()
    (stranger / "encoder.onnx").write_bytes(contents[:-1])
    refused(stranger, "encoder.onnx", "bytes where the manifest says")


def test_a_file_cut_short_and_signed_again(stranger, signed):
    contents = (stranger / "encoder.onnx").read_bytes()
    (stranger / "encoder.onnx").write_bytes(contents[: len(contents) // 2])
    refused(signed(stranger), "encoder.onnx", "cut short")


def test_a_file_that_the_manifest_does_not_name(stranger):
    (stranger / "conformance" / "extra.npy").write_bytes(b"")
    refused(stranger, "extra.npy", "not named")


def test_a_kind_of_file_that_no_bundle_has(stranger, signed):
    (stranger / "encoder.h5").write_bytes(b"\x89HDF\r\n")
    refused(signed(stranger), "encoder.h5", "kind of file")


def test_a_link_out_of_the_folder(stranger, tmp_path):
    contents = (stranger / "encoder.onnx").read_bytes()
    (tmp_path / "outside.onnx").write_bytes(contents)
    (stranger / "encoder.onnx").unlink()
    (stranger / "encoder.onnx").symlink_to(tmp_path / "outside.onnx")
    refused(stranger, "encoder.onnx", "link")


def test_a_linked_folder(stranger, tmp_path):
    (stranger / "conformance").rename(tmp_path / "conformance")
    (stranger / "conformance").symlink_to(tmp_path / "conformance")
    refused(stranger, "conformance", "link")


@pytest.mark.parametrize("file", ["README.md", "manifest.json", "encoder.onnx", "conformance/encoder/z_mean.npy"])
def test_a_pipe_in_place_of_a_file(stranger, file, vae_serve, tmp_path):
    (stranger / file).unlink()
    os.mkfifo(stranger / file)
    refused(stranger, file, "pipe")
    done = vae_serve("generate", "--grid", 2, "--model", stranger, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


@pytest.mark.parametrize("file", ["README.md", "manifest.json"])
def test_a_link_to_a_device_in_place_of_a_file(stranger, file):
    (stranger / file).unlink()
    (stranger / file).symlink_to("/dev/zero")
    refused(stranger, file, "link")


def test_a_folder_in_place_of_a_file(stranger):
    (stranger / "encoder.onnx").unlink()
    (stranger / "encoder.onnx").mkdir()
    refused(stranger, "encoder.onnx")


def test_a_file_in_place_of_a_folder(stranger):
    shutil.rmtree(stranger / "conformance")
    (stranger / "conformance").write_bytes(b"")
    refused(stranger, "conformance")


def test_a_bundle_that_is_a_file_or_is_not_there(stranger):
    refused(stranger / "README.md", "README.md")
    refused(stranger / "nothing", "not a bundle")


def test_a_pipe_in_place_of_run_json(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RunError, match="pipe"):
        runs.load(tmp_path)


def test_a_pipe_or_a_link_among_the_exports_is_refused_where_it_is_the_newest(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").symlink_to("gone")
    assert bundle.find(None, tmp_path) == bundle.find(None, tmp_path / "nothing")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "manifest.json")
    refused(bundle.find(None, tmp_path), "b", "pipe")


@pytest.mark.parametrize("file", ["README.md", "conformance/encoder/image.npy", "saved_model/encoder/1/saved_model.pb"])
def test_a_sparse_file_of_a_gigabyte_is_refused_unread(stranger, file):
    with (stranger / file).open("r+b") as opened:
        opened.truncate(1 << 30)

    def say_so(fields):
        (entry,) = (entry for entry in fields["files"] if entry["path"] == file)
        entry["bytes"] = 1 << 30

    edit_manifest(stranger, say_so)
    refused(stranger, file, "more than", "not loaded")


def test_a_file_that_changes_after_loading_is_not_read_unchecked(stranger):
    loaded = bundle.load(stranger)
    (stranger / "README.md").write_bytes(b"x" * len(loaded.read("README.md")))
    with pytest.raises(BundleError, match=r"README\.md.*SHA-256"):
        loaded.read("README.md")
    with pytest.raises(BundleError, match="has no notes"):
        loaded.read("notes")


@pytest.mark.parametrize(
    "path", ["../secret.onnx", "/etc/passwd", "conformance/../../secret", "a\\..\\b", "./README.md"]
)
def test_a_path_that_leads_out_of_the_folder(stranger, path):
    edit_manifest(stranger, lambda fields: fields["files"][0].update(path=path))
    (stranger.parent / "secret.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"outside its folder|not named"):
        verify(stranger)


def test_a_manifest_of_a_gigabyte(stranger):
    with (stranger / bundle.MANIFEST).open("r+b") as opened:
        opened.truncate(1 << 30)  # sparse: it takes no room on the disk
    refused(stranger, bundle.MANIFEST, "are not read")


@pytest.mark.parametrize("version", [0, 3, "1", "2", True, 2.0, None])
def test_another_schema_version(stranger, version):
    edit_manifest(stranger, lambda fields: fields.update(schema_version=version))
    refused(stranger, bundle.MANIFEST, "schema version", repr(version))


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("files"),
        lambda fields: fields.update(surprise=1),
        lambda fields: fields.update(latent_dim="2"),
        lambda fields: fields.update(image_shape=[28, 28]),
        lambda fields: fields.update(image_shape=[28, 28, -1]),
        lambda fields: fields["files"].append(fields["files"][0]),
        lambda fields: fields["files"][0].update(bytes="many"),
        lambda fields: fields["graphs"][0].pop("file"),
    ],
)
def test_a_manifest_that_is_not_of_the_schema(stranger, change):
    edit_manifest(stranger, change)
    refused(stranger, bundle.MANIFEST, "not a valid manifest")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_a_manifest_that_is_no_json_object(stranger, text):
    (stranger / bundle.MANIFEST).write_text(text)
    refused(stranger, bundle.MANIFEST)


def test_a_file_said_to_be_of_a_hundred_gigabytes(stranger):
    edit_manifest(stranger, lambda fields: fields["files"][0].update(bytes=100 << 30))
    refused(stranger, "more than", "not loaded")


def test_a_pickle_in_an_npy(stranger, signed, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.save(stranger / "conformance/encoder/z_mean.npy", np.array([Bomb()]), allow_pickle=True)
    refused(signed(stranger), "z_mean.npy", "pickle")
    assert not (tmp_path / "exploded").exists()


def test_an_npy_that_is_a_bare_pickle(stranger, signed):
    (stranger / "conformance/encoder/z_mean.npy").write_bytes(pickle.dumps([1, 2, 3]))
    refused(signed(stranger), "z_mean.npy", "not an .npy file")


def test_an_npy_that_declares_a_hundred_gigabytes(stranger, signed):
    file = stranger / "conformance/encoder/z_mean.npy"
    contents = file.read_bytes()
    assert b"(14, 2)" in contents
    file.write_bytes(contents.replace(b"(14, 2), }" + b" " * 12, b"(13421772800, 2), }" + b" " * 3))
    refused(signed(stranger), "z_mean.npy", "declares", "13421772800")


def test_the_command_refuses_in_one_sentence(stranger, vae_serve, tmp_path):
    (stranger / "encoder.onnx").write_bytes(b"")
    done = vae_serve("verify", stranger, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "encoder.onnx" in done.stderr


@pytest.mark.parametrize("trained_float32", [None, 1e9])
def test_a_tolerance_of_its_own_is_told(stranger, vae_serve, trained_float32):
    def change(fields):
        for graph in fields["graphs"]:
            graph["tolerance"] = dict.fromkeys(graph["tolerance"], 1e9)
            for report in graph["parity"]:
                report["trained_float32"] = trained_float32

    edit_manifest(stranger, change)
    done = vae_serve("verify", "-q", "--json", stranger, cwd=stranger.parent)
    warnings = json.loads(done.stdout)["warnings"]
    assert done.returncode == 0
    assert any("decoder.onnx: image may be 1e+09 from the trained model" in warning for warning in warnings)
    assert done.stderr.count("warning: ") == len(warnings) == 5


def test_the_packaged_bundle_states_no_tolerance_of_its_own(vae_serve, tmp_path):
    assert json.loads(vae_serve("verify", "-q", "--json", PACKAGED, cwd=tmp_path).stdout)["warnings"] == []
