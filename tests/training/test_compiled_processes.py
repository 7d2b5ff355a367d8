"""The compiled network in two processes."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import training.parallel
from models import IRNeXt
from models.layers import MultiScaleModule, conv
from training.parallel import distributed, synchronised
from utils.compiling import compiled
from utils.distributed import Group

SMALL = partial(IRNeXt, num_blocks=1, channels=8)


def scales() -> torch.nn.Module:
    """The part of the network that has batch norms."""
    return torch.nn.Sequential(conv(3, 8), MultiScaleModule(8, pool_sizes=(4, 2)))


def gradients(rank, address, folder, build, without_compiler, results):
    """Three steps each, in eager mode and compiled; what the processes have then, and the number of graphs."""
    import torch._inductor.config
    from torch._dynamo.utils import counters

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/{rank}"
    if rank in without_compiler:
        torch._inductor.config.cpp.cxx = ("/nowhere/c++",)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    # Many small buckets: in eager mode most gradients are exchanged before the backward pass has ended.
    training.parallel.DistributedDataParallel = partial(DistributedDataParallel, bucket_cap_mb=0.001)
    group = Group(rank, 2, torch.device("cpu"))
    values = {}
    for name in ("eager", "compiled"):
        torch.manual_seed(0)
        model = synchronised(build(), group)
        for parameter in model.parameters():  # also those that start at zero, so that every gradient is not
            torch.nn.init.normal_(parameter, std=0.1)
        network = distributed(model, model if name == "eager" else compiled(model), group)
        x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(rank))[: 3 - rank]
        for _ in range(3):
            model.zero_grad()
            sum(output.square().mean() for output in [*network(x)]).backward()
        tensors = [parameter.grad for parameter in model.parameters()] + list(model.buffers())
        values[name] = [tensor.detach().numpy() for tensor in tensors]
    results[rank] = values | {"graphs": counters["stats"]["unique_graphs"], "breaks": dict(counters["graph_break"])}
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("build, without_compiler", [(scales, (0,)), (SMALL, ())])
def test_each_process_has_one_graph_and_works_with_one_that_has_no_compiler(build, without_compiler, tmp_path, capfd):
    results = torch.multiprocessing.get_context("spawn").Manager().dict()
    arguments = (f"file://{tmp_path}/rendezvous", tmp_path, build, without_compiler, results)
    torch.multiprocessing.spawn(gradients, arguments, nprocs=2)
    assert capfd.readouterr().err.count("warning: compiling the network failed") == len(without_compiler)
    for rank in range(2):
        assert (results[rank]["graphs"], results[rank]["breaks"]) == (rank not in without_compiler, {})
        scale = max(np.abs(eager).max() for eager in results[rank]["eager"])
        for ours, eager in zip(results[rank]["compiled"], results[rank]["eager"], strict=True):
            np.testing.assert_allclose(ours, eager, rtol=1e-3, atol=1e-5 * scale)
