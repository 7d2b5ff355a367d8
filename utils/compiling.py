"""torch.compile where it helps, out of the way where it does not."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

Network = Callable[[Tensor], list[Tensor]]

OFTEN = 4  # images of a size before the network is compiled for it
MOST_SIZES = 4


def compiled(network: nn.Module, frozen: bool = False) -> Network:
    """The network's forward, compiled at its first call for each shape; its weights and their names stay what they are.

    Where it cannot be compiled (no C++ compiler on the CPU, for one), a warning says so once and the network is called
    as it is.

    Args:
        frozen: take the weights for constants, for evaluation.
    """
    fast: Network = torch.compile(network, dynamic=False, options={"freezing": frozen})
    # The backward pass is compiled together with the forward, so that a failure is met here and not in the loop.
    with contextlib.suppress(AttributeError):  # an older torch, which does so wherever it can
        torch._functorch.config.force_non_lazy_backward_lowering = True

    def forward(x: Tensor) -> list[Tensor]:
        nonlocal fast
        if fast is network:
            return network(x)
        try:
            return fast(x)
        except Exception as error:
            outputs = network(x)  # what is wrong with the input fails here as well
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"warning: the network runs uncompiled, compiling it failed: {lines[0][:200]}", file=sys.stderr)
            fast = network
            return outputs

    return forward


def compiled_for_common_sizes(network: nn.Module) -> Network:
    """The network in eval mode, compiled for the few sizes that come often; other images go through it as they are.

    A compilation takes a minute or more. One that leaves the sizes open takes longer than several for given sizes and
    is done again for some of them (docs/performance.md), so that it does not pay.
    """
    fast, seen = compiled(network, frozen=True), Counter()

    def forward(x: Tensor) -> list[Tensor]:
        seen[x.shape] += 1
        common = [shape for shape, count in seen.items() if count > OFTEN]  # in the order in which they first came
        return fast(x) if x.shape in common[:MOST_SIZES] else network(x)

    return forward
