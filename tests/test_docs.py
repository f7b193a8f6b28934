"""The documentation says what is: commands exist, links lead somewhere, the help is the help."""

import re
import shlex
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
import typer

from vae_serve.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def shown_commands(page: Path) -> list[str]:
    """Every `$ vae-serve ...` line of the page's code blocks, continuation lines joined."""
    blocks = re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?vae-serve ", line)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_that_a_page_shows_has_options_that_exist(page: Path):
    group: Any = typer.main.get_command(app())  # Typer keeps its copy of Click's types to itself
    for line in shown_commands(page):
        words = shlex.split(line, comments=True)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in {"|", ">", "&&"}), len(words))]
        if words[0].startswith("-"):
            continue
        command = group.get_command(typer.Context(group), words[0])
        assert command is not None, f"{page.name}: {line}"
        command.make_context(words[0], words[1:])  # raises on an unknown option or a missing argument


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_of_a_page_leads_to_a_file(page: Path):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_module_that_a_page_names_is_there(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    named = set(re.findall(r"`([a-z][a-z_0-9/]*\.py)`", prose))
    missing = {name for name in named if not (ROOT / name).exists() and not (ROOT / "vae_serve" / name).exists()}
    assert missing == set()


def test_the_example_of_a_command_in_contributing_is_one(capsys):
    from typing import Annotated

    from vae_serve.cli import console

    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S)
    [example] = [block for block in blocks if block.startswith("def count(")]
    names: dict[str, Any] = {"Annotated": Annotated, "typer": typer, "console": console}
    exec(example, names)
    names["count"]("mnist")
    assert capsys.readouterr().out == "10,000\n"


def test_the_page_of_commands_is_the_help():
    loader = SourceFileLoader("write_commands_page", str(ROOT / "scripts/write_commands_page"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == script.page()
