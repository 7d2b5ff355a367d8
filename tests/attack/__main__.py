"""Attack the scripts for about ten minutes and print what they withstood.

make attack
make attack SEED=1 ONLY="images kills"
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from attack.families import FAMILIES, generator, trials


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="another seed, other attacks")
    parser.add_argument("--only", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of attacks")
    args = parser.parse_args()
    rows, failures = [], 0
    for family in args.only:
        start, tried, failed = time.monotonic(), 0, 0
        count = max(1, round(FAMILIES[family][1] * args.scale))
        with tempfile.TemporaryDirectory() as folder:
            for trial in trials(family, Path(folder), generator(args.seed, family), count):
                tried += 1
                failed += bool(trial.faults)
                if trial.faults:
                    print(f"{family}: {trial.name!r}: {'; '.join(trial.faults)}", flush=True)
        rows.append(f"| {family} | {tried} | {tried - failed} | {failed} | {time.monotonic() - start:.0f} |")
        failures += failed
        print(f"{family}: {tried} tried, {failed} failures", file=sys.stderr, flush=True)
    print("\n| attack | tried | clean | failures | seconds |\n| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
