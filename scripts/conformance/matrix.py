"""A bundle's conformance vectors through every runtime, and the largest difference of each.

    python -m scripts.conformance.matrix [BUNDLE] [--write]

`runners` has the runtimes; the comparison is made here.
"""

import argparse
import itertools
import json
import os
import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.conformance.runners import HERE, ROOT, RUNTIMES, Array, Json, Runtime, Unavailable, browser, run_apart
from vae_serve.deploy import deploy
from vae_serve.exporting import snippets
from vae_serve.model import bundle, parity

EXAMPLES = ROOT / "examples"

BATCHES = (1, 7)
TIMED_BATCH = 64
SECONDS = 1.0


@dataclass(frozen=True)
class Row:
    """What came out."""

    runtime: Runtime
    version: str
    largest: dict[tuple[str, int], float]  # (encode | decode, batch) -> largest difference
    within: dict[tuple[str, int], bool]  # whether each of them is tolerated
    rates: dict[str, float]  # images per second at TIMED_BATCH

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance of its type."""
        return all(self.within.values())


def try_runtime(runtime: Runtime, path: Path, seconds: float = SECONDS) -> Row:
    """The conformance vectors of the bundle in `path` through one runtime; speed is not measured in 0 seconds.

    Raises:
        Unavailable: the runtime is not installed, or the bundle lacks the format that it reads.
    """
    if not (path / runtime.reads).is_file():
        raise Unavailable(f"the bundle has no {runtime.reads}")
    manifest = bundle.read_manifest(path / bundle.MANIFEST)
    tolerance = json.loads((path / "conformance" / "conformance.json").read_text())["tolerance"]
    expected: dict[str, list[Array]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        calls: Json = {}
        for name, network, graph in (("encode", "encoder", manifest.encoder), ("decode", "decoder", manifest.decoder)):
            if graph is None:
                raise Unavailable("the bundle has no ONNX files")
            vectors = [
                np.load(path / "conformance" / network / f"{tensor.name}.npy", allow_pickle=False)
                for tensor in (*graph.inputs, *graph.outputs)
            ]
            expected[name] = vectors[1:]
            vectors[0].tofile(Path(scratch, f"{name}.in"))
            calls[name] = {
                "file": f"{name}.in",
                "dtype": str(vectors[0].dtype),
                "shape": vectors[0].shape,
                "output_widths": [output[0].size for output in vectors[1:]],
            }
        job = {
            "bundle": str(path.resolve()),
            "calls": calls,
            "batches": BATCHES,
            "timed_batch": TIMED_BATCH,
            "seconds": seconds,
        }
        job_file = Path(scratch, "job.json")
        job_file.write_text(json.dumps(job))
        result = runtime.run(job_file, EXAMPLES / runtime.example)
        largest, within = {}, {}
        for key in itertools.product(calls, BATCHES):
            name, batch = key
            apart = [
                _difference(one, _read(Path(scratch, f"{name}-{batch}-{index}.out"), one))
                for index, one in enumerate(expected[name])
            ]
            largest[key] = max(apart)
            allowed = [tolerance[str(one.dtype)] for one in expected[name]]
            within[key] = all(one <= limit for one, limit in zip(apart, allowed, strict=True))
    return Row(runtime, result["version"], largest, within, result["rates"])


def _difference(expected: Array, found: Array) -> float:
    if expected.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected).max())
    return float(parity.difference(expected, found).max())


def _read(file: Path, like: Array) -> Array:
    return np.fromfile(file, like.dtype).reshape(like.shape)


def table(rows: list[Row], missing: dict[str, str]) -> str:
    """The markdown table, what could not be tried, and the machine."""
    head = ["runtime", "version", *(f"{name}, batch {batch}" for name in ("encoder", "decoder") for batch in BATCHES)]
    lines = [[*head, "encodes/s", "decodes/s"], ["---"] * 2 + ["--:"] * 6]
    for row in rows:
        differences = [f"{row.largest[name, batch]:.1e}" for name in ("encode", "decode") for batch in BATCHES]
        rates = [f"{_rounded(row.rates[name]):,}" for name in ("encode", "decode")]
        lines.append([row.runtime.name, row.version, *differences, *rates])
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    text += (
        f"\nLargest difference from the trained Keras model, |found - expected| / max(1, |expected|); allowed are "
        f"{parity.TOLERANCE:g}. Speed at batch {TIMED_BATCH}, the best call of a second, on {os.cpu_count()} cores "
        f"({platform.machine()}) with whatever threads the example asks for.\n"
    )
    return text + "".join(f"\n{name} was not tried: {reason}.\n" for name, reason in missing.items())


def _rounded(rate: float) -> int:
    return int(float(f"{rate:.2g}"))


def write_docs(page: Path, parts: dict[str, str]) -> None:
    """Puts each part between its markers, <!-- NAME --> and <!-- end of NAME -->."""
    text = page.read_text(encoding="utf-8")
    for name, contents in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        pieces = re.split(pattern, text, flags=re.DOTALL)
        if len(pieces) != 4:
            raise ValueError(f"{page} has no part <!-- {name} -->")
        before, begin, end, after = pieces
        text = f"{before}{begin}{contents}{end}{after}"
    page.write_text(text, encoding="utf-8")


def examples() -> str:
    """Every example with its title and how it is started, as markdown."""
    parts = []
    for runtime in RUNTIMES:
        parts.append(f"### {runtime.name}\n\n`{runtime.command}`\n\n{snippets.fenced(EXAMPLES / runtime.example)}")
    return "\n".join(parts)


def page(path: Path, pictures: Path) -> str:
    """How long the page of `vae-serve deploy web` takes to load and decode, a sentence; screenshots go to `pictures`.

    Raises:
        Unavailable: there is no browser.
    """
    if browser() is None:
        raise Unavailable("there is no Chromium")
    with tempfile.TemporaryDirectory() as scratch:
        deploy(path, "web", Path(scratch, "web"))
        seen = run_apart(["node", HERE / "page.mjs", Path(scratch, "web"), pictures])
    return (
        f"Measured by `scripts/runtimes` from a server on the same machine, Chromium {seen['chromium']}: first picture "
        f"{seen['first_picture_ms'] / 1000:.1f} s after the page was asked for; while dragging, "
        f"{seen['decode_ms']['median']:.1f} ms a digit at the median of {seen['decode_ms']['count']}; "
        f"{seen['bytes'] / 1e6:.1f} MB fetched in all. The self-check's largest difference: "
        f"{max(float(row[2]) for row in seen['check']['rows']):.1e}.\n"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=ROOT / "exports" / "mnist")
    parser.add_argument("--write", action="store_true", help="put table and examples into docs/runtimes.md")
    asked = parser.parse_args()
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for runtime in RUNTIMES:
        print(f"{runtime.name} ...", file=sys.stderr, flush=True)
        try:
            rows.append(try_runtime(runtime, asked.bundle))
        except Unavailable as reason:
            missing[runtime.name] = str(reason)
    text = table(rows, missing)
    print(text)
    if asked.write:
        parts = {"table": text, "examples": examples(), "page": page(asked.bundle, ROOT / "docs" / "pictures")}
        write_docs(ROOT / "docs" / "runtimes.md", parts)
    if failed := [row.runtime.name for row in rows if not row.passed]:
        sys.exit(f"beyond the tolerance: {', '.join(failed)}")


if __name__ == "__main__":
    main()
