"""The model card is Markdown, and nothing that a run was called or trained on becomes markup in it."""

import json
import re
from pathlib import Path

import pytest

from vae_serve.exporting.card import card
from vae_serve.model.bundle import read_manifest

MNIST = Path(__file__).parents[2] / "exports" / "mnist"
HOSTILE = "a`b | c <script>alert(1)</script> ![i](javascript:x) ``d``"


def card_with(changes: dict[str, dict[str, str]], folder: Path) -> str:
    """The card of the committed bundle, with other values in its manifest."""
    manifest = json.loads((MNIST / "manifest.json").read_text(encoding="utf-8"))
    for field, values in changes.items():
        manifest[field] |= values
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return card(read_manifest(folder / "manifest.json"))


def test_a_name_of_data_stays_within_its_code_span(tmp_path):
    text = card_with({"data": {"name": HOSTILE}}, tmp_path)
    assert f"trained on ``` {HOSTILE} ```. " in text  # three: it holds one and two


@pytest.mark.parametrize("field", ["training", "metrics"])
def test_a_value_of_a_table_stays_in_its_cell(tmp_path, field):
    text = card_with({field: {"note": HOSTILE}}, tmp_path)
    [row] = [line for line in text.splitlines() if line.startswith("| note |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert re.search(r"(?<!\\)[`<\[]", row) is None


def test_a_name_of_a_figure_stays_in_its_cell(tmp_path):
    text = card_with({"training": {HOSTILE: "1"}}, tmp_path)
    [row] = [line for line in text.splitlines() if "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_a_licence_is_text(tmp_path):
    text = card_with({"data": {"licence": HOSTILE}}, tmp_path)
    [line] = [line for line in text.splitlines() if line.startswith("The weights:")]
    assert re.search(r"(?<!\\)[`<\[]", line) is None


def test_the_card_of_the_committed_bundle_has_its_figures():
    text = card(read_manifest(MNIST / "manifest.json"))
    assert "| negative_elbo | 144.206 |" in text
