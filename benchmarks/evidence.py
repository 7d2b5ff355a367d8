"""Score published test sets: their input, a classical method and the small networks of this project.

    python -m benchmarks.evidence --data /data/published --output results/evidence
    python -m benchmarks.evidence --data /data/published --output results/evidence --limit 2

DIR holds published sets in the folders that benchmarks/evidence_sets.py names. Those that are missing are skipped, and
so are tasks without weights. Each set is scored by the protocol of its benchmark. The parameters of the classical
methods are chosen on images that the first part of each set leaves out. Writes evidence.json (means with their
intervals, parameters, versions, commit, SHA-256 of the weights), per_image.csv, evidence.md (the tables) and cost.png
(quality against time and memory) to OUTPUT.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.classical import METHODS, Restore, as_array, classical_method, scores_of
from benchmarks.documents import with_tables
from benchmarks.evidence_report import cost_figure, tables
from benchmarks.evidence_sets import SETS, EvidenceSet
from benchmarks.speed import peak_bytes
from data.datasets import PairedImages, Sample
from data.layouts import Pair, find_clean, pair_folders
from data.sets import resolve_folder
from data.survey import check_pairs
from evaluation.comparison import bootstrap_interval
from evaluation.results import write_scores
from evaluation.scoring import Score, network_method
from inference.whole import restore
from models import load_model
from utils.cli import ScriptParser, number_type
from utils.errors import InputError, printable, run_script
from utils.files import sha256_of, write_atomically
from utils.output import claimed
from utils.versions import git_commit, versions

FILES = ("evidence.json", "per_image.csv", "evidence.md", "cost.png")
OURS = "IRNeXt, small"
# Beside the parameters that are chosen here: those of He et al.'s paper, and what one of them is worth.
VARIANTS = {
    "dehazing": {
        "published parameters": {"patch": 15, "strength": 0.95, "least": 0.1},
        "patch 7": {"patch": 7, "strength": 0.95, "least": 0.1},
    }
}
COMMAND = "make evidence"  # in the document


@dataclass(frozen=True)
class Found:
    """The images of a set on disk."""

    root: Path
    about: EvidenceSet
    pairs: list[Pair]
    parts: dict[str, list[Pair]]
    choosing: list[Pair]

    def samples(self, pairs: Iterable[Pair], title: str) -> Iterator[Sample]:
        """The pairs decoded, and degraded where the set is; with a progress bar.

        Raises:
            InputError: an image cannot be decoded.
        """
        images = PairedImages(list(pairs), degrade=self.about.degrade)
        for index in tqdm(range(len(images)), title, leave=False, disable=None):
            sample = images[index]
            if "input" not in sample:
                raise InputError(next(iter(sample["broken"].values())))
            yield sample

    def below_root(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs with paths relative to DIR."""
        return [
            replace(pair, input=pair.input.relative_to(self.root), target=pair.target.relative_to(self.root))
            for pair in pairs
        ]

    def scored(self) -> list[Pair]:
        """The pairs that are in any part."""
        wanted = {pair.name for pairs in self.parts.values() for pair in pairs}
        return [pair for pair in self.pairs if pair.name in wanted]


def main() -> None:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m benchmarks.evidence", description=f"{about} {details}")
    parser.add_argument("--data", type=Path, required=True, help="folder of the published sets")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="folder with TASK.safetensors")
    parser.add_argument("--limit", type=number_type(int, 1, 10**6), help="score the first images of each part only")
    parser.add_argument(
        "--document", type=Path, help="Markdown file in which to replace the tables; default: evidence.md in OUTPUT"
    )
    args = parser.parse()
    with claimed(args.output, "evidence.py", [args.output / name for name in FILES]):
        if args.document is not None:
            with_tables(args.document, COMMAND, "")  # refuses a wrong file before the work
        found = find_sets(args.data, args.limit)
        results = score_sets(found, args.weights, args.output) | {"limit": args.limit}
        text = tables(results)
        write_atomically(args.output / "evidence.json", json.dumps(results, indent=1) + "\n")
        write_atomically(args.output / "cost.png", cost_figure(results))
        if args.document is None:
            write_atomically(args.output / "evidence.md", text)
        else:
            write_atomically(args.document, with_tables(args.document, COMMAND, text))
    print(text)


def find_sets(root: Path, limit: int | None) -> dict[str, Found]:
    """The sets of which both folders exist, after a check of all images' headers; the others are named.

    Raises:
        InputError: no set exists, or an image is unpaired or broken.
    """
    found = {}
    for name, about in SETS.items():
        folders = [resolve_folder(root, [folder]) for folder in (about.input, about.target)]
        if None in folders:
            print(f"skipping {name}: no {' and '.join(dict.fromkeys((about.input, about.target)))} in {root}")
            continue
        pairs = find_clean(folders[0]) if about.degrade else pair_folders(*folders)
        check_pairs(pairs)
        parts = {part: images for part, numbers in about.parts.items() if (images := numbers.of(pairs, limit))}
        choosing = about.choosing.of(pairs, limit) if about.choosing else []
        if not parts:
            print(f"skipping {name}: no {' or '.join(about.parts)} in {folders[0]}")
            continue
        found[name] = Found(root, about, pairs, parts, choosing)
    if not found:
        raise InputError(f"{root}: none of the sets found; expected folders such as {SETS['Rain100L'].input}")
    return found


