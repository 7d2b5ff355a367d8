"""Free memory from recorded control groups, and errors of running out of it as the libraries word them."""

import os
from pathlib import Path

import pytest
import torch

from inference.memory import free_memory, is_out_of_memory
from utils.main_memory import cgroup_free_memory

GIB = 2**30

# As the CUDA build of torch 2.12 and older ones write them.
OUT_OF_MEMORY = [
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB.",
    "CUDA out of memory. Allocation was preemptively rejected because it would exceed per_process_memory_fraction.",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA driver error: out of memory",
    "HIP out of memory. Tried to allocate 2.00 GiB.",
    "Failed to allocate memory",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
    "Unable to find a valid cuDNN algorithm to run convolution",
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
    "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.",
    "[cudnn_frontend] Error: No valid execution plans built.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuFFT error: CUFFT_ALLOC_FAILED",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4503599627370496 bytes. Error code 12 (Cannot allocate memory)",
    "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    "std::bad_alloc",
    "bad allocation",
    "could not create a primitive",
    "could not create a primitive descriptor for the convolution forward propagation primitive. Run workload with "
    "environment variable ONEDNN_VERBOSE=all to get additional diagnostic information.",
    "could not create a memory object",
    "could not execute a primitive",
]

TOO_LARGE = [
    "integer out of range",
    "Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true, but got false.",
    "input tensor must fit into 32-bit index math",
    "upsample_bilinear2d_nhwc only supports output tensors with less than INT_MAX elements",
    "upsample_nearest_nhwc only supports output tensors with less than INT_MAX elements",
    "cub reduce does not support more than INT_MAX elements",
    "src size > INT_MAX is not supported",
    "Input tensor is too large.",
    "Output size is too large.",
    "add: Argument #0: tensor too large or too many dimensions",
    "value (2147483648) is too large to fit into a int (2147483647)",
    "value cannot be converted to type int without overflow",
    "numel: integer multiplication overflow",
    "Storage size calculation overflowed with sizes=[1099511627776, 1099511627776]",
    "CUDA error: invalid configuration argument",
    "N > 0 INTERNAL ASSERT FAILED. CUDA kernel launch blocks must be positive, but got N=-2147483648",
]

OTHER = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: device-side assert triggered",
    "CUDA error: no kernel image is available for execution on the device",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "Given groups=1, weight of size [32, 3, 3, 3], expected input[1, 4, 64, 64] to have 3 channels, but got 4 channels",
    "Padding size should be less than the corresponding input dimension, but got: padding (9, 9) at dimension 3",
    "Dimension out of range (expected to be in range of [-1, 0], but got 2)",
    "The size of tensor a (32) must match the size of tensor b (64) at non-singleton dimension 1",
    "Input type (float) and bias type (c10::BFloat16) should be the same",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY + TOO_LARGE)
def test_every_wording_of_out_of_memory_is_recognised(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))  # such as one of ours about an argument


@pytest.mark.parametrize("text", OTHER)
def test_other_errors_are_not_taken_for_it(text):
    assert not is_out_of_memory(RuntimeError(text))


def test_types_of_out_of_memory_are_recognised_whatever_they_say():
    assert all(
        is_out_of_memory(kind("")) for kind in (torch.OutOfMemoryError, torch.cuda.OutOfMemoryError, MemoryError)
    )
    for size in ((2**50,), (2**40, 2**40)):  # raised by torch itself
        with pytest.raises(RuntimeError) as raised:
            torch.empty(size)
        assert is_out_of_memory(raised.value)


V1_STAT = """\
cache {cache}
rss 2147483648
rss_huge 0
shmem 9084928
mapped_file 7503872
dirty 16384
writeback 0
swap 0
pgpgin 42778
pgpgout 37647
pgfault 47700
pgmajfault 0
inactive_anon 0
active_anon 2147483648
inactive_file 12288
active_file 1015808
unevictable 18448384
hierarchical_memory_limit 9223372036854771712
total_cache {cache}
total_rss 2147483648
total_inactive_anon 0
total_active_anon 2147483648
total_inactive_file {inactive}
total_active_file 1015808
total_unevictable 18448384
"""

