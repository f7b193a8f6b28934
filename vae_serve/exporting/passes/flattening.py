"""A map is flattened before what is done to each of its numbers, not after: the same sums in the same order.

Folding can leave a convolution with a bias that differs from place to place, which no convolution of ONNX takes. It is
an Add of its own, and so is the ReLU after it. When they come after the flattening, ONNX Runtime lays the convolution's
result out in the flat order at once, and has nothing left to transpose.
"""

from dataclasses import replace
from itertools import takewhile

import numpy as np

from vae_serve.exporting.network import Activation, Conv, Network, Reshape, Scale, Step, shapes

BY_NUMBER = ("relu", "sigmoid", "tanh", "elu", "gelu", "silu", "softplus")  # activations that look at one number alone


def flattened_early(network: Network) -> Network:
    """The same network with the bias of each place, and the activation after it, on the flat vector."""
    steps: list[Step] = []
    position = 0
    sizes = shapes(network)
    while position < len(network.steps):
        step = network.steps[position]
        after = list(takewhile(_by_number, network.steps[position + 1 :]))
        end = position + 1 + len(after)
        follower = network.steps[end] if end < len(network.steps) else None
        if isinstance(step, Conv) and step.bias.ndim > 1 and isinstance(follower, Reshape) and len(follower.shape) == 1:
            shift = np.broadcast_to(step.bias, sizes[position + 1]).reshape(-1)
            plain = replace(step, bias=np.zeros(step.kernel.shape[3]))
            steps += [plain, follower, Scale(np.ones(len(shift)), shift), *after]
            position = end + 1
        else:
            steps.append(step)
            position += 1
    return replace(network, steps=tuple(steps))


def _by_number(step: Step) -> bool:
    return isinstance(step, Activation) and step.name in BY_NUMBER
