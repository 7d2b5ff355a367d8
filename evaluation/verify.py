"""Score again what a metrics.json reports, and say whether the figures are the same.

    python -m evaluation.verify results/its/metrics.json
    python -m evaluation.verify results/its/metrics.json -- --data.root /elsewhere/reside-indoor

Runs the recorded command of test.py again, in the recorded folder, with the options after ``--`` added: later options
override earlier ones. The weights and the test sets must be those of the report, which is checked before anything is
scored. The exit status is 1 if a mean PSNR
differs by more than 0.01 dB or another mean score by more than 0.0005.
"""

import sys
from pathlib import Path

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser
    from utils.errors import or_exit

    usage = "python -m evaluation.verify METRICS.JSON [-- OPTIONS OF TEST.PY]"
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv, added = sys.argv[:end], sys.argv[end + 1 :]
    parser = ScriptParser(prog="python -m evaluation.verify", usage=usage, doc=__doc__)
    parser.add_argument("report", type=Path, help="metrics.json of test.py")
    path = or_exit(parser.parse).report

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.material import LONGEST, read_report
from evaluation.results import METRICS
from utils.errors import printable, run_script
from utils.text_files import read_text
from utils.versions import git_commit, versions

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = dict.fromkeys(METRICS, 0.0005) | {"psnr": 0.01}


def main(path: Path, added: Sequence[str]) -> int:
    """Score again what the report ``path`` says, with the options ``added``."""
    reported = read_report(path)
    for line in circumstances(reported):
        print(printable(line))
    found = score_again(reported, [*added, "--expect", str(path.resolve())])
    if found is None:
        note = "options after -- override those of the report, for example -- --data.root DIR"
        print(f"note: test.py has not scored anything, for the reason above; {note}", file=sys.stderr)
        return 2
    return 0 if compare(reported["sets"], found["sets"]) else 1


def circumstances(reported: Mapping[str, Any]) -> Iterator[str]:
    """What differs here from where the report was made, one line each."""
    here = {"commit": git_commit(), **versions()}
    there = {"commit": reported["commit"], **reported["versions"]}
    for key in there:
        if there[key] != here.get(key):
            yield f"{key}: {there[key]} in the report, {here.get(key)} here"


def score_again(reported: Mapping[str, Any], added: Sequence[str]) -> dict[str, Any] | None:
    """Run the recorded command again; returns what it writes to metrics.json, or None if it failed, as it says."""
    _, *options = shlex.split(reported["command"])
    folder = Path(reported["folder"])
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(ROOT / "test.py"), *without_output(options), *added, "--output", output]
        print(printable(f"running {shlex.join(command[1:])}"), flush=True)
        subprocess.run(command, cwd=folder if folder.is_dir() else None, stdout=subprocess.DEVNULL, check=False)
        metrics = Path(output) / "metrics.json"
        return json.loads(read_text(metrics, LONGEST)) if metrics.exists() else None


def without_output(options: Sequence[str]) -> list[str]:
    """The options without ``--output DIR``."""
    kept, skip = [], False
    for option in options:
        if skip or option == "--output":
            skip = not skip
        elif not option.startswith("--output="):
            kept.append(option)
    return kept


def compare(reported: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Print how far each set's means are apart; returns whether all are within ``TOLERANCE``."""
    same = True
    for name, part in reported.items():
        again = found.get(name, {"images": 0, "restored": {}})
        differences = {
            metric: abs(score - again["restored"].get(metric, float("nan")))
            for metric, score in part["restored"].items()
        }
        within = all(difference <= TOLERANCE[metric] for metric, difference in differences.items())
        within &= again["images"] == part["images"]
        apart = ", ".join(f"{METRICS[metric][0]} {difference:.4f}" for metric, difference in differences.items())
        images = f"; {part['images']} images were scored, now {again['images']}"
        text = f"{name}: {'reproduced' if within else 'NOT reproduced'}; differences: {apart}"
        print(printable(text + images * (again["images"] != part["images"])))
        same &= within
    return same


if __name__ == "__main__":
    run_script(main, path, added)
