"""What each part of the schedule `best` is worth for the small model, and what else was tried: a table of trainings.

scripts/bench ablation [--epochs 12] [--seeds 0 1] [--only NAME ...] [--jobs 2] [--out runs/ablation]

A row is the schedule with one change, trained from the same seeds. Trainings that are finished in --out are kept, so
the same command goes on where it was stopped. A training takes one core. The choice is the validation split's; the
test set is shown because the README quotes it. Prints a markdown table, in nats per image.
"""

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vae_serve.training import backend, runs
from vae_serve.training import schedule as schedules
from vae_serve.training.config import Config
from vae_serve.training.schedule import Phase, Schedule

FIRST, REST = schedules.SCHEDULES["best"].phases
RUN_AWAY = 1000.0  # nats an image: more than a model costs that gives every pixel an even chance
TARGET = REST.epochs + FIRST.epochs  # epochs that the variants below are written for


@dataclass(frozen=True)
class Variant:
    """The schedule with a change."""

    about: str
    phases: tuple[Phase, ...] = (FIRST, REST)
    config: dict[str, Any] = field(default_factory=dict)
    model: str | None = None  # a function below that makes another class of the model


def rest(**changes: Any) -> tuple[Phase, ...]:
    return FIRST, replace(REST, **changes)


VARIANTS = {
    "best": Variant("**the schedule `best`**"),
    "tutorial": Variant("the schedule `tutorial`", schedules.SCHEDULES["tutorial"].phases),
    "careful": Variant("the schedule `careful`", schedules.SCHEDULES["careful"].phases),
    "batch-statistics": Variant("batch statistics throughout", rest(batch_statistics=True)),
    "batch-statistics-4e-3": Variant("the same at a rate of 4e-3", rest(batch_statistics=True, rate=4e-3)),
    "rate-4e-3": Variant("rate 4e-3 in place of 1e-2", rest(rate=4e-3)),
    "rate-2e-2": Variant("rate 2e-2", rest(rate=2e-2)),
    "constant-4e-3": Variant("no cosine, at 4e-3", rest(cosine=False, rate=4e-3)),
    "averaged": Variant(
        "no cosine, at 4e-3, and the weights' moving average (0.9995) taken", rest(cosine=False, rate=4e-3),
        model="averaged",
    ),
    "beta_2": Variant("Adam's beta_2 0.999", rest(beta_2=0.999)),
    "no-clip": Variant("gradients not clipped", rest(clip_norm=None)),
    "batch-64": Variant("batch 64, rate 5e-3", rest(rate=5e-3), {"batch_size": 64}),
    "draws-4": Variant("4 draws of z a step", (replace(FIRST, draws=4), replace(REST, draws=4))),
    "importance-weighted": Variant(
        "importance-weighted bound of 4 draws (Burda et al. 2016, arXiv:1509.00519, eq. 8)",
        (replace(FIRST, draws=4), replace(REST, draws=4)), model="importance_weighted",
    ),
    "kl-warmup": Variant("KL weight from 0.1 to 1 over the first fifth", model="kl_warmup"),
    "refit": Variant(
        "the last fifth trains the encoder alone, from a rate of 2e-3",
        (FIRST, replace(REST, epochs=79), replace(REST, epochs=20, rate=2e-3)), model="encoder_refit",
    ),
    "all-images": Variant("on all 60,000 images", (replace(FIRST, all_images=True), replace(REST, all_images=True))),
}  # fmt: skip


