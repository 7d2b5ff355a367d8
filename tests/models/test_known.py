"""Checkpoints of other networks, told by the names of their parameters."""

import pytest
import torch
from conftest import SMALL, assert_refused, released_state_dict, run_script, train_tiny

from models import build_model, load_model, load_weights
from models.known import network_of
from utils.errors import InputError

UNET = "feat_extract.0.main.0.weight Convs.0.main.0.weight ConvsOut.0.main.0.weight FAM1.merge.main.0.weight "
BLOCK = "Encoder.0.layers.0.main.0.main.0.weight "
RESTORMER = (
    "patch_embed.proj.weight encoder_level1.0.norm1.body.weight encoder_level1.0.attn.temperature "
    "encoder_level1.0.attn.qkv.weight down1_2.body.0.weight latent.0.attn.qkv_dwconv.weight up4_3.body.0.weight "
    "reduce_chan_level3.weight decoder_level1.0.ffn.project_in.weight refinement.0.attn.temperature output.weight"
)
# Some names of each network, the first of them as in its checkpoints.
NAMES = {
    "NAFNet": "intro.weight intro.bias ending.weight encoders.0.0.beta encoders.0.0.gamma encoders.0.0.conv1.weight "
    "encoders.0.0.sca.1.weight decoders.0.0.norm1.weight middle_blks.0.beta ups.0.0.weight downs.0.weight",
    "Restormer": RESTORMER,
    "PromptIR": f"{RESTORMER} prompt1.prompt_param prompt1.linear_layer.weight chnl_reduce1.weight "
    "noise_level3.attn.temperature reduce_noise_level3.weight",
    "MIMO-UNet": f"{UNET}{BLOCK}Encoder.0.layers.7.main.1.main.0.weight AFFs.0.conv.0.main.0.weight",
    "MIMO-UNet+": f"{UNET}{BLOCK}Encoder.0.layers.19.main.1.main.0.weight AFFs.0.conv.0.main.0.weight",
    "ConvIR": f"{UNET}{BLOCK}Encoder.0.layers.3.main.1.dynas.0.square_att.conv.weight "
    "Encoder.0.layers.3.main.1.dynas.0.strip_att.gamma Encoder.0.layers.3.main.1.conv_sum.weight",
    "SFNet or FSNet": f"{UNET}Encoder.0.layers.0.conv1.main.0.weight Encoder.0.layers.0.localap.h "
    "Encoder.0.layers.0.global_ap.fscale_d Encoder.0.layers.15.dyna.conv.weight",
    "a network like MIMO-UNet, such as FocalNet": f"{UNET}Encoder.0.layers.0.gate.conv.weight",
    "Uformer": "input_proj.proj.0.weight encoderlayer_0.blocks.0.norm1.weight dowsample_0.conv.0.weight "
    "conv.blocks.0.attn.relative_position_bias_table upsample_0.deconv.0.weight decoderlayer_0.blocks.0.norm1.weight "
    "output_proj.proj.0.weight",
    "MPRNet": "shallow_feat1.0.weight shallow_feat1.1.CA.conv_du.0.weight stage1_encoder.encoder_level1.0.body.weight "
    "stage1_decoder.up21.up.1.weight stage3_orsnet.orb1.body.0.body.0.weight sam12.conv1.weight concat12.weight "
    "tail.weight",
    "HINet": "down_path_1.0.conv_1.weight down_path_2.0.conv_1.weight conv_01.weight up_path_1.0.up.weight "
    "skip_conv_1.0.weight sam12.conv1.weight cat12.weight last.weight",
    "DehazeFormer": "patch_embed.proj.weight layer1.blocks.0.mlp.mlp.0.weight patch_merge1.proj.weight skip1.weight "
    "fusion1.mlp.0.weight patch_split1.proj.0.weight patch_unembed.proj.0.weight",
    "SwinIR": "conv_first.weight patch_embed.norm.weight norm.weight conv_after_body.weight conv_last.weight "
    "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
    "HAT": "relative_position_index_SA relative_position_index_OCA conv_first.weight conv_after_body.weight "
    "layers.0.residual_group.blocks.0.attn.relative_position_bias_table upsample.0.weight conv_last.weight",
    "ESRGAN": "conv_first.weight body.0.rdb1.conv1.weight conv_body.weight conv_up1.weight conv_last.weight",
    "FFA-Net": "pre.0.weight g1.gp.0.conv1.weight ca.0.weight palayer.pa.0.weight post.0.weight",
}
WRAPPED = {
    "a bare state dict": ("", None),
    "params": ("", "params"),
    "distributed": ("module.", "state_dict"),
    "Lightning": ("model.", "state_dict"),
}
MODEL = build_model(**SMALL)


