"""A few attacks of each family; ``make attack`` makes hundreds."""

import pytest
from attack.families import FAMILIES, generator, trials

FEW = {"images": 60, "weights": 20, "states": 8, "configurations": 12, "names": 10, "kills": 2, "disks": 4, "page": 30}

MARKS = dict.fromkeys(("weights", "states", "kills", "disks"), pytest.mark.slow) | {"page": pytest.mark.extra}


@pytest.mark.parametrize("family", [pytest.param(name, marks=MARKS.get(name, ())) for name in FAMILIES])
def test_the_scripts_withstand(family, tmp_path):
    failed = {trial.name: trial.faults for trial in trials(family, tmp_path, generator(0, family), FEW[family])}
    assert {name: faults for name, faults in failed.items() if faults} == {}
