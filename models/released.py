"""The authors' released checkpoints: how their parameter names map to ours."""

import re

from torch import Tensor

# (released name, our name): applied in this order, each rule replaces the part of the name that it matches.
NAMES = [
    (r"^Encoder\.(\d)\.layers\.(\d+)\.", r"encoder.\1.\2."),
    (r"^Decoder\.(\d)\.layers\.(\d+)\.", r"decoder.\1.\2."),
    # inside a residual block
    (r"^(\w+\.\d\.\d+)\.main\.0\.main\.0\.", r"\1.conv1."),
    (r"^(\w+\.\d\.\d+)\.main\.2\.main\.0\.", r"\1.conv2."),
    (r"^(\w+\.\d\.\d+)\.main\.1\.", r"\1.between."),
    # inside the multi-scale module and its local attention
    (r"\.between\.conv_sum\.", r".between.conv_out."),
    (r"\.dynas\.(\d)\.conv\.", r".attentions.\1.project."),
    (r"\.dynas\.(\d)\.bn\.", r".attentions.\1.norm."),
    (r"\.dynas\.(\d)\.inside_all$", r".attentions.\1.modulation"),
    (r"\.dynas\.(\d)\.lamb_l$", r".attentions.\1.filtered_weight"),
    (r"\.dynas\.(\d)\.lamb_h$", r".attentions.\1.identity_weight"),
    # the U-Net around the blocks
    (r"^feat_extract\.0\.main\.0\.", r"embed."),
    (r"^feat_extract\.1\.main\.0\.", r"down.0."),
    (r"^feat_extract\.2\.main\.0\.", r"down.1."),
    (r"^feat_extract\.3\.main\.0\.", r"up.0."),
    (r"^feat_extract\.4\.main\.0\.", r"up.1."),
    (r"^feat_extract\.5\.main\.0\.", r"heads.2."),
    (r"^ConvsOut\.([01])\.main\.0\.", r"heads.\1."),
    (r"^Convs\.(\d)\.main\.0\.", r"merge.\1."),
    (r"^FAM2\.merge\.main\.0\.", r"fuse.0."),
    (r"^FAM1\.merge\.main\.0\.", r"fuse.1."),
    # the shallow branches, where our nn.Sequential has a GELU after each of the first three convolutions
    (r"^SCM2\.main\.", r"shallow.0."),
    (r"^SCM1\.main\.", r"shallow.1."),
    (r"^(shallow\.\d)\.4\.", r"\1.7."),
    (r"^(shallow\.\d)\.3\.main\.0\.", r"\1.6."),
    (r"^(shallow\.\d)\.2\.main\.0\.", r"\1.4."),
    (r"^(shallow\.\d)\.1\.main\.0\.", r"\1.2."),
    (r"^(shallow\.\d)\.0\.main\.0\.", r"\1.0."),
]

# The only released model with 14 blocks is for motion deblurring and uses the local mean; the file does not say so.
DEBLURRING_BLOCKS, DEBLURRING_MEAN_WINDOW = 14, 120 / 256


def is_released(state_dict: dict[str, Tensor]) -> bool:
    """Whether the parameters have the names of the authors' code."""
    return any(name.startswith("feat_extract.") for name in state_dict)


def rename(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate a released state dict to this project's names; a name that no rule matches is kept."""
    renamed = {}
    for name, value in state_dict.items():
        if name.endswith(".inside_all") and value.shape[1:] == (1, 1):
            value = value[:, 0, 0]  # (C, 1, 1) in the released files, (C) here
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)
        renamed[name] = value
    return renamed


def rename_back(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``rename``, for use with the authors' code."""
    renamed = {}
    for name, value in state_dict.items():
        for pattern, replacement in map(_inverse, reversed(NAMES)):
            name = re.sub(pattern, replacement, name)
        renamed[name] = value[:, None, None] if name.endswith(".inside_all") else value
    return renamed


def _inverse(rule: tuple[str, str]) -> tuple[str, str]:
    """The inverse of a rule in ``NAMES``: its replacement becomes the pattern and its pattern the replacement."""
    theirs, ours = rule
    groups = iter(re.findall(r"\([^()]*\)", theirs))
    anchors = theirs.startswith("^"), theirs.endswith("$")
    pattern = "".join(next(groups) if part.startswith("\\") else re.escape(part) for part in re.split(r"(\\\d)", ours))
    numbers = iter(range(1, 10))
    replacement = re.sub(r"\([^()]*\)", lambda group: f"\\{next(numbers)}", theirs.strip("^$")).replace("\\.", ".")
    return "^" * anchors[0] + pattern + "$" * anchors[1], replacement


def model_options(state_dict: dict[str, Tensor]) -> dict:
    """The arguments of ``build_model`` for a released state dict, derived from its names and shapes."""
    blocks = [int(match[1]) for name in state_dict if (match := re.match(r"Encoder\.0\.layers\.([0-9]{1,4})\.", name))]
    first = state_dict.get("feat_extract.0.main.0.weight")
    num_blocks = max(blocks, default=0) + 1
    return {
        "name": "irnext",
        "num_blocks": num_blocks,
        "channels": 32 if first is None or first.ndim == 0 else len(first),
        "mean_window": DEBLURRING_MEAN_WINDOW if num_blocks == DEBLURRING_BLOCKS else None,
    }
