"""What the command line prints: results to stdout, messages to stderr, and control characters only as escapes."""

import json
import re
from pathlib import Path

ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NAME = "no\x1b[31mwhere\u202e\nvae-serve: all is well"


def test_an_error_shows_the_control_characters_of_a_name(vae_serve, tmp_path: Path):
    done = vae_serve("inspect", NAME, cwd=tmp_path)
    assert done.returncode == 1
    assert ACTS.search(done.stderr) is None
    assert done.stderr.count("\n") == 1
    assert r"no\x1b[31mwhere\u202e\nvae-serve: all is well" in done.stderr


def test_an_error_of_the_operating_system_does_too(vae_serve, tmp_path: Path):
    (tmp_path / NAME).touch()
    done = vae_serve("generate", "--grid", 2, "--out", f"{NAME}/plane.png", cwd=tmp_path)
    assert done.returncode == 1
    assert ACTS.search(done.stderr) is None
    assert r"\x1b[31m" in done.stderr


def test_a_traceback_does_too(vae_serve, tmp_path: Path):
    done = vae_serve("inspect", NAME, "--debug", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert ACTS.search(done.stderr) is None


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes(vae_serve, tmp_path: Path):
    done = vae_serve("inspect", b"caf\xe9".decode("utf-8", "surrogateescape"), cwd=tmp_path)
    assert done.returncode == 1
    assert r"caf\xe9" in done.stderr


def test_the_list_of_runs_shows_the_control_characters_of_a_folder(vae_serve, tmp_path: Path):
    folder = tmp_path / "runs" / "a\x1b[2Jb\u202e"
    folder.mkdir(parents=True)
    record = {
        "status": "finished",
        "config": {"arch": "conv", "latent_dim": 2},
        "recipe": {"name": "best", "phases": [{"epochs": 1}]},
        "data": {"name": "photos"},
        "metrics": {},
    }
    (folder / "run.json").write_text(json.dumps(record))
    done = vae_serve("runs", cwd=tmp_path)
    assert ACTS.search(done.stdout + done.stderr) is None
    assert "\\x1b[2Jb" in done.stdout + done.stderr


def test_a_locale_that_cannot_write_a_name_gets_its_escape(vae_serve, tmp_path: Path):
    done = vae_serve(
        "inspect", "caf\u00e9", cwd=tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "caf" in done.stderr
