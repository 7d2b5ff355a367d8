"""The order of the samples: per epoch, entered in the middle, shared between processes."""

import math

import numpy as np
import pytest
import torch
from conftest import assert_same_batches, batches
from hypothesis import given
from hypothesis import strategies as st

from data.layouts import find_pairs
from data.sampler import EpochSampler, derived_seed
from data.shares import Share, weighted_shares


def test_an_epoch_can_be_entered_in_the_middle(reside):
    pairs = find_pairs(reside / "train", "reside")
    assert_same_batches(batches(pairs, [2], start=1), batches(pairs, [2])[1:])


def test_orders_differ_between_epochs_and_seeds():
    orders = set()
    for seed in (0, 1):
        sampler = EpochSampler(50, batch_size=8, seed=seed)
        for epoch in (1, 2):
            sampler.set_position(epoch, samples=0)
            order = tuple(index for batch in sampler for _, index in batch)
            assert sorted(order) == list(range(50))
            orders.add(order)
    assert len(orders) == 4


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 5), st.integers(0, 3))
def test_processes_share_each_batch(length, batch_size, processes, skipped):
    """Together they have the batches of one process, and the weighted mean of their means is the whole's."""
    alone = EpochSampler(length, batch_size, seed=3)
    ranks = [EpochSampler(length, batch_size, 3, rank, processes) for rank in range(processes)]
    for sampler in (alone, *ranks):
        sampler.set_position(epoch=4, samples=skipped)
    done = alone.samples
    for whole, *shares in zip(alone, *ranks, strict=True):
        weights = [sampler.weight(done) for sampler in ranks]
        assert alone.size(done) == len(whole)
        done += len(whole)
        mean = sum(w * np.mean([index for _, index in share]) for w, share in zip(weights, shares, strict=True))
        assert mean / processes == pytest.approx(np.mean([index for _, index in whole]))
        if len(whole) >= processes:
            assert sorted(sample for share in shares for sample in share) == sorted(whole)
        else:
            assert all(share == whole for share in shares)
    assert done == length


@pytest.mark.parametrize("processes, then, batch_size", [(1, 3, 4), (3, 2, 4), (2, 1, 4), (1, 1, 5), (2, 2, 6)])
def test_every_sample_comes_once_though_processes_or_batch_size_change(processes, then, batch_size):
    """After four batches of 4, the rest of the epoch comes in batches of another size or to other processes."""
    seen = []
    for count, size, start, steps in ((processes, 4, 0, 4), (then, batch_size, 16, None)):
        samplers = [EpochSampler(31, size, seed=2, rank=rank, processes=count) for rank in range(count)]
        for sampler in samplers:
            sampler.set_position(epoch=3, samples=start)
        for shares in list(zip(*samplers, strict=True))[:steps]:
            seen += [index for share in shares for _, index in share]
    assert sorted(seen) == list(range(31))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_every_process_has_the_same_number_of_micro_batches_and_none_is_empty_or_larger(
    length, batch_size, processes, accumulate
):
    batch_size = max(batch_size, processes * accumulate)
    ranks = [EpochSampler(length, batch_size, 3, rank, processes) for rank in range(processes)]
    most = math.ceil(math.ceil(batch_size / processes) / accumulate)
    done = 0
    for shares in zip(*ranks, strict=True):
        (count,) = {sampler.micro_batches(done, accumulate) for sampler in ranks}
        done += ranks[0].size(done)
        sizes = [len(part) for share in shares for part in np.array_split(share, count)]
        assert 1 <= count <= accumulate
        assert min(sizes) >= 1
        if ranks[0].size(done) == batch_size:
            assert max(sizes) <= most


SHARES = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 30)).map(lambda pair: Share(*pair)), min_size=1, max_size=4
)


def number_of_set(shares, index):
    """The set that an index of the sampler belongs to."""
    ends = np.cumsum([share.crops for share in shares])
    return int(np.searchsorted(ends, index % ends[-1], side="right"))


@given(SHARES, st.integers(1, 9), st.integers(1, 6), st.integers(0, 100))
def test_each_epoch_draws_exactly_the_shares_and_all_crops_equally_often(shares, batch_size, epochs, seed):
    sampler = EpochSampler(shares, batch_size, seed)
    seen = np.zeros(sum(share.crops for share in shares), int)
    for epoch in range(1, epochs + 1):
        sampler.set_position(epoch, samples=0)
        batches_of_epoch = list(sampler)
        assert [len(batch) for batch in batches_of_epoch[:-1]] == [batch_size] * (len(batches_of_epoch) - 1)
        indices = [index for batch in batches_of_epoch for _, index in batch]
        assert len(set(indices)) == len(indices)  # else two samples would be augmented in the same way
        drawn = [number_of_set(shares, index) for index in indices]
        assert [drawn.count(number) for number in range(len(shares))] == [share.drawn for share in shares]
        np.add.at(seen, np.array(indices) % len(seen), 1)
        for counts in np.split(seen, np.cumsum([share.crops for share in shares])[:-1]):
            assert np.ptp(counts) <= 1


@given(SHARES, st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.data())
def test_resuming_at_any_step_gives_the_same_remaining_samples(shares, batch_size, epoch, processes, data):
    ranks = [EpochSampler(shares, batch_size, 7, rank, processes) for rank in range(processes)]
    for sampler in ranks:
        sampler.set_position(epoch, samples=0)
    whole = list(zip(*ranks, strict=True))
    step = data.draw(st.integers(0, len(whole)))
    again = [EpochSampler(shares, batch_size, 7, rank, processes) for rank in range(processes)]
    for sampler in again:
        sampler.set_position(epoch, samples=step * batch_size)
    assert list(zip(*again, strict=True)) == whole[step:]
    alone = EpochSampler(shares, batch_size, 7)
    alone.set_position(epoch, samples=0)
    for batch, parts in zip(alone, whole, strict=True):
        together = sorted(sample for part in parts for sample in part)
        assert together == sorted(batch) if len(batch) >= processes else all(part == batch for part in parts)


def test_one_set_is_drawn_as_it_was_before_there_were_several():
    sampler = EpochSampler(9, batch_size=4, seed=3)
    sampler.set_position(epoch=2, samples=0)
    indices = [index for batch in sampler for _, index in batch]
    assert indices == torch.randperm(9, generator=torch.Generator().manual_seed(derived_seed(3, 2))).tolist()


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 10**6).map(lambda n: n / 1000)), min_size=1, max_size=6))
def test_weights_divide_an_epoch_exactly(sets):
    crops, weights = zip(*sets, strict=True)
    shares = weighted_shares(crops, weights)
    assert [share.crops for share in shares] == list(crops)
    assert sum(share.drawn for share in shares) == sum(crops)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share.drawn - sum(crops) * weight / sum(weights)) < 1 + 1e-9


def test_decimal_weights_are_exact():
    assert [share.drawn for share in weighted_shares([10, 10, 10], [0.1, 0.2, 0.7])] == [3, 6, 21]
    assert [share.drawn for share in weighted_shares([1, 1, 1, 1], [1, 1, 1, 1])] == [1, 1, 1, 1]
