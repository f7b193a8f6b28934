"""Foreign bytes: every parser takes its valid inputs, and answers any other with an error of the project or a row.

`scripts/fuzz` tries millions of inputs; here are the kept ones, each of which was a fault once, and some seconds of new
ones, the same in every run.
"""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import mutation, targets, verdict
from hypothesis import HealthCheck, Phase, given, settings

TARGETS = list(targets.TARGETS.values())
CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(CORPUS.glob("*/*"))
EXAMPLES = {"bundle": 60, "conformance": 10}  # a bundle's files are hashed for each
MEMORY = 1 << 30  # bytes, beyond what the process has
ANY = {
    "empty": b"",
    "zeros": bytes(2_000),
    "ones": b"\xff" * 2_000,
    "brackets": b"[" * 20_000,
    "braces": b'{"a":' * 20_000,
    "toml brackets": b"a = " + b"[" * 20_000,
    "digits": b"9" * 20_000,
    "lines": b"\n" * 2_000,
    "surrogate": b'{"a": "\\ud800"}',
}


@pytest.fixture(autouse=True)
def limited_memory() -> Iterator[None]:
    """What would take gigabytes is a `MemoryError`, and so a failure."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def by_name(target: targets.Target) -> str:
    return target.name


@pytest.mark.parametrize("target", TARGETS, ids=by_name)
def test_a_parser_takes_valid_inputs(target):
    outcomes = [verdict.judge(target, data) for data in target.seeds()]
    assert [outcome for outcome in outcomes if isinstance(outcome, verdict.Finding)] == []
    assert verdict.ACCEPTED in outcomes


@pytest.mark.parametrize("target", TARGETS, ids=by_name)
def test_nothing_but_an_error_of_the_project_comes_out_of_an_edited_input(target):
    material = mutation.Material.of(target.seeds())

    @settings(
        max_examples=EXAMPLES.get(target.name, 300), database=None, derandomize=True, deadline=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutation.inputs(target.shape, material))
    def run(data: bytes) -> None:
        outcome = verdict.judge(target, data)
        assert outcome in (verdict.ACCEPTED, verdict.REFUSED), outcome

    run()


@pytest.mark.parametrize("target", TARGETS, ids=by_name)
@pytest.mark.parametrize("data", ANY.values(), ids=ANY.keys())
def test_what_is_nothing_of_the_kind_is_refused_too(target, data):
    outcome = verdict.judge(target, data)
    assert outcome in (verdict.ACCEPTED, verdict.REFUSED), outcome


@pytest.mark.parametrize("target", TARGETS, ids=by_name)
def test_an_input_cut_anywhere_is_an_error_of_the_project_or_a_row(target):
    cut = [data[: len(data) * sixteenth // 16] for data in target.seeds()[:4] for sixteenth in range(1, 16)]
    outcomes = {verdict.judge(target, data) for data in cut[:: 3 if target.name in EXAMPLES else 1]}
    assert outcomes <= {verdict.ACCEPTED, verdict.REFUSED}


@pytest.mark.parametrize("file", KEPT, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_an_input_that_was_a_fault_once(file):
    outcome = verdict.judge(targets.TARGETS[file.parent.name], file.read_bytes())
    assert outcome in (verdict.ACCEPTED, verdict.REFUSED), outcome
