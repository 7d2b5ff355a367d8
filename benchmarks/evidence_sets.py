"""The test sets of benchmarks/evidence.py, and which of their images its tables show."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.layouts import Pair


@dataclass(frozen=True)
class Part:
    """The images of a set with a number from ``numbers`` whose name ends with ``ending``."""

    numbers: tuple[int, int] | None = None
    ending: str = ""
    remark: str = ""

    def of(self, pairs: Sequence[Pair], limit: int | None) -> list[Pair]:
        """The pairs of this part, the first ``limit`` of them."""
        found = [pair for pair in pairs if pair.name.endswith(self.ending) and self._has(pair.input.name)]
        return found[:limit]

    def _has(self, name: str) -> bool:
        number = re.match(r"\d+", name)
        return self.numbers is None or (number is not None and self.numbers[0] <= int(number[0]) <= self.numbers[1])


@dataclass(frozen=True, kw_only=True)
class EvidenceSet:
    """A test set below DIR, and the parts of it that have a row in the table.

    ``input`` and ``target`` are folders. With ``degrade``, a key of data.synthetic.drawn.DEGRADATIONS, the
    inputs are made from the targets. The parameters of the classical method are chosen on the part ``choosing`` of this
    set or of the set named ``chosen_on``.
    """

    task: str
    protocol: str
    input: str
    target: str
    degrade: str | None = None
    choosing: Part | None = None
    chosen_on: str | None = None
    parts: dict[str, Part] = field(default_factory=lambda: {"images": Part()})


CHOSEN = "includes the images on which parameters were chosen"
SCENES, OF_RAIN = Part((1400, 1414)), Part((1, 20))
RAIN_PARTS = {"images 21-100": Part((21, 100)), "all": Part(remark=CHOSEN)}
PHOTOGRAPHS = {"input": "Rain100L/target", "target": "Rain100L/target", "choosing": OF_RAIN}
APART = {"images 21-100": Part((21, 100), remark="degraded here; no published pairs could be had")}
SETS = {
    "SOTS-Indoor": EvidenceSet(
        task="dehazing",
        protocol="dehazing",
        input="SOTS-Indoor/hazy",
        target="SOTS-Indoor/gt",
        choosing=SCENES,
        parts={
            "scenes 1415-1449": Part((1415, 1449)),
            "all, levels 3 and 7": Part(remark=CHOSEN),
            "all, level 3": Part(ending="_3", remark=CHOSEN),
            "all, level 7": Part(ending="_7", remark=CHOSEN),
        },
    ),
    "Rain100L": EvidenceSet(
        task="deraining",
        protocol="y",
        input="Rain100L/input",
        target="Rain100L/target",
        choosing=OF_RAIN,
        parts=RAIN_PARTS,
    ),
    "Rain100H": EvidenceSet(
        task="deraining",
        protocol="y",
        input="Rain100H/input",
        target="Rain100L/target",
        choosing=OF_RAIN,
        parts=RAIN_PARTS,
    ),
    "GoPro": EvidenceSet(
        task="deblurring",
        protocol="rgb",
        input="GoPro-test-sample/input",
        target="GoPro-test-sample/target",
        chosen_on="BSDS500, shaken",
        parts={"sample": Part(remark="a sample of the test set: a look only")},
    ),
    "BSDS500, shaken": EvidenceSet(
        task="deblurring",
        protocol="rgb",
        degrade="motion_blur",
        parts={"images 21-100": Part((21, 100))},
        **PHOTOGRAPHS,
    ),
    "BSDS500, defocused": EvidenceSet(
        task="defocus", protocol="defocus", degrade="defocus", parts=APART, **PHOTOGRAPHS
    ),
    "BSDS500, with snow": EvidenceSet(task="desnowing", protocol="rgb", degrade="snow", parts=APART, **PHOTOGRAPHS),
}
