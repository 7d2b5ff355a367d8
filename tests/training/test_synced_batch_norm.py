"""Two processes on the CPU, started by torchrun, against one; and what happens when one of them dies."""

import torch

from models.layers import BatchNorm
from training.synced_batch_norm import synchronise_batch_norm


def synced(rank, address, x, results):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    norm = torch.nn.Sequential(BatchNorm(4))
    synchronise_batch_norm(norm)
    share = x[rank::2].requires_grad_()
    y = norm(share)
    (y**3).sum().backward()
    results[rank] = [value.detach().numpy() for value in (y, share.grad, norm[0].running_mean, norm[0].running_var)]
    torch.distributed.destroy_process_group()


def test_synchronised_batch_norm_is_batch_norm_of_the_whole(tmp_path):
    """Forward, backward and running statistics, with shares of three and two."""
    torch.manual_seed(0)
    x = torch.randn(5, 4, 1, 1) * 3 + 1
    manager = torch.multiprocessing.get_context("spawn").Manager()
    results = manager.dict()
    torch.multiprocessing.spawn(synced, (f"file://{tmp_path}/rendezvous", x, results), nprocs=2)
    norm, whole = BatchNorm(4), x.clone().requires_grad_()
    y = norm(whole)
    (y**3).sum().backward()
    for rank, (output, gradient, mean, variance) in results.items():
        torch.testing.assert_close(torch.from_numpy(output), y[rank::2].detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(gradient), whole.grad[rank::2], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(mean), norm.running_mean)
        torch.testing.assert_close(torch.from_numpy(variance), norm.running_var)