def importance_weighted(model: Any, steps: int) -> Any:
    """The bound log mean exp(log w) over the draws, in place of the mean of log w."""
    from keras import ops

    class ImportanceWeighted(model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            super().compute_loss(x, y, y_pred)  # for the running means
            logits = y_pred["logits"]
            per_pixel = ops.maximum(logits, 0) - logits * x + ops.log1p(ops.exp(-ops.abs(logits)))
            z, spread = y_pred["z"], ops.sqrt(y_pred["variance"])
            noise = (z - y_pred["z_mean"]) / spread
            log_weight = -ops.sum(per_pixel, axis=(2, 3, 4)) + ops.sum(
                0.5 * (ops.square(noise) - ops.square(z)) + ops.log(spread), axis=2
            )
            return -ops.mean(ops.logsumexp(log_weight, axis=0))

    return ImportanceWeighted


def kl_warmup(model: Any, steps: int) -> Any:
    """KL weight from 0.1 to 1 over a fifth of all steps."""
    from keras import ops

    class Warming(model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            super().compute_loss(x, y, y_pred)
            reconstruction, kl = self.terms(x, y_pred)
            done = ops.cast(self.optimizer.iterations, "float32") / (0.2 * steps)
            return ops.mean(reconstruction + ops.minimum(0.1 + 0.9 * done, 1.0) * kl)

    return Warming


def encoder_refit(model: Any, steps: int) -> Any:
    """Trains the encoder alone where the rate begins at 2e-3."""

    class Refitting(model):
        def compile(self, optimizer, **options):
            rate = optimizer._learning_rate  # a schedule, or a number
            self.decoder.trainable = float(getattr(rate, "warmup_target", None) or 0) != 2e-3
            super().compile(optimizer, **options)

    return Refitting


def averaged(model: Any, steps: int) -> Any:
    """Keras' moving average of the weights, which takes their place after the last step."""

    class Averaging(model):
        def compile(self, optimizer, **options):
            optimizer.use_ema, optimizer.ema_momentum = True, 0.9995
            optimizer.ema_overwrite_frequency = steps - 48_000 // 128  # those of the second phase
            super().compile(optimizer, **options)

    return Averaging


def train(name: str, seed: int, epochs: int, path: Path) -> None:
    """One training, in this process."""
    variant = VARIANTS[name]
    backend.start("scripts/bench ablation")
    from vae_serve.training import data, fit

    schedule = Schedule(name, variant.phases)
    if schedule.epochs != TARGET:
        sys.exit(f"{name} has {schedule.epochs} epochs, the schedule {TARGET}")
    schedules.SCHEDULES[name] = schedule
    config = Config(**{"schedule": name, "epochs": epochs, "seed": seed, **variant.config})
    if variant.model:
        steps = epochs * 48_000 // config.batch_size
        fit.VariationalAutoencoder = globals()[variant.model](fit.VariationalAutoencoder, steps)
    fit.train(
        config,
        data.load("mnist"),
        path,
        f"scripts/bench ablation --only {name}",
        fit.Hooks(lambda *_, **__: None, print),
    )


def finished(path: Path) -> runs.Run | None:
    run = runs.load(path) if (path / runs.RECORD).exists() else None
    return run if run and run.finished else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=runs.RUNS / "ablation")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # one training in this process, to this folder
    asked = parser.parse_args()
    if asked.here:
        train(asked.only[0], asked.seeds[0], asked.epochs, asked.here)
        return
    where = {(name, seed): asked.out / f"{name}-{asked.epochs}-{seed}" for seed in asked.seeds for name in asked.only}

    free: SimpleQueue[int] = SimpleQueue()
    for core in itertools.islice(itertools.cycle(os.sched_getaffinity(0)), asked.jobs):
        free.put(core)

    def start(job: tuple[str, int]) -> None:
        name, seed = job
        if not finished(where[job]):
            words = ["--only", name, "--seeds", seed, "--epochs", asked.epochs, "--here", where[job]]
            where[job].parent.mkdir(parents=True, exist_ok=True)
            if (where[job]).exists():  # stopped half-way
                shutil.rmtree(where[job])
            core = free.get()
            pinned = ["taskset", "--cpu-list", core, sys.executable, __file__, *words]
            ended = subprocess.run([*map(str, pinned)], check=False, capture_output=True, text=True)
            free.put(core)
            said = ended.stderr.strip().splitlines()[-1:] if ended.returncode else ["done"]
            print(name, seed, *said, file=sys.stderr, flush=True)

    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(start, where))
    print(f"| change | validation, seeds {', '.join(map(str, asked.seeds))} | mean | against `best` | test, mean |")
    print("|---|---|---|---|---|")
    base = figures([where["best", seed] for seed in asked.seeds])[0] if "best" in asked.only else None
    for name in asked.only:
        print(row(name, *figures([where[name, seed] for seed in asked.seeds]), base))


def figures(paths: list[Path]) -> tuple[list[float | None], list[float]]:
    """Validation loss of the last epoch, None where it diverged or an image ran away with it; and on the test set."""
    found = [finished(path) for path in paths]
    validation = [run.record["metrics"]["last_epoch"]["val_loss"] if run else None for run in found]
    validation = [loss if loss is not None and loss < RUN_AWAY else None for loss in validation]
    return validation, [run.record["metrics"]["test"]["negative_elbo"] for run in found if run]


def row(name: str, validation: list[float | None], test: list[float], base: list[float | None] | None) -> str:
    cells = ", ".join("ran away" if value is None else f"{value:.2f}" for value in validation)
    known = [value for value in validation if value is not None]
    if not test or len(known) < len(validation):
        return f"| {VARIANTS[name].about} | {cells} | | | |"
    if name == "all-images":  # they are trained on
        return f"| {VARIANTS[name].about} | | | | {statistics.mean(test):.2f} |"
    apart = [own - other for own, other in zip(known, base, strict=True) if other is not None] if base else []
    against = f"{statistics.mean(apart):+.2f}" if apart and name != "best" else ""
    return (
        f"| {VARIANTS[name].about} | {cells} | {statistics.mean(known):.2f} | {against} | {statistics.mean(test):.2f} |"
    )


if __name__ == "__main__":
    main()
