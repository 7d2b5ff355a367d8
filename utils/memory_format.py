"""The memory format in which convolutions are fastest on a device."""

import torch


def memory_format(device: torch.device, training: bool) -> torch.memory_format:
    """Channels-last, but contiguous for training on a CPU without AVX-512.

    Without AVX-512, the backward pass of oneDNN's convolutions takes 1.3 to 1.7 times as long in channels-last
    (docs/performance.md). The forward pass is faster in channels-last on any CPU, as is everything on tensor cores.
    """
    slow_backward = device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.contiguous_format if training and slow_backward else torch.channels_last
