"""A few attacks of each family; ``make attack`` makes hundreds."""

import pytest
from attack.families import FAMILIES, generator, trials

FEW = {"images": 60, "weights": 20, "states": 8, "configurations": 12, "names": 10, "kills": 2, "disks": 4}


SLOW = ("weights", "states", "kills", "disks")


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=[pytest.mark.slow] * (family in SLOW)) for family in FAMILIES]
)
def test_the_scripts_withstand(family, tmp_path):
    failed = {trial.name: trial.faults for trial in trials(family, tmp_path, generator(0, family), FEW[family])}
    assert {name: faults for name, faults in failed.items() if faults} == {}