@dataclass(frozen=True)
class Contestant:
    """A method with fixed parameters or weights.

    Attributes:
        about: the parameters of a classical method, or the file of a network.
        score: takes samples and a protocol.
        peak: the bytes it takes to restore a sample, without the sample itself and the weights.
    """

    name: str
    about: Mapping[str, str | float]
    score: Callable[[Iterable[Sample], str], Iterable[Score]]
    peak: Callable[[Sample], int]


def score_sets(found: Mapping[str, Found], weights: Path, output: Path) -> dict:
    """Write per_image.csv to ``output``; returns what evidence.json holds, except for the limit."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = load_networks(weights, dict.fromkeys(one.about.task for one in found.values()), device)
    rows, images, protocols, files = [], {}, {}, {}
    for name, one in found.items():
        contestants = classical_methods(name, found)
        if one.about.task in networks:
            contestants.append(networks[one.about.task])
        if not contestants:
            print(
                f"skipping {name}: neither weights nor images on which to choose the parameters of a classical method"
            )
            continue
        pairs = one.scored()
        example = next(one.samples(pairs[:1], name))
        scores, about = {}, {}
        for contestant in contestants:
            samples = one.samples(pairs, f"{name}, {contestant.name}")
            scores[contestant.name] = {score.name: score for score in contestant.score(samples, one.about.protocol)}
            about[contestant.name] = {"about": contestant.about, "memory_bytes": contestant.peak(example)}
        for method, of_set in scores.items():
            images[f"{name}, {method}"] = list(of_set.values())
            protocols[f"{name}, {method}"] = one.about.protocol
            files[f"{name}, {method}"] = one.below_root(pairs)
        size = list(example["input"].shape[-2:])
        for part, members in one.parts.items():
            shared = {"set": name, "part": part, "protocol": one.about.protocol, "size": size}
            shared |= {"remark": one.about.parts[part].remark}
            of_part = {method: [of_set[pair.name] for pair in members] for method, of_set in scores.items()}
            rows += rows_of_part(shared, of_part, [str(pair.target) for pair in members], about)
    write_scores(output / "per_image.csv", images, protocols, files)
    return {
        "rows": rows,
        "weights": {task: dict(network.about) for task, network in networks.items()},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "commit": git_commit(),
        "versions": versions(),
    }


def load_networks(folder: Path, tasks: Iterable[str], device: torch.device) -> dict[str, Contestant]:
    """The network of each task with a weights file in ``folder``; the others are named."""
    networks = {}
    for task in tasks:
        file = folder / f"{task}.safetensors"
        if not file.exists():
            print(printable(f"no weights for {task}: no {file}"))
            continue
        model = load_model(file).to(device)
        about = {
            "file": file.name,
            "sha256": sha256_of(file),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        networks[task] = Contestant(
            OURS, about, partial(scores_of, network_method(model), device), partial(peak_of_network, model, device)
        )
    return networks


def peak_of_network(model: nn.Module, device: torch.device, sample: Sample) -> int:
    """Peak bytes of tensors while a sample is restored, without the weights and the sample itself."""
    image = sample["input"][None].to(device)
    return peak_bytes(lambda: restore(model, image), device)


def classical_methods(name: str, found: Mapping[str, Found]) -> list[Contestant]:
    """The classical method of a set with the parameters that suit its choosing images best, and with ``VARIANTS``."""
    about = found[name].about
    method = METHODS[about.task]
    variants = {f"{method.name}, {variant}": values for variant, values in VARIANTS.get(about.task, {}).items()}
    judge = found.get(about.chosen_on or name)
    if judge is not None and judge.choosing:
        samples = judge.samples(judge.choosing, f"{name}, parameters")
        pairs = [(as_array(sample["input"]), as_array(sample["target"])) for sample in samples]
        variants[method.name] = method.fit(pairs)[1]
    return [
        Contestant(
            label,
            parameters,
            partial(scores_of, classical_method(run), torch.device("cpu")),
            partial(peak_of_classical, run),
        )
        for label, parameters in variants.items()
        for run in [partial(method.restore, **parameters)]
    ]


def peak_of_classical(run: Restore, sample: Sample) -> int:
    """Peak bytes of arrays while a sample is restored, without the sample itself."""
    image = as_array(sample["input"])
    tracemalloc.start()
    run(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def rows_of_part(
    shared: Mapping[str, object],
    scores: Mapping[str, Sequence[Score]],
    scenes: Sequence[str],
    about: Mapping[str, Mapping[str, object]],
) -> list[dict]:
    """The entries of evidence.json for a part of a set: its input, then every method.

    Args:
        shared: what the rows have in common.
        scores: the scores of the part's images, by method.
        scenes: the scene of each image.
        about: what else is known of each method.
    """

    def over_images(values: Iterable[float]) -> dict:
        values = list(values)
        return {"mean": mean(values), "interval": bootstrap_interval(values, scenes)}

    def of_side(side: str, of_images: Sequence[Score]) -> dict[str, dict]:
        return {key: over_images(getattr(score, side)[key] for score in of_images) for key in ("psnr", "ssim")}

    shared = {**shared, "images": len(scenes), "scenes": len(set(scenes))}
    rows = [shared | {"method": "input"} | of_side("input", next(iter(scores.values())))]
    for method, of_images in scores.items():
        row = shared | {"method": method} | of_side("restored", of_images) | about[method]
        row["gain"] = over_images(score.restored["psnr"] - score.input["psnr"] for score in of_images)
        row["seconds_per_image"] = median(score.seconds for score in of_images)
        rows.append(row)
    return rows


if __name__ == "__main__":
    run_script(main)
