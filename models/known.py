"""Networks of others whose checkpoints are told by their parameters' names, so that a message can name them.

The names are those of the published code of each network.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from models.foreign import INSERTED

LONGEST = 200  # characters of a name that are looked at
MIMO_UNET = "feat_extract Encoder Decoder Convs ConvsOut FAM1 FAM2 SCM1 SCM2"  # and the networks derived from it
# A part of a block that IRNeXt does not have.
NOT_IRNEXT = (
    r"(Encoder|Decoder)\.\d\.layers\.\d{1,3}\.(?=\w)"
    r"(?!main\.[02]\.main\.0\.|main\.1\.(convs|conv_sum|dynas\.\d\.(conv|bn|inside_all|lamb_l|lamb_h))(\.|$))"
)
RESTORMER = (
    "patch_embed encoder_level1 encoder_level2 encoder_level3 latent decoder_level1 decoder_level2 decoder_level3 "
    "refinement output skip_conv down1_2 down2_3 down3_4 up4_3 up3_2 up2_1 reduce_chan_level2 reduce_chan_level3"
)


class Known(NamedTuple):
    """How the parameters of a network are named.

    Attributes:
        name: the network.
        marks: patterns, each of which is found in a name, from the start of one of its parts.
        modules: what the network consists of; a checkpoint with other modules is of a network derived from it. Empty if
            they do not matter.
    """

    name: str
    marks: tuple[str, ...]
    modules: str


# The first whose marks are all found counts, so those that extend another network come before it.
NETWORKS = (
    Known("MIMO-UNet+", (r"AFFs\.0\.", r"Encoder\.0\.layers\.19\."), f"{MIMO_UNET} AFFs"),
    Known("MIMO-UNet", (r"AFFs\.0\.", r"Encoder\.0\.layers\.0\."), f"{MIMO_UNET} AFFs"),
    Known("ConvIR", (r"dynas\.\d\.square_att\.", r"dynas\.\d\.strip_att\."), MIMO_UNET),
    Known("SFNet or FSNet", (r"Encoder\.", r"(localap|global_ap)\.", r"dyna\."), MIMO_UNET),
    Known("OKNet", (r"feat_extract\.", r"dw_13\.", r"dw_31\."), f"{MIMO_UNET} bottelneck"),
    Known("a network like MIMO-UNet, such as FocalNet", (r"feat_extract\.", NOT_IRNEXT), ""),
    Known(
        "PromptIR",
        (r"prompt1\.prompt_param", r"encoder_level1\.0\.attn\.temperature"),
        f"{RESTORMER} prompt1 prompt2 prompt3 chnl_reduce1 chnl_reduce2 chnl_reduce3 noise_level1 noise_level2 "
        "noise_level3 reduce_noise_channel_1 reduce_noise_channel_2 reduce_noise_channel_3 "
        "reduce_noise_level1 reduce_noise_level2 reduce_noise_level3",
    ),
    Known("Restormer", (r"encoder_level1\.0\.attn\.temperature", r"refinement\."), RESTORMER),
    Known(
        "NAFNet",
        (r"intro\.weight", r"middle_blks\.", r"sca\.1\.", r"beta$"),
        "intro ending encoders decoders middle_blks ups downs",
    ),
    Known(
        "Uformer",
        (r"encoderlayer_0\.blocks\.", r"dowsample_0\."),
        "input_proj output_proj conv "
        + " ".join(f"encoderlayer_{i} decoderlayer_{i} dowsample_{i} upsample_{i}" for i in range(4)),
    ),
    Known(
        "MPRNet",
        (r"shallow_feat1\.", r"stage3_orsnet\."),
        "shallow_feat1 shallow_feat2 shallow_feat3 stage1_encoder stage1_decoder stage2_encoder stage2_decoder "
        "stage3_orsnet sam12 sam23 concat12 concat23 tail",
    ),
    Known(
        "HINet",
        (r"down_path_1\.0\.", r"sam12\.", r"cat12\."),
        "down_path_1 down_path_2 up_path_1 up_path_2 skip_conv_1 skip_conv_2 conv_01 conv_02 sam12 cat12 last",
    ),
    Known(
        "DehazeFormer",
        (r"patch_merge1\.", r"patch_unembed\.", r"layer1\.blocks\."),
        "patch_embed patch_unembed layer1 layer2 layer3 layer4 layer5 patch_merge1 patch_merge2 patch_split1 "
        "patch_split2 skip1 skip2 fusion1 fusion2",
    ),
    Known(
        "HAT",
        (r"relative_position_index_OCA", r"layers\.0\.residual_group\."),
        "relative_position_index_SA relative_position_index_OCA conv_first patch_embed absolute_pos_embed layers norm "
        "conv_after_body conv_before_upsample upsample conv_last",
    ),
    Known(
        "SwinIR",
        (r"layers\.0\.residual_group\.blocks\.0\.attn\.relative_position_bias_table", r"conv_after_body\."),
        "conv_first patch_embed absolute_pos_embed layers norm conv_after_body conv_before_upsample upsample conv_up1 "
        "conv_up2 conv_hr conv_last",
    ),
    Known(
        "ESRGAN",
        (r"(body\.0\.rdb1|RRDB_trunk\.0\.RDB1)\.conv1\.",),
        "conv_first body conv_body conv_up1 conv_up2 conv_hr conv_last RRDB_trunk trunk_conv upconv1 upconv2 HRconv",
    ),
    Known("FFA-Net", (r"g1\.gp\.0\.", r"palayer\."), "pre g1 g2 g3 ca palayer post"),
)


def network_of(names: Iterable[str]) -> str | None:
    """The network of others that has parameters of these names: "NAFNet"; None if it is not known.

    A network that has all marks of a known one and further modules is "a network derived from NAFNet".
    """
    plain = [".".join(part for part in name[:LONGEST].split(".") if part not in INSERTED) for name in names]
    for known in NETWORKS:
        if all(any(re.search(rf"(?:^|\.){mark}", name) for name in plain) for mark in known.marks):
            return known.name if _has_no_others(plain, known) else f"a network derived from {known.name}"
    return None


def _has_no_others(names: list[str], known: Known) -> bool:
    """Whether all names begin with the network's modules, perhaps after one prefix that all of them share."""
    modules = set(known.modules.split())
    first = {name.split(".")[0] for name in names}
    if len(first) == 1 and not first <= modules:
        first = {name.split(".")[1] for name in names if "." in name}
    return not modules or first <= modules
