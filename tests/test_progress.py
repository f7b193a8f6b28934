"""Progress on a terminal: the line fits any width, and the last one says 100 %."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from vae_serve.cli.progress_line import ASCII_MARKS, State, duration, line

ROOT = Path(__file__).parents[1]
TRAINING = State(
    "train", "steps", 1_234, 37_500, 60.0, 18.2, {"epoch": "4/100", "loss": 151.23, "val": 152.0, "kl": 6.5}
)


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 100, 160, 400])
def test_what_matters_least_goes_first(width):
    shown = line(TRAINING, width)
    assert len(shown) <= width
    assert "..." not in shown
    survivors = [
        "3 %",
        "33 min left",
        "loss 151.2",
        "val 152",
        "kl 6.5",
        "epoch 4/100",
        "18 steps/s",
        "train",
        "─",
        "1,234/",
    ]
    there = [word in shown for word in survivors]
    if width >= 20:
        assert there == sorted(there, reverse=True)
    assert sum(there) >= {1: 0, 20: 2, 40: 4, 60: 5, 80: 7, 100: 9, 160: 10, 400: 10}[width]


def test_slow_steps_are_counted_in_seconds_and_the_end_is_the_end():
    assert "10.3 s/step" in line(TRAINING._replace(rate=0.0971), 200)
    assert "1.4 steps/s" in line(TRAINING._replace(rate=1.44), 200)
    ended = line(TRAINING._replace(done=37_500, seconds=7_500.0), 200)
    assert "100 %" in ended
    assert "in 2 h 5 min" in ended
    assert "─" not in ended
    assert "99 %" in line(TRAINING._replace(done=37_499), 200)
    assert line(State("embed", "pictures", 7, rate=2.0), 80) == "embed  7 pictures  2.0 pictures/s"
    assert "errors 123456" in line(TRAINING._replace(figures={"errors": 123_456}), 80)
    assert "#" in line(TRAINING._replace(done=20_000), 200, ASCII_MARKS)


def test_durations_are_said_as_a_person_says_them():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 599, 3_599, 7_500, 400_000)] == [
        "0 s", "59 s", "1 min 1 s", "9 min 59 s", "59 min", "2 h 5 min", "111 h 6 min",
    ]  # fmt: skip


def on_terminal(*words: object, cwd: Path, columns: int) -> str:
    """What a command writes to a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_serve", *map(str, words)],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 1 << 16):
            written += block
    except OSError:  # Linux says so that the other side is closed
        pass
    os.close(master)
    assert process.wait(timeout=60) == 0, written
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())


@pytest.mark.parametrize("columns", [20, 80, 120, 400])
def test_on_a_terminal_no_line_is_cut_and_the_bar_reaches_its_end(tmp_path, columns):
    written = on_terminal("generate", "--count", 3000, "--out", "a.npy", cwd=tmp_path, columns=columns)
    bars = [text.strip() for text in re.split(r"[\r\n]+", written) if "%" in text]
    assert bars, written
    assert "..." not in written
    assert "\N{HORIZONTAL ELLIPSIS}" not in written
    assert bars[-1].startswith("100 %" if columns == 20 else "generate  ━")
    assert "100 %" in bars[-1]
    assert all(len(bar) < columns for bar in bars)
