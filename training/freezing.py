"""Parameters that a run leaves as they are."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from utils.errors import InputError, shortened


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Freeze the parameters whose name, or the name of a module they are in, matches one of the patterns.

    Returns:
        The batch norms whose parameters are all frozen: they stay in eval mode, so that their running statistics do
        not change either.

    Raises:
        InputError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        frozen = [name for name in parameters if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not frozen:
            names = [*dict(model.named_modules()), *parameters]
            nearest = difflib.get_close_matches(pattern, filter(None, names), n=1, cutoff=0)[0]
            raise InputError(
                f"train.freeze: {shortened(pattern)!r} matches no parameter; the nearest name is {nearest} (* stands "
                "for anything)"
            )
        for name in frozen:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise InputError(f"train.freeze: {', '.join(patterns)} leaves nothing to train")
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if not any(parameter.requires_grad for parameter in norm.parameters())]
