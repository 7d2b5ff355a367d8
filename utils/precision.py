"""The floating-point precision of the network."""

import os
import platform
import sys

import torch

from utils.config import Precision
from utils.errors import InputError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def supported(precision: Precision, device: torch.device, warn: bool = True) -> Precision:
    """``precision`` if the device supports it; for bf16 on a GPU without it, fp16.

    Args:
        warn: print a warning on stderr if fp16 replaces bf16, or if the CPU only emulates bf16; of several processes,
            one should.

    Raises:
        InputError: fp16 was requested on the CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError("train.precision or --precision: fp16 needs CUDA; choose float32 or bf16 on the CPU")
    if precision == "bf16" and device.type == "cpu" and not has_bf16_instructions():
        _warn("this CPU has no bf16 instructions: bf16 is emulated and slower than float32", warn)
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        _warn("this GPU does not support bf16, using fp16", warn)
        return "fp16"
    return precision


def has_bf16_instructions() -> bool:
    """Whether the CPU multiplies in bf16. Where it does not, convolutions took 3 (AVX-512) to 10 (AVX2) times as long
    as in float32.

    torch has no public function for this. oneDNN's answer follows ONEDNN_MAX_CPU_ISA, but is yes on any x86 CPU with
    AVX-512.
    """
    onednn = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if onednn is None or not onednn():
        return False
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not on_x86 or torch.cpu._is_avx512_bf16_supported()


def _warn(message: str, enabled: bool) -> None:
    if enabled:
        print(f"warning: {message}", file=sys.stderr)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which networks compute in this precision; weights and sensitive operations stay float32."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES)


def use_deterministic_algorithms() -> None:
    """Make torch repeat results bit for bit on CUDA, where it can; call it before CUDA is used.

    torch warns about an operation without a deterministic algorithm. The network has two on CUDA: the backward pass of
    reflection padding, replaced by ``models.layers.reflect_by_slices``, and the sum in ``models.layers.window_mean``.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # one of the two values with which cuBLAS is deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