V2_STAT = """\
anon 2147483648
file {cache}
kernel 28868608
kernel_stack 1622016
pagetables 9306112
sec_pagetables 0
percpu 2208
sock 4096
shmem 9084928
zswap 0
file_mapped 7503872
file_dirty 16384
file_writeback 0
swapcached 0
inactive_anon 0
active_anon 2147483648
inactive_file {inactive}
active_file 1015808
unevictable 18448384
slab_reclaimable 12883336
slab_unreclaimable 2712720
workingset_refault_anon 0
workingset_refault_file 580320
pgfault 47700
pgmajfault 0
"""

V1_MEMBERSHIP = """\
9:name=systemd:{path}
8:pids:{path}
4:memory:{path}
3:cpuset:/
2:cpu,cpuacct:{path}
0::/
"""


def write_group(folder: Path, version: int, limit: str | int, usage: int, inactive: int) -> None:
    """One control group's files, in the format of the kernel."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(
        (V1_STAT, V2_STAT)[version - 1].format(cache=inactive + 2**20, inactive=inactive)
    )


def free_in(tmp_path: Path, version: int, path: str) -> int | None:
    (tmp_path / "membership").write_text(V1_MEMBERSHIP.format(path=path) if version == 1 else f"0::{path}\n")
    return cgroup_free_memory(tmp_path, tmp_path / "membership")


@pytest.fixture(params=[1, 2])
def version(request) -> int:
    return request.param


def root_of(tmp_path: Path, version: int) -> Path:
    return tmp_path / "memory" if version == 1 else tmp_path


UNLIMITED = {1: 9223372036854771712, 2: "max"}


def test_page_cache_counts_as_free(tmp_path, version):
    write_group(root_of(tmp_path, version), version, 8 * GIB, 7 * GIB, 4 * GIB)
    assert free_in(tmp_path, version, "/") == 5 * GIB


def test_the_tightest_limit_of_nested_groups_applies(tmp_path, version):
    root = root_of(tmp_path, version)
    write_group(root, version, UNLIMITED[version], 60 * GIB, 0)
    write_group(root / "slurm", version, 16 * GIB, 13 * GIB, 1 * GIB)
    write_group(root / "slurm" / "job_7", version, 8 * GIB, 2 * GIB, 0)
    write_group(root / "slurm" / "job_7" / "task", version, UNLIMITED[version], 2 * GIB, 0)
    assert free_in(tmp_path, version, "/slurm/job_7/task") == 4 * GIB
    assert free_in(tmp_path, version, "/") is None


@pytest.mark.parametrize("path", ["/docker/0a1b2c", "/../../other.slice", "/a:b/c"])
def test_a_container_that_sees_its_own_group_as_the_root(tmp_path, version, path):
    write_group(root_of(tmp_path, version), version, 4 * GIB, 1 * GIB, 0)
    assert free_in(tmp_path, version, path) == 3 * GIB


def test_no_limit_no_files_and_more_used_than_allowed(tmp_path, version):
    assert cgroup_free_memory(tmp_path, tmp_path / "missing") is None
    root = root_of(tmp_path, version)
    write_group(root, version, UNLIMITED[version], 60 * GIB, 0)
    assert free_in(tmp_path, version, "/") is None
    write_group(root, version, 2 * GIB, 3 * GIB, 0)  # the limit was lowered
    assert free_in(tmp_path, version, "/") == 0
    write_group(root, version, 4 * GIB, 3 * GIB, 0)
    (root / "memory.stat").unlink()
    assert free_in(tmp_path, version, "/") == GIB


def test_free_memory_needs_no_function_of_linux(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50