def checkpoint(names: str, wrapping: str = "a bare state dict") -> dict:
    prefix, key = WRAPPED[wrapping]
    state = {prefix + name: torch.zeros(8, 8) for name in names.split()}
    return state if key is None else {key: state, "epoch": 3}


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("network", NAMES)
def test_a_known_network_is_named_with_its_first_keys(tmp_path, network, wrapping):
    path = tmp_path / "theirs.pth"
    torch.save(checkpoint(NAMES[network], wrapping), path)
    for load in (lambda: load_model(path), lambda: load_model(path, SMALL), lambda: load_weights(MODEL, path)):
        with pytest.raises(InputError) as error:
            load()
        message = str(error.value)
        assert f"theirs.pth: these are weights of {network}, which this framework does not build (first keys" in message
        assert message.endswith("; expected an IRNeXt checkpoint")
        assert len(message) - len(str(path)) < 350
        assert any(name in message for name in NAMES[network].split())


def test_what_differs_is_named_and_not_what_both_have(tmp_path):
    torch.save(checkpoint(NAMES["ConvIR"]), tmp_path / "theirs.pth")
    with pytest.raises(InputError, match=r"differ: Encoder\.0\.layers\.3\.main\.1\.dynas\.0\.square_att"):
        load_model(tmp_path / "theirs.pth", {"channels": 8, "num_blocks": 4})


@pytest.mark.parametrize("network", NAMES)
def test_a_network_with_more_than_a_known_one_is_only_derived_from_it(network):
    names = [*NAMES[network].split(), "event_branch.0.weight"]
    derived = network if " like " in network else f"a network derived from {network}"
    assert network_of(names) == derived


@pytest.mark.parametrize("blocks", ["released_state_dict.json", "released_state_dict_14.json"])
def test_irnext_is_never_taken_for_another_network(tmp_path, blocks):
    state = released_state_dict(blocks)
    assert network_of(state) is None
    assert network_of(MODEL.state_dict()) is None
    torch.save({"model": state}, tmp_path / "its.pkl")
    with pytest.raises(InputError, match=r"weights of another network: .*missing|of a different shape"):
        load_weights(MODEL, tmp_path / "its.pkl")


def test_an_unknown_network_gets_a_short_line(tmp_path):
    torch.save({"params": {f"stage{i}.weight": torch.zeros(1) for i in range(800)}}, tmp_path / "theirs.pth")
    with pytest.raises(InputError, match=r"weights of another network \(first parameter: stage0\.weight\)"):
        load_model(tmp_path / "theirs.pth")
    with pytest.raises(InputError, match=r"another network: \d+ missing \(.*800 unexpected \(") as error:
        load_weights(MODEL, tmp_path / "theirs.pth")
    assert len(str(error.value)) - len(str(tmp_path)) < 300


def test_every_script_names_the_network(tmp_path, reside):
    path = tmp_path / "naf.pth"
    torch.save(checkpoint(NAMES["NAFNet"], "params"), path)
    words = (path, "these are weights of NAFNet", "intro.weight, intro.bias, ending.weight")
    hazy, target = reside / "test" / "hazy", reside / "test" / "gt"
    for result in (
        run_script("restore.py", "--weights", path, "--input", hazy, "--output", tmp_path / "restored"),
        run_script("test.py", "--weights", path, "--input", hazy, "--target", target, "--output", tmp_path / "scores"),
        train_tiny(reside, tmp_path / "run", "--init-from", path),
        run_script("-m models.convert", path, tmp_path / "ours.safetensors"),
        run_script("-m inference.export", "--weights", path, "--format", "exported-program"),
    ):
        assert_refused(result, *words)
    assert not (tmp_path / "run" / "checkpoints").exists()
