"""torch.compile where it pays off, with a fallback to eager mode where it fails."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.memory_format import memory_format

Network = Callable[[Tensor], list[Tensor]]

MIN_IMAGES = 4  # the network is compiled for a size once more images than this have had it
MAX_SHAPES = 64  # of images that a network is compiled for in training
MAX_SIZES = 4  # the network is compiled for at most this many sizes


def compiled(network: nn.Module, frozen: bool = False) -> Network:
    """The network's forward pass, compiled on the first call for each shape; parameters keep their names.

    If compilation fails (on the CPU, for example, without a C++ compiler), a warning is printed once and the network
    runs in eager mode.

    Args:
        network: the network to compile.
        frozen: treat the weights as constants, for evaluation.
    """
    training = not frozen
    # Left to itself, the compiler would run every convolution in channels-last.
    channels_last = memory_format(next(network.parameters()).device, training) == torch.channels_last
    options = {"freezing": frozen, "layout_optimization": channels_last}
    fast: Network = torch.compile(network, dynamic=False, options=options)
    torch.compiler.config.cache_key_tag = _instruction_sets()
    # Compile the backward pass together with the forward pass, so that a failure is caught below, not in the loop.
    with contextlib.suppress(AttributeError):  # older torch versions do this wherever they can
        torch._functorch.config.force_non_lazy_backward_lowering = True
    # Beyond 8 shapes, the compiler would fall back to eager mode without a word; a run has two for each size of its
    # crops, a whole batch and the last one of an epoch.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_SHAPES)
    # One graph also within DistributedDataParallel, which would be split to exchange gradients earlier.
    torch._dynamo.config.optimize_ddp = False

    def forward(x: Tensor) -> list[Tensor]:
        nonlocal fast
        if fast is network:
            return network(x)
        try:
            return fast(x)
        except Exception as error:
            outputs = network(x)  # raises if the input, not the compiler, is at fault
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"warning: compiling the network failed, running in eager mode: {lines[0][:200]}", file=sys.stderr)
            fast = network
            return outputs

    return forward


def compiled_for_common_sizes(network: nn.Module) -> Network:
    """The network in eval mode, compiled for a few frequent sizes; images of other sizes run in eager mode.

    A compilation takes a minute or more. Dynamic shapes do not pay off: compiling them takes longer than compiling
    several fixed sizes, and some sizes still trigger a recompilation (docs/performance.md).
    """
    fast, seen = compiled(network, frozen=True), Counter()

    def forward(x: Tensor) -> list[Tensor]:
        seen[x.shape] += 1
        common = [shape for shape, count in seen.items() if count > MIN_IMAGES]  # ordered by first appearance
        return fast(x) if x.shape in common[:MAX_SIZES] else network(x)

    return forward


def _instruction_sets() -> str:
    """The CPU's instruction sets, as torch and oneDNN may use them.

    torch's cache of compiled networks contains frozen weights in a layout that depends on these, but does not compare
    them: with a cache written on another kind of CPU, the process crashes.
    """
    hardware = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.8 does not list them
    return f"{torch.backends.cpu.get_cpu_capability()} {os.environ.get('ONEDNN_MAX_CPU_ISA')} {hardware}"
