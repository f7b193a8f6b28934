"""The documentation is true: commands and options exist, links lead somewhere, examples run, the help is the help."""

import pickle
import re
import shlex
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from vae_serve.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

IMPORTS_OF_EXAMPLES = """
import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vae_serve import quoting
from vae_serve.cli import console
from vae_serve.deploy import readme
from vae_serve.errors import BundleError, ImageError, SourceError
from vae_serve.jobs.engines import inline
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Batch, OnDone, PieceT, Spec
from vae_serve.model.bundle import Bundle
from vae_serve.serve.answers import Answer, Refusal, brief
from vae_serve.serve.request import Request
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service
from vae_serve.sources.names import Labels, Names, PackedNames, first_folders
"""

OPTIONS_OF_ALL_COMMANDS = {"--debug", "--help", "--version"}
OPTIONS_OF_SCRIPTS = {"--epochs", "--list", "--only", "--other", "--seeds", "--triton", "--web", "--whole"}


FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def typed_commands(page: Path) -> list[str]:
    """Every `vae-serve ...` line of the page's code blocks, continuation lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = [body for language, body in FENCED.findall(text) if language in {"console", "bash", "sh"}]
    blocks += re.findall(r"^    .*$", FENCED.sub("", text), re.M)
    lines = [line.strip().removeprefix("$ ") for line in "\n".join(blocks).splitlines()]
    return [line for line in lines if line.startswith("vae-serve ")]


def commands_in_sentences(page: Path) -> list[str]:
    """Every `vae-serve ...` in the page's sentences, where values may be placeholders."""
    codes = re.findall(r"`(vae-serve [^`]+)`", FENCED.sub("", page.read_text(encoding="utf-8")))
    return [code.replace("\n", " ") for code in codes]


def shown_options(page: Path) -> set[str]:
    """Every `--option` that the page names in a sentence, by itself or with a value."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    return set(re.findall(r"`(--[a-z][a-z-]*)[ A-Za-z0-9,./|]*`", prose))


def commands() -> dict[str, Any]:
    """The commands by name, as Click has them."""
    group: Any = typer.main.get_command(app())  # Typer keeps its copy of Click's types to itself
    return {name: group.get_command(typer.Context(group), name) for name in group.list_commands(typer.Context(group))}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_that_a_page_shows_has_options_that_exist(page: Path):
    for line in typed_commands(page):
        words = shlex.split(line, comments=True)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in {"|", ">", "&&"}), len(words))]
        if words[0].startswith("-"):
            continue
        assert words[0] in commands(), f"{page.name}: {line}"
        commands()[words[0]].make_context(words[0], words[1:])  # raises on an unknown option or a missing argument


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_in_a_sentence_has_options_that_exist(page: Path):
    for line in commands_in_sentences(page):
        words = [word for word in line.split()[1:] if word not in {"--debug", "--help", "--version"}]
        if words:
            assert words[0] in commands(), f"{page.name}: {line}"
            known = {option for parameter in commands()[words[0]].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} - known == set(), f"{page.name}: {line}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"])  # which names earlier ones
def test_every_option_that_a_page_names_is_one_of_a_command(page: Path):
    known = {option for command in commands().values() for parameter in command.params for option in parameter.opts}
    assert shown_options(page) - known - OPTIONS_OF_ALL_COMMANDS - OPTIONS_OF_SCRIPTS == set()


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


def example(beginning: str) -> dict[str, Any]:
    """What the Python block of CONTRIBUTING.md that begins so defines."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S)
    [block] = [block for block in blocks if block.startswith(beginning)]
    module = ModuleType("example")
    sys.modules["example"] = module  # dataclasses look their module up
    exec(IMPORTS_OF_EXAMPLES + block, module.__dict__)
    return module.__dict__


def test_the_example_of_a_source_in_contributing_is_one(tmp_path):
    file = tmp_path / "pictures.b64"
    file.write_bytes(b"cat/b\tAAEC\ncat/a\t!!\n")
    source = pickle.loads(pickle.dumps(example("@dataclass(frozen=True)\nclass Base64Source")["Base64Source"](file)))
    pictures = source.open()
    assert pictures.names[range(2)] == [b"cat/a", b"cat/b"]
    failure, contents = pictures.read(range(2))
    assert (failure.kind, contents) == ("damaged", b"\0\1\2")
    assert pictures.labels(range(2))[0] == [b"cat"]


def test_the_example_of_a_deploy_target_in_contributing_is_one(tmp_path):
    from vae_serve.model import bundle

    example("def write(bundle: Bundle")["write"](bundle.load(ROOT / "exports/mnist"), tmp_path)
    assert (tmp_path / "decoder.onnx").read_bytes() == (ROOT / "exports/mnist/decoder.onnx").read_bytes()
    assert "\nMade by `vae-serve deploy docker`.\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_example_of_an_engine_in_contributing_is_one():
    from vae_serve.jobs.plan import Plan, Shard
    from vae_serve.jobs.task import ShardResult

    @dataclass(frozen=True)
    class Piece:
        rows: range
        failed: int = 0

    class Work:
        def __init__(self, shards: list[Shard]) -> None:
            self.lanes = [iter([range(shard.start, shard.stop) for shard in shards])]

        def prepare(self) -> None:
            """Nothing."""

        def process(self, batch: range) -> Piece:
            return Piece(batch)

        def assemble(self, shard: Shard, pieces: list[Piece]) -> ShardResult:
            return ShardResult({}, {"rows": [piece.rows for piece in pieces]})

        def stop(self, finished: bool) -> None:
            assert finished

    class Spec:
        plan = Plan({}, 5, rows_per_shard=2)

        def start(self, missing: list[Shard], private: tuple[int, ...] = ()) -> Work:
            return Work(missing)

    done: list[Any] = []
    example("def run(spec")["run"](Spec(), Spec.plan.shards, lambda shard, result: done.append(result.record["rows"]))
    assert done == [[range(0, 2)], [range(2, 4)], [range(4, 5)]]


def test_the_example_of_an_endpoint_in_contributing_is_one():
    from vae_serve.serve.answers import Answer, Refusal
    from vae_serve.serve.request import Request, Room
    from vae_serve.serve.served import load

    served = load(ROOT / "exports/mnist")

    def asked(query: bytes) -> Answer:
        request = Request("GET", "/v1/norm", query, {}, None, Room(0), lambda _: None)
        answering = example("async def norm(")["norm"](None, served, request)
        with pytest.raises(StopIteration) as answer:
            answering.send(None)
        return answer.value.value

    assert asked(b"z=3,-4").body == b'{"norm":5.0}'
    with pytest.raises(Refusal, match="give 2 numbers"):
        asked(b"z=left")


def test_the_example_of_a_command_in_contributing_is_one(capsys):
    example("def count(")["count"]("mnist")
    assert capsys.readouterr().out == "10,000\n"


def test_the_page_of_commands_is_the_help():
    loader = SourceFileLoader("write_commands_page", str(ROOT / "scripts/write_commands_page"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == script.page()
