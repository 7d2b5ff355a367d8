"""The memory format that convolutions are fastest in, on this machine and for this use."""

import torch


def memory_format(device: torch.device, training: bool) -> torch.memory_format:
    """Channels-last, but contiguous for training on a CPU without AVX-512.

    There oneDNN's convolution backward takes 1.3 to 1.7 times as long in channels-last (docs/performance.md has the
    figures); the forward is faster in channels-last on either kind of CPU, and so is everything on tensor cores.
    """
    slow_backward = device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.contiguous_format if training and slow_backward else torch.channels_last
