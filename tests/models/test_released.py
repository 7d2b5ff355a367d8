"""The released names."""

from conftest import released_state_dict

from models import IRNeXt
from models.released import model_options, rename


def test_every_released_name_is_mapped_once():
    released = released_state_dict("released_state_dict_14.json")
    renamed = rename(released)
    assert len(renamed) == len(released)
    assert renamed.keys() == IRNeXt(num_blocks=14).state_dict().keys()
    assert model_options(released)["num_blocks"] == 14
