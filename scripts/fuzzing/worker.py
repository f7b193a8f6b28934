"""The process that fuzzes one target by one engine: python -m fuzzing.worker (started by `scripts/fuzz`, which explains
the options). Where it dies, the ledger has the input that it died of."""

import argparse
import faulthandler
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fuzzing import mutation, targets
from fuzzing.ledger import Ledger
from fuzzing.targets import Target

INSTRUMENTED = 5.0  # times the processor time that instrumented Python takes


class Worker:
    """Runs inputs of one target, counts them, and saves what is wrong."""

    def __init__(self, target: Target, ledger: Ledger, findings: Path, slowed: float) -> None:
        self.target, self.ledger, self.findings = target, ledger, findings
        self.seconds = target.seconds * slowed

    def limit(self) -> None:
        """Memory and processor time from now on. What goes beyond ends the process, and its parent sees why."""
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (held + self.target.memory, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def one(self, data: bytes) -> None:
        """One input, start to end."""
        from fuzzing import verdict

        self.ledger.begin(data)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        result = verdict.judge(self.target, data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if isinstance(result, verdict.Finding):
            save(self.findings, result.key, result.message, data)
        self.ledger.end(result == verdict.ACCEPTED)


def save(folder: Path, key: str, message: str, data: bytes, died: bool = False) -> None:
    """Keeps the smallest input of each fault, and beside it what it is and whether the process died of it."""
    import hashlib

    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:12]
    file = folder / f"{name}.bin"
    if not file.exists() or file.stat().st_size > len(data):
        file.write_bytes(data)
        (folder / f"{name}.json").write_text(json.dumps({"key": key, "message": message, "died": died}) + "\n")


def by_mutation(worker: Worker, seed: int, executions: int, until: float) -> None:
    """Hypothesis' edits of the seeds."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    material = mutation.Material.of(worker.target.seeds())
    inputs = mutation.inputs(worker.target.shape, material)
    left = executions
    while left > 0 and time.monotonic() < until:
        count = min(left, 500)

        @seeded(seed)
        @settings(
            max_examples=count, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(inputs)
        def run(data: bytes) -> None:
            if time.monotonic() < until:
                worker.one(data)

        run()
        left -= count
        seed += 1


def by_shrinking(worker: Worker, executions: int, until: float) -> None:
    """Takes pieces out of each finding's input for as long as the same comes out of what is left."""
    from fuzzing import verdict

    for file in sorted(worker.findings.glob("*.bin")):
        about = json.loads(file.with_suffix(".json").read_text())
        if about["died"]:
            continue
        data, left, size = file.read_bytes(), executions, file.stat().st_size
        while size >= 1:
            at = 0
            while at < len(data) and left > 0 and time.monotonic() < until:
                smaller = data[:at] + data[at + size :]
                worker.ledger.begin(smaller)
                signal.setitimer(signal.ITIMER_PROF, worker.seconds)
                result = verdict.judge(worker.target, smaller)
                signal.setitimer(signal.ITIMER_PROF, 0)
                worker.ledger.end(accepted=False)
                left -= 1
                if isinstance(result, verdict.Finding) and result.key == about["key"]:
                    data = smaller
                    save(worker.findings, result.key, result.message, data)
                else:
                    at += size
            size //= 2


def by_coverage(worker: Worker, seed: int, executions: int, until: float, corpus: Path) -> None:
    """Atheris: edits that reach new lines of the project or of the library that it parses with are built upon."""
    import atheris

    material = mutation.Material.of(worker.target.seeds())
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(material.seeds):
        (corpus / f"seed-{number:02}").write_bytes(data)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, longest))
        return mutation.by_chance(data, chance, worker.target.shape, material)[:longest]

    longest = max(worker.target.longest, *(len(data) + 1024 for data in material.seeds))
    options = [
        f"-seed={seed or 1}", f"-max_len={longest}", f"-runs={executions}", "-timeout=86400", "-rss_limit_mb=0",
        f"-max_total_time={max(1, int(until - time.monotonic()))}", "-verbosity=0", "-detect_leaks=0",
        "-handle_abrt=0", "-handle_segv=0", "-handle_bus=0", "-handle_fpe=0", "-handle_ill=0",
        f"-artifact_prefix={corpus}/", str(corpus),
    ]  # fmt: skip
    atheris.Setup(["fuzz", *options], worker.one, custom_mutator=mutate)
    atheris.Fuzz()


def _warm_up(target: Target, instrumented: bool) -> None:
    """Imports all that the target needs, by its seeds, so that limits are those of an input alone."""

    def seeds_once() -> None:
        for data in target.seeds():
            try:
                target.run(data)
            except Exception:  # an error of ours, or one that is reported when the input is run for good
                continue

    if not instrumented:
        return seeds_once()
    import atheris

    for name in [name for name in sys.modules if name.partition(".")[0] in _PARSED_WITH]:
        del sys.modules[name]  # loaded before it could be instrumented
    with atheris.instrument_imports(include=["vae_serve", *_PARSED_WITH]):
        return seeds_once()


_PARSED_WITH = ("zipfile", "tarfile", "tomllib", "gzip")  # with those in Python itself, paths within them count too


def main() -> None:
    """Fuzzes until the count or the time is reached."""
    options = argparse.ArgumentParser()
    for name in ("registry", "target", "engine", "ledger", "findings", "corpus"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--executions", type=int, required=True)
    options.add_argument("--seconds", type=float, required=True)
    chosen = options.parse_args()
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGPROF, all_threads=False, chain=True)
    registry: Any = importlib.import_module(chosen.registry)
    target: Target = registry.TARGETS[chosen.target]
    slowed = INSTRUMENTED if chosen.engine == "coverage" else 1.0
    worker = Worker(target, Ledger(Path(chosen.ledger)), Path(chosen.findings), slowed)
    os.chdir(targets.room())
    _warm_up(target, chosen.engine == "coverage")
    worker.limit()
    until = time.monotonic() + chosen.seconds
    if chosen.engine == "coverage":
        by_coverage(worker, chosen.seed, chosen.executions, until, Path(chosen.corpus))
    elif chosen.engine == "mutation":
        by_mutation(worker, chosen.seed, chosen.executions, until)
    else:
        by_shrinking(worker, chosen.executions, until)


if __name__ == "__main__":
    main()
