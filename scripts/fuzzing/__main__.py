"""The command `scripts/fuzz`: every parser of foreign bytes under two fuzzers.

Nothing but the project's own errors, or a row that says so, may come out of any input; nothing may take more processor
time or memory than its target allows, and no decoder may crash. Each target runs in a process of its own, which is
started again after a crash. An execution is one input that went through a target from its bytes to its outcome, those
included that ended the process; seeds that were run to load the libraries are not counted.

    coverage   Atheris (the extra `fuzz`): inputs that reach new lines are kept and built upon
    mutation   Hypothesis: edits that know lengths, digits, checksums and what is packed within

The smallest input of each finding is kept in the folder --findings, and a line tells how to run it again. The exit code
is 1 where there are any.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from fuzzing import targets as known
from fuzzing import worker
from fuzzing.ledger import Ledger, State
from fuzzing.targets import Target
from vae_serve.errors import VaeServeError

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {"coverage": 0.7, "mutation": 0.3}  # the part of the time or count that each gets
SHRINK = {"executions": 1_000, "seconds": 60.0}  # for each finding; they are not counted
STUCK = 120.0  # seconds in which a process may sleep between two inputs: the engine itself hangs
RESTARTS = 50  # of one target and engine, after which it is left


def main() -> int:
    """Runs the command."""
    options = _options()
    targets: dict[str, Target] = importlib.import_module(options.registry).TARGETS
    if options.list:
        print("\n".join(targets))
        return 0
    names = options.target or list(targets)
    if unknown := set(names) - set(targets):
        print(f"scripts/fuzz: no target {', '.join(sorted(unknown))}; --list names them", file=sys.stderr)
        return 2
    if options.run and len(options.target) != 1:
        print("scripts/fuzz: --run takes one target", file=sys.stderr)
        return 2
    if options.run:
        return _run_again(targets[names[0]], options.run)
    engines = [options.engine] if options.engine else list(ENGINES)
    if "coverage" in engines and importlib.util.find_spec("atheris") is None:
        print("scripts/fuzz: Atheris is not installed (extra `fuzz`); Hypothesis alone", file=sys.stderr)
        engines = ["mutation"]
    share = sum(ENGINES[engine] for engine in engines)
    print(f"{os.cpu_count()} cores, {_versions()}; {', '.join(engines)}; seed {options.seed}\n")
    print("| target | executions | accepted | a second | findings |\n|---|--:|--:|--:|--:|", flush=True)
    total: Counter[str] = Counter()
    for name in names:
        started, counts = time.monotonic(), Counter[str]()
        for earlier in (options.findings / name).glob("*.*"):
            earlier.unlink()
        for engine in engines:
            part = ENGINES[engine] / share
            counts += _fuzz(targets[name], engine, options, part)
        seconds = time.monotonic() - started
        if (options.findings / name).exists():
            _fuzz(targets[name], "shrink", argparse.Namespace(**{**vars(options), **SHRINK}), 1.0)
        found = len(list((options.findings / name).glob("*.bin")))
        print(_line(name, counts, seconds, found), flush=True)
        total += counts + Counter(seconds=int(seconds), findings=found)
    print(_line("all", total, total["seconds"], total["findings"]))
    if total["findings"]:
        print(f"\n{total['findings']} findings, the smallest input of each:")
        for name in names:
            _describe(name, options.findings / name)
    return 1 if total["findings"] else 0


def _versions() -> str:
    """Of Python and of what the inputs go through."""
    here = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    parsed_with = [f"{name} {here[name]}" for name in ("numpy", "pillow", "pyarrow", "imagecodecs") if name in here]
    return ", ".join([f"Python {platform.python_version()}", *parsed_with])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=30.0, help="for each target (30)")
    amount.add_argument("--executions", type=int, help="for each target, however long they take")
    parser.add_argument("--engine", choices=ENGINES, help="one of the two alone")
    parser.add_argument("--seed", type=int, default=1, help="another one tries other inputs (1)")
    parser.add_argument("--findings", type=Path, default=ROOT / "build" / "fuzz", help="folder (build/fuzz)")
    parser.add_argument("--registry", default="fuzzing.targets", help=argparse.SUPPRESS)  # the tests have their own
    parser.add_argument("--run", type=Path, metavar="FILE", help="run one input through one target and say what comes")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("target", nargs="*", metavar="TARGET")
    return parser.parse_args()


def _fuzz(target: Target, engine: str, options: argparse.Namespace, part: float) -> Counter[str]:
    """One target by one engine, in as many processes as it takes."""
    counts: Counter[str] = Counter()
    findings = options.findings / target.name
    wanted = max(1, int(options.executions * part)) if options.executions else 1 << 40
    until = time.monotonic() + (1e9 if options.executions else options.seconds * part)
    with tempfile.TemporaryDirectory(prefix="vae-serve-fuzz-", dir=_memory()) as folder:
        for attempt in range(RESTARTS):
            room = Path(folder, f"room-{attempt}")
            room.mkdir()
            ledger = Ledger(Path(folder, f"ledger-{attempt}"))
            words = {
                "registry": options.registry, "target": target.name, "engine": engine,
                "ledger": Path(folder, f"ledger-{attempt}"), "findings": findings.absolute(),
                "corpus": Path(folder, "corpus"), "seed": options.seed * 1_000 + attempt,
                "executions": wanted - counts["executions"], "seconds": min(until - time.monotonic(), 1e8),
            }  # fmt: skip
            said = Path(folder, "stderr")
            ending = _watch(target, words, room, ledger, said)
            state = ledger.state()
            counts += Counter(executions=state.done + bool(state.begun), accepted=state.accepted)
            shutil.rmtree(room, ignore_errors=True)
            if ending.died:
                _save_death(findings, ending.died, state, said)
            elif ending.failed:
                print(f"{target.name}: the {engine} engine {ending.failed}\n{_tail(said)}", file=sys.stderr)
                if not state.done:
                    break
            if (
                counts["executions"] >= wanted
                or time.monotonic() >= until - 0.5
                or (ending == WELL and engine != "coverage")
            ):
                break
    return counts


def _memory() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Ending(NamedTuple):
    """How a worker ended: well, by the input that it was at, or between two inputs."""

    died: str | None = None
    failed: str | None = None


WELL = Ending()


def _watch(target: Target, words: dict[str, Any], room: Path, ledger: Ledger, said: Path) -> Ending:
    """Runs a worker to its end."""
    command = [sys.executable, "-m", "fuzzing.worker", *(f"--{name}={value}" for name, value in words.items())]
    environment = {
        **os.environ, known.ROOM: str(room),
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve address space, which is what is limited
        "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
    }  # fmt: skip
    with said.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stdout=errors, stderr=errors, start_new_session=True)
    last, since = -1, time.monotonic()
    try:
        while (code := _code(process)) is None:
            state, now = ledger.state(), time.monotonic()
            if state.done != last or not _sleeps(process.pid):
                last, since = state.done, now
            elif now - since > (target.waits if state.begun else STUCK):
                text = f"waits for more than {now - since:.0f} s"
                return Ending(died=text) if state.begun else Ending(failed=text)
    finally:
        process.kill()
        process.wait()
    if code == -signal.SIGPROF:
        return Ending(died="takes more processor time than it may")
    text = f"ends the process: {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if ledger.state().begun or code < 0:
        return Ending(died=text)
    return Ending(failed=text) if code else WELL


def _code(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit code, after a moment; None while it runs."""
    try:
        return process.wait(0.25)
    except subprocess.TimeoutExpired:
        return None


