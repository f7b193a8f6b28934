"""Text that wants to be more than text is read back by each language's own reader as what it was."""

import json
import re
import subprocess

import pytest
import yaml
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from vae_serve import quoting

HOSTILE = [
    "plain words, 1.5 and z_mean",
    "`rm -rf ~` and $(touch pwned) and ${HOME} and !!",
    "---\nlicense: other\n---",
    "| a | b |\n| --- | --- |",
    "\"double\" 'single' \\back\\slash",
    "</script><script>alert(1)</script>",
    "\x1b[2J\x1b]0;title\x07 cleared",
    "\u202eexe.gnp\u202c turned \u2066round\u2069",
    "a\u2028b\u2029c\u0085d\u009b31m",
    "[link](javascript:alert(1)) ![image](x) <img src=x onerror=alert(1)> &lt;",
    "~~~\n```\nfence",
    "tab\tand\r\nCRLF",
    "\N{PILE OF POO} and \u00e9",
    "# title\n- item\n1. item\n> quote",
    "",
    " ",
]
ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f]")
anything = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
encodable = st.text()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_one_line_without_a_control_character(text):
    shown = quoting.terminal(text)
    assert ACTS.search(shown) is None
    assert len(shown) >= len(text)


def test_a_terminal_shows_ordinary_text_as_it_is():
    assert quoting.terminal("runs/caf\u00e9 \N{PILE OF POO}: 1.5") == "runs/caf\u00e9 \N{PILE OF POO}: 1.5"


def test_a_terminal_shows_a_file_name_that_is_not_utf8_by_its_bytes():
    assert quoting.terminal(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == "caf\\xe9.png"


@given(anything)
def test_what_a_terminal_gets_can_be_encoded_whatever_the_text(text):
    assert ACTS.search(quoting.terminal(text)) is None
    quoting.terminal(text).encode("utf-8")


plain = st.none() | st.booleans() | st.integers() | anything


@given(st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(anything, inner)))
def test_json_reads_back_equal_and_holds_nothing_that_acts(value):
    for indent in (None, 1):
        text = quoting.json(value, indent)
        assert json.loads(text) == value
        assert ACTS.search(text.replace("\n", "")) is None
        assert not set("<>&") & set(text)


def test_json_has_null_where_a_figure_is_not_finite():
    assert quoting.json({"loss": [float("nan"), float("inf"), 1.5]}) == '{"loss": [null, null, 1.5]}'


@pytest.mark.parametrize("text", HOSTILE)
def test_yaml_reads_back_equal(text):
    document = f"first: {quoting.yaml(text)}\nnested: {quoting.yaml({text: [text, 1, None, True]})}\nlast: 1\n"
    assert yaml.safe_load(document) == {"first": text, "nested": {text: [text, 1, None, True]}, "last": 1}


@given(encodable)
def test_yaml_reads_back_any_text(text):
    assert yaml.safe_load(f"key: {quoting.yaml(text)}\n") == {"key": text}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_yaml_reads_a_figure_back_as_a_figure(figure):
    assert yaml.safe_load(f"key: {quoting.yaml(figure)}\n") == {"key": figure}
    assert isinstance(yaml.safe_load(quoting.yaml(figure)), float)


def test_yaml_refuses_what_is_no_figure():
    with pytest.raises(ValueError, match="nan"):
        quoting.yaml(float("nan"))


@given(encodable)
def test_the_text_format_of_protobuf_reads_back_any_text(text):
    from google.protobuf import wrappers_pb2

    message = text_format.Parse(f"value: {quoting.pbtxt(text)}", wrappers_pb2.StringValue())
    assert message.value == text


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\x00" not in text])
def test_a_shell_gets_one_word_on_one_line_and_runs_nothing(text, tmp_path):
    word = quoting.shell(text)
    assert "\n" not in word
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_is_one_line_with_every_mark_escaped(text):
    line = quoting.markdown(text)
    assert ACTS.search(line) is None
    assert re.search(r"(?<!\\)[`*\[\]<>|#~$!]", line.replace("\\\\", "")) is None


def test_markdown_leaves_ordinary_words_alone():
    words = "CC BY-SA 3.0, Yann LeCun; z_mean of vae-serve train --seed 0, 1e-05"
    assert quoting.markdown(words) == words


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_of_markdown_cannot_be_ended_from_inside(text):
    span = quoting.markdown_code(text)
    fence = re.match("`+", span)[0]
    inside = span[len(fence) : -len(fence)]
    assert span.endswith(fence)
    assert fence not in re.findall("`+", inside)
    assert "\n" not in span
