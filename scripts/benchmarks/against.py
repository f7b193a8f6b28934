"""This checkout against another revision of it, by whole processes of the command line. Prints a markdown table.

python scripts/benchmarks/against.py REV [--rounds R] [--only CASE,...] [--files N] [--rows N]

Both sides run in turn, which goes first alternating; the figures are medians, the ratios those of the pairs. Below 1
this checkout is quicker. CPU is that of the process and of all that it started. Both run with the packages that are
installed here: a revision that needs others cannot be compared.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vae_serve.images import mnist

HERE = Path(__file__).parents[2]
FEW = 23
CASES = {
    "help": "--help",
    "grid": "generate --grid 15 --out OUT.png --quiet",
    "few": "embed few --out OUT --quiet",
    "files": "embed files --out OUT --quiet",
    "array": "embed array.npy --out OUT --quiet",
    "generate": "generate --count 400000 --out OUT.npy --quiet",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="a commit, tag or branch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--rows", type=int, default=600_000)
    options = parser.parse_args()
    cases = options.only.split(",")
    if not set(cases) <= CASES.keys():
        parser.error(f"--only takes {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        other = folder / "other"
        git("worktree", "add", "--detach", "--quiet", str(other), options.revision)
        try:
            prepare(folder, cases, options.files, options.rows)
            print(f"| command | {options.revision} | this checkout | wall, ratio | CPU, ratio |\n|---|---|---|---|---|")
            for case in cases:
                print(row(case, folder, other, options.rounds), flush=True)
        finally:
            git("worktree", "remove", "--force", str(other))


def git(*words: str) -> None:
    subprocess.run(["git", "-C", str(HERE), *words], check=True)


def prepare(folder: Path, cases: list[str], files: int, rows: int) -> None:
    """The pictures: digits as files, one folder for each label, and as an array."""
    for name, count in (("few", FEW), ("files", files)):
        if name in cases:
            subprocess.run(
                [sys.executable, str(HERE / "scripts/mnist_as_png"), str(folder / name), "train", str(count)],
                check=True,
            )
    if "array" in cases:
        images = mnist.load("train")[0]
        np.save(folder / "array.npy", np.resize(images, (rows, *images.shape[1:])))


def row(case: str, folder: Path, other: Path, rounds: int) -> str:
    """One command on both sides, after a run of each that does not count."""
    sides = (other, HERE)
    for tree in sides:
        timed(case, folder, tree)
    pairs = []
    for turn in range(rounds):
        order = sides if turn % 2 else sides[::-1]
        figures = {tree: timed(case, folder, tree) for tree in order}
        pairs.append((figures[other], figures[HERE]))
    before, after = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
    wall, cpu = (statistics.median(now[at] / then[at] for then, now in pairs) for at in (0, 1))
    return f"| `{CASES[case]}` | {before:.3f} s | {after:.3f} s | {wall:.2f} | {cpu:.2f} |"


def timed(case: str, folder: Path, tree: Path) -> tuple[float, float]:
    """Seconds from a process' start to its end, and of CPU."""
    out = folder / "out"
    words = CASES[case].replace("OUT", str(out)).split()
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_serve", *words], env=environment, cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} of {tree} ended with {process.returncode}")
    for made in folder.glob("out*"):
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink()
    return seconds, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
