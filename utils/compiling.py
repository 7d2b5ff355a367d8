"""torch.compile where it helps, out of the way where it does not."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

Network = Callable[[Tensor], list[Tensor]]


def compiled(network: nn.Module, any_size: bool = False) -> Network:
    """The network's forward, compiled when it is first called; its weights and names stay what they are.

    Where it cannot be compiled (no C++ compiler on the CPU, for one), a warning says so and the network is called as
    it is.

    Args:
        any_size: one compilation for pictures of all sizes, for evaluation with frozen weights; otherwise one for
            each shape of batch.
    """
    options = {"freezing": True} if any_size else {}
    fast: Network = torch.compile(network, dynamic=any_size, options=options)
    # The backward pass is compiled together with the forward, so that this fails here and not in the loop.
    torch._functorch.config.force_non_lazy_backward_lowering = True

    def forward(x: Tensor) -> list[Tensor]:
        nonlocal fast
        if fast is network:
            return network(x)
        try:
            return fast(x)
        except Exception as error:
            outputs = network(x)  # what is wrong with the input fails here as well
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"warning: the network runs uncompiled, compiling it failed: {reason[:200]}", file=sys.stderr)
            fast = network
            return outputs

    return forward
