"""The command line in a fresh process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def run_command(*words: object, cwd: Path, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """`vae-serve WORDS` in a fresh process, started in `cwd`, with nothing on standard input."""
    return subprocess.run(
        [sys.executable, "-m", "vae_serve", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
