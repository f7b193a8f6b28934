"""Training schedules as data: phases one after the other, each with its learning rate and options. Pure."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vae_serve.errors import UsageError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one set of rules and a fresh Adam."""

    epochs: int
    rate: float  # Adam's learning rate at the beginning, after any warm-up
    cosine: bool = False  # the rate falls to 0 along half a cosine, step by step; otherwise it stays
    warmup: float = 0.0  # the share of the phase's steps over which the rate climbs from 0, linearly
    beta_2: float = 0.999  # Adam's decay of the second moment
    clip_norm: float | None = None  # of all gradients together; what is longer is shortened to this
    batch_statistics: bool = True  # False: batch normalisation by its moving statistics, as when the model is used
    all_images: bool = False  # the images of the validation split are trained on too
    draws: int = 1  # of z for each image and step


@dataclass(frozen=True)
class Schedule:
    """Phases in order."""

    name: str
    phases: tuple[Phase, ...]

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def scaled(self, epochs: int) -> "Schedule":
        """The same schedule over another number of epochs: every phase keeps its share, the first at least an epoch."""
        ends = [0]
        for phase in self.phases:
            ends.append(ends[-1] + phase.epochs)
        ends = [0, *(max(1, round(end * epochs / self.epochs)) for end in ends[1:])]
        phases = [
            replace(phase, epochs=end - start)
            for phase, start, end in zip(self.phases, ends, ends[1:], strict=False)
            if end > start
        ]
        return replace(self, phases=tuple(phases))


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        # An epoch settles the statistics of batch normalisation; held still from then on, they allow thrice the rate.
        Schedule(
            "best",
            (
                Phase(1, 4e-3),
                Phase(99, 1e-2, cosine=True, warmup=0.02, beta_2=0.99, clip_norm=300.0, batch_statistics=False),
            ),
        ),
        # `best` for the networks without a schedule of their own.
        Schedule("careful", (Phase(100, 1e-3, cosine=True, warmup=0.02),)),
        Schedule("tutorial", (Phase(100, 1e-3),)),
    )
}


def find(name: str, arch: str, epochs: int | None) -> Schedule:
    """The schedule of this name for an architecture, over `epochs` epochs where given.

    Raises:
        UsageError: no such schedule, or fewer epochs than one.
    """
    if name == "best" and arch != "conv":
        name = "careful"
    if name not in SCHEDULES:
        raise UsageError(f"--schedule {name}: the schedules are {', '.join(SCHEDULES)}")
    if epochs is not None and epochs < 1:
        raise UsageError(f"--epochs {epochs}: training takes at least 1 epoch")
    schedule = SCHEDULES[name]
    return schedule if epochs is None else schedule.scaled(epochs)


def rate(phase: Phase, steps: int) -> "float | keras.optimizers.schedules.CosineDecay":
    """Adam's learning rate over the `steps` of a phase: a number, or a Keras schedule."""
    if not phase.cosine and not phase.warmup:
        return phase.rate
    import keras

    warmup = round(phase.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else phase.rate,
        max(steps - warmup, 1),
        alpha=0.0 if phase.cosine else 1.0,
        warmup_target=phase.rate if warmup else None,
        warmup_steps=warmup,
    )