def _sleeps(pid: int) -> bool:
    """Whether a process waits, and not for a processor."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SD"
    except OSError:
        return False


def _tail(said: Path) -> str:
    return said.read_text(errors="replace")[-600:]


def _save_death(findings: Path, died: str, state: State, said: Path) -> None:
    text = said.read_text(errors="replace")
    # faulthandler's traceback, the innermost frame first: the same function is the same fault
    frames = re.findall(r'File "(.+)", line \d+ in (.+)', text)
    own = [frame for frame in frames if "/vae_serve/" in frame[0]]
    file, function = (own or frames or [("?", "?")])[0]
    place = f"{file.removeprefix(f'{ROOT}/')} in {function}"
    told = [line for line in text.splitlines() if line.startswith(("==", "SUMMARY", "Fatal", "MemoryError"))]
    worker.save(findings, f"{died} at {place}", " / ".join(told) or text[-600:], state.data, died=True)


def _line(name: str, counts: Counter[str], seconds: float, found: int) -> str:
    done = counts["executions"]
    return f"| {name} | {done:,} | {counts['accepted']:,} | {done / max(seconds, 0.001):,.0f} | {found} |"


def _describe(name: str, folder: Path) -> None:
    for file in sorted(folder.glob("*.json"), key=lambda file: file.with_suffix(".bin").stat().st_size):
        about = json.loads(file.read_text())
        data = file.with_suffix(".bin")
        message = " ".join(about["message"].split())
        print(f"\n{name}: {about['key']}\n  {message:.200}\n  scripts/fuzz {name} --run {data}")


def _run_again(target: Target, file: Path) -> int:
    """One input, in this process, with its traceback."""
    try:
        result = target.run(file.read_bytes())
    except VaeServeError as error:
        print(f"refused: {type(error).__name__}: {error}")
        return 0
    print(f"accepted: {result!r:.300}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
