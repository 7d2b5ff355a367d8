"""Batch norm over two processes against batch norm of the whole batch in one."""

import pytest
import torch

from models.layers import BatchNorm
from training.synced_batch_norm import synchronise_batch_norm

SHARES = [(3, 2), (1, 4), (5, 0), (1, 1), (1, 0)]
SPREADS = [(1, 3), (1e3, 1e-2)]  # mean and standard deviation


def images(shares: tuple[int, int], spread: tuple[float, float]) -> torch.Tensor:
    mean, deviation = spread
    return torch.randn(sum(shares), 4, 1, 1, generator=torch.Generator().manual_seed(0)) * deviation + mean


def cases() -> dict[object, list[torch.Tensor]]:
    """What each process gets, by the case's name."""
    one = images((1, 0), (1, 3))
    shares = {(share, spread): list(images(share, spread).split(share)) for share in SHARES for spread in SPREADS}
    shares["copies"] = [one, one]
    for value in (float("nan"), float("inf")):
        broken = images((0, 2), (1, 3))
        broken[0, 0] = value
        shares[str(value)] = [images((3, 0), (1, 3)), broken]
    return shares


def synced(rank, address, results):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    values = {}
    for name, shares in cases().items():
        norm = torch.nn.Sequential(BatchNorm(4))
        synchronise_batch_norm(norm)
        share = shares[rank].clone().requires_grad_()
        y = norm(share)
        (y**3).sum().backward()
        gradients = {"gradient": share.grad, "weight_gradient": norm[0].weight.grad, "bias_gradient": norm[0].bias.grad}
        tensors = norm[0].state_dict() | gradients | {"output": y.detach()}
        values[name] = {key: tensor.numpy() for key, tensor in tensors.items()}
    results[rank] = values
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def synchronised(tmp_path_factory) -> dict[object, list[dict[str, torch.Tensor]]]:
    """By case, what each of two processes has after a step."""
    results = torch.multiprocessing.get_context("spawn").Manager().dict()
    address = f"file://{tmp_path_factory.mktemp('group')}/rendezvous"
    torch.multiprocessing.spawn(synced, (address, results), nprocs=2)
    by_rank = [results[0], results[1]]
    return {
        name: [{key: torch.from_numpy(value) for key, value in values[name].items()} for values in by_rank]
        for name in cases()
    }


def in_one_process(x) -> tuple[BatchNorm, torch.Tensor, torch.Tensor]:
    """The norm after a step, output and gradient, in float64."""
    norm, x = BatchNorm(4).double(), x.double().requires_grad_()
    y = norm(x)
    (y**3).sum().backward()
    return norm, y.detach(), x.grad


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("spread", SPREADS)
def test_synchronised_batch_norm_is_batch_norm_of_the_whole(shares, spread, synchronised):
    """Output, gradients and running statistics."""
    results = synchronised[shares, spread]
    norm, y, gradient = in_one_process(images(shares, spread))

    def joined(name: str) -> torch.Tensor:
        return torch.cat([result[name] for result in results]).double()

    torch.testing.assert_close(joined("output"), y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(joined("gradient"), gradient, rtol=1e-5, atol=1e-5)
    for name in ("weight", "bias"):
        total = sum(result[f"{name}_gradient"].double() for result in results)
        torch.testing.assert_close(total, getattr(norm, name).grad, rtol=1e-5, atol=1e-5)
    for result in results:
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(result[name].double(), getattr(norm, name), rtol=1e-6, atol=1e-6)
        assert result["num_batches_tracked"] == norm.num_batches_tracked


def test_copies_of_one_image_are_normalised_as_one_image(synchronised):
    norm, y, gradient = in_one_process(images((1, 0), (1, 3)))
    for result in synchronised["copies"]:
        torch.testing.assert_close(result["output"].double(), y, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(result["gradient"].double(), gradient, rtol=1e-5, atol=1e-5)
        assert (result["running_var"] == 1).all()
        assert result["num_batches_tracked"] == norm.num_batches_tracked


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_batch_that_is_not_finite_in_one_process_leaves_the_statistics_of_both_alone(value, synchronised):
    for result in synchronised[value]:
        assert not result["output"][:, 0].isfinite().any()
        assert result["output"][:, 1:].isfinite().all()
        assert result["running_mean"][0] == 0
        assert result["running_var"][0] == 1
        assert (result["running_mean"][1:] != 0).all()
