"""The data of a run: the training batches and the images to validate on, checked before anything is trained."""

from dataclasses import dataclass
from itertools import chain

from torch.utils.data import DataLoader

from data.datasets import evaluation_loader, train_loader, training_sets, warn_of_too_many_workers
from data.layouts import Pair
from data.sampler import EpochSampler
from data.sets import pairs_of_sets, training_pairs, training_shares
from data.survey import check_pairs, fingerprint, fingerprint_of_sets
from utils.config import Config
from utils.distributed import Group


@dataclass(frozen=True)
class Loaders:
    """The training batches, in the order of ``sampler``, and the images of each validation set.

    ``fingerprints`` are those of the training pairs ("data") and of all validation pairs ("validation").
    """

    training: DataLoader
    sampler: EpochSampler
    validation: dict[str, DataLoader]
    fingerprints: dict[str, dict[str, int | str]]


def build_loaders(config: Config, group: Group) -> Loaders:
    """Check all images of the run and build loaders for this process's share of them.

    Raises:
        InputError: a set or the partner of an image is missing, or an image is broken.
    """
    root, workers = config.data.root, config.data.num_workers
    train_pairs = training_pairs(root, config.data.train)
    parts = config.data.validated
    most = config.train.validate_images
    validation_pairs = {name: spread(pairs, most) for name, pairs in pairs_of_sets(root, parts).items()}
    found = []
    if group.is_main:
        all_validation_pairs = list(chain(*validation_pairs.values()))
        check_pairs([*chain(*train_pairs), *all_validation_pairs])
        found = [{"data": fingerprint_of_sets(train_pairs), "validation": fingerprint(all_validation_pairs)}]
    warn_of_too_many_workers(workers, group)
    shares = training_shares(config.data.train, train_pairs)
    later = [(stage.epoch, stage.batch_size) for stage in config.train.progressive]
    sampler = EpochSampler(shares, config.train.batch_size, config.seed, group.rank, group.size, later)
    training = train_loader(training_sets(config, train_pairs), sampler, workers)
    own = {name: pairs[group.rank :: group.size] for name, pairs in validation_pairs.items()}
    validation = {name: evaluation_loader(pairs, workers, parts[name].degrade) for name, pairs in own.items()}
    return Loaders(training, sampler, validation, group.gather(found)[0])


def spread(pairs: list[Pair], most: int | None) -> list[Pair]:
    """At most ``most`` of the pairs, evenly spaced; all if it is None."""
    count = len(pairs) if most is None else min(most, len(pairs))
    return [pairs[number * len(pairs) // count] for number in range(count)]
