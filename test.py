"""Evaluate a network: PSNR and SSIM on each test set, for the restored images and for the degraded inputs.

    python test.py --config configs/dehazing_its.yaml --data.root /data/reside-indoor --weights best.pt --output results
    python test.py --weights best.pt --input hazy/ --target gt/ --protocol dehazing --output results
    python test.py --restored theirs/ --input hazy/ --target gt/ --protocol dehazing --output results

Scores the test sets of a configuration, or one folder of images against another. Checkpoints trained here contain the
model options; for the authors' released weights they come from the configuration or are inferred from the parameter
names. With --restored in place of --weights, images that any method restored are scored; with several sets, each has
its folder in it. Writes metrics.json, per_image.csv, the table (table.md, table.tex, table.csv) and histograms of what
the images gained (gains.png) to OUTPUT and, with --save-images, the restored images, comparison.png and worst.png, the
images that gained least. Images that cannot be read are listed on stderr and in metrics.json; all others are scored,
and the exit status is 2.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from evaluation.command_line import parse_args
    from utils.errors import or_exit

    args = or_exit(parse_args, __doc__)

import json
import sys
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from data.datasets import evaluation_loader, to_8bit, warn_of_too_many_workers
from data.images import write_image
from data.layouts import Pair, pair_folders
from data.sets import pairs_of_sets, subset_positions
from evaluation.command_line import ALL
from evaluation.cost import count_gmacs
from evaluation.material import check_material, contents_digest, digests
from evaluation.metrics import PROTOCOLS
from evaluation.perceptual import LOADERS, Metric
from evaluation.plots import gain_histograms
from evaluation.restored import find_restored
from evaluation.results import average, gains_of, has_score, results_of, write_scores
from evaluation.scoring import (
    Failure,
    Method,
    Score,
    files_method,
    network_method,
    report_failures,
    score_images,
    scored_and_failed,
    why_none,
)
from evaluation.sheets import labelled_sheet, scored_row
from evaluation.tables import write_tables
from models import load_model
from utils.cli import config_of
from utils.compiling import compiled_for_common_sizes
from utils.config import Config, TestSetConfig
from utils.distributed import Group, join_group, leave_group, progress_bar
from utils.errors import InputError, escaped, printable, run_script
from utils.files import check_inside, sha256_of, write_atomically
from utils.output import claimed
from utils.precision import supported
from utils.versions import this_run, versions

SHOWN_PER_SET = 4  # rows per set, evenly spaced in comparison.png, and with the least gain in worst.png
FILES = (
    "metrics.json",
    "per_image.csv",
    "table.md",
    "table.tex",
    "table.csv",
    "gains.png",
    "comparison.png",
    "worst.png",
)

Results = dict[str, list[Score | Failure]]
Row = list[tuple[np.ndarray, str]]  # images with their captions


@dataclass(frozen=True, kw_only=True)
class TestSets:
    """The test sets to score, by name."""

    parts: dict[str, TestSetConfig]
    pairs: dict[str, list[Pair]]
    has_inputs: bool = True
    subsets: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    workers: int
    averaged: bool = False
    config: Config | None = None


def main(args: Namespace) -> int:
    group = join_group()
    with group.by_main(claimed(args.output, "test.py", [args.output / name for name in FILES])):
        return evaluate(args, group)


def evaluate(args: Namespace, group: Group) -> int:
    """Score the test sets, write the results to OUTPUT, and return the exit status."""
    args.precision = supported(args.precision, group.device, warn=group.is_main)
    sets = find_sets(args)
    warn_of_too_many_workers(sets.workers, group)
    methods, about = restored_before(args, sets) if args.restored else restored_here(args, sets, group)
    material = digests(sets.pairs) if group.is_main else {}
    if args.expect is not None and group.is_main:
        check_material(args.expect, about["sha256"], material)
    saved_files = find_saved_files(args, sets)
    perceptual = {metric: load(group.device) for metric, load in LOADERS.items() if args[metric]}
    about = {**this_run("test.py"), "config": sets.config and sets.config.to_dict(), **about, "versions": versions()}
    results, sheets = score(methods, sets, args, group, perceptual, saved_files)
    leave_group()
    if not group.is_main:
        return 0
    for file, rows in sheets.items():
        if rows:
            write_image(args.output / file, labelled_sheet(rows))
    return report(results, sets, material, args.output, about)


def restored_here(args: Namespace, sets: TestSets, group: Group) -> tuple[dict[str, Method], dict]:
    """The network as the method for every set, and what metrics.json says about it."""
    model = load_model(args.weights, sets.config.model.arguments() if sets.config else None)
    about = {
        "weights": str(args.weights),
        "sha256": sha256_of(args.weights),
        "self_ensemble": args.self_ensemble,
        "precision": args.precision,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gmacs_256x256": round(count_gmacs(model), 3),
    }
    model.to(group.device)
    network = compiled_for_common_sizes(model) if args.compile else model
    method = network_method(model, self_ensemble=args.self_ensemble, precision=args.precision, network=network)
    return dict.fromkeys(sets.pairs, method), about


def restored_before(args: Namespace, sets: TestSets) -> tuple[dict[str, Method], dict]:
    """The restored files as the method for each set, and what metrics.json says about them."""
    if sets.config is None:  # one folder, whatever the protocols
        pairs = next(iter(sets.pairs.values()))
        files = dict.fromkeys(sets.pairs, find_restored(args.restored, {"": pairs})[""])
    else:
        files = find_restored(args.restored, sets.pairs)
    images = [Pair(f"{name}/{image}", path, path) for name, of_set in files.items() for image, path in of_set.items()]
    about = {"restored": str(args.restored), "sha256": contents_digest(images)}
    return {name: files_method(of_set) for name, of_set in files.items()}, about


def find_sets(args: Namespace) -> TestSets:
    """The test sets of the configuration, or the folders given on the command line, once for each protocol."""
    if args.target is not None:
        inputs = args.input or args.restored
        pairs, name, workers = pair_folders(inputs, args.target), inputs.resolve().name, args.data.num_workers
        if args.input is None:  # the targets take the place of the inputs, which need not be there
            pairs = [replace(pair, input=pair.target) for pair in pairs]
        protocols = {name: args.protocol} if args.protocol != ALL else {protocol: protocol for protocol in PROTOCOLS}
        return TestSets(
            parts={name: TestSetConfig(folder=str(inputs), protocol=each) for name, each in protocols.items()},
            pairs=dict.fromkeys(protocols, pairs),
            has_inputs=args.input is not None,
            workers=workers,
        )
    config = config_of(args)
    parts, root = config.data.test, config.data.root
    pairs = pairs_of_sets(root, parts)
    return TestSets(
        parts=parts,
        pairs=pairs,
        subsets={name: subset_positions(root, parts[name], len(of_set)) for name, of_set in pairs.items()},
        workers=config.data.num_workers,
        averaged=config.data.test_average,
        config=config,
    )


def find_saved_files(args: Namespace, sets: TestSets) -> dict[tuple[str, str], Path]:
    """Where each restored image is saved, by (set, name); empty without --save-images."""
    if not args.save_images:
        return {}
    files = {
        (name, pair.name): args.output / "images" / name / f"{pair.name}.png"
        for name, of_set in sets.pairs.items()
        for pair in of_set
    }
    for path in files.values():
        check_inside(path, args.output)
    return files


def score(
    methods: dict[str, Method],
    sets: TestSets,
    args: Namespace,
    group: Group,
    perceptual: dict[str, Metric],
    saved_files: dict[tuple[str, str], Path],
) -> tuple[Results, dict[str, list[Row]]]:
    """Score this process's share of every set; returns the results of all processes, and the rows of each sheet."""
    results: Results = {}
    sheets: dict[str, list[Row]] = {"comparison.png": [], "worst.png": []}
    for name, of_set in sets.pairs.items():
        own, worst = [], []
        share = of_set[group.rank :: group.size]
        compared_every = -(-len(share) // SHOWN_PER_SET)
        loader = evaluation_loader(share, sets.workers, sets.parts[name].degrade)
        scored = score_images(methods[name], loader, sets.parts[name].protocol, group.device, perceptual)
        for result, *images in progress_bar(group, scored, desc=printable(name), total=len(share), leave=False):
            if args.restored and isinstance(result, Score):
                result = replace(result, seconds=None, input=result.input if sets.has_inputs else {})
            if saved_files and isinstance(result, Score):
                input, restored, target = (to_8bit(image[0]) for image in images)
                write_image(saved_files[name, result.name], restored)
                shown = (result, input, restored, target)
                if len(own) % compared_every == 0:
                    sheets["comparison.png"].append(scored_row(*shown)[:-1])
                if sets.has_inputs:
                    worst.append((result.restored["psnr"] - result.input["psnr"], shown))
                    worst = nsmallest(SHOWN_PER_SET, worst, key=itemgetter(0))
            own.append(result)
        results[name] = group.gather(own)
        worst = nsmallest(SHOWN_PER_SET, chain.from_iterable(group.gather([worst])), key=itemgetter(0))
        sheets["worst.png"] += [scored_row(*shown) for _, shown in worst]
        if group.is_main:
            if has_score(results[name]):  # otherwise, report says so in one line
                report_failures(scored_and_failed(results[name])[1])
            protocols = {name: part.protocol for name, part in sets.parts.items()}
            write_scores(args.output / "per_image.csv", results, protocols, sets.pairs)
    return results, sheets


def report(results: Results, sets: TestSets, material: dict[str, dict], output: Path, about: dict) -> int:
    """Write metrics.json and the tables, print the table, and return the exit status."""
    unscored = [name for name, of_set in results.items() if not has_score(of_set)]
    problems = [f"{name}: {why_none(results[name])}" for name in unscored]
    nothing = InputError(problems.pop()) if len(unscored) == len(results) else None
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if nothing is not None:
        raise nothing
    scored = {
        name: results_of(of_set, sets.parts[name], sets.subsets.get(name, {})) | {"fingerprint": material[name]}
        for name, of_set in results.items()
        if name not in unscored
    }
    metrics = {"sets": scored, **({"average": average(scored)} if sets.averaged and not unscored else {}), **about}
    write_atomically(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if sets.has_inputs:
        write_atomically(output / "gains.png", gain_histograms({name: gains_of(results[name]) for name in scored}))
    print(escaped(write_tables(output, metrics)))
    if "parameters" in about:
        cost = f"{about['parameters']:,} parameters, {about['gmacs_256x256']:.2f} GMACs at 256x256"
        print(printable(f"{cost}; {about['versions']['device']}"))
    print(printable(f"written to {output}"))
    return 2 if unscored or any(of_set["failed"] for of_set in scored.values()) else 0


if __name__ == "__main__":
    run_script(main, args)
