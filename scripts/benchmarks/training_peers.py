"""The model and the step of `scripts/bench training`, as users of PyTorch and of JAX would write them.

Run by it, in an environment of these packages alone: training_peers.py SIDE IMAGES.npy STEPS BATCH. For each line that
it reads it takes STEPS steps and prints the seconds. The networks are those of `conv` (README): the same layers, loss
and Adam, batch statistics, images as bytes in memory, shuffled once. Each first call compiles.
"""

import sys
import time

import numpy as np

LATENT, EPSILON, MOMENTUM = 2, 1e-3, 0.99


def torch_steps(name, images, steps, batch):
    """PyTorch: `torch` runs layer by layer with channels last in memory, `torch-compiled` by torch.compile."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Same(nn.Module):
        """Keras' "same" for a kernel of 3 and stride 2: one line more, below and on the right, for even sides."""

        def __init__(self, inside, outside):
            super().__init__()
            self.convolution = nn.Conv2d(inside, outside, 3, 2)

        def forward(self, x):
            return self.convolution(functional.pad(x, (0, 1, 0, 1)))

    def doubled(inside, outside):
        return nn.ConvTranspose2d(inside, outside, 3, 2, padding=1, output_padding=1)

    def normalized(layer, width, kind):
        return nn.Sequential(layer, nn.ReLU(), kind(width, eps=EPSILON, momentum=1 - MOMENTUM))

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                normalized(Same(1, 8), 8, nn.BatchNorm2d),
                normalized(Same(8, 16), 16, nn.BatchNorm2d),
                nn.Flatten(),
                normalized(nn.Linear(784, 20), 20, nn.BatchNorm1d),
            )
            self.mean, self.log_var = nn.Linear(20, LATENT), nn.Linear(20, LATENT)
            self.spread = normalized(nn.Linear(LATENT, 784), 784, nn.BatchNorm1d)
            self.decoder = nn.Sequential(
                normalized(doubled(16, 16), 16, nn.BatchNorm2d),
                normalized(doubled(16, 8), 8, nn.BatchNorm2d),
                nn.ConvTranspose2d(8, 1, 3, padding=1),
            )

        def forward(self, x, noise):
            h = self.encoder(x)
            mean, log_var = self.mean(h), self.log_var(h)
            z = mean + torch.exp(0.5 * log_var) * noise
            logits = self.decoder(self.spread(z).reshape(-1, 16, 7, 7))
            nats = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            divergence = 0.5 * (mean**2 + torch.exp(log_var) - log_var - 1).sum()
            return (nats + divergence) / len(x)

    torch.manual_seed(0)
    vae = Vae()
    if name == "torch":
        vae = vae.to(memory_format=torch.channels_last)
    forward = torch.compile(vae) if name == "torch-compiled" else vae
    adam = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    pixels = torch.from_numpy(images).reshape(-1, 1, 28, 28)
    order = torch.randperm(len(pixels))

    def run():
        for step in range(steps):
            x = pixels[order[step * batch : (step + 1) * batch]].float() / 255
            loss = forward(x, torch.randn(batch, LATENT))
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
        return loss.item()

    return run


def jax_steps(name, images, steps, batch):
    """JAX: all steps are one compiled `scan`."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    sizes = {
        "c1": (3, 3, 1, 8), "c2": (3, 3, 8, 16), "b": (784, 20), "m": (20, LATENT), "v": (20, LATENT),
        "s": (LATENT, 784), "d1": (3, 3, 16, 16), "d2": (3, 3, 16, 8), "o": (3, 3, 8, 1),
    }  # fmt: skip
    keys = jax.random.split(jax.random.key(0), len(sizes))
    weights = {
        name: {
            "w": jax.random.normal(key, size) * np.sqrt(2 / np.prod(size[:-1])),
            "b": jnp.zeros(size[-1]),
            "scale": jnp.ones(size[-1]),
            "shift": jnp.zeros(size[-1]),
        }
        for (name, size), key in zip(sizes.items(), keys, strict=True)
    }
    form = ("NHWC", "HWIO", "NHWC")

    def normalized(x, w):
        x = jax.nn.relu(x + w["b"])
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        return (x - mean) * (w["scale"] / jnp.sqrt(variance + EPSILON)) + w["shift"]

    def loss(w, x, noise):
        h = normalized(lax.conv_general_dilated(x, w["c1"]["w"], (2, 2), "SAME", dimension_numbers=form), w["c1"])
        h = normalized(lax.conv_general_dilated(h, w["c2"]["w"], (2, 2), "SAME", dimension_numbers=form), w["c2"])
        h = normalized(h.reshape(len(x), -1) @ w["b"]["w"], w["b"])
        mean, log_var = (h @ w[head]["w"] + w[head]["b"] for head in "mv")
        z = mean + jnp.exp(0.5 * log_var) * noise
        h = normalized(z @ w["s"]["w"], w["s"]).reshape(-1, 7, 7, 16)
        h = normalized(lax.conv_transpose(h, w["d1"]["w"], (2, 2), "SAME", dimension_numbers=form), w["d1"])
        h = normalized(lax.conv_transpose(h, w["d2"]["w"], (2, 2), "SAME", dimension_numbers=form), w["d2"])
        logits = lax.conv_transpose(h, w["o"]["w"], (1, 1), "SAME", dimension_numbers=form) + w["o"]["b"]
        nats = (jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))).sum()
        return (nats + 0.5 * (mean**2 + jnp.exp(log_var) - log_var - 1).sum()) / len(x)

    def step(state, rows):
        w, m, v, t, key = state
        key, drawn = jax.random.split(key)
        x = pixels[rows].astype(jnp.float32) / 255
        value, gradient = jax.value_and_grad(loss)(w, x, jax.random.normal(drawn, (batch, LATENT)))
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), w, m, v)
        return (w, m, v, t, key), value

    pixels = jnp.asarray(images[..., None])
    order = jnp.asarray(np.random.default_rng(0).permutation(len(images))[: steps * batch].reshape(steps, batch))
    nothing = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, nothing, nothing, jnp.float32(0), jax.random.key(1))
    many = jax.jit(lambda state: lax.scan(step, state, order))

    def run():
        nonlocal state
        state, values = many(state)
        return float(values[-1])

    return run


def main():
    name, file, steps, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    images = np.load(file)
    run = (jax_steps if name == "jax" else torch_steps)(name, images, steps, batch)
    run()  # compiles
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = run()
        taken = time.perf_counter() - began
        if not loss < 250:  # nats: an untrained one has 544
            sys.exit(f"{name} does not learn: its loss is {loss}")
        print(taken, flush=True)


if __name__ == "__main__":
    main()
