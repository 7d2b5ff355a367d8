"""Checkpoints that other training code wrote around the weights of this network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from models.released import DEBLURRING_BLOCKS, DEBLURRING_MEAN_WINDOW

# Keys under which training code stores a state dict. Moving averages come first: they are what should be evaluated.
WRAPPERS = (
    *("params_ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "net_g_ema", "ema"),
    *("model", "params", "state_dict", "model_state_dict", "model_state", "net", "network", "net_g", "netG"),
    *("generator", "weights", "module"),
)
MAX_WRAPPERS = 3  # one within the other

# Parts that DistributedDataParallel, AveragedModel, torch.compile and FSDP insert into a name, at any depth.
INSERTED = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

LANDMARKS = ("embed.weight", "feat_extract.0.main.0.weight")  # the first convolution's name, ours and released
COUNTER = "n_averaged"  # what torch's AveragedModel stores beside the weights


@dataclass(frozen=True)
class Found:
    """A state dict, and in words what surrounded it."""

    weights: dict[str, Tensor]
    taken: list[str] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        """Whether the names are those of this network, by this project or as released."""
        return any(name in self.weights for name in LANDMARKS)


def find_weights(content: Any) -> Found | None:
    """The weights of this network in a checkpoint, else any state dict in it, else None.

    Raises:
        ValueError: two parameters have the same name once prefixes are removed.
    """
    found = [without_prefix(state_dict) for state_dict in _state_dicts(content)]
    return next((one for one in found if one.is_ours), found[0] if found else None)


def state_dict_of(content: Any) -> dict[str, Tensor] | None:
    """The entries of a state dict; None if ``content`` is anything but a mapping of names to tensors."""
    if not isinstance(content, dict) or not content:
        return None
    # The methods of an OrderedDict may be hidden by attributes that a file sets; those of dict are not.
    entries = dict(dict.items(content))
    sound = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in entries.items())
    return entries if sound else None


def without_prefix(found: Found) -> Found:
    """Remove what wrappers of the network put before or into the names; entries of other modules are left out.

    Raises:
        ValueError: two parameters have the same name afterwards.
    """
    names = {name: ".".join(part for part in name.split(".") if part not in INSERTED) for name in found.weights}
    names.pop(COUNTER, None)
    ends = {name: short[: -len(mark)] for name, short in names.items() for mark in LANDMARKS if _ends(short, mark)}
    if not ends:
        return found
    first = min(ends, key=lambda name: ("ema" not in name.lower(), len(name)))
    prefix = ends[first]
    kept = {name: short[len(prefix) :] for name, short in names.items() if short.startswith(prefix)}
    if len(set(kept.values())) < len(kept):
        raise ValueError("two parameters have the same name without the prefixes in it")
    taken = list(found.taken)
    if removed := first[: -len(kept[first])]:
        taken.append(f'prefix "{removed}" removed')
    elif any(name != short for name, short in kept.items()):
        taken.append(f"{', '.join(sorted(INSERTED & {part for name in kept for part in name.split('.')}))} removed")
    if others := len(names) - len(kept):
        taken.append(f"{others} other {'entry' if others == 1 else 'entries'} left out")
    return Found({short: found.weights[name] for name, short in kept.items()}, taken)


def model_options(found: Found) -> tuple[Found, dict[str, Any]]:
    """The arguments of ``build_model`` for weights with this project's names that come without them.

    Names and shapes give them, except for the pooling sizes, assumed to be powers of two down to 2 as in the paper, and
    the local mean, assumed for as many blocks as the deblurring model has. The returned ``Found`` says what is assumed.
    """
    blocks = [int(match[1]) for name in found.weights if (match := re.match(r"encoder\.0\.([0-9]{1,4})\.", name))]
    num_blocks, attention = max(blocks, default=0) + 1, any(".attentions." in name for name in found.weights)
    pattern = r"encoder\.0\.[0-9]+\.between\.convs\.([0-9]{1,2})\."
    scales = {int(match[1]) for name in found.weights if (match := re.match(pattern, name))}
    pool_sizes = tuple(2**power for power in range(len(scales), 0, -1))
    first, assumed = found.weights["embed.weight"], []
    if num_blocks == DEBLURRING_BLOCKS and attention:
        assumed.append("local mean of the deblurring model assumed")
    if len(scales) not in (0, 3):
        assumed.append(f"pool_sizes {', '.join(map(str, pool_sizes))} assumed")
    options = {
        "name": "irnext",
        "num_blocks": num_blocks,
        "channels": len(first) if first.ndim else 0,
        "mean_window": DEBLURRING_MEAN_WINDOW if num_blocks == DEBLURRING_BLOCKS else None,
        "pool_sizes": pool_sizes,
        "local_attention": attention or not scales,
        "frequency_modulation": not attention or any(name.endswith(".modulation") for name in found.weights),
    }
    return replace(found, taken=[*found.taken, *assumed]), options


def _state_dicts(content: Any, keys: tuple[str, ...] = ()) -> Iterator[Found]:
    """The state dicts in a checkpoint, those of a moving average first."""
    if not isinstance(content, dict):
        return
    taken = [".".join(keys)] if keys not in ((), ("model",)) else []
    if (weights := state_dict_of(content)) is not None:
        yield Found(weights, taken or ["a bare state dict"] * (not keys))
        return
    if len(keys) < MAX_WRAPPERS:
        for key in WRAPPERS:
            if key in content:
                yield from _state_dicts(content[key], (*keys, key))
    if not keys:  # a bare state dict with other values beside the weights
        tensors = {
            name: value for name, value in dict.items(content) if isinstance(name, str) and isinstance(value, Tensor)
        }
        if any(_ends(name, mark) for name in tensors for mark in LANDMARKS):
            yield Found(tensors, ["a bare state dict"])


def _ends(name: str, mark: str) -> bool:
    return name == mark or name.endswith(f".{mark}")
