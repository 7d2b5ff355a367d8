"""Compiling: which sizes, which names, and what happens without a compiler."""

import pytest
import torch
from conftest import assert_same_run, command_of, run_process, tiny_training, train_tiny, weights_of

from utils.compiling import MIN_IMAGES, compiled, compiled_for_common_sizes


def compilations() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_images_of_many_sizes_compile_only_for_those_that_come_often(monkeypatch):
    sizes = 2  # each takes seconds to compile
    monkeypatch.setattr("utils.compiling.MAX_SIZES", sizes)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.GELU()).eval()
    network = compiled_for_common_sizes(module)
    before = compilations()
    with torch.inference_mode():
        for width in range(64, 64 + 20):
            network(torch.rand(1, 3, 64, width))
        assert compilations() == before
        for width in range(64, 64 + sizes + 2):
            for _ in range(MIN_IMAGES):
                x = torch.rand(1, 3, 64, width)
                torch.testing.assert_close(network(x), module(x))
    assert before < compilations() <= before + sizes


def test_weights_keep_their_names_when_compiled():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(compiled(module)(x), module(x))
    assert set(module.state_dict()) == {"0.weight", "0.bias"}


def test_without_a_compiler_a_run_goes_on_with_one_warning(reside, tmp_path):
    options = ["--train.epochs=2", "--model.pool_sizes=[]"]  # compiled as far as to C++ in seconds
    assert train_tiny(reside, tmp_path / "plain", *options).returncode == 0
    command = tiny_training(reside, tmp_path / "compiled", *options, "--train.compile=true")
    command["env"] |= {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    result = run_process(command)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "running in eager mode" in warnings[0]
    assert_same_run(weights_of(tmp_path / "compiled"), weights_of(tmp_path / "plain"))


FROZEN_CONVOLUTIONS = """
import torch
from utils.compiling import compiled
torch.manual_seed(0)
convolutions = (torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.GELU(), torch.nn.Conv2d(32, 32, 3, padding=1))
network = torch.nn.Sequential(*convolutions).eval().to(memory_format=torch.channels_last)
x = torch.rand(1, 32, 64, 64)
with torch.inference_mode():
    torch.testing.assert_close(compiled(network, frozen=True)(x), network(x))
"""


@pytest.mark.slow
def test_a_network_compiled_on_another_kind_of_cpu_is_compiled_again(tmp_path):
    """Needs AVX-512: the second process has only AVX2 and the cache of the first."""
    command = command_of("-c", FROZEN_CONVOLUTIONS)
    command["env"] |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    for instruction_set in ({}, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}):
        result = run_process(command | {"env": command["env"] | instruction_set})
        assert result.returncode == 0, result.stderr
        assert "compiling the network failed" not in result.stderr
