"""Arrays become figures: the latent space, the decoded plane, the loss, reconstructions,
and where the aggregate posterior differs from the prior. Pure.

One style for all: white background, grey axes, ten colours that colour-blind readers can tell apart, titles that say
what is shown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from vae_serve.images.pixels import tile, to_bytes

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

# Paul Tol's "muted" set and black: https://personal.sron.nl/~pault/
COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#222222")
TRAIN, VALIDATION = "#332288", "#CC6677"
STYLE: "dict[RcKeyType, Any]" = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}

FAR = 10  # times the middle half's spread above it: what lies beyond would flatten the rest
FEW = 10  # epochs that are shown as points on their line

P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in this module's style, whatever the process has set."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


@_styled
def latent(z_mean: Floats, labels: Labels | None) -> Figure:
    """Where the images lie: z_mean (n, d) in its two liveliest directions, a colour for each class."""
    figure, axes = _axes(8, 7)
    points, names = _two_directions(z_mean)
    if labels is None:
        axes.scatter(*points.T, s=4, alpha=0.5, color=TRAIN, linewidths=0, rasterized=True)
    else:
        classes = np.unique(labels)
        shuffled = np.random.default_rng(0).permutation(len(points))  # so that no class covers another
        codes = np.searchsorted(classes, labels)
        colours = ListedColormap([COLOURS[code % len(COLOURS)] for code in range(len(classes))])
        axes.scatter(
            *points[shuffled].T, c=codes[shuffled], cmap=colours, s=5, alpha=0.65, linewidths=0, rasterized=True
        )
        for code, name in enumerate(classes[: 2 * len(COLOURS)]):
            axes.scatter([], [], color=COLOURS[code % len(COLOURS)], s=30, label=str(name))
        axes.legend(title="class", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set(title=f"Latent means of {len(points):,} test images", xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(True)
    return figure


@_styled
def plane(images: Floats, side: int, span: float) -> Figure:
    """The decoded plane: images (side * side, H, W, C) of `latents.plane(side, span)`, with the latent axes."""
    figure, axes = _axes(8, 8)
    step = 2 * span / (side - 1)
    edge = span + step / 2  # a picture is centred on its point
    sheet = tile(to_bytes(images), side)
    axes.imshow(_shown(sheet), cmap="gray_r", extent=(-edge, edge, -edge, edge), vmin=0, vmax=255)
    axes.set(title="What the decoder gives over the latent plane", xlabel="z[0]", ylabel="z[1]")
    return figure


@_styled
def samples(images: Floats, columns: int) -> Figure:
    """Decoded samples of the prior, (n, H, W, C): what stands for the plane where there are more dimensions."""
    figure, axes = _axes(8, 8)
    axes.imshow(_shown(tile(to_bytes(images), columns)), cmap="gray_r", vmin=0, vmax=255)
    axes.set_title(f"{len(images)} images decoded from samples of the prior")
    axes.axis("off")
    return figure


@_styled
def loss(history: Sequence[Mapping[str, float]]) -> Figure:
    """The loss and its two parts over the epochs, training and validation, in nats per image."""
    figure = _figure(11, 4)
    epochs = [row["epoch"] for row in history]
    for place, (name, title) in enumerate(
        (("loss", "Loss"), ("reconstruction", "Reconstruction"), ("kl", "KL to the prior")), 1
    ):
        axes = figure.add_subplot(1, 3, place)
        for prefix, colour, what in (("", TRAIN, "train"), ("val_", VALIDATION, "validation")):
            if prefix + name in history[0]:
                values = [row[prefix + name] for row in history]
                marker = "." if len(epochs) < FEW else ""
                axes.plot(epochs, values, color=colour, label=what, linewidth=1.5, marker=marker)
        if len(history) >= FEW:  # the first tenth falls from far above, and would flatten the rest
            later = history[len(history) // 10 :]
            seen = [row[key] for row in later for key in (name, f"val_{name}") if key in row]
            numbers = [value for value in seen if math.isfinite(value)]
            low, high = np.quantile(numbers, (0.25, 0.75)) if numbers else (0.0, 0.0)
            inside = [value for value in numbers if value <= high + FAR * (high - low or 1.0)] or [0.0]
            margin = 0.05 * (max(inside) - min(inside)) or 1.0
            axes.set_ylim(min(inside) - margin, max(inside) + margin)
            if beyond := sum(not value <= max(inside) for value in seen):  # a variance that ran away for an epoch
                text = f"{beyond} value{'s' * (beyond > 1)} up to {max(numbers, default=math.inf):.2g} not shown"
                axes.text(0.98, 0.02, text, transform=axes.transAxes, ha="right", fontsize="small")
        axes.set(title=title, xlabel="epoch", ylabel="nats per image" if place == 1 else "")
        axes.grid(True)
        axes.legend()
    figure.tight_layout()
    return figure


@_styled
def reconstructions(images: Bytes, again: Floats) -> Figure:
    """Pairs of rows: test images (n, H, W, C) above what the model makes of them."""
    columns = min(len(images), 15)
    rows = len(images) // columns
    shape = (rows, columns, *images.shape[1:])
    pairs = np.stack([side[: rows * columns].reshape(shape) for side in (images, to_bytes(again))], axis=1)
    sheet = tile(pairs.reshape(-1, *images.shape[1:]), columns)
    figure, axes = _axes(10, 10 * sheet.shape[0] / sheet.shape[1] + 0.6)
    axes.imshow(_shown(sheet), cmap="gray_r", vmin=0, vmax=255)
    height = images.shape[1]
    for pair in range(1, rows):
        axes.axhline(2 * pair * height - 0.5, color="#CC6677", linewidth=1)
    axes.set_title("Test images, and below each its reconstruction from z_mean")
    axes.axis("off")
    return figure


@_styled
def posterior(log_density: Doubles, log_prior: Doubles, span: float) -> Figure:
    """The aggregate posterior over the plane, and how it differs from the prior: log densities (side, side) in nats.

    Both are over the lattice linspace(-span, span, side) on either axis, second axis upwards: row 0 is the lowest.
    """
    figure = _figure(12, 5.2)
    side = len(log_density)
    axis = np.linspace(-span, span, side)
    radius = np.hypot(*np.meshgrid(axis, axis))
    density, difference = np.exp(log_density), np.where(radius < 3.5, log_density - log_prior, np.nan)
    high = float(np.quantile(density, 0.999))
    panels = (
        ("Aggregate posterior q(z)", density, "magma_r", 0.0, high, "density"),
        ("Against the prior: blue is a hole", difference, "RdBu_r", -4.0, 4.0, "log q(z) - log p(z), nats"),
    )
    extent = (-span, span, -span, span)
    for place, (title, values, colours, lowest, highest, unit) in enumerate(panels, 1):
        axes = figure.add_subplot(1, 2, place)
        shown = axes.imshow(values, origin="lower", extent=extent, cmap=colours, vmin=lowest, vmax=highest)
        shown.set_interpolation("bilinear")
        axes.contour(axis, axis, radius, levels=[1, 2, 3], colors="#666666", linewidths=0.7, linestyles="dashed")
        axes.set(title=title, xlabel="z[0]", ylabel="z[1]" if place == 1 else "")
        figure.colorbar(shown, ax=axes, label=unit, shrink=0.85)
    figure.text(0.125, 0.03, "dashed: one, two and three standard deviations of the prior", color="#666666", fontsize=9)
    return figure


@_styled
def units(z_mean: Floats, z_log_var: Floats) -> Figure:
    """For each latent dimension, how far its aggregate posterior is from the prior and how much it is used."""
    figure, axes = _axes(9, 4.5)
    with np.errstate(over="ignore"):
        mean_kl = 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).mean(axis=0, dtype=np.float64)
    mean_kl = np.nan_to_num(mean_kl, posinf=0.0)  # a bar cannot be as high
    order = np.argsort(-mean_kl)
    axes.bar(np.arange(len(order)), mean_kl[order], color=TRAIN)
    axes.set(title="KL of each latent dimension", xlabel="dimension", ylabel="nats per image")
    axes.set_xticks(np.arange(len(order)), [str(number) for number in order])
    axes.grid(True, axis="y")
    return figure


def _two_directions(z_mean: Floats) -> tuple[Floats, tuple[str, str]]:
    if z_mean.shape[1] == 1:
        spread = np.random.default_rng(0).uniform(-1, 1, len(z_mean)).astype(np.float32)
        return np.column_stack([z_mean[:, 0], spread]), ("z[0]", "no meaning: spread to be seen")
    if z_mean.shape[1] == 2:
        return z_mean, ("z[0]", "z[1]")
    centred = z_mean - z_mean.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T, ("first principal component", "second principal component")


def _shown(sheet: Bytes) -> Bytes:
    return sheet[..., 0] if sheet.shape[-1] == 1 else sheet[..., :3]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=120, facecolor="white")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = _figure(width, height)
    return figure, figure.add_subplot()
